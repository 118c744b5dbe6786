"""`toolkit doctor` and `toolkit demo`."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import toolkit as package
from toolkit.inference.devices import obstacle


class TestDoctor:
    @pytest.fixture(autouse=True)
    def without_tensorflow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Importing it takes its time."""
        real = importlib.util.find_spec

        def find_spec(name: str, package: str | None = None) -> Any:
            return None if name == "tensorflow" else real(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)

    def test_json_has_each_provider_with_its_reason(self, toolkit) -> None:
        told = toolkit("doctor", "--json")
        assert (told.code, told.err) == (0, "")
        assert told.json["providers"]["CPUExecutionProvider"] == ""
        assert told.json["providers"]["CUDAExecutionProvider"] == obstacle("cuda")
        assert told.json["machine"]["toolkit"] == package.__version__

    def test_tables_say_what_loads_and_why_not(
        self, toolkit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "toolkit.reporting.doctor.obstacle",
            lambda kind: "libnvinfer.so.10 cannot be loaded" if kind == "tensorrt" else "",
        )
        told = toolkit("doctor")
        lines = {line.split()[0]: line.strip() for line in told.out.splitlines() if line.split()}
        assert lines["CUDAExecutionProvider"].split()[1:] == ["yes"]
        assert lines["TensorrtExecutionProvider"].split(maxsplit=2)[1:] == [
            "no",
            "libnvinfer.so.10 cannot be loaded",
        ]
        assert "TensorFlow devices: not installed" in told.out
        assert "onnxruntime-gpu" in told.out or "onnxruntime " in told.out

    def test_it_says_whether_a_set_fits_into_memory_and_disk(self, toolkit, home: Path) -> None:
        fit = toolkit("doctor", "--recipes", "finetune", "--json").json["set"]
        assert (fit["recipes"], fit["data"]) == ("finetune", "data")
        with (home / "data" / "train.csv").open(encoding="utf-8") as file:
            assert fit["photos"] == len(list(csv.reader(file))) - 1
        for member in fit["members"]:
            for work in ("training", "export"):
                assert member[work]["needed"] > 2**29
                assert member[work]["verdict"] in ("fits", "tight", "too little")
        assert fit["disks"][0]["needed"] > 2**29
        told = toolkit("doctor", "--recipes", "finetune").out
        assert "Set 'finetune': memory on the CPU" in told
        assert f"with the {fit['photos']} photos of data: the set 'finetune' needs about" in told

    def test_without_data_the_disk_is_estimated_for_some_photos(self, toolkit, here: Path) -> None:
        told = toolkit("doctor", "--data", "nowhere").out
        assert "with 1000 photos: the set 'improved' needs about" in told

    def test_it_extracts_no_archive(self, toolkit, here: Path) -> None:
        (here / "data").mkdir()
        with zipfile.ZipFile(here / "data" / "train.zip", "w") as archive:
            archive.writestr("a/1.jpg", b"")
        assert "with 1000 photos" in toolkit("doctor").out
        assert [path.name for path in (here / "data").iterdir()] == ["train.zip"]

    def test_an_unknown_set_is_one_line(self, toolkit) -> None:
        told = toolkit("doctor", "--recipes", "improvd")
        assert told.code != 0
        assert "Did you mean 'improved'?" in told.err

    def test_warnings_are_printed(self, toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.31.1")
        assert "warning: onnxruntime and onnxruntime-gpu are both" in toolkit("doctor").out


class TestDemo:
    def test_it_draws_a_competition_with_its_labels(self, toolkit, here: Path) -> None:
        told = toolkit("demo", "photos", "--train", 2, "--test", 1)
        assert told.out == "photos: 16 labelled photos, 8 to predict\n"
        with (here / "photos" / "test-labels.csv").open(encoding="utf-8") as file:
            labels = dict(list(csv.reader(file))[1:])
        assert len(labels) == 8
        assert {path.name for path in (here / "photos" / "test_upload").iterdir()} == set(labels)
        for path in (here / "photos" / "train").glob("*/*"):
            with Image.open(path) as photo:
                photo.load()

    def test_what_it_drew_is_tidy_data(self, toolkit, here: Path) -> None:
        toolkit("demo", "--train", 2, "--test", 1)
        found = toolkit("data", "--json").json
        assert found["photos"] == 16
        assert list(found["classes"].values()) == [2] * 8
        assert found["broken"] == {}

    def test_other_data_is_not_overwritten(self, toolkit, home: Path) -> None:
        before = (home / "data" / "train.csv").read_bytes()
        told = toolkit("demo", "--train", 2, "--test", 1)
        assert told.code == 1
        assert "data: is not an empty folder" in told.err
        assert (home / "data" / "train.csv").read_bytes() == before
