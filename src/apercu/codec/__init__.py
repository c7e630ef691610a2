"""The code is the file: symbols to bytes under a learnt integer prior, `.apc` files, and archives of many."""
