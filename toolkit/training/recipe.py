"""Recipes: the settings of a training run, and what they may be."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from toolkit.data.pixels import LARGEST_IMAGE_SIZE, Resize, Square
from toolkit.errors import suggestion
from toolkit.training.registry import find_backbone

Fraction = Annotated[float, Field(ge=0, le=1)]
WholeMetric = Literal[
    "val_log_loss", "val_macro_f1", "val_balanced_accuracy", "val_auc", "val_kappa"
]
"""Figures of all validation predictions together, which Keras cannot average over batches."""

Metric = Literal["accuracy", "loss", "val_accuracy", "val_loss"] | WholeMetric


def larger_is_better(figure: str) -> bool:
    """Return the direction of a figure that training watches."""
    return not figure.endswith("loss")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dense(_Section):
    """A fully connected layer of the head.

    Attributes:
        units: Its outputs.
        activation: Their function, by its name in Keras.
        bias_l2: Weight of the L2 penalty on its bias.
        activity_l2: Weight of the L2 penalty on its outputs.
    """

    units: PositiveInt
    activation: Literal["relu", "elu", "gelu", "silu", "linear"] = "relu"
    bias_l2: Annotated[float, Field(ge=0)] = 0.0
    activity_l2: Annotated[float, Field(ge=0)] = 0.0


class Dropout(_Section):
    """A dropout layer of the head.

    Attributes:
        rate: Share of its inputs that a training step drops.
    """

    rate: Annotated[float, Field(ge=0, lt=1)]


class BatchNorm(_Section):
    """A batch normalization layer of the head, with Keras's defaults."""


class HeadLayer(_Section):
    """One layer of the head: exactly one of the keys.

    Attributes:
        dense: A fully connected layer.
        dropout: A dropout layer.
        batch_norm: A batch normalization layer.
    """

    dense: Dense | None = None
    dropout: Dropout | None = None
    batch_norm: BatchNorm | None = None

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> HeadLayer:
        if sum(value is not None for value in (self.dense, self.dropout, self.batch_norm)) != 1:
            raise ValueError("Expected exactly one of dense, dropout, batch_norm")
        return self


class Head(_Section):
    """What stands on the backbone, without the softmax, which always comes last.

    Attributes:
        pooling: How the backbone's maps become one number each.
        layers: What follows, in order.
    """

    pooling: Literal["max", "average"]
    layers: tuple[HeadLayer, ...] = ()


class Optimizer(_Section):
    """The optimizer.

    Attributes:
        name: Its name in Keras.
        learning_rate: Of every stage that gives none of its own.
    """

    name: Literal["Adamax", "Adam", "AdamW", "Nadam", "RMSprop", "SGD"]
    learning_rate: PositiveFloat


class ExponentialDecay(_Section):
    """Lower the learning rate smoothly with every step.

    Attributes:
        rate: What it is multiplied by every `every_steps` steps.
        every_steps: Training steps, counted anew in each stage.
    """

    rate: Annotated[float, Field(gt=0, le=1)]
    every_steps: PositiveInt


class ReduceOnPlateau(_Section):
    """Lower the learning rate where an epoch's figure no longer improves.

    Attributes:
        monitor: The figure.
        factor: What the rate is multiplied by.
        patience: Epochs without improvement before that.
        min_learning_rate: The rate goes no lower.
    """

    monitor: Metric = "val_loss"
    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: PositiveInt
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0


class WarmupCosine(_Section):
    """Raise the learning rate over the first steps of a stage, then lower it along a cosine.

    `warmup_fraction` is the share of the stage's steps in which it rises linearly (Goyal et al.,
    arXiv 1706.02677); at the stage's end it is `floor` times the stage's rate (Loshchilov and
    Hutter, arXiv 1608.03983, without restarts). Early stopping cuts the cosine off.
    """

    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    floor: Fraction = 0.0


class Beta(_Section):
    """Shares drawn from Beta(alpha, alpha).

    Attributes:
        alpha: 1 draws them evenly, less keeps most near 0 and 1.
    """

    alpha: PositiveFloat


class Ema(_Section):
    """Validate and keep an exponential moving average of the weights (Polyak and Juditsky 1992).

    A step keeps `momentum` of the average and takes the rest from the new weights, so it spans
    about 1 / (1 - momentum) steps; batch normalization's statistics are taken anew under the
    average, from training photos, before each validation. `stages` names those that average; None
    means all. An average that spans more steps than its stage has is one of beginnings.
    """

    momentum: Annotated[float, Field(gt=0, lt=1)]
    stages: tuple[str, ...] | None = None


class EarlyStopping(_Section):
    """End a stage where an epoch's figure no longer improves.

    Attributes:
        monitor: The figure.
        patience: Epochs without improvement before that.
    """

    monitor: Metric = "val_accuracy"
    patience: PositiveInt


class Stage(_Section):
    """Some epochs with a part of the backbone frozen.

    Each stage begins with the best weights so far, of whatever stage.

    Attributes:
        name: For progress and history; no two are alike.
        epochs: At most.
        frozen_fraction: Share of the backbone's layers, counted from the input, that keep their
            weights; 1 trains only the head.
        learning_rate: Of this stage, in place of the optimizer's.
    """

    name: Annotated[str, Field(min_length=1)]
    epochs: PositiveInt
    frozen_fraction: Fraction
    learning_rate: PositiveFloat | None = None


class Recipe(_Section):
    """All settings of one training run.

    A key that is added later is None by default and then changes nothing: runs that were finished
    before it stay the same runs.

    Attributes:
        set: The folder's name; not to be written in a file.
        backbone: The file's name; not to be written in a file.
        description: What it is for.
        image_size: Side in pixels of the square that the network looks at.
        resize: How a photo becomes that square: `stretch` changes its proportions, `letterbox`
            keeps them and fills the rest, `center_crop` keeps them and cuts the rest off.
        store_size: Side in pixels of the squares that the augmentor gets, where it shall choose
            from more than it gives; none gives it photos of `image_size`.
        batch_size: Photos a training step.
        gradient_accumulation_steps: So many batches make one change of the weights, by the mean of
            their gradients, as a batch of so many times `batch_size` photos would in a network
            without batch normalization, whose statistics stay those of single batches. Schedules
            count batches. What is left over at the end of a stage changes nothing.
        validation_fraction: Share of the photos that is held out, in every class.
        seed: Of the head's first weights, the order of photos, augmentation and dropout.
        weights: What the backbone starts from; the argument `pretrained` overrules it.
        pixels: How 0..255 enters the network: `unit` as 0..1, `raw` as it is, `symmetric` as -1..1,
            `own` as the backbone was pretrained with.
        batch_norm_momentum: Of the backbone's batch normalization; none leaves Keras's.
        reestimate_batch_norm: Take the statistics of batch normalization anew from the training
            photos, under the final weights.
        zero_init_residual: Start each residual branch that ends in batch normalization at zero
            (Goyal et al., arXiv 1706.02677): deep networks learn sooner from random weights.
        head: What stands on the backbone.
        loss: What is minimized: cross-entropy, or focal loss, in which photos that the network is
            sure of count less (Lin et al., arXiv 1708.02002).
        focal_gamma: Of focal loss: how much less; 0 would be cross-entropy, none is 2.
        class_weights: What a photo counts in the training loss by its class: `balanced` lets all
            classes count alike, or names with numbers, 1 for classes that are not named. Validation
            figures are not weighted. Not beside sampling.
        sampling: `balanced` shows all classes equally often: an epoch has as many photos as ever,
            those of small classes several times, augmented each time anew, of large ones only some.
        optimizer: How.
        exponential_decay: Lowers the learning rate with every step.
        reduce_on_plateau: Lowers it where it no longer helps; not beside another schedule.
        warmup_cosine: Raises it at first and lowers it along a cosine; not beside another schedule.
        early_stopping: Ends a stage that no longer gets better.
        label_smoothing: Share of each label that is spread evenly over all classes.
        mixup: Mixes pairs of photos and their labels; not beside cutmix.
        cutmix: Puts a part of one photo into another and mixes their labels; not beside mixup.
        ema: Averages the weights over training steps.
        keep_best: The figure that chooses the epoch whose weights are kept. `val_loss` is the
            recipe's loss; `val_log_loss`, `val_macro_f1`, `val_balanced_accuracy`, `val_auc` (each
            class against the rest) and `val_kappa` (quadratic, of classes that are numbers) are of
            all validation photos together, and cost a second look at them.
        stages: One after another.
        published_accuracy: What others reported for it, to compare with; it changes nothing.
        augmentor: Albumentations transforms with their parameters, from the set's
            `augmentor.yaml`; not to be written elsewhere.
    """

    set: str
    backbone: str
    description: str = ""
    image_size: Annotated[int, Field(ge=16, le=LARGEST_IMAGE_SIZE)]
    resize: Resize = "stretch"
    store_size: Annotated[int, Field(ge=16, le=LARGEST_IMAGE_SIZE)] | None = None
    batch_size: PositiveInt
    gradient_accumulation_steps: Annotated[int, Field(ge=2)] | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0)]
    weights: Literal["imagenet", "none"]
    pixels: Literal["unit", "raw", "symmetric", "own"]
    batch_norm_momentum: Annotated[float, Field(gt=0, lt=1)] | None = None
    reestimate_batch_norm: bool = False
    zero_init_residual: bool | None = None
    head: Head
    loss: Literal["categorical_crossentropy", "focal"]
    focal_gamma: PositiveFloat | None = None
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = None
    sampling: Literal["balanced"] | None = None
    optimizer: Optimizer
    exponential_decay: ExponentialDecay | None = None
    reduce_on_plateau: ReduceOnPlateau | None = None
    warmup_cosine: WarmupCosine | None = None
    early_stopping: EarlyStopping | None = None
    label_smoothing: Annotated[float, Field(gt=0, lt=1)] | None = None
    mixup: Beta | None = None
    cutmix: Beta | None = None
    ema: Ema | None = None
    keep_best: Metric = "val_accuracy"
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    published_accuracy: Fraction | None = None
    augmentor: tuple[dict[str, dict[str, Any] | None], ...]

    @pydantic.field_validator("class_weights", mode="before")
    @classmethod
    def _named_weights(cls, given: Any) -> Any:
        """Take class names that YAML reads as numbers for names."""
        if not isinstance(given, dict):
            return given
        for name, weight in given.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or weight <= 0:
                raise ValueError(f"Expected numbers above 0, received {weight} for '{name}'")
        return {str(name): weight for name, weight in given.items()}

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        backbone = find_backbone(self.backbone)
        if self.image_size < backbone.smallest_size:
            raise ValueError(
                f"image_size: Expected at least {backbone.smallest_size} for {self.backbone}, "
                f"received {self.image_size}"
            )
        if self.store_size is not None and self.store_size < self.image_size:
            raise ValueError(
                f"store_size: Expected at least the image_size {self.image_size}, "
                f"received {self.store_size}"
            )
        self._only_one_of("exponential_decay", "reduce_on_plateau", "warmup_cosine")
        self._only_one_of("mixup", "cutmix")
        self._only_one_of("class_weights", "sampling")
        if self.focal_gamma is not None and self.loss != "focal":
            raise ValueError(f"focal_gamma: Expected with loss: focal, received loss: {self.loss}")
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError("stages: Expected different names")
        unknown = set((self.ema and self.ema.stages) or ()) - set(names)
        if unknown:
            raise ValueError(
                f"ema: stages: unknown stage '{min(unknown)}'. {suggestion(min(unknown), names)}"
            )
        return self

    def _only_one_of(self, *keys: str) -> None:
        given = [key for key in keys if getattr(self, key) is not None]
        if len(given) > 1:
            *first, last = keys
            raise ValueError(f"{given[-1]}: Expected only one of {', '.join(first)} and {last}")

    @property
    def square(self) -> Square:
        """What a photo becomes in validation and wherever the network is used."""
        return Square(self.image_size, self.resize)

    @property
    def stored_square(self) -> Square:
        """What a photo becomes before the augmentor."""
        return Square(self.store_size or self.image_size, self.resize)

    def averages(self, stage: Stage) -> bool:
        """Return whether a stage keeps moving averages of the weights."""
        return self.ema is not None and (self.ema.stages is None or stage.name in self.ema.stages)

    @property
    def watched(self) -> tuple[str, ...]:
        """The figures of all validation predictions together that training needs."""
        needed = [self.keep_best]
        for section in (self.early_stopping, self.reduce_on_plateau):
            needed += [section.monitor] if section else []
        return tuple(name for name in get_args(WholeMetric) if name in needed)

    @property
    def epochs(self) -> int:
        """The most epochs that all stages together take."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is trained: what is only said of the recipe is left out."""
        return self.model_dump(mode="json", exclude={"description", "published_accuracy"})

    def to_yaml(self) -> str:
        """Write the recipe with everything resolved."""
        content = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
