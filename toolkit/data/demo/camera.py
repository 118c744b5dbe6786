"""Puts a photo together, scene and vehicle, and takes it as a cheap camera would."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from toolkit.data.demo.brush import Brush
from toolkit.data.demo.kinds import Kind
from toolkit.data.demo.paint import Array, noise
from toolkit.data.demo.scene import cast_shadow, clutter_in_front, draw_scene


def draw_photo(rng: Generator, kind: Kind) -> bytes:
    """Draw one photo: scene, vehicle and its shadow, things in front, then the camera."""
    width = int(rng.integers(120, 241))
    height = round(width / rng.uniform(4 / 3, 16 / 9))
    unit = min(
        width * rng.uniform(0.74, 0.94) / 100, height * rng.uniform(0.66, 0.82) / kind.height
    )
    tall = kind.height * unit
    floor = min(rng.uniform(max(tall + 0.06 * height, 0.76 * height), height * 0.95), height * 0.93)
    horizon = floor - height * rng.uniform(0.05, 0.25)
    slack = max(width - 100 * unit, 0) / 3 + 0.02 * width
    centre = width / 2 + rng.uniform(-slack, slack)

    photo = draw_scene(rng, width, height, horizon)
    cast_shadow(rng, photo, centre, floor, unit)
    brush = Brush.posed(rng, kind, photo.shape, (centre, floor), unit)
    brush.draw(kind)
    layer = cv2.resize(brush.canvas, (width, height), interpolation=cv2.INTER_AREA)
    photo = _composed(rng, photo, layer.astype(np.float32), floor - tall, floor)
    if rng.random() < 0.35:
        clutter_in_front(rng, photo, floor)
    return _taken(rng, photo.astype(np.float32))


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
    """Take the picture: light across the frame, patches of shade, blur, noise, JPEG."""
    height, width = photo.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    angle = rng.uniform(0, 6.3)
    light = 1 + rng.uniform(0, 0.28) * (x * np.cos(angle) + y * np.sin(angle))
    light -= rng.uniform(0, 0.22) * (x**2 + y**2) / 2
    if rng.random() < 0.25:
        shade = np.clip(noise(rng, photo.shape, max(8, width // 6)) * 2, 0, 1)
        light *= 1 - rng.uniform(0.15, 0.4) * shade
    cast = rng.uniform(0.8, 1.25) * rng.normal(1, 0.045, 3)
    photo = photo * (light[..., None] * cast).astype(np.float32)
    photo = (photo - 128) * rng.uniform(0.75, 1.12) + 128
    blur = max(0.0, rng.normal(0.45, 0.45)) * width / 200
    if blur > 0.2:
        photo = cv2.GaussianBlur(photo, (0, 0), blur)
    photo += rng.standard_normal(photo.shape, dtype=np.float32) * rng.uniform(1, 10)
    pixels = np.clip(photo, 0, 255).astype(np.uint8)
    quality = int(rng.integers(40, 96))
    written, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise RuntimeError("OpenCV could not encode a JPEG.")
    return coded.tobytes()
