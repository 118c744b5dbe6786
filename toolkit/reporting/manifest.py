"""The manifest of a submission: its schema, which holds whoever wrote it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, Field

from toolkit.artifacts import (
    Count,
    Sha256,
    Share,
    Temperature,
    artifact,
    check_sum,
    dump_artifact,
    read_artifact,
)
from toolkit.data.reading import ReadingRecord
from toolkit.errors import ToolkitError
from toolkit.files import read_json, write_json
from toolkit.inference.certificate import Certify
from toolkit.inference.plan import CascadePlan
from toolkit.inference.views import VIEWS
from toolkit.reporting.formats import AnswerFormat, FormatOptions

_MAKE_AGAIN = "Make the submission again with 'toolkit ensemble'."
_OWN_KEYS = {"submission", "options", "format"}
"""What another JSON file of that name hardly has."""


def _is_name(name: str) -> str:
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0"):
        raise ValueError("Expected the name of a file, without folders")
    return name


Name = Annotated[str, AfterValidator(_is_name)]
Typed = Annotated[str, Field(min_length=1)]
"""A path as it was typed."""


@artifact
class WrittenFile:
    """A file beside the manifest.

    Attributes:
        file: Its name.
        sha256: Of its bytes.
    """

    file: Name
    sha256: Sha256


@artifact
class UsedBundle:
    """The bundle that answered.

    Attributes:
        folder: As it was typed.
        sha256: Of its manifest.
    """

    folder: Typed
    sha256: Sha256


@artifact
class SkippingRecord:
    """What was chosen of a plan, defaults filled in; see `toolkit.inference.finding.Skipping`.

    Attributes:
        full: Whether every member looked at every view.
        plan: The plan's file, where one was named.
        certify: What the guarantee rests on.
        budget_ms: Largest mean inference cost a photo.
        tolerance: None without a plan that was searched, as the confidence.
        confidence: That no more labels differ.
    """

    full: bool
    plan: Typed | None
    certify: Certify
    budget_ms: Annotated[float, Field(gt=0)] | None
    tolerance: Share | None = None
    confidence: Share | None = None


@artifact
class Options:
    """What was requested; see `toolkit.reporting.job.submit`.

    Attributes:
        data: The data folder, as it was typed.
        reading: How it was read.
        skip_broken: Whether broken photos got the class prior.
        answer: What the submission should hold.
        skipping: Which model calls might be skipped.
        tta: Views a photo.
        tta_views: `fixed` or `augmentor`.
        voting: As `toolkit.inference.voting.choose_voting` takes it.
        device: `auto` or a kind of device.
        batch: Photos a batch.
        threads: None takes all cores.
        seed: For random views and for the certification sample.
    """

    data: Typed
    reading: ReadingRecord
    skip_broken: bool
    answer: FormatOptions
    skipping: SkippingRecord
    tta: Annotated[int, Field(ge=1, le=len(VIEWS))]
    tta_views: Literal["fixed", "augmentor"]
    voting: str
    device: str
    batch: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)] | None
    seed: Count

    @property
    def settings(self) -> dict[str, Any]:
        """What `Ensemble.load` takes."""
        return {name: getattr(self, name) for name in SETTINGS}


SETTINGS = ("tta", "tta_views", "voting", "device", "batch", "threads", "seed")
"""Options that the ensemble is loaded with."""


@artifact
class RequestRecord:
    """Hashes of what was predicted.

    Attributes:
        ids_sha256: Of columns and ids in their order, with all the sample's rows.
        photos_sha256: Of the bytes of all photos.
        photos: The first digits of each photo's hash, one after another.
    """

    ids_sha256: Sha256
    photos_sha256: Sha256
    photos: Annotated[str, Field(pattern="^[0-9a-f-]*$")]


@artifact
class ProbabilitiesRecord:
    """The probabilities of all photos.

    Attributes:
        values_sha256: Of the values as little-endian float64, in the request's order.
        file: Where they were written, as it was typed; None where they were not.
        sha256: Of that file.
    """

    values_sha256: Sha256
    file: Typed | None
    sha256: Sha256 | None


@artifact
class VotingRecord:
    """How members' probabilities became the ensemble's; see `toolkit.inference.voting.Voting`.

    Attributes:
        name: Which way to vote.
        weights: By member.
        temperature: Of the averaged probabilities.
    """

    name: str
    weights: dict[str, Share]
    temperature: Temperature

    @pydantic.model_validator(mode="after")
    def _is_of_shares(self) -> VotingRecord:
        check_sum("weights", tuple(self.weights.values()))
        return self


@artifact
class UsedDevice:
    """What the sessions really ran on.

    Attributes:
        provider: Of onnxruntime, or OpenVINO.
        device: Its name.
    """

    provider: str
    device: str


@artifact
class SubmissionManifest:
    """What `submission.json` holds: all that the submission was made of.

    Attributes:
        created: ISO 8601, UTC.
        submission: The submission.
        format: Its format.
        classes: All labels in class order.
        latency: Its latency report.
        bundle: What answered.
        options: What was requested.
        typed_in: The folder of the command, relative to the manifest.
        request: Hashes of ids and photos.
        plan: The plan that was followed.
        probabilities: Of all photos.
        voting: What was voted by.
        method: `full`, `label-exact` or `cascade`.
        guarantee: How the labels stand to the full ensemble's, in words.
        photos: How many were answered.
        answered_with_class_prior: Ids of photos that could not be read, with the reason.
        device: What the sessions ran on.
        threads: Of a session on the CPU.
        notes: Why `auto` took no GPU.
        versions: Of the libraries that answers may depend on.
        schema_version: Of this file.
    """

    created: Annotated[str, Field(max_length=40)]
    submission: WrittenFile
    format: AnswerFormat
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    latency: WrittenFile
    bundle: UsedBundle
    options: Options
    typed_in: Typed
    request: RequestRecord
    plan: CascadePlan
    probabilities: ProbabilitiesRecord
    voting: VotingRecord
    method: str
    guarantee: str
    photos: Count
    answered_with_class_prior: dict[str, str]
    device: UsedDevice
    threads: Annotated[int, Field(ge=1)]
    notes: tuple[str, ...]
    versions: dict[str, str]
    schema_version: Literal[1] = 1

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> SubmissionManifest:
        for problem in self.format.problems(self.classes):
            raise ValueError(f"format: {problem}")
        return self

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, dump_artifact(self))


@dataclass(frozen=True)
class Made:
    """A submission's manifest, and where it stands.

    Attributes:
        path: Of the manifest.
        manifest: What it says.
    """

    path: Path
    manifest: SubmissionManifest

    @classmethod
    def load(cls, path: Path) -> Made:
        """Read a manifest.

        Raises:
            ToolkitError: It is none, or a damaged one; names file and key.
        """
        content = read_json(path)
        if not set(content) >= _OWN_KEYS:
            raise ToolkitError(f"{path}: is no manifest of a submission by 'toolkit ensemble'.")
        return cls(path, read_artifact(SubmissionManifest, content, path, _MAKE_AGAIN))

    @classmethod
    def beside(cls, submission: Path) -> Made | None:
        """Read the manifest beside a submission; None where there is none, or some other file.

        Raises:
            ToolkitError: There is a damaged one; names file and key.
        """
        path = submission.with_suffix(".json")
        if not path.is_file():
            return None
        try:
            content = read_json(path)
        except ToolkitError:
            return None  # Some other file of that name.
        return cls.load(path) if set(content) >= _OWN_KEYS else None

    @property
    def submission(self) -> Path:
        """The submission that it describes."""
        return self.path.with_name(self.manifest.submission.file)

    def found(self, path: str) -> Path:
        """Return where a path leads that was typed when the submission was made.

        Relative ones go on from the folder that the command was typed in, and that is known
        relative to the manifest: the whole project may have moved.
        """
        return Path(os.path.normpath(self.path.resolve().parent / self.manifest.typed_in / path))
