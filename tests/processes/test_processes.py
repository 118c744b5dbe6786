"""A function in a process of its own: its answer, its errors, its end."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from toolkit.data.pixels import BrokenPhotoError, load
from toolkit.errors import ToolkitError
from toolkit.files import read_json
from toolkit.processes import Call, Outcome, import_quietly, in_own_process, in_own_processes


def test_the_answer_comes_from_another_process() -> None:
    assert in_own_process(os.getpid) != os.getpid()


def test_every_call_has_a_fresh_process() -> None:
    assert in_own_process(os.getpid) != in_own_process(os.getpid)


def test_variables_are_set_there_and_only_there() -> None:
    assert in_own_process(os.getenv, "KERAS_BACKEND", environment={"KERAS_BACKEND": "x"}) == "x"
    assert os.getenv("KERAS_BACKEND") != "x"


def test_all_hash_text_alike_so_that_sets_have_one_order() -> None:
    assert in_own_process(hash, "a name") == in_own_process(hash, "a name")
    assert os.getenv("PYTHONHASHSEED") != "0"


def test_tensorflow_is_told_to_be_quiet() -> None:
    assert in_own_process(os.getenv, "TF_CPP_MIN_LOG_LEVEL") == "3"


def test_a_users_mistake_keeps_its_message(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match=r"nothing\.json: no such file"):
        in_own_process(read_json, tmp_path / "nothing.json")


def test_a_broken_photo_is_still_one_when_it_arrives(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"no photo")
    with pytest.raises(BrokenPhotoError) as caught:
        in_own_process(load, tmp_path / "photo.jpg", 32)
    assert caught.value.source == str(tmp_path / "photo.jpg")


def test_a_bug_keeps_its_kind_and_its_traceback() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        in_own_process(int, "one")
    assert "in _answer" in str(caught.value.__cause__)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_is_told_with_the_way_to_go_on(end: signal.Signals) -> None:
    with pytest.raises(ToolkitError, match=r"worker process was killed.*memory.*again to go on"):
        in_own_process(signal.raise_signal, end)


WORKER = """
import os, signal, time
from pathlib import Path

def meet(name, folder, tell):
    # Ends only while both are there.
    Path(folder, name).touch()
    tell(f"{name} is there")
    while len(list(Path(folder).iterdir())) < 2:
        time.sleep(0.01)
    return name.upper()

def alone(name, folder, tell):
    place = Path(folder, "place")
    place.mkdir()  # Raises where another is in it.
    time.sleep(0.05)
    place.rmdir()
    return name.upper()

def fail(kind, tell):
    tell("about to fail")
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(kind)

def give(value, tell):
    time.sleep(0.2)
    return value
"""


class TestSeveralAtOnce:
    @pytest.fixture
    def worker(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        (tmp_path / "several_worker.py").write_text(WORKER, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("several_worker", None)
        return importlib.import_module("several_worker")

    def made(self, calls: Iterable[Call], at_once: int) -> tuple[list[Any], dict[str, Outcome]]:
        heard: list[Any] = []
        ended: dict[str, Outcome] = {}

        def end(outcome: Outcome) -> None:
            ended[outcome.name] = outcome

        in_own_processes(calls, at_once, lambda *told: heard.append(told), end)
        return heard, ended

    def test_they_run_at_the_same_time_and_are_heard(
        self, worker: ModuleType, tmp_path: Path
    ) -> None:
        folder = tmp_path / "meeting"
        folder.mkdir()
        calls = [Call(name, worker.meet, (name, str(folder)), {}) for name in "ab"]
        heard, ended = self.made(calls, 2)
        assert sorted(heard) == [("a", "a is there"), ("b", "b is there")]
        assert {name: outcome.result for name, outcome in ended.items()} == {"a": "A", "b": "B"}

    def test_no_more_run_than_may_and_each_is_taken_when_there_is_room(
        self, worker: ModuleType, tmp_path: Path
    ) -> None:
        ended: list[str] = []
        ended_when_taken: list[int] = []

        def calls() -> Iterator[Call]:
            for name in "abc":
                ended_when_taken.append(len(ended))
                yield Call(name, worker.alone, (name, str(tmp_path)), {})

        in_own_processes(calls(), 1, print, lambda outcome: ended.append(outcome.result))
        assert (ended, ended_when_taken) == (["A", "B", "C"], [0, 1, 2])

    @pytest.mark.parametrize(
        ("kind", "error", "message"),
        [
            ("raised", ValueError, "raised"),
            ("killed", ToolkitError, "The worker process was killed"),
        ],
    )
    def test_one_that_fails_leaves_the_others_alone(
        self, worker: ModuleType, kind: str, error: type[Exception], message: str
    ) -> None:
        calls = [Call("bad", worker.fail, (kind,), {}), Call("good", worker.give, (3,), {})]
        heard, ended = self.made(calls, 2)
        assert heard == [("bad", "about to fail")]
        assert ended["good"] == Outcome("good", 3)
        assert isinstance(ended["bad"].error, error)
        assert message in str(ended["bad"].error)

    def test_an_exception_of_the_caller_ends_all(self, worker: ModuleType, tmp_path: Path) -> None:
        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        calls = [Call("a", worker.meet, ("a", str(tmp_path / "nowhere")), {})]
        (tmp_path / "nowhere").mkdir()
        with pytest.raises(KeyboardInterrupt):
            in_own_processes(calls, 2, stop, print)
        assert multiprocessing.active_children() == []


def test_no_process_outlives_a_killed_parent() -> None:
    program = "import time; from toolkit.processes import in_own_process as call"
    parent = psutil.Popen([sys.executable, "-c", f"{program}; call(time.sleep, 60)"])
    try:
        children = running_below(parent)
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
    finally:
        parent.kill()
        parent.wait()


SLOW_WRITER = """
from pathlib import Path
from time import sleep
from toolkit.files import written_whole

def write(folder):
    with written_whole(Path(folder) / "result.bin") as temporary:
        temporary.write_bytes(b"half")
        sleep(60)

def say(line):
    print(line)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_process_tidies_up_and_says_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "writer.py").write_text(SLOW_WRITER, encoding="utf-8")
    program = (
        "from toolkit.processes import in_own_process, interruptible, Interrupted; import writer\n"
        "try:\n"
        "    with interruptible(): in_own_process(writer.write, '.')\n"
        "except Interrupted as stopped: raise SystemExit(128 + stopped.number)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".result.*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # A terminal sends Ctrl-C to all of them, a service manager SIGTERM to the parent alone.
        send = os.killpg if number == signal.SIGINT else os.kill
        send(parent.pid, number)
        _, told = parent.communicate(timeout=30)
    finally:
        parent.kill()
        parent.wait()
    assert (parent.returncode, told) == (128 + number, "")
    assert [path.name for path in tmp_path.glob("*result*")] == []
    assert [path.name for path in tmp_path.glob(".result*")] == []


def test_what_is_printed_there_does_not_come_into_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "writer.py").write_text(SLOW_WRITER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    in_own_process(importlib.import_module("writer").say, "chatter")
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "chatter\n")


def running_below(parent: psutil.Process) -> list[psutil.Process]:
    """Wait until the child has come to the function it is to call."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in parent.children(recursive=True):
            if child.num_threads() > 1:  # The thread that watches the parent.
                return [*parent.children(recursive=True)]
        time.sleep(0.05)
    raise AssertionError("the child did not start")


def test_a_quiet_import_swallows_what_native_code_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noisy.py").write_text("import os\nos.write(2, b'native chatter')\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_quietly("noisy")
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"
    assert importlib.import_module("noisy") is not None


def test_a_quiet_import_that_fails_says_so_and_gives_the_terminal_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing.py").write_text("import os\nos.write(2, b'chatter')\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        import_quietly("failing")
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


@pytest.mark.parametrize(
    "module",
    ["toolkit.training.train", "toolkit.training.predict", "toolkit.exporting.export"],
)
def test_importing_the_callers_does_not_import_a_framework(module: str) -> None:
    program = (
        f"import sys, {module}; "
        "print({'keras', 'tensorflow', 'tf2onnx', 'torch', 'jax'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "set()"
