"""The backbones that can be trained. A further one is one entry here and a file in a recipe set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from toolkit.errors import UsageError, suggestion

PixelScaling = Literal["unit", "raw", "symmetric"]
"""How 0..255 pixels enter a network: to 0..1, as they are, or to -1..1."""


@dataclass(frozen=True)
class Backbone:
    """What the toolkit has to know of a network.

    Attributes:
        name: As people type it and as files are named.
        constructor: Its name in `keras.applications`.
        smallest_size: Smallest image side in pixels that the network takes.
        own_pixels: The scaling it was pretrained with.
        parameters: Its weights, without a classifier.
        outputs_per_pixel: Values that all its layers together put out for each pixel of an image of
            150 px; the memory of a training is estimated from them.
        options: Further arguments of the constructor.
        rescales_after_normalization: Keras adds a rescaling layer to EfficientNet only when it
            downloads the ImageNet weights itself; with the same weights from a file it has to be
            put in, or another function is computed.
        depthwise_by_groups: Keras writes its depthwise convolutions as `Conv2D` of as many groups
            as channels, for which TensorFlow has no kernel on a CPU: Keras compiles each by XLA,
            anew for every size of a batch, and no converter to ONNX sees into it. They are built
            as `DepthwiseConv2D`, which computes the same from the same weights.
    """

    name: str
    constructor: str
    smallest_size: int
    own_pixels: PixelScaling
    parameters: int
    outputs_per_pixel: int
    options: Mapping[str, Any] = field(default_factory=dict)
    rescales_after_normalization: bool = False
    depthwise_by_groups: bool = False

    @property
    def weights_file(self) -> str:
        """Name of the file with its ImageNet weights in a folder of weights."""
        return f"{self.name}_imagenet_notop.weights.h5"


_ENTRIES = (
    Backbone(
        "xception",
        "Xception",
        71,
        "symmetric",
        parameters=20_861_480,
        outputs_per_pixel=654,
    ),
    Backbone(
        "inceptionv3",
        "InceptionV3",
        75,
        "symmetric",
        parameters=21_802_784,
        outputs_per_pixel=295,
    ),
    Backbone(
        "resnet101v2",
        "ResNet101V2",
        32,
        "symmetric",
        parameters=42_626_560,
        outputs_per_pixel=1117,
    ),
    Backbone(
        "efficientnetb3",
        "EfficientNetB3",
        32,
        "raw",
        parameters=10_783_535,
        outputs_per_pixel=1011,
        rescales_after_normalization=True,
    ),
    Backbone(
        "mobilenetv3small",
        "MobileNetV3Small",
        32,
        "raw",
        parameters=939_120,
        outputs_per_pixel=115,
    ),
    Backbone(
        "efficientnetv2b0",
        "EfficientNetV2B0",
        32,
        "raw",
        parameters=5_919_312,
        outputs_per_pixel=353,
    ),
    Backbone(
        "efficientnetv2s",
        "EfficientNetV2S",
        32,
        "raw",
        parameters=20_331_360,
        outputs_per_pixel=917,
    ),
    Backbone(
        "convnexttiny",
        "ConvNeXtTiny",
        32,
        "raw",
        parameters=27_820_128,
        outputs_per_pixel=552,
        depthwise_by_groups=True,
    ),
    Backbone(
        "convnextsmall",
        "ConvNeXtSmall",
        32,
        "raw",
        parameters=49_454_688,
        outputs_per_pixel=875,
        depthwise_by_groups=True,
    ),
)

BACKBONES: Mapping[str, Backbone] = {entry.name: entry for entry in _ENTRIES}


def find_backbone(name: str) -> Backbone:
    """Return a backbone by name.

    Raises:
        UsageError: There is none of that name; the message has the nearest one.
    """
    if name not in BACKBONES:
        raise UsageError(
            f"unknown backbone '{name}'. {suggestion(name, BACKBONES)}",
            argument="backbones",
            value=name,
        )
    return BACKBONES[name]
