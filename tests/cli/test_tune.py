"""`toolkit tune`, and what the other commands make of what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.inference import devices, job, measured, tuning
from toolkit.inference.bundle import load_bundle
from toolkit.inference.threads import Threads
from toolkit.inference.voting import choose_voting

CORES = 2


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cores, no GPU, and a cache that no other test sees."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(devices, "obstacle", lambda kind: f"there is no {kind} in tests")
    for module in (tuning, measured, job):
        monkeypatch.setattr(module, "usable_cores", lambda: CORES)
    return tmp_path / "cache" / "tuning"


@pytest.fixture
def fewer_photos_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "WORTH_TUNING", 9)
    # The real one is a process of its own, where the machine would not be that of these tests.
    monkeypatch.setattr(job, "in_own_process", lambda function, *rest: function(*rest))


def latency(home: Path) -> Any:
    return json.loads((home / "latency.json").read_text(encoding="utf-8"))


def kept(machine: Path) -> set[str]:
    return {path.name for path in machine.iterdir()} if machine.exists() else set()


class TestTune:
    def test_the_table_names_every_way_the_choice_and_the_file(
        self, toolkit, home: Path, machine: Path
    ) -> None:
        told = toolkit("tune", "--tta", 2)
        assert told.code == 0, told.err
        assert "9 photos x 2 views" in told.out
        for way in ("2 threads", "2 threads, not spinning", "1 thread, 2 members at once"):
            assert way in told.out
        assert told.out.count(" *") == 1
        (name,) = kept(machine)
        assert f"kept in {machine / name}." in told.out

    def test_json_holds_the_raw_samples(self, toolkit, home: Path, machine: Path) -> None:
        told = toolkit("tune", "--json", "--quiet")
        assert (told.code, told.err) == (0, "")
        found = told.json
        assert len(found["tried"]) == 3
        assert {len(each["samples"]) for each in found["tried"]} == {tuning.ROUNDS}
        assert found["threads"] in [each["threads"] for each in found["tried"]]
        assert Path(found["file"]).parent == machine
        assert not found["measured_before"]

    def test_it_is_measured_once_unless_fresh(
        self, toolkit, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = toolkit("tune", "--json").json
        again = toolkit("tune", "--json").json
        assert again == {**first, "measured_before": True}
        assert "--fresh measures anew" in toolkit("tune").out
        fresh = toolkit("tune", "--fresh", "--json").json
        assert not fresh["measured_before"]
        assert fresh["tried"] != first["tried"]

    def test_a_gpu_has_no_plan(
        self, toolkit, home: Path, monkeypatch: pytest.MonkeyPatch, machine: Path
    ) -> None:
        monkeypatch.setattr(devices, "obstacle", lambda kind: "")
        monkeypatch.setattr(devices, "gpu_name", lambda: "pretended GPU")
        monkeypatch.setattr(tuning, "Engine", lambda *_, **__: None)
        told = toolkit("tune", "--device", "cuda")
        assert told.code == 0, told.err
        assert told.out.startswith("the members run on pretended GPU")
        assert not kept(machine)

    def test_auto_measures_the_processor_where_the_gpu_cannot_run_the_members(
        self, toolkit, home: Path, gpu_that_runs_nothing: None
    ) -> None:
        told = toolkit("tune", "--quiet")
        assert told.code == 0, told.err
        assert "2 threads, not spinning" in told.out
        told = toolkit("tune", "--device", "cuda")
        assert (told.code, told.out) == (1, "")
        assert "out of memory. See 'toolkit doctor', or pass --device cpu" in told.err

    @pytest.mark.parametrize(
        ("arguments", "code", "complaint"),
        [
            (["--bundle", "nowhere"], 1, "nowhere: no bundle"),
            (["--data", "nowhere"], 1, "nowhere: no such folder"),
            (["--voting", "best"], 2, "no such voting"),
            (["--device", "cuda"], 1, "there is no cuda in tests"),
        ],
    )
    def test_a_mistake_is_one_line(
        self, toolkit, home: Path, arguments: list[str], code: int, complaint: str
    ) -> None:
        told = toolkit("tune", "--quiet", *arguments)
        assert (told.code, told.out) == (code, "")
        assert told.err.startswith("error: ")
        assert complaint in told.err
        assert told.err.count("\n") == 1


class TestTaken:
    """By `ensemble`, which says so and writes the same submission."""

    def test_ensemble_takes_what_was_found(self, toolkit, home: Path) -> None:
        told = toolkit("ensemble", "--device", "cpu")
        assert latency(home)["thread_plan"]["measured"] is False
        assert "(measured)" not in told.out
        before = (home / "submission.csv").read_bytes()
        bundle, best = load_bundle(home / "bundle"), Threads(1, spinning=False, parallel=2)
        tuning.measure_threads(
            bundle,
            choose_voting(bundle, 1, "auto"),
            [home / "data" / "test_upload" / "1.png"],
            views=1,
            device=devices.choose_device("cpu"),
            batch=16,
            timed=lambda engine, images: 1.0 if engine.threads == best else 2.0,
        )
        told = toolkit("ensemble", "--device", "cpu")
        assert latency(home)["thread_plan"] == {
            "intra_op": 1,
            "spinning": False,
            "parallel": 2,
            "measured": True,
        }
        assert ", 1 thread, 2 members at once (measured), batch 16" in told.out
        assert (home / "submission.csv").read_bytes() == before

    def test_threads_that_are_asked_for_win(self, toolkit, home: Path) -> None:
        toolkit("tune")
        toolkit("ensemble", "--threads", 1)
        plan = {"intra_op": 1, "spinning": True, "parallel": 1, "measured": None}
        assert latency(home)["thread_plan"] == plan
        report = toolkit("bench", "--count", 1, "--threads", 1, "--json").json
        assert report["thread_plan"] == plan


class TestAtFirstUse:
    LINE = "measuring once on 8 photos how this machine's cores are best used"

    @pytest.mark.usefixtures("fewer_photos_are_worth_it")
    def test_a_long_job_measures_first_and_says_so(
        self, toolkit, home: Path, machine: Path
    ) -> None:
        told = toolkit("ensemble")
        assert told.err.count(self.LINE) == 1
        assert latency(home)["thread_plan"]["measured"] is True
        assert len(kept(machine)) == 1
        again = toolkit("ensemble")
        assert self.LINE not in again.err
        assert latency(home)["thread_plan"]["measured"] is True

    @pytest.mark.usefixtures("fewer_photos_are_worth_it")
    def test_nothing_is_measured_where_threads_are_asked_for(
        self, toolkit, home: Path, machine: Path
    ) -> None:
        assert self.LINE not in toolkit("ensemble", "--threads", 2).err
        assert not kept(machine)

    def test_a_short_job_measures_nothing(self, toolkit, home: Path, machine: Path) -> None:
        assert self.LINE not in toolkit("ensemble").err
        assert not kept(machine)

    @pytest.mark.usefixtures("fewer_photos_are_worth_it")
    def test_where_measuring_fails_the_job_goes_on(
        self, toolkit, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise PermissionError("the cache cannot be written")

        monkeypatch.setattr(job, "in_own_process", fail)
        told = toolkit("ensemble")
        assert told.code == 0
        assert "nothing was measured, " in told.err
        assert "one member at a time: the cache cannot be written" in told.err

    def test_it_is_measured_in_a_process_of_its_own(
        self, toolkit, home: Path, monkeypatch: pytest.MonkeyPatch, machine: Path
    ) -> None:
        monkeypatch.undo()
        monkeypatch.chdir(home)
        monkeypatch.setenv("TOOLKIT_CACHE", str(machine.parent))
        monkeypatch.setattr(job, "WORTH_TUNING", 9)
        if job.usable_cores() == 1:
            pytest.skip("one core leaves no choice")
        monkeypatch.setattr("sys.argv", ["toolkit"])
        assert toolkit("ensemble", "--device", "cpu").code == 0
        assert latency(home)["thread_plan"]["measured"] is True
        assert len(kept(machine)) == 1
