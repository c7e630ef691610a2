"""Reading images: sources, decoding, splits, labels, and batches."""

from apercu.data.images import ImageSet, Problem
from apercu.data.labels import hide_labels
from apercu.data.open import Images, open_images

__all__ = ["ImageSet", "Images", "Problem", "hide_labels", "open_images"]
