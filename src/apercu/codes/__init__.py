"""The codes of many images in one table on disk, and the search among them."""
