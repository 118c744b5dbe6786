"""The sides that `inference.py` compares; each answers the same photos and writes a CSV.

A loop side has its networks loaded and warm before any clock starts. `submit` loads its own in
every call: the clock starts at the first photo, and the whole call is told beside it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import keras
import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray

from toolkit.data.labels import read_labels
from toolkit.data.pixels import Pixels, Square, load
from toolkit.data.request import Request
from toolkit.errors import ToolkitError
from toolkit.inference.batching import chunks, padded
from toolkit.inference.bundle import INPUT, Bundle, Member
from toolkit.inference.finding import LABEL_EXACT, Skipping
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import Voting
from toolkit.progress import Advance, Reporter
from toolkit.reporting.job import submit
from toolkit.reporting.latency import LatencyReport

Answers = NDArray[np.floating]


@dataclass(frozen=True)
class Work:
    """A data folder to predict.

    Attributes:
        folder: With a sample submission, whose photos are links to the real ones.
        request: Its rows.
        photos: The real photo's id by row id.
    """

    folder: Path
    request: Request
    photos: Mapping[str, str]

    @classmethod
    def repeated(cls, request: Request, rows: int, folder: Path) -> Work:
        """Make a folder of so many rows, for which the photos are taken again and again."""
        sources = [number % len(request.ids) for number in range(rows)]
        ids = [f"{row:06d}-{Path(request.ids[n]).name}" for row, n in enumerate(sources)]
        paths = [request.paths[number].resolve() for number in sources]
        originals = [request.ids[number] for number in sources]
        return cls._linked(folder, request.columns, ids, paths, originals)

    def part(self, count: int, folder: Path) -> Work:
        """Make a folder of so many rows of different photos, under the same ids."""
        distinct = len(set(self.photos.values()))  # The first rows; then they repeat.
        rows = np.linspace(0, distinct, min(count, distinct), endpoint=False).astype(int)
        ids = [self.request.ids[row] for row in rows]
        paths = [self.request.paths[row].resolve() for row in rows]
        originals = [self.photos[id] for id in ids]
        return self._linked(folder, self.request.columns, ids, paths, originals)

    @classmethod
    def _linked(
        cls,
        folder: Path,
        columns: tuple[str, str],
        ids: Sequence[str],
        paths: Sequence[Path],
        originals: Sequence[str],
    ) -> Work:
        test = folder / "test"
        test.mkdir(parents=True)
        for id, path in zip(ids, paths, strict=True):
            (test / id).symlink_to(path)
        table = pd.DataFrame({columns[0]: ids, columns[1]: "0"})
        table.to_csv(folder / "sample_submission.csv", index=False)
        request = Request(tuple(ids), tuple(test / id for id in ids), columns)
        return cls(folder, request, dict(zip(ids, originals, strict=True)))


@dataclass(frozen=True)
class Sample:
    """One side's run.

    Attributes:
        photos: That were answered.
        seconds: From the first photo's file to the written CSV.
        inference_seconds: In the networks alone.
        labels: By id.
        call_seconds: Of `submit`, loading included; None for a loop.
        latency: What `submit` reports; None for a loop.
    """

    photos: int
    seconds: float
    inference_seconds: float
    labels: Mapping[str, str]
    call_seconds: float | None = None
    latency: LatencyReport | None = None

    @property
    def rate(self) -> float:
        """Photos a second, from file to CSV."""
        return self.photos / self.seconds

    @property
    def inference_rate(self) -> float:
        """Photos a second in the networks alone."""
        return self.photos / self.inference_seconds


class Side(Protocol):
    """A way to predict."""

    @property
    def provider(self) -> str:
        """What computes."""

    def run(self, work: Work, out: Path) -> Sample:
        """Predict all rows and write them."""


class Photos(keras.utils.PyDataset):  # type: ignore[misc]
    """one view of photos as one kind of square, decoded a batch at a time."""

    def __init__(self, paths: Sequence[Path], square: Square, view: int, batch: int) -> None:
        super().__init__()
        self._paths, self._square, self._view, self._batch = paths, square, view, batch

    def __len__(self) -> int:
        return math.ceil(len(self._paths) / self._batch)

    def __getitem__(self, index: int) -> tuple[Pixels]:
        part = self._paths[index * self._batch : (index + 1) * self._batch]
        return (np.stack([VIEWS[self._view](load(path, self._square)) for path in part]),)

    def batches(self) -> Iterator[Pixels]:
        """Give the images without the tuples that Keras asks for."""
        return (self[index][0] for index in range(len(self)))


class Network(Protocol):
    """A member, loaded."""

    def stream(self, photos: Photos) -> Answers:
        """Predict what a generator gives."""

    def arrays(self, images: Pixels) -> Answers:
        """Predict images that lie in memory."""


class KerasNetwork:
    """`keras_model.predict`."""

    def __init__(self, path: Path, batch: int) -> None:
        self._model = keras.models.load_model(path, compile=False)
        self._batch = batch

    def stream(self, photos: Photos) -> Answers:
        answers: Answers = self._model.predict(photos, verbose=0)
        return answers

    def arrays(self, images: Pixels) -> Answers:
        answers: Answers = self._model.predict(images, batch_size=self._batch, verbose=0)
        return answers


class OnnxNetwork:
    """onnxruntime as it comes."""

    def __init__(self, path: Path, batch: int) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._batch = batch

    def stream(self, photos: Photos) -> Answers:
        return self._all(photos.batches())

    def arrays(self, images: Pixels) -> Answers:
        return self._all(chunks(images, self._batch))

    def _all(self, batches: Iterable[Pixels]) -> Answers:
        return np.concatenate([self._session.run(None, {INPUT: each})[0] for each in batches])


class OpenVinoNetwork:
    """OpenVINO compiled for throughput, with as many requests under way as it asks for."""

    def __init__(self, path: Path, size: int, batch: int, precision: str) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        model.reshape([batch, size, size, 3])
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
        compiled = core.compile_model(model, "CPU", hints)
        real = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if real != precision:
            raise ToolkitError(f"this processor computes in {real}, not in {precision}")
        self._queue, self._batch = openvino.AsyncInferQueue(compiled), batch

    def stream(self, photos: Photos) -> Answers:
        return self._all(photos.batches())

    def arrays(self, images: Pixels) -> Answers:
        return self._all(chunks(images, self._batch))

    def _all(self, batches: Iterable[Pixels]) -> Answers:
        found: dict[int, Answers] = {}

        def keep(request: Any, about: tuple[int, int]) -> None:
            number, count = about
            found[number] = np.array(request.get_output_tensor().data[:count])

        self._queue.set_callback(keep)
        for number, images in enumerate(batches):
            self._queue.start_async({0: padded(images, self._batch)}, (number, len(images)))
        self._queue.wait_all()
        return np.concatenate([found[number] for number in sorted(found)])


@dataclass(frozen=True)
class Voter:
    """A member's network, its input and its weight."""

    network: Network
    square: Square
    weight: float


@dataclass(frozen=True)
class LoopSide:
    """A loop over members and views, and the weighted mean.

    Attributes:
        provider: What computes.
        voters: The members that have a vote.
        views: Views a photo.
        batch: Images a run.
        classes: Category values.
        load_seconds: What loading took; it is in no sample.
    """

    provider: str
    voters: Sequence[Voter]
    views: int
    batch: int
    classes: Sequence[str]
    load_seconds: float

    @classmethod
    def load(
        cls,
        provider: str,
        bundle: Bundle,
        voting: Voting,
        views: int,
        batch: int,
        network: Callable[[Member], Network],
    ) -> LoopSide:
        """Load the members that have a vote."""
        started = perf_counter()
        voters = [
            Voter(network(member), member.square, weight)
            for member, weight in zip(bundle.members, voting.weights, strict=True)
            if weight > 0
        ]
        return cls(provider, voters, views, batch, bundle.classes, perf_counter() - started)

    def warm_up(self, work: Work) -> None:
        """Predict one batch both ways, so that tracing and first runs are over."""
        for voter in self.voters:
            photos = Photos(work.request.paths[: self.batch], voter.square, 0, self.batch)
            voter.network.stream(photos)
            voter.network.arrays(photos[0][0])

    def run(self, work: Work, out: Path) -> Sample:
        """Predict all rows, then once more from memory with only the networks on the clock."""
        request = work.request
        started = perf_counter()
        mixed = np.zeros((len(request.ids), len(self.classes)))
        for voter in self.voters:
            for view in range(self.views):
                photos = Photos(request.paths, voter.square, view, self.batch)
                mixed += voter.weight / self.views * voter.network.stream(photos)
        labels = [self.classes[index] for index in mixed.argmax(axis=1)]
        columns = zip(request.columns, (request.ids, labels), strict=True)
        pd.DataFrame(dict(columns)).to_csv(out, index=False)
        seconds = perf_counter() - started
        return Sample(len(labels), seconds, self._inference_seconds(work), read_labels(out))

    def _inference_seconds(self, work: Work) -> float:
        seconds = 0.0
        # In the loop's own order: waiting threads of one session disturb another.
        for voter in self.voters:
            for view in range(self.views):
                photos = Photos(work.request.paths, voter.square, view, self.batch)
                images = np.concatenate(list(photos.batches()))
                started = perf_counter()
                voter.network.arrays(images)
                seconds += perf_counter() - started
        return seconds


@dataclass(frozen=True)
class LastPhoto(Reporter):
    """Notes when the last photo was answered, and says nothing.

    Attributes:
        ends: When each piece of work ended.
    """

    ends: list[float] = field(default_factory=list)

    @contextmanager
    def track(
        self, work: str, total: int, unit: str = "photos", *, tell_end: bool = True
    ) -> Iterator[Advance]:
        """Follow work; see `Reporter.track`."""
        yield lambda count: None
        self.ends.append(perf_counter())


@dataclass(frozen=True)
class SubmitSide:
    """`toolkit ensemble`, called as its command calls it."""

    bundle: Path
    settings: Mapping[str, Any]
    skipping: Skipping = LABEL_EXACT
    provider: str = "toolkit"

    def run(self, work: Work, out: Path) -> Sample:
        """Predict all rows of a folder that nothing was written to before."""
        return self.run_folder(work.folder, out)

    def run_folder(self, data: Path, out: Path) -> Sample:
        """Predict a data folder."""
        reporter = LastPhoto()
        started = perf_counter()
        done = submit(
            self.bundle, data, out, self.settings, skipping=self.skipping, reporter=reporter
        )
        ended = perf_counter()
        latency = done.latency
        return Sample(
            photos=done.rows,
            seconds=latency.end_to_end.seconds + ended - reporter.ends[-1],
            inference_seconds=latency.inference.seconds,
            labels=read_labels(out),
            call_seconds=ended - started,
            latency=latency,
        )


def loop_sides(
    runs: Path, bundle: Bundle, voting: Voting, views: int, batch: int
) -> tuple[dict[str, LoopSide], dict[str, str]]:
    """Load all loops that this machine can run.

    Returns:
        The sides by name; and by name why one was left out.
    """

    def keras_network(member: Member) -> Network:
        return KerasNetwork(runs / member.run / "model.keras", batch)

    def onnx_network(member: Member) -> Network:
        return OnnxNetwork(bundle.folder / member.file, batch)

    sides = {
        "keras": LoopSide.load(
            f"keras {keras.backend.backend()}, CPU", bundle, voting, views, batch, keras_network
        ),
        "onnxruntime": LoopSide.load(
            "CPUExecutionProvider", bundle, voting, views, batch, onnx_network
        ),
    }
    skipped: dict[str, str] = {}
    for name, precision in (("openvino fp32", "f32"), ("openvino bf16", "bf16")):
        if importlib.util.find_spec("openvino") is None:
            skipped[name] = "openvino is not installed: pip install 'toolkit[openvino]'"
            continue

        def openvino_network(member: Member, precision: str = precision) -> Network:
            path = bundle.folder / member.file
            return OpenVinoNetwork(path, member.image_size, batch, precision)

        try:
            sides[name] = LoopSide.load(
                f"OpenVINO {precision}", bundle, voting, views, batch, openvino_network
            )
        except ToolkitError as error:
            skipped[name] = str(error)
    return sides, skipped
