"""One file for each layout that images come in."""
