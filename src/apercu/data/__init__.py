"""Reading images: sources, decoding, splits, labels, and batches."""
