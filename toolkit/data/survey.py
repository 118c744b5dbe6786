"""What every photo is: its size, its hashes, and whether it can be read at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import imagehash
from pydantic import TypeAdapter, ValidationError

from toolkit.data.fact_store import FactStore, FileState
from toolkit.data.photo_file import photo_sha256
from toolkit.data.pixels import DECODER_VERSION, DEFINITION, BrokenPhotoError, read_photo
from toolkit.data.ranges import Range, ranges_of
from toolkit.files import cache_folder, sha256_json
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter, counted

NOTES_SHOWN = 5
"""Notes on photos that are reported one by one."""

_SCHEMA_VERSION = 2


@dataclass(frozen=True)
class PhotoFacts:
    """What is known of one file after it was decoded once.

    Attributes:
        sha256: Of its bytes; empty where the file is missing or cannot be read at all.
        width: In pixels, upright; 0 for a broken one.
        height: Likewise.
        perceptual_hash: 64 bits (pHash of the decoded photo); 0 for a broken one.
        broken: Why it cannot be read; empty where it can.
        kind: Of values that need a range (see `toolkit.data.ranges`); empty where they have 8 bits.
        low: The smallest of such values, else 0.
        high: The largest of such values, else 0.
        notes: What the decoder warned of, in one line each.
    """

    sha256: str
    width: int
    height: int
    perceptual_hash: int
    broken: str
    kind: str = ""
    low: float = 0.0
    high: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> Range:
        """The values of a photo that needs a range."""
        return Range(self.low, self.high)


_FACTS = TypeAdapter(PhotoFacts)


def survey(paths: Sequence[Path], reporter: Reporter = SILENT) -> list[PhotoFacts]:
    """Decode every photo once, or recall what was found when it was last decoded.

    Args:
        paths: The photos.

    Returns:
        One entry a path, in order. A photo that cannot be read is an entry, not an error.
    """
    states = [FileState.of(path) for path in paths]
    settings = [_SCHEMA_VERSION, DEFINITION, DECODER_VERSION]
    store = FactStore(cache_folder() / "survey" / f"{sha256_json(settings)[:16]}.sqlite")
    known = _recall(store, states)
    missing = [index for index, state in enumerate(states) if state not in known]
    if missing:
        found: dict[FileState, PhotoFacts] = {}
        with (
            ThreadPoolExecutor(usable_cores()) as pool,
            reporter.track("looking at photos", len(missing)) as advance,
        ):
            looks = [pool.submit(_look, paths[index]) for index in missing]
            try:
                for index, look in zip(missing, looks, strict=True):
                    found[states[index]] = look.result()
                    advance(1)
            finally:
                # Interrupted, it goes on from here.
                for look in looks:
                    look.cancel()
                _remember(store, found)
        known.update(found)
    return [known[state] for state in states]


def ranges_among(facts: Iterable[PhotoFacts]) -> dict[str, Range]:
    """Return the range of each kind of photos of more than 8 bits; see `toolkit.data.ranges`."""
    return ranges_of((fact.kind, fact.found) for fact in facts if fact.kind)


def report_notes(notes: Iterable[tuple[object, str]], reporter: Reporter) -> None:
    """Report what was remarkable about photos: a line each of the first, and how many more.

    Args:
        notes: Name of a photo and what there is to say of it.
        reporter: Where it is reported.
    """
    lines = [f"{name}: {note}" for name, note in notes]
    for line in lines[:NOTES_SHOWN]:
        reporter.say(line)
    if len(lines) > NOTES_SHOWN:
        reporter.say(f"... and {counted(len(lines) - NOTES_SHOWN, 'more such note')}")


def _recall(store: FactStore, states: Sequence[FileState]) -> dict[FileState, PhotoFacts]:
    known = {}
    for state, text in store.find(states).items():
        with suppress(ValidationError):  # What is not understood is looked at again.
            known[state] = _FACTS.validate_json(text)
    return known


def _remember(store: FactStore, found: Mapping[FileState, PhotoFacts]) -> None:
    # What could not be opened has no hash and is tried again: a repaired permission shows neither
    # in the size nor in the time of a file.
    store.keep(
        {state: _FACTS.dump_json(facts).decode() for state, facts in found.items() if facts.sha256}
    )


def _look(path: Path) -> PhotoFacts:
    try:
        photo = read_photo(path)
    except BrokenPhotoError as error:
        return PhotoFacts(photo_sha256(path), 0, 0, 0, error.reason)
    bits = int(str(imagehash.phash(photo.image)), 16)
    found = photo.found or Range(0.0, 0.0)
    return PhotoFacts(
        photo_sha256(path),
        photo.width,
        photo.height,
        bits,
        broken="",
        kind=photo.kind,
        low=found.low,
        high=found.high,
        notes=photo.notes,
    )
