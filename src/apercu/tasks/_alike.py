"""Images of a set that show the same: copies, and pictures that can hardly be told apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from apercu.data.batches import in_order
from apercu.data.duplicates import near_pairs, thumbnails
from apercu.data.images import ImageSet
from apercu.data.recalled import Recalled

AT_ONCE = 250


def pairs_alike(images: ImageSet) -> NDArray[np.int64]:
    """Pairs of rows, (P, 2), whose pixels are equal or whose thumbnails correlate almost perfectly."""
    if isinstance(images.pixels, Recalled):
        thumbs = images.pixels.thumbnails(images.rows)
    else:
        thumbs = np.zeros((len(images), 256), np.uint8)
        for batch in in_order(images, AT_ONCE):
            thumbs[batch.index.numpy()] = thumbnails(batch.x.numpy(), 1.0)
    # An image of one value correlates with nothing: its copies are found by their digests.
    order = np.lexsort(images.hashes.T)
    copies = [pair for pair in pairwise(order.tolist()) if (images.hashes[pair[0]] == images.hashes[pair[1]]).all()]
    found = np.concatenate([near_pairs(thumbs)[0], np.array(copies, np.int64).reshape(-1, 2)])
    return np.unique(np.sort(found, axis=1), axis=0)
