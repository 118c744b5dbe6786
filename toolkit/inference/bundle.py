"""The bundle: exported members with all that is needed to predict with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import (
    artifact,
    check_predictions,
    check_probabilities,
    read_arrays,
    read_artifact,
)
from toolkit.errors import BundleError
from toolkit.files import (
    read_json,
    refuse_undecodable,
    regular_file,
    sha256_file,
    sha256_json,
    write_json,
    written_whole,
)
from toolkit.inference.calls import ModelKey
from toolkit.inference.manifest import (
    MANIFEST,
    OUTSIDE,
    VALIDATION,
    Alternative,
    BestSingle,
    Judged,
    Manifest,
    Member,
    Parity,
    QuantizationTrial,
    TrainedOn,
    Variant,
    Voter,
    VotingTable,
)
from toolkit.inference.views import VIEWS

__all__ = [
    "MANIFEST",
    "OUTSIDE",
    "VALIDATION",
    "Alternative",
    "BestSingle",
    "Bundle",
    "BundleValidation",
    "Judged",
    "Member",
    "Parity",
    "QuantizationTrial",
    "TrainedOn",
    "Variant",
    "Voter",
    "VotingTable",
    "load_bundle",
    "load_outside",
    "load_search_photos",
    "load_validation",
    "save_bundle",
]

SCHEMA_VERSION = 6
INPUT, OUTPUT = "images", "probabilities"

LARGEST_FILE = 2 * 2**30
"""Bytes of a file in a bundle: ONNX holds no more in one."""

_EXPORT_AGAIN = "Export the bundle again."


@artifact
class Bundle(Manifest):
    """A bundle's manifest, and where it lies.

    Attributes:
        folder: The folder, which is no part of the manifest.
    """

    folder: Path = field(kw_only=True)

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

    def check_files(self, members: Sequence[Member] | None = None) -> None:
        """Refuse a bundle whose files are not the ones that were exported.

        Args:
            members: Those whose bytes are to be checked; None checks every file.

        Raises:
            ToolkitError: A file is missing, was changed, or does not belong here.
        """
        expected = {file: sha for member in self.members for file, sha in member.files.items()}
        if self.validation_sha256:
            expected[VALIDATION] = self.validation_sha256
        if self.outside_sha256:
            expected[OUTSIDE] = self.outside_sha256
        for path in sorted(self.folder.iterdir()):
            # Hidden files, such as macOS leaves in every folder, are nobody's members.
            if path.name not in (*expected, MANIFEST) and not path.name.startswith("."):
                raise BundleError(
                    f"{path}: does not belong to the bundle. Move it elsewhere.", path=path
                )
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
    refuse_undecodable(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{folder}: no bundle (no {MANIFEST}). Make one with 'toolkit export'.", path=folder
        )
    if path.is_symlink():
        raise BundleError(
            f"{path}: is a link, and a bundle holds its own files. {_EXPORT_AGAIN}", path=path
        )
    content = read_json(path)
    if content.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema_version: Expected {SCHEMA_VERSION}, "
            f"received {content.get('schema_version')!r}. Export the bundle again."
        )
    if content.pop("sha256", "") != sha256_json(content):
        raise BundleError(
            f"{path}: was changed after the export. Export the bundle again.", path=path
        )
    del content["schema_version"]
    manifest = read_artifact(Manifest, content, path, _EXPORT_AGAIN, BundleError)
    return Bundle(
        folder=folder, **{each.name: getattr(manifest, each.name) for each in fields(Manifest)}
    )


@dataclass(frozen=True)
class BundleValidation:
    """What every voter says to every view of the held-out photos.

    A bag is represented, for each photo, by its one network that did not learn the photo. Of photos
    outside all folds it holds what each member says.

    Attributes:
        ids: Shape (photos,).
        labels: Shape (photos,), class indices.
        groups: Shape (photos,); near-duplicates share a number.
        probabilities: Shape (voters or members, photos, views, classes), float32.
        variants: By member and precision, shape (photos, views, classes), float32.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    variants: Mapping[ModelKey, NDArray[np.float32]] = field(default_factory=dict)

    def averaged(self, views: int) -> NDArray[np.float64]:
        """Return each one's mean over the first views, shape (voters, photos, classes)."""
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
    """Read what the voters say of the held-out photos.

    Raises:
        ToolkitError: The bundle has none, or they were changed.
    """
    if not bundle.validation_sha256:
        raise BundleError(f"{bundle.folder}: its members trained on all photos: no validation.")
    # Networks of a bag differ in the precisions that they have, and in the photos they held out.
    variants = [] if bundle.has_bags else bundle.members
    count = len(bundle.voters)
    return _load_answers(bundle, VALIDATION, bundle.validation_sha256, count, variants)


def load_outside(bundle: Bundle) -> BundleValidation | None:
    """Read what the members say of the photos outside all folds; None where there are none.

    Raises:
        ToolkitError: They were changed.
    """
    if not bundle.outside_sha256:
        return None
    members = bundle.members
    return _load_answers(bundle, OUTSIDE, bundle.outside_sha256, len(members), members)


def load_search_photos(bundle: Bundle) -> BundleValidation:
    """Read what all members say of photos that none of them learned.

    Raises:
        ToolkitError: There are no such photos, or they were changed.
    """
    if not bundle.has_bags:
        return load_validation(bundle)
    outside = load_outside(bundle)
    if outside is None:
        raise BundleError(
            f"{bundle.folder}: each photo was learned by networks of some folds, so none is left "
            "to search a plan on. Leave `tolerance` out: all labels are then the full ensemble's; "
            "or train again with `holdout=0.2` beside `folds`.",
            path=bundle.folder,
        )
    return outside


def _load_answers(
    bundle: Bundle, file: str, sha256: str, count: int, with_variants: Sequence[Member]
) -> BundleValidation:
    path = bundle.folder / file
    _check_file(path, sha256)
    named = read_arrays(path, _EXPORT_AGAIN, _VALIDATION_KEYS, BundleError)
    variants = {key: named.pop(key) for key in list(named) if "/" in key}
    expected = {
        f"{member.name}/{each.precision}" for member in with_variants for each in member.variants
    }
    if wrong := _wrong_answers(len(bundle.classes), count, named, variants, expected):
        raise BundleError(f"{path}: {wrong}. {_EXPORT_AGAIN}", path=path)
    by_key = {ModelKey(*key.split("/")): array for key, array in variants.items()}
    return BundleValidation(**named, variants=by_key)


_VALIDATION_KEYS = ("ids", "labels", "groups", "probabilities")


def _wrong_answers(
    classes: int,
    count: int,
    named: Mapping[str, NDArray[Any]],
    variants: Mapping[str, NDArray[Any]],
    expected: set[str],
) -> str:
    """Return what is wrong with the arrays of a file of answers; empty where nothing is."""
    if unknown := set(named) - set(_VALIDATION_KEYS):
        return f"{min(unknown)}: unknown array"
    ids, labels, groups, probabilities = (named[key] for key in _VALIDATION_KEYS)
    if wrong := check_predictions(ids, labels, groups, classes):
        return wrong
    shape = len(ids), len(VIEWS), classes
    if wrong := check_probabilities(probabilities, (count, *shape)):
        return f"probabilities: {wrong}"
    if odd := expected.symmetric_difference(variants):
        return f"{min(odd)}: {'the array is missing' if min(odd) in expected else 'unknown array'}"
    for key, array in variants.items():
        if wrong := check_probabilities(array, shape):
            return f"{key}: {wrong}"
    return ""


def _check_file(path: Path, sha256: str) -> None:
    if path.is_symlink():
        raise BundleError(
            f"{path}: is a link, and a bundle holds its own files. {_EXPORT_AGAIN}", path=path
        )
    if not path.exists():
        raise BundleError(f"{path}: the file is missing. {_EXPORT_AGAIN}", path=path)
    regular_file(path, LARGEST_FILE)
    if sha256_file(path) != sha256:
        raise BundleError(
            f"{path}: the file was changed after the export. {_EXPORT_AGAIN}", path=path
        )


def _content(bundle: Bundle) -> dict[str, Any]:
    content = asdict(bundle)
    del content["folder"]
    content["voting"] = {str(views): table for views, table in content["voting"].items()}
    # Through JSON once, so that tuples and lists hash alike before and after reading.
    return {"schema_version": SCHEMA_VERSION, **content}
