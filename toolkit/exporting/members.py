"""The networks of a bundle: converted, compared with Keras, and asked about the held-out photos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.artifacts import Sha256, artifact, read_artifact
from toolkit.capacity import how_many_fit
from toolkit.data.cache import decoded_photos
from toolkit.data.labelled import load_labelled
from toolkit.data.pixels import DECODER_VERSION, PixelDefinition, Square
from toolkit.data.reading import Reading
from toolkit.data.survey import survey
from toolkit.errors import DataError, ToolkitError, listing
from toolkit.exporting.bags import bags_of
from toolkit.exporting.memory import export_memory
from toolkit.files import read_json, sha256_file, sha256_json, write_json, written_whole
from toolkit.inference.bundle import Member, Parity
from toolkit.inference.devices import choose_device
from toolkit.inference.sessions import MemberSession, Session
from toolkit.inference.views import VIEWS, FixedViews
from toolkit.machine import package_versions, usable_cores
from toolkit.processes import end_processes, import_quietly, in_own_process
from toolkit.progress import Reporter, counted
from toolkit.training.run import Run

VERSIONED = (
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "pillow",
    "toolkit",
)

PHOTOS_WITHOUT_VALIDATION = 256
"""Photos that parity is shown on where the members trained on all of them."""

ON_THE_CPU = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
"""A GPU's float32 is another noise floor, and may be TF32."""

_BATCH = 16


@dataclass(frozen=True)
class Photos:
    """The photos that members are compared and measured on.

    Attributes:
        paths: All labelled photos that the runs saw.
        hashes: SHA-256 of their files.
        pixels: How they become pixels, before they are made square.
        ids: Their ids.
        names: A readable name for some categories.
    """

    paths: list[Path]
    hashes: list[str]
    pixels: PixelDefinition
    ids: list[str]
    names: dict[str, str]

    @classmethod
    def find(cls, runs: Sequence[Run], data: Path | None, reporter: Reporter) -> Photos:
        """Find the photos that runs were trained on.

        Args:
            runs: All of the same split, or folds of the same photos.
            data: The data folder; None takes the one that the runs name.

        Raises:
            ToolkitError: The folder holds others, or some cannot be read.
        """
        folder = data or Path(runs[0].data.folder)
        seen = runs[0].data
        for run in runs:
            run.data.pixels.check(run.folder, "Train it again with `fresh=True`")
        reading = Reading.of_record(seen.reading, folder)
        dataset = load_labelled(folder, reading, reporter).without(seen.left_out)
        if dataset.fingerprint != seen.fingerprint:
            raise DataError(
                f"{folder}: holds other photos or labels than {runs[0].label} was trained on. Name "
                "the right folder with `data=DIR`.",
                path=folder,
            )
        paths = [photo.path for photo in dataset.photos]
        facts = survey(paths, reporter)
        broken = [
            f"{path}: {fact.broken}" for path, fact in zip(paths, facts, strict=True) if fact.broken
        ]
        if broken:
            raise DataError(f"photos that the runs saw cannot be read:\n{listing(broken)}")
        hashes = [fact.sha256 for fact in facts]
        if sha256_json(hashes) != seen.photos_sha256:
            raise DataError(
                f"{folder}: photos were replaced under the same names since {runs[0].label} was "
                "trained. Put the old ones back, name their folder with `data=DIR`, or train "
                "again with `fresh=True`.",
                path=folder,
            )
        ids = [photo.id for photo in dataset.photos]
        return cls(paths, hashes, seen.pixels, ids, dataset.names)

    def chosen(self, run: Run) -> list[int]:
        """Return the numbers of the photos that a run's network is compared and measured on.

        Those that it held out, then those outside all folds; where it trained on all photos, some
        spread evenly over all.
        """
        known = [each for each in (run.validation, run.outside) if each is not None]
        if not known:
            return spread(len(self.ids), PHOTOS_WITHOUT_VALIDATION)
        number = {id: index for index, id in enumerate(self.ids)}
        return [number[str(id)] for each in known for id in each.ids]

    def decoded(self, square: Square, reporter: Reporter) -> Path:
        """Return the file of all photos as squares of a kind; see `decoded_photos`."""
        return decoded_photos(self.paths, self.hashes, square, self.pixels, reporter)


def export_members(
    named: Sequence[tuple[str, Run]], photos: Photos, building: Path, reporter: Reporter
) -> list[Member]:
    """Export networks; those that an interrupted earlier call had exported are found.

    Args:
        named: Member names and their runs.
        photos: What they are compared on.
        building: The folder to write to: `NAME.onnx`, and `NAME.npz` with the array
            `probabilities`, float32 of shape (photos, views, classes), for `Photos.chosen`.

    Returns:
        The members in the order given.

    Raises:
        ToolkitError: A file does not compute what Keras computes; says which and where.
    """
    bags = bags_of([name for name, _ in named], [run for _, run in named])
    works = [
        _Work(name, run, bag, photos, building)
        for (name, run), bag in zip(named, bags, strict=True)
    ]
    missing = [work for work in works if not work.is_done]
    pixels = {work.square: photos.decoded(work.square, reporter) for work in missing}
    with ThreadPoolExecutor(_at_once(missing)) as pool:
        parities = []
        for work in missing:
            work.stamp.unlink(missing_ok=True)  # It would vouch for a file that is being replaced.
            parities.append(pool.submit(work.convert, pixels[work.square], reporter))
        try:
            for work, parity in zip(missing, parities, strict=True):
                work.finish(parity.result(), pixels[work.square], reporter)
        except BaseException:
            # Those that have not begun first, or they would take the place of those that end.
            for parity in parities:
                parity.cancel()
            end_processes()
            raise
    return [work.member for work in works]


def answers_to_views(
    work: str, session: Session, pixels: Path, chosen: list[int], reporter: Reporter
) -> NDArray[np.float32]:
    """Ask a network about all views of photos.

    Args:
        work: What is being done, for people.
        session: The network.
        pixels: `.npy` file of decoded photos as its input has them.
        chosen: Numbers of the photos.

    Returns:
        Probabilities of shape (photos, views, classes).
    """
    photos, views = np.load(pixels, mmap_mode="r"), FixedViews()
    answers: list[NDArray[np.float32]] = []
    with reporter.track(f"{work}: views", len(chosen)) as advance:
        for number in chosen:
            placed = session.place(views(np.asarray(photos[number]), number, range(len(VIEWS))))
            answers.append(session.run(placed, len(VIEWS)))
            advance(1)
    return np.stack(answers)


def spread(count: int, most: int) -> list[int]:
    """Return at most so many numbers below `count`, evenly spread."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def _at_once(works: Sequence[_Work]) -> int:
    """Return how many conversions to run at once: each is Python on one core most of its time."""
    return min(usable_cores(), how_many_fit([export_memory(work.run.recipe) for work in works]))


@artifact
class _Stamp:
    """What a network was exported from, and how it compared.

    Attributes:
        made_from: Hash of all that it depends on.
        parity: How its file compares with Keras.
    """

    made_from: Sha256
    parity: Parity


@dataclass(frozen=True)
class _Work:
    """One network on its way into the bundle."""

    name: str
    run: Run
    bag: str
    photos: Photos
    building: Path

    @property
    def square(self) -> Square:
        return self.run.recipe.square

    @property
    def file(self) -> Path:
        return self.building / f"{self.name}.onnx"

    @property
    def stamp(self) -> Path:
        """Written last: what the network was exported from, and how it compared."""
        return self.building / f"{self.name}.json"

    @property
    def is_done(self) -> bool:
        return self.stamp.is_file() and self.read_stamp().made_from == self.made_from

    @property
    def made_from(self) -> str:
        """Hash of all that a member of the bundle claims to be made from and with."""
        return sha256_json(
            {
                "model_sha256": self.run.model_sha256,
                "photos": self.photos.hashes,
                "versions": package_versions(VERSIONED),
                "pixels": self.photos.pixels.settings,
                "decoder_version": DECODER_VERSION,
            }
        )

    def read_stamp(self) -> _Stamp:
        return read_artifact(_Stamp, read_json(self.stamp), self.stamp, "Remove it.")

    @property
    def member(self) -> Member:
        return Member(
            name=self.name,
            run=self.run.label,
            model_sha256=self.run.model_sha256,
            backbone=self.run.recipe.backbone,
            file=self.file.name,
            sha256=sha256_file(self.file),
            precision="fp32",
            image_size=self.square.size,
            resize=self.square.resize,
            store_size=self.run.recipe.store_size,
            augmentor=self.run.recipe.augmentor,
            score=self.run.score,
            parity=self.read_stamp().parity,
            bag=self.bag,
            fold=self.run.data.fold.number if self.run.data.fold else None,
        )

    def convert(self, pixels: Path, reporter: Reporter) -> Parity:
        chosen = self.photos.chosen(self.run)
        photos = counted(len(chosen), "photo")
        reporter.say(f"{self.name}: to ONNX, and compared with Keras on {photos}")
        metadata = {
            "toolkit.classes": json.dumps(self.run.data.classes),
            "toolkit.image_size": str(self.square.size),
            "toolkit.resize": self.square.resize,
            "toolkit.recipe": self.run.recipe.to_yaml(),
            "toolkit.versions": json.dumps({**self.run.versions, **package_versions(VERSIONED)}),
            "toolkit.pixels": json.dumps(asdict(self.photos.pixels)),
        }
        try:
            return in_own_process(
                _convert_in_child,
                self.run.model_path,
                self.file,
                metadata,
                pixels,
                chosen,
                [str(self.photos.paths[number]) for number in chosen],
                environment=ON_THE_CPU,
            )
        except ToolkitError as error:
            raise error.within(f"{self.name} ({self.run.folder})") from None

    def finish(self, parity: Parity, pixels: Path, reporter: Reporter) -> None:
        if self.run.data.validation_photos:
            session = MemberSession(self.file, choose_device("cpu"), usable_cores(), _BATCH)
            chosen = self.photos.chosen(self.run)
            answers = answers_to_views(self.name, session, pixels, chosen, reporter)
            with written_whole(self.building / f"{self.name}.npz") as temporary:
                np.savez_compressed(temporary, probabilities=answers)
        write_json(self.stamp, asdict(_Stamp(self.made_from, parity)))
        reporter.detail(
            f"{self.name}: {self.file.stat().st_size / 1e6:.1f} MB, largest logit error "
            f"{parity.logit_error:.1e}, noise floor {parity.noise_floor:.1e} (in float64 on "
            f"{counted(parity.reference_images, 'image')}), labels changed: {parity.labels_changed}"
        )


def _convert_in_child(*arguments: Any) -> Parity:
    import_quietly("keras")
    from toolkit.exporting.convert import convert

    return convert(*arguments)
