"""Puts a photo together, scene and vehicle, and takes it as a cheap camera would."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from toolkit.data.augmentor import Augmentor
from toolkit.data.demo.brush import Brush
from toolkit.data.demo.kinds import Kind
from toolkit.data.demo.paint import Array
from toolkit.data.demo.scene import cast_shadow, clutter_in_front, draw_scene

CAMERA = Augmentor(
    [
        {"Illumination": {"mode": "linear", "intensity_range": [0.02, 0.2], "p": 0.8}},
        {"RandomBrightnessContrast": {"brightness_limit": 0.07, "contrast_limit": 0.15, "p": 0.9}},
        {"RGBShift": {"r_shift_limit": 9, "g_shift_limit": 9, "b_shift_limit": 9, "p": 0.8}},
        {"GaussianBlur": {"blur_limit": 0, "sigma_limit": [0.3, 0.9], "p": 0.5}},
        {"GaussNoise": {"std_range": [0.006, 0.03], "p": 0.9}},
    ]
)
"""A cheap camera in poor light; the pictures are in OpenCV's order, blue first."""


def draw_photo(rng: Generator, kind: Kind) -> bytes:
    """Draw one photo: scene, vehicle and its shadow, things in front, then the camera."""
    width = int(rng.integers(120, 241))
    height = round(width / rng.uniform(4 / 3, 16 / 9))
    unit = min(
        width * rng.uniform(0.84, 0.96) / 100, height * rng.uniform(0.72, 0.84) / kind.height
    )
    tall = kind.height * unit
    floor = min(rng.uniform(max(tall + 0.06 * height, 0.76 * height), height * 0.95), height * 0.93)
    horizon = floor - height * rng.uniform(0.05, 0.25)
    slack = max(width - 100 * unit, 0) / 3
    centre = width / 2 + rng.uniform(-slack, slack)

    photo = draw_scene(rng, width, height, horizon)
    cast_shadow(rng, photo, centre, floor, unit)
    brush = Brush.posed(rng, kind, photo.shape, (centre, floor), unit)
    brush.draw(kind)
    layer = cv2.resize(brush.canvas, (width, height), interpolation=cv2.INTER_AREA)
    photo = _composed(rng, photo, layer.astype(np.float32), floor - tall, floor)
    if rng.random() < 0.15:
        clutter_in_front(rng, photo, floor)
    return _taken(rng, photo)


def _composed(rng: Generator, photo: Array, layer: Array, top: float, floor: float) -> Array:
    """Lay the vehicle over the scene, lit from above with a brighter shoulder."""
    share = (np.arange(photo.shape[0]) - top) / max(floor - top, 1)
    light = 1.14 - 0.38 * np.clip(share, 0, 1) + 0.2 * np.exp(-(((share - 0.42) / 0.07) ** 2))
    light = 1 + (light - 1) * rng.uniform(0.6, 1.2)
    alpha = layer[..., 3:] / 255
    lit = np.minimum(layer[..., :3] * light[:, None, None].astype(np.float32), 255)
    composed: Array = np.clip(photo * (1 - alpha) + lit, 0, 255).astype(np.uint8)
    return composed


def _taken(rng: Generator, photo: Array) -> bytes:
    """Take the picture: light, colour cast, blur and noise, then JPEG."""
    pixels = CAMERA(photo, int(rng.integers(2**32)))
    quality = int(rng.integers(60, 96))
    written, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise RuntimeError("OpenCV could not encode a JPEG.")
    return coded.tobytes()
