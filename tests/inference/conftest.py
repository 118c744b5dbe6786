"""Photos to predict: PNG files, whose pixels a test can read without any loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photos(
    tmp_path_factory: pytest.TempPathFactory, draw_photo: Callable[..., Image.Image]
) -> list[Path]:
    """Eleven photos of different sizes: for a batch of 5, two full ones and a rest of 1."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{number}.png" for number in range(11)]
    for number, path in enumerate(paths):
        draw_photo(number, (90 + 7 * number, 60 + 3 * number)).save(path)
    return paths
