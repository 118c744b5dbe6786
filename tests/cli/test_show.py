"""`toolkit show`: what lies in a bundle, a folder of runs and a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from toolkit.inference.bundle import load_bundle
from toolkit.training.run import MANIFEST, Progress


class TestBundle:
    def test_members_weights_classes_and_hashes_are_printed(self, toolkit, home: Path) -> None:
        told = toolkit("show")
        assert (told.code, told.err) == (0, "")
        bundle = load_bundle(home / "bundle")
        for member in bundle.members:
            (line,) = (line for line in told.out.splitlines() if f"tiny/{member.name}" in line)
            assert member.sha256[:12] in line
        assert "alpha 0.75, beta 0.25" in told.out
        assert "3 classes: 2 two, 10, x y" in told.out
        assert f"sha256 of the bundle: {bundle.sha256}" in told.out

    def test_lower_precisions_have_their_evidence(
        self, toolkit, here: Path, plannable: Path
    ) -> None:
        shutil.copytree(plannable, here / "bundle")
        told = toolkit("show")
        (line,) = (line for line in told.out.splitlines() if " int8 " in line)
        assert line.split()[0] == "alpha"
        (alpha, *_) = toolkit("show", "--json").json["members"]
        (variant,) = alpha["variants"]
        assert variant["precision"] == "int8"
        size = sum((here / "bundle" / name).stat().st_size for name in variant["files"])
        assert variant["bytes"] == size

    def test_json_has_the_size_of_each_file(self, toolkit, home: Path) -> None:
        found = toolkit("show", "bundle", "--json").json
        sizes = {member["name"]: member["bytes"] for member in found["members"]}
        assert sizes["gamma"] == (home / "bundle" / "gamma.onnx").stat().st_size
        assert found["classes"] == ["2", "10", "x y"]
        assert found["voting"]["2"]["choice"] == "fitted"

    def test_a_folder_of_something_else_is_refused(self, toolkit, home: Path) -> None:
        told = toolkit("show", "data")
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("error: data: Expected a bundle, a folder of runs or a run.")


class TestRuns:
    def test_unfinished_runs_are_told_with_their_epochs(self, toolkit, here: Path) -> None:
        folder = here / "runs" / "small" / "xception"
        folder.mkdir(parents=True)
        Progress({}, history=[{"epoch": 1}]).save(folder)
        told = toolkit("show", "runs")
        assert told.out == "not finished: runs/small/xception, after 1 epoch\n"
        found = toolkit("show", "runs", "--json").json
        assert found == {
            "folder": "runs",
            "runs": [],
            "unfinished": {str(Path("runs/small/xception")): 1},
        }
        assert not (folder / MANIFEST).exists()
        assert json.loads((folder / "progress.json").read_text(encoding="utf-8"))["history"]
