"""The survey: what is known of a photo, remembered until the photo changes."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import imagehash
import pytest
from PIL import Image

from toolkit.data import survey as module
from toolkit.data.decoder import Decoded, read_photo
from toolkit.data.survey import survey
from toolkit.errors import ToolkitError
from toolkit.progress import Advance, Reporter


@pytest.fixture
def photos(tmp_path: Path, draw_photo: Callable[..., Image.Image]) -> list[Path]:
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        draw_photo(seed, (40 + seed, 30)).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The photos that were decoded since, in no fixed order."""
    seen: list[Path] = []

    def noting(path: Path) -> Decoded:
        seen.append(path)
        return read_photo(path)

    monkeypatch.setattr(module, "read_photo", noting)
    return seen


def test_facts_are_those_of_each_file(photos: list[Path]) -> None:
    for path, facts in zip(photos, survey(photos), strict=True):
        image = Image.open(path)
        assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (facts.width, facts.height) == image.size
        assert facts.perceptual_hash == int(str(imagehash.phash(image)), 16)
        assert facts.broken == ""


def test_a_second_look_decodes_nothing(photos: list[Path], decoded: list[Path]) -> None:
    first = survey(photos)
    assert sorted(decoded) == photos
    decoded.clear()
    assert survey(photos) == first
    assert survey(photos[::-1]) == first[::-1]
    assert decoded == []


def test_only_a_changed_or_new_photo_is_looked_at_again(
    photos: list[Path], decoded: list[Path], draw_photo: Callable[..., Image.Image]
) -> None:
    before = survey(photos)
    decoded.clear()
    draw_photo(9, (50, 30)).save(photos[1])
    new = photos[0].with_name("new.png")
    draw_photo(10).save(new)
    after = survey([*photos, new])
    assert sorted(decoded) == [photos[1], new]
    assert [after[0], after[2]] == [before[0], before[2]]
    assert after[1].width == 50


def test_an_interrupted_look_keeps_what_it_has_seen(
    photos: list[Path], decoded: list[Path]
) -> None:
    class Interrupting(Reporter):
        @contextmanager
        def track(self, what: str, total: int, *_: Any, **__: Any) -> Iterator[Advance]:
            def advance(count: int) -> None:
                raise KeyboardInterrupt

            yield advance

    with pytest.raises(KeyboardInterrupt):
        survey(photos, Interrupting())
    decoded.clear()
    survey(photos)
    assert photos[0] not in decoded


def test_what_another_process_saw_meanwhile_is_kept(
    photos: list[Path], decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    look = module._look

    def looking(path: Path) -> module.PhotoFacts:
        with monkeypatch.context() as other:
            other.setattr(module, "_look", look)
            survey(photos[1:])
        return look(path)

    with monkeypatch.context() as first:
        first.setattr(module, "_look", looking)
        survey(photos[:1])
    decoded.clear()
    survey(photos)
    assert decoded == []


def test_a_broken_photo_is_an_entry_and_not_an_error(
    photos: list[Path], hostile_photos: Path, decoded: list[Path]
) -> None:
    truncated = hostile_photos / "truncated.jpg"
    sound, broken, missing = survey([photos[0], truncated, hostile_photos / "missing.jpg"])
    assert sound.broken == ""
    assert "truncated" in broken.broken
    assert broken.sha256 == hashlib.sha256(truncated.read_bytes()).hexdigest()
    assert (missing.broken, missing.sha256) == ("no such file", "")
    decoded.clear()
    assert "truncated" in survey([truncated])[0].broken
    assert decoded == []


def test_a_missing_photo_is_found_when_it_comes(
    tmp_path: Path, draw_photo: Callable[..., Image.Image]
) -> None:
    path = tmp_path / "late.png"
    assert survey([path])[0].broken
    draw_photo(1).save(path)
    assert not survey([path])[0].broken


def test_a_photo_that_could_not_be_opened_is_tried_again(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A mended permission changes neither the size nor the time of a file.
    opened = os.open

    def refuse(path: str | Path, *flags: int, **others: int) -> int:
        if path in photos:
            raise PermissionError(13, "Permission denied")
        return opened(path, *flags, **others)

    with monkeypatch.context() as locked:
        locked.setattr("os.open", refuse)
        assert "Permission denied" in survey(photos)[0].broken
    assert not survey(photos)[0].broken


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def store_of(cache: Path) -> Path:
    (store,) = cache.rglob("*.sqlite")
    return store


def no_database(store: Path) -> None:
    store.write_text('{"half": ', encoding="utf-8")


def torn(store: Path) -> None:
    content = store.read_bytes()
    store.write_bytes(content[:100] + b"\xff" * (len(content) - 100))


def of_another_table(store: Path) -> None:
    store.unlink()
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("CREATE TABLE files (name TEXT)")


def of_other_facts(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE files SET facts = '{}'")


@pytest.mark.parametrize("spoil", [no_database, torn, of_another_table, of_other_facts])
def test_a_spoilt_cache_is_made_anew(
    photos: list[Path], decoded: list[Path], cache: Path, spoil: Callable[[Path], None]
) -> None:
    first = survey(photos)
    spoil(store_of(cache))
    decoded.clear()
    assert survey(photos) == first
    assert sorted(decoded) == photos
    decoded.clear()
    assert survey(photos) == first
    assert decoded == []


def test_a_changed_photo_takes_the_row_of_the_old_one(
    photos: list[Path], cache: Path, draw_photo: Callable[..., Image.Image]
) -> None:
    survey(photos)
    draw_photo(9, (50, 30)).save(photos[1])
    survey(photos)
    with closing(sqlite3.connect(store_of(cache))) as connection:
        assert connection.execute("SELECT count(*) FROM files").fetchone() == (3,)


def test_a_name_that_is_no_text_is_remembered_too(
    photos: list[Path], decoded: list[Path], cache: Path
) -> None:
    odd = photos[0].with_name(os.fsdecode(b"\xff.png"))
    photos[0].rename(odd)
    survey([odd])
    assert [path.name for path in decoded] == [odd.name]
    survey([odd])
    assert len(decoded) == 1


def test_several_processes_remember_at_once(
    photos: list[Path], decoded: list[Path], cache: Path
) -> None:
    code = "import sys; from pathlib import Path; from toolkit.data.survey import survey; "
    code += "survey([Path(sys.argv[1])])"
    running = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for path in photos]
    assert [process.wait() for process in running] == [0, 0, 0]
    survey(photos)
    assert decoded == []


def test_a_cache_that_cannot_be_written_is_named(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolkitError, match=r"file: the cache cannot be written .* TOOLKIT_CACHE"):
        survey(photos)


@pytest.mark.parametrize(
    ("name", "size"), [("huge.jpg", (12_000, 9_000)), ("exif_6.jpg", (48, 32)), ("la.png", (2, 1))]
)
def test_a_photo_has_the_size_of_its_file_turned_upright(
    hostile_photos: Path, name: str, size: tuple[int, int]
) -> None:
    (facts,) = survey([hostile_photos / name])
    assert (facts.width, facts.height) == size
