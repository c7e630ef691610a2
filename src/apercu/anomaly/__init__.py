"""How odd an image is: a file in this folder is one score, and its name is what a person writes: `bank`, `repair`, …

A score is fitted to normal images alone and is larger the less an image is like them. Most also say where.
"""
