"""What every photo is: its size, its hashes, and whether it can be read at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import imagehash

from toolkit.data.pixels import DECODER_VERSION, DEFINITION, BrokenPhotoError, decode, upright_size
from toolkit.files import cache_folder, held, sha256_file, sha256_json, write_json
from toolkit.machine import usable_cores
from toolkit.progress import SILENT, Reporter

_LONGEST_WRITE_S = 60


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


def survey(paths: Sequence[Path], reporter: Reporter = SILENT) -> list[PhotoFacts]:
    """Decode every photo once, or recall what was found when it was last decoded.

    Args:
        paths: The photos.
        reporter: Where progress is told.

    Returns:
        One entry a path, in order. A photo that cannot be read is an entry, not an error.
    """
    keys = [_key(path) for path in paths]
    store = cache_folder() / "survey" / f"{sha256_json([DEFINITION, DECODER_VERSION])[:16]}.json"
    known = _read_store(store)
    missing = [index for index, key in enumerate(keys) if key not in known]
    if missing:
        found: dict[str, PhotoFacts] = {}
        with (
            ThreadPoolExecutor(usable_cores()) as pool,
            reporter.track("looking at photos", len(missing)) as advance,
        ):
            looks = [pool.submit(_look, paths[index]) for index in missing]
            try:
                for index, look in zip(missing, looks, strict=True):
                    found[keys[index]] = look.result()
                    advance(1)
            finally:
                # Interrupted, it goes on from here.
                for look in looks:
                    look.cancel()
                _remember(store, found)
        known.update(found)
    return [known[key] for key in keys]


def _key(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return f"{path.absolute()}|missing"
    return f"{path.absolute()}|{status.st_size}|{status.st_mtime_ns}"


def _read_store(store: Path) -> dict[str, PhotoFacts]:
    try:
        content = json.loads(store.read_text(encoding="utf-8"))
        return {key: PhotoFacts(**facts) for key, facts in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # Only a cache: what is not there is looked at again.


def _remember(store: Path, found: Mapping[str, PhotoFacts]) -> None:
    # What could not be opened has no hash and is tried again: a mended permission shows neither in
    # the size nor in the time of a file.
    new = {key: asdict(facts) for key, facts in found.items() if facts.sha256}
    busy = f"{store.parent}: another process keeps writing here. Name another TOOLKIT_CACHE."
    with held(store.with_suffix(".lock"), busy, _LONGEST_WRITE_S):
        # Another process may have looked at other photos meanwhile.
        known = {key: asdict(facts) for key, facts in _read_store(store).items()}
        write_json(store, known | new)


def _look(path: Path) -> PhotoFacts:
    try:
        image = decode(path)
    except BrokenPhotoError as error:
        digest = sha256_file(path) if path.is_file() and os.access(path, os.R_OK) else ""
        return PhotoFacts(digest, 0, 0, 0, error.reason)
    bits = int(str(imagehash.phash(image)), 16)
    return PhotoFacts(sha256_file(path), *upright_size(path), bits, "")
