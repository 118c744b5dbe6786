"""From folders of photos to arrays: the index, the pixels, the split, the augmentor."""
