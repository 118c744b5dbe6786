"""What every photo is: its size, its hashes, and whether it can be read at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import imagehash
from pydantic import TypeAdapter, ValidationError

from toolkit.data.fact_store import FactStore, FileState
from toolkit.data.pixels import DECODER_VERSION, DEFINITION, BrokenPhotoError, decode, upright_size
from toolkit.files import cache_folder, sha256_file, sha256_json
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter

_SCHEMA_VERSION = 2


@dataclass(frozen=True)
class PhotoFacts:
    """What is known of one file after it was decoded once.

    Attributes:
        sha256: Of its bytes; empty where the file is missing.
        width: In pixels, upright; 0 for a broken one.
        height: Likewise.
        perceptual_hash: 64 bits (pHash of the decoded photo); 0 for a broken one.
        broken: Why it cannot be read; empty where it can.
    """

    sha256: str
    width: int
    height: int
    perceptual_hash: int
    broken: str


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
        image = decode(path)
    except BrokenPhotoError as error:
        digest = sha256_file(path) if path.is_file() and os.access(path, os.R_OK) else ""
        return PhotoFacts(digest, 0, 0, 0, error.reason)
    bits = int(str(imagehash.phash(image)), 16)
    return PhotoFacts(sha256_file(path), *upright_size(path), bits, "")
