"""The bundle: exported members with all that is needed to predict with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import PixelDefinition, Resize, Square
from toolkit.errors import ToolkitError
from toolkit.files import read_json, sha256_file, sha256_json, write_json, written_whole
from toolkit.inference.calls import ModelKey

SCHEMA_VERSION = 4
MANIFEST = "bundle.json"
VALIDATION = "validation.npz"
INPUT, OUTPUT = "images", "probabilities"


@dataclass(frozen=True)
class Variant:
    """A member in a lower precision, accepted by evidence.

    Attributes:
        precision: `fp16`, `bf16` or `int8`.
        runtime: What runs it: `onnxruntime` or `openvino`.
        files: SHA-256 by file below the bundle; the first is the one to open. bf16 is a way to run
            the member's own file.
        figures: The evidence: `how` it was made, `photos`, `agreement` (share of labels kept on the
            held-out photos), `largest_difference` of a probability, `ms` and `fp32_ms` an image.
    """

    precision: str
    runtime: str
    files: Mapping[str, str]
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Parity:
    """How a member's file compares with its Keras network; see `toolkit.exporting.parity`.

    Attributes:
        photos: How many both computed.
        reference_images: Of them and their views, those that Keras computed in float64 too.
        logit_error: Largest error of a logit of the file, as a share of the largest logit.
        noise_floor: The same of Keras in float32.
        labels_changed: Photos with another label than in Keras; their logits are ties.
    """

    photos: int
    reference_images: int
    logit_error: float
    noise_floor: float
    labels_changed: int


@dataclass(frozen=True)
class Member:
    """One exported network.

    Attributes:
        name: As votes name it.
        run: The run it was exported from, `<set>/<backbone>[-name]`.
        model_sha256: Of the Keras model it was exported from.
        backbone: Its backbone.
        file: Its ONNX file below the bundle.
        sha256: Of that file.
        precision: Of its arithmetic.
        image_size: Side of its input in pixels.
        augmentor: Steps of the augmentor it was trained with.
        score: Validation figures (`toolkit.metrics.Score`), or empty.
        parity: How the ONNX file compares with Keras; None where it was not compared.
        variants: Lower precisions that were accepted, at most one a precision.
        resize: How a photo becomes its input; see `toolkit.data.pixels.Square`.
        store_size: Side in pixels of what its augmentor gets; None takes `image_size`.
    """

    name: str
    run: str
    model_sha256: str
    backbone: str
    file: str
    sha256: str
    precision: str
    image_size: int
    augmentor: tuple[Mapping[str, Any], ...]
    score: Mapping[str, Any]
    parity: Parity | None
    variants: tuple[Variant, ...] = ()
    resize: Resize = "stretch"
    store_size: int | None = None

    @property
    def square(self) -> Square:
        """What a photo becomes for its input."""
        return Square(self.image_size, self.resize)

    @property
    def stored_square(self) -> Square:
        """What a photo becomes for its augmentor."""
        return Square(self.store_size or self.image_size, self.resize)

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


@dataclass(frozen=True)
class Alternative:
    """One way to weigh the members, and how good it is.

    Attributes:
        weights: One a member.
        temperature: See `toolkit.inference.voting.Voting`.
        accuracy: Cross-fitted on the validation photos; None where there are none.
        log_loss: Likewise.
        value: Likewise, of the metric that the choice was made by.
    """

    weights: tuple[float, ...]
    temperature: float
    accuracy: float | None
    log_loss: float | None
    value: float | None = None


@dataclass(frozen=True)
class VotingTable:
    """The ways to vote for one number of views.

    Attributes:
        choice: Which one `auto` takes.
        reason: Why.
        alternatives: By name.
        best_single: Name, accuracy, log-loss and value of the best member alone, to compare; or
            empty.
        metric: What the choice was made by, one of `toolkit.metrics.METRICS`.
    """

    choice: str
    reason: str
    alternatives: Mapping[str, Alternative]
    best_single: Mapping[str, Any]
    metric: str = "log-loss"


@dataclass(frozen=True)
class Bundle:
    """A bundle's manifest.

    Attributes:
        folder: Where it lies.
        created: ISO 8601, UTC.
        versions: Of the libraries it was made with.
        classes: Category values in class order.
        names: A readable name for some categories.
        class_prior: Share of each class among the training photos.
        pixels: How photos become pixels for all members, before they are made square.
        data: Fingerprint, split seed and validation fraction of what the members saw.
        members: The networks.
        voting: By number of views, 1 to 8.
        requested_voting: What was asked for at export; `auto` leaves the choice to the figures.
        validation_sha256: Of `validation.npz`; empty where the members trained on all photos.
        precisions: What was tried for lower precisions, a row a member and precision: `member`,
            `precision`, `runtime`, the figures of `Variant`, `accepted` and `reason`.
    """

    folder: Path
    created: str
    versions: Mapping[str, str]
    classes: tuple[str, ...]
    names: Mapping[str, str]
    class_prior: tuple[float, ...]
    pixels: PixelDefinition
    data: Mapping[str, Any]
    members: tuple[Member, ...]
    voting: Mapping[int, VotingTable]
    requested_voting: str
    validation_sha256: str = ""
    precisions: tuple[Mapping[str, Any], ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the manifest, and through it of every file of the bundle."""
        return sha256_json(_content(self))

    @property
    def decoder_note(self) -> str:
        """What to report where photos are now decoded by another version; else empty."""
        return self.pixels.decoder_note("at export")

    def check_pixels(self) -> None:
        """Refuse a bundle whose members were given other pixels than they would be given now.

        Raises:
            ToolkitError: Its pixel definition is another; the message names what differs.
        """
        self.pixels.check(self.folder, "Export the bundle again")

    def check_files(self, members: list[Member] | None = None) -> None:
        """Refuse a bundle whose files are not the ones that were exported.

        Args:
            members: Those whose bytes are to be checked; None checks every file.

        Raises:
            ToolkitError: A file is missing, was changed, or does not belong here.
        """
        expected = {member.file: member.sha256 for member in self.members}
        for member in self.members:
            for variant in member.variants:
                expected.update(variant.files)
        if self.validation_sha256:
            expected[VALIDATION] = self.validation_sha256
        for path in sorted(self.folder.iterdir()):
            # Hidden files, such as macOS leaves in every folder, are nobody's members.
            if path.name not in (*expected, MANIFEST) and not path.name.startswith("."):
                raise ToolkitError(f"{path}: does not belong to the bundle. Move it elsewhere.")
        checked = expected if members is None else [member.file for member in members]
        for name in checked:
            _check_file(self.folder / name, expected[name])


def save_bundle(bundle: Bundle) -> None:
    """Write the manifest, which makes the folder a bundle."""
    write_json(bundle.folder / MANIFEST, {**_content(bundle), "sha256": bundle.sha256})


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest. Its other files are not opened; see `Bundle.check_files`.

    Raises:
        ToolkitError: The folder holds no bundle, or one that was edited or is of another schema.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ToolkitError(f"{folder}: no bundle (no {MANIFEST}). Make one with 'toolkit export'.")
    content = read_json(path)
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ToolkitError(
            f"{path}: schema_version: Expected {SCHEMA_VERSION}, "
            f"received {content.get('schema_version')!r}. Export the bundle again."
        )
    if content.pop("sha256", "") != sha256_json(content):
        raise ToolkitError(f"{path}: was changed after the export. Export the bundle again.")
    return Bundle(
        folder=folder,
        created=content["created"],
        versions=content["versions"],
        classes=tuple(content["classes"]),
        names=content["names"],
        class_prior=tuple(content["class_prior"]),
        pixels=PixelDefinition.read(content["pixels"]),
        data=content["data"],
        members=tuple(
            Member(
                **{
                    **member,
                    "augmentor": tuple(member["augmentor"]),
                    "parity": Parity(**member["parity"]) if member["parity"] else None,
                    "variants": tuple(Variant(**variant) for variant in member["variants"]),
                }
            )
            for member in content["members"]
        ),
        requested_voting=content["requested_voting"],
        voting={int(views): _voting_table(table) for views, table in content["voting"].items()},
        validation_sha256=content["validation_sha256"],
        precisions=tuple(content["precisions"]),
    )


@dataclass(frozen=True)
class BundleValidation:
    """What every member says to every view of the held-out photos.

    Attributes:
        ids: Shape (photos,).
        labels: Shape (photos,), class indices.
        groups: Shape (photos,); near-duplicates share a number.
        probabilities: Shape (members, photos, views, classes), float32.
        variants: By member and precision, shape (photos, views, classes), float32.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    variants: Mapping[ModelKey, NDArray[np.float32]] = field(default_factory=dict)

    def averaged(self, views: int) -> NDArray[np.float64]:
        """Return each member's mean over the first views, shape (members, photos, classes)."""
        mean: NDArray[np.float64] = self.probabilities[:, :, :views].mean(axis=2, dtype=np.float64)
        return mean

    def save(self, path: Path) -> None:
        """Write it as `.npz`; what a variant says is the array `MEMBER/PRECISION`."""
        arrays: dict[str, Any] = {
            "ids": self.ids,
            "labels": self.labels,
            "groups": self.groups,
            "probabilities": self.probabilities,
            **{f"{key.member}/{key.precision}": array for key, array in self.variants.items()},
        }
        with written_whole(path) as temporary:
            np.savez_compressed(temporary, **arrays)


def load_validation(bundle: Bundle) -> BundleValidation:
    """Read the held-out photos' probabilities.

    Raises:
        ToolkitError: The bundle has none, or they were changed.
    """
    if not bundle.validation_sha256:
        raise ToolkitError(f"{bundle.folder}: its members trained on all photos: no validation.")
    path = bundle.folder / VALIDATION
    _check_file(path, bundle.validation_sha256)
    with np.load(path, allow_pickle=False) as arrays:
        named = {key: arrays[key] for key in arrays.files}
    variants = {ModelKey(*key.split("/")): named.pop(key) for key in list(named) if "/" in key}
    return BundleValidation(**named, variants=variants)


def _check_file(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise ToolkitError(f"{path}: the file is missing. Export the bundle again.")
    if sha256_file(path) != sha256:
        raise ToolkitError(
            f"{path}: the file was changed after the export. Export the bundle again."
        )


def _voting_table(content: Mapping[str, Any]) -> VotingTable:
    alternatives = {
        name: Alternative(**{**alternative, "weights": tuple(alternative["weights"])})
        for name, alternative in content["alternatives"].items()
    }
    return VotingTable(**{**content, "alternatives": alternatives})


def _content(bundle: Bundle) -> dict[str, Any]:
    content = asdict(bundle)
    del content["folder"]
    content["voting"] = {str(views): table for views, table in content["voting"].items()}
    # Through JSON once, so that tuples and lists hash alike before and after reading.
    return {"schema_version": SCHEMA_VERSION, **content}
