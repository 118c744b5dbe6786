"""Images in runs of a fixed length."""

from __future__ import annotations

import numpy as np

from toolkit.data.pixels import Pixels


def chunks(images: Pixels, batch: int) -> list[Pixels]:
    """Cut images of shape (images, size, size, 3) into runs of at most `batch`."""
    return [images[start : start + batch] for start in range(0, len(images), batch)]


def padded(images: Pixels, batch: int) -> Pixels:
    """Fill images of shape (images, size, size, 3) up to `batch` with black ones."""
    missing = batch - len(images)
    if not missing:
        return images
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), dtype=np.uint8)])
