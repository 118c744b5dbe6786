"""The manifest of a bundle: its schema, which holds whoever wrote it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from toolkit.artifacts import BareName, Count, Sha256, Share, Temperature, artifact, check_sum
from toolkit.data.pixels import LARGEST_IMAGE_SIZE, PixelDefinition, Resize, Square
from toolkit.data.reading import ReadingRecord
from toolkit.errors import ToolkitError
from toolkit.inference.views import VIEWS
from toolkit.metrics import METRICS, Score

MANIFEST = "bundle.json"
VALIDATION = "validation.npz"
OUTSIDE = "outside.npz"

OUT_OF_FOLD = (
    "Out of fold, each photo is answered by the one network of a bag that did not learn it; the "
    "bag itself, the mean of its networks, is usually better, and less confident than the "
    "temperature expects, which these figures do not measure."
)
"""What figures of bags on held-out photos do not tell."""

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Runtime = Literal["onnxruntime", "openvino"]
Side = Annotated[int, Field(ge=1, le=LARGEST_IMAGE_SIZE)]
Milliseconds = Annotated[float, Field(ge=0)]
FileName = Annotated[BareName, Field(pattern=r"\.(onnx|xml|bin)$")]


@artifact
class Judged:
    """What held-out photos and a clock tell of a lower precision.

    Attributes:
        how: How it was made.
        photos: How many judged it; None, as all that follows, where it could not be tried.
        agreement: Share of labels kept.
        largest_difference: Of a probability; None where some are not finite.
        ms: Milliseconds an image.
        fp32_ms: The same of the member as exported, in turn with it.
    """

    how: str
    photos: Count | None = None
    agreement: Share | None = None
    largest_difference: Annotated[float, Field(ge=0)] | None = None
    ms: Milliseconds | None = None
    fp32_ms: Milliseconds | None = None


@artifact
class Variant:
    """A member in a lower precision, accepted by evidence.

    Attributes:
        precision: Of its arithmetic.
        runtime: What runs it.
        files: SHA-256 by file in the bundle; the first is the one to open. bf16 is a way to run
            the member's own file.
        figures: The evidence.
    """

    precision: Precision
    runtime: Runtime
    files: dict[FileName, Sha256]
    figures: Judged


@artifact
class QuantizationTrial:
    """One way to a lower precision of a member that was tried.

    Attributes:
        member: Its name.
        precision: What was tried.
        runtime: What ran it.
        figures: What came of it.
        accepted: Whether it is in the bundle.
        reason: Why not; empty where it is.
    """

    member: str
    precision: Precision
    runtime: Runtime
    figures: Judged
    accepted: bool
    reason: str


@artifact
class Parity:
    """How a member's file compares with its Keras network; see `toolkit.exporting.parity`.

    Attributes:
        photos: How many both computed.
        reference_images: Of them and their views, those that Keras computed in float64 too.
        logit_error: Largest error of a logit of the file, as a share of the largest logit.
        noise_floor: The same of Keras in float32.
        labels_changed: Photos with another label than in Keras; their logits are ties.
    """

    photos: Count
    reference_images: Count
    logit_error: Annotated[float, Field(ge=0)]
    noise_floor: Annotated[float, Field(ge=0)]
    labels_changed: Count


@artifact
class Member:
    """One exported network.

    Attributes:
        name: As votes name it.
        run: The run it was exported from, `<set>/<backbone>[-name]`.
        model_sha256: Of the Keras model it was exported from.
        backbone: Its backbone.
        file: Its ONNX file in the bundle.
        sha256: Of that file.
        precision: Of its arithmetic.
        image_size: Side of its input in pixels.
        augmentor: Steps of the augmentor it was trained with.
        score: Validation figures; None where it trained on all photos.
        parity: How the ONNX file compares with Keras; None where it was not compared.
        variants: Lower precisions that were accepted, at most one a precision.
        resize: How a photo becomes its input; see `toolkit.data.pixels.Square`.
        store_size: Side in pixels of what its augmentor gets; None takes `image_size`.
        bag: The bag whose vote it is a part of; empty where it votes alone.
        fold: Which fold it held out, from 0; None where it was not trained in folds.
    """

    name: BareName
    run: str
    model_sha256: Sha256
    backbone: str
    file: FileName
    sha256: Sha256
    precision: Precision
    image_size: Side
    augmentor: tuple[dict[str, dict[str, Any] | None], ...]
    score: Score | None
    parity: Parity | None
    variants: tuple[Variant, ...] = ()
    resize: Resize = "stretch"
    store_size: Side | None = None
    bag: BareName | Literal[""] = ""
    fold: Count | None = None

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Member:
        if self.bag and self.fold is None:
            raise ValueError("fold: Expected the number of a fold, as it is part of a bag")
        if not self.file.endswith(".onnx"):
            raise ValueError(f"file: Expected an .onnx file, received '{self.file}'")
        _each_once("variants", [each.precision for each in self.variants])
        for variant in self.variants:
            _check_files(self, variant)
        return self

    @property
    def square(self) -> Square:
        """What a photo becomes for its input."""
        return Square(self.image_size, self.resize)

    @property
    def stored_square(self) -> Square:
        """What a photo becomes for its augmentor."""
        return Square(self.store_size or self.image_size, self.resize)

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 by file, of the member and its variants."""
        files = {self.file: self.sha256}
        for variant in self.variants:
            files.update(variant.files)
        return files

    def variant(self, precision: str) -> Variant | None:
        """Return the variant of a precision; None for the member itself.

        Raises:
            ToolkitError: The member has none in that precision.
        """
        if precision == self.precision:
            return None
        for variant in self.variants:
            if variant.precision == precision:
                return variant
        raise ToolkitError(
            f"member '{self.name}' has no {precision}. Expected "
            f"{', '.join([self.precision, *(each.precision for each in self.variants)])}."
        )


@artifact
class Alternative:
    """One way to weigh the members, and how good it is.

    Attributes:
        weights: One a member.
        temperature: See `toolkit.inference.voting.Voting`.
        accuracy: Cross-fitted on the validation photos; None where there are none.
        log_loss: Likewise.
        value: Likewise, of the metric that the choice was made by.
    """

    weights: tuple[Share, ...]
    temperature: Temperature
    accuracy: Share | None
    log_loss: Annotated[float, Field(ge=0)] | None
    value: float | None = None

    @pydantic.model_validator(mode="after")
    def _is_of_shares(self) -> Alternative:
        check_sum("weights", self.weights)
        return self


@artifact
class BestSingle:
    """The best member alone, to compare with.

    Attributes:
        name: Of the member.
        accuracy: See `Alternative`, as all that follows.
        log_loss: Likewise.
        value: Likewise.
    """

    name: str
    accuracy: Share | None
    log_loss: Annotated[float, Field(ge=0)] | None
    value: float | None = None


@artifact
class VotingTable:
    """The ways to vote for one number of views.

    Attributes:
        choice: Which one `auto` takes.
        reason: Why.
        alternatives: By name.
        best_single: The best member alone; None where no photos were held out.
        metric: What the choice was made by, one of `toolkit.metrics.METRICS`.
    """

    choice: str
    reason: str
    alternatives: dict[str, Alternative]
    best_single: BestSingle | None
    metric: str = "log-loss"

    @pydantic.model_validator(mode="after")
    def _has_its_choice(self) -> VotingTable:
        if self.choice not in self.alternatives:
            known = ", ".join(self.alternatives) or "none"
            raise ValueError(
                f"choice: Expected one of the alternatives ({known}), received '{self.choice}'"
            )
        if self.metric not in METRICS:
            raise ValueError(
                f"metric: Expected one of {', '.join(METRICS)}, received '{self.metric}'"
            )
        if self.best_single:
            self._check_compared()
        return self

    def _check_compared(self) -> None:
        """Refuse a table that compares with the best member and lacks what is compared."""
        for name in ("uniform", "fitted"):
            if name not in self.alternatives:
                raise ValueError(f"alternatives.{name}: the key is missing")
        judged: dict[str, Alternative | BestSingle | None] = {
            **{f"alternatives.{name}": each for name, each in self.alternatives.items()},
            "best_single": self.best_single,
        }
        for key, each in judged.items():
            if each is None or each.accuracy is None or each.log_loss is None:
                raise ValueError(f"{key}: Expected accuracy and log_loss, received none")


@dataclass(frozen=True)
class Voter:
    """What has one vote: a member, or a bag of networks of which each held out another fold.

    Attributes:
        name: Of the member or the bag.
        members: Indices of its networks, whose mean is its answer.
    """

    name: str
    members: tuple[int, ...]


def voters_of(bags: Sequence[tuple[str, str]]) -> tuple[Voter, ...]:
    """Return what votes, in the order of their first networks.

    Args:
        bags: Of each network its name and the name of its bag, which is empty where it has none.
    """
    found: dict[str, list[int]] = {}
    for index, (name, bag) in enumerate(bags):
        found.setdefault(bag or name, []).append(index)
    return tuple(Voter(name, tuple(members)) for name, members in found.items())


@artifact
class TrainedOn:
    """The photos that the members saw: all the same, or those of the folds together.

    Attributes:
        fingerprint: Hash of class order, ids and labels.
        split_seed: Seed of the validation split.
        validation_fraction: Share that a member held out, in the mean of them; 0 where they trained
            on all photos.
        held_out: Hash of the held-out photos' ids; of folds, of each photo's fold.
        reading: How the data folder was read, as `toolkit.data.reading.Reading.recorded` says.
        trained_on: The first digits of the hash of each photo that they trained on, joined.
    """

    fingerprint: str
    split_seed: int
    validation_fraction: Share
    held_out: str = ""
    reading: ReadingRecord = Field(default_factory=dict)
    trained_on: str = ""


@artifact
class Manifest:
    """What `bundle.json` holds.

    Attributes:
        created: ISO 8601, UTC.
        versions: Of the libraries it was made with.
        classes: Category values in class order.
        names: A readable name for some categories.
        class_prior: Share of each class among the training photos.
        pixels: How photos become pixels for all members, before they are made square.
        data: What the members were trained on.
        members: The networks.
        voting: By number of views, 1 to 8.
        requested_voting: What was requested at export; `auto` leaves the choice to the figures.
        validation_sha256: Of `validation.npz`; empty where the members trained on all photos.
        precisions: What was tried for lower precisions.
        outside_sha256: Of `outside.npz`; empty where no photos are outside the folds of bags.
        fold_policy: "all" folds of each backbone as a bag, "best" fold of all backbones, or empty
            where nothing was chosen among folds.
    """

    created: Annotated[str, Field(max_length=40)]
    versions: dict[str, str]
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    names: dict[str, str]
    class_prior: tuple[Share, ...]
    pixels: PixelDefinition
    data: TrainedOn
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    voting: dict[int, VotingTable]
    requested_voting: str
    validation_sha256: Sha256 | Literal[""] = ""
    precisions: tuple[QuantizationTrial, ...] = ()
    outside_sha256: Sha256 | Literal[""] = ""
    fold_policy: Literal["", "all", "best"] = ""

    @property
    def has_bags(self) -> bool:
        """Whether networks of several folds vote together."""
        return any(member.bag for member in self.members)

    @property
    def voters(self) -> tuple[Voter, ...]:
        """What has a vote: the bags, or the members where there are none."""
        return voters_of([(member.name, member.bag) for member in self.members])

    def by_voter(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Return the weights of voters, given one a member."""
        return tuple(sum(weights[index] for index in voter.members) for voter in self.voters)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        if "" in self.classes:
            raise ValueError("classes: Expected a category for each, received ''")
        _each_once("classes", self.classes)
        if len(self.class_prior) != len(self.classes):
            raise ValueError(
                f"class_prior: Expected one number for each of the {len(self.classes)} classes, "
                f"received {len(self.class_prior)}"
            )
        check_sum("class_prior", self.class_prior)
        _each_once("members", [member.name for member in self.members])
        _each_once("members", [member.file for member in self.members])
        _each_once("members", [f"{each.bag} {each.fold}" for each in self.members if each.bag])
        if self.has_bags and not self.validation_sha256:
            raise ValueError("validation_sha256: Expected a hash, as bags hold photos out")
        if self.outside_sha256 and not self.has_bags:
            raise ValueError("outside_sha256: Expected none, as no members form a bag")
        self._check_voting()
        return self

    def _check_voting(self) -> None:
        expected = range(1, len(VIEWS) + 1)
        if set(self.voting) != set(expected):
            odd = sorted(set(expected).symmetric_difference(self.voting))
            raise ValueError(f"voting.{odd[0]}: Expected a table for 1 to {len(VIEWS)} views each")
        for views, table in self.voting.items():
            for name, alternative in table.alternatives.items():
                if len(alternative.weights) != len(self.members):
                    raise ValueError(
                        f"voting.{views}.alternatives.{name}.weights: Expected one for each of "
                        f"the {len(self.members)} members, received {len(alternative.weights)}"
                    )


def _check_files(member: Member, variant: Variant) -> None:
    if not variant.files:
        raise ValueError(f"variants: {variant.precision}: files: Expected at least one file")
    if variant.precision == member.precision:
        raise ValueError(f"variants: {variant.precision}: is the precision of the member itself")
    if variant.files.get(member.file, member.sha256) != member.sha256:
        raise ValueError(f"variants: {variant.precision}: files: {member.file}: two hashes")


def _each_once(key: str, names: Sequence[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"{key}: Expected each once, received '{twice[0]}' twice")
