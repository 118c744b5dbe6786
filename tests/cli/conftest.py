"""The command as a user types it, in a folder of their own."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from toolkit.cli.main import main
from toolkit.inference import devices, sessions
from toolkit.inference.calls import ModelKey
from toolkit.inference.costs import Costs, keep_costs
from toolkit.inference.ensemble import Ensemble

CLASSES = ("2", "10", "x y")
TEST_IDS = tuple(f"{number}.png" for number in (11, 3, 7, 20, 5, 1, 12, 9, 2))
"""The sample submission's order, which is neither that of text nor that of numbers."""


@dataclass(frozen=True)
class Told:
    """What a command left behind.

    Attributes:
        code: Its exit code.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which holds JSON and nothing else."""
        return json.loads(self.out)


Toolkit = Callable[..., Told]


@pytest.fixture
def gpu_that_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its libraries load, but no network does."""

    class Session(sessions.MemberSession):
        def __init__(self, path: Path, device: devices.Device, *others: Any) -> None:
            if device.is_gpu:
                raise devices.DeviceError(f"{path}: out of memory")
            super().__init__(path, device, *others)

    monkeypatch.setattr(devices, "obstacle", lambda kind: "")
    monkeypatch.setattr(devices, "gpu_name", lambda: "pretended GPU")
    monkeypatch.setattr(sessions, "MemberSession", Session)


@pytest.fixture
def toolkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Toolkit:
    """Run `toolkit ARGUMENTS...` in this process."""

    def run(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["toolkit", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        captured = capsys.readouterr()
        return Told(code, captured.out, captured.err)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where the command is typed."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def home(here: Path, tiny_bundle: Any, draw_photo: Callable[..., Image.Image]) -> Path:
    """A folder with `bundle/` and `data/`: 12 labelled photos, 9 to predict."""
    tiny_bundle.copy(here / "bundle")
    rows = []
    for seed in range(12):
        category = CLASSES[seed % 3]
        path = here / "data" / "train" / category / f"t{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_photo(100 + seed, (100, 75)).save(path)
        rows.append((path.name, category))
    write_csv(here / "data" / "train.csv", [("Id", "Category"), *rows])
    (here / "data" / "test_upload").mkdir()
    for seed, id in enumerate(TEST_IDS):
        draw_photo(seed, (100, 75)).save(here / "data" / "test_upload" / id)
    sample = [("Id", "Category"), *((id, CLASSES[0]) for id in TEST_IDS)]
    write_csv(here / "data" / "sample-submission.csv", sample)
    return here


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def photos_to_skip(here: Path, plannable: Path, draw_photo: Callable[..., Image.Image]) -> Path:
    """A folder with a bundle that a plan pays for, and 120 photos to predict."""
    shutil.copytree(plannable, here / "bundle")
    (here / "photos").mkdir()
    for number in range(120):
        draw_photo(7000 + number, (40, 30)).save(here / "photos" / f"{number}.png")
    return here


@pytest.fixture
def known_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let what the members of that bundle cost be known, as if it had been measured."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))

    def known(bundle: Path) -> None:
        samples = {
            ModelKey("alpha", "fp32"): [1.0],
            ModelKey("alpha", "int8"): [0.3],
            ModelKey("beta", "fp32"): [4.0],
            ModelKey("gamma", "fp32"): [4.0],
        }
        costs = Costs({key: own[0] for key, own in samples.items()}, samples=samples)
        keep_costs(Ensemble.load(bundle, device="cpu").sessions, costs)

    return known
