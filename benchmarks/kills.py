"""Kill every long command at random moments, run it again, and compare what it leaves.

python benchmarks/kills.py --out kills.json

Each trial starts a command on a tiny data set, kills it with SIGKILL at random moments, several
times in a row, and then lets it end. What it left is compared with what an undisturbed run left:
byte for byte, but for times and for what is measured with a clock. A second undisturbed run shows
that nothing else differs by itself. Every other kill hits only the first process, as the system's
out-of-memory killer does; its children must then end by themselves. Results are written after each
trial, and the same command goes on with the trials that are missing.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import onnx
import psutil

from toolkit.machine import processor_name, usable_cores

VOLATILE = {"created", "finished", "seconds", "peak_memory_bytes", "model_sha256"}
"""JSON keys of times, and of the hash of a Keras file, which holds its date."""

MEASURED = "latency.json"
"""Ends the name of files that hold what a clock measured."""

RECIPE = """\
image_size: 32
batch_size: 8
validation_fraction: 0.25
seed: 42
weights: none
pixels: own
loss: categorical_crossentropy
optimizer: {name: Adam, learning_rate: 0.003}
head:
  pooling: average
stages:
  - {name: head, epochs: 2, frozen_fraction: 1}
  - {name: all, epochs: 2, frozen_fraction: 0}
keep_best: val_accuracy
"""

SMALL = "mobilenetv3small"
ORPHANS_END_WITHIN = 60.0


@dataclasses.dataclass(frozen=True)
class Stage:
    """A command that is killed.

    Attributes:
        name: Of the command.
        arguments: After `toolkit`.
        kills: In all.
        in_a_row: Kills before a trial's command is let end.
    """

    name: str
    arguments: tuple[str, ...]
    kills: int
    in_a_row: int = 4


STAGES = (
    Stage(
        "train",
        ("train", SMALL, "--recipes", "./small", "--threads", "1", "--checkpoint-every", "0"),
        6,
    ),
    Stage("export", ("export",), 6),
    Stage(
        "ensemble",
        ("ensemble", "--tta", "8", "--batch", "1", "--device", "cpu", "--threads", "1"),
        28,
    ),
    Stage("plan", ("plan", "--tta", "4", "--device", "cpu", "--out", "plan.json"), 20),
    Stage("report", ("report", "--out", "report.html"), 20),
    Stage("reproduce", ("reproduce", "--keep", "again", "--device", "cpu"), 28),
)
"""The slow commands are killed less often: all of it takes about half an hour."""


@dataclasses.dataclass
class Trial:
    """What one trial came to.

    Attributes:
        stage: Its command.
        kills: Seconds after which each kill came.
        orphans: Processes that outlived their parent for too long.
        failed: The last lines of a command that did not end well; else empty.
        different: Files that an undisturbed run leaves otherwise, missing and left-over ones too.
    """

    stage: str
    number: int
    kills: list[float]
    orphans: int
    failed: str
    different: list[str]


class Bench:
    """The working folder, which always has the same path: runs keep where their photos are."""

    def __init__(self, folder: Path) -> None:
        self.here, self.kept = folder / "here", folder / "kept"
        self.environment = os.environ | {
            "TOOLKIT_CACHE": str(folder / "cache"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def command(self, stage: Stage) -> list[str]:
        """Return what is started."""
        toolkit = [sys.executable, "-c", "from toolkit.cli.main import main; main()"]
        return [*toolkit, *stage.arguments, "--quiet"]

    def start(self, stage: Stage) -> subprocess.Popen[str]:
        """Start a command in a session of its own."""
        return subprocess.Popen(
            self.command(stage),
            cwd=self.here,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def to_the_end(self, stage: Stage) -> tuple[str, float]:
        """Run a command; return why it failed, or nothing, and the seconds it took."""
        started = time.monotonic()
        process = self.start(stage)
        _, told = process.communicate(timeout=900)
        return (told[-500:] if process.returncode else ""), time.monotonic() - started

    def killed(self, stage: Stage, after: float, only_first: bool) -> tuple[int | None, int]:
        """Run a command and kill it; return its exit code where it had ended, and its orphans."""
        process = self.start(stage)
        time.sleep(after)
        code = process.poll()
        members = [each for each in psutil.process_iter() if _session(each) == process.pid]
        if only_first:
            process.kill()
        elif code is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        _, alive = psutil.wait_procs(members, timeout=ORPHANS_END_WITHIN)
        for orphan in alive:
            orphan.kill()
        return code, len(alive)

    def take(self, name: str) -> None:
        """Bring the working folder to what was kept under a name."""
        shutil.rmtree(self.here, ignore_errors=True)
        shutil.copytree(self.kept / name, self.here)

    def keep(self, name: str) -> None:
        """Keep the working folder under a name."""
        shutil.rmtree(self.kept / name, ignore_errors=True)
        shutil.copytree(self.here, self.kept / name)

    def state(self) -> dict[str, str]:
        """Return a hash of each file in the working folder, but for what a clock measured."""
        files = sorted(path for path in self.here.rglob("*") if path.is_file())
        return {str(path.relative_to(self.here)): fingerprint(path) for path in files}


def fingerprint(path: Path) -> str:
    """Return the hash of a file's bytes, in which times stand no more."""
    content = path.read_bytes()
    if path.name.endswith(MEASURED):
        return "measured"
    if path.suffix == ".json":
        stable = _without_times(json.loads(content))
        content = json.dumps(stable, sort_keys=True).encode()
    elif path.name == "history.csv":
        rows = csv.DictReader(io.StringIO(content.decode()))
        content = json.dumps([{**row, "seconds": ""} for row in rows]).encode()
    elif path.suffix == ".keras":
        with zipfile.ZipFile(path) as packed:
            # Its metadata holds the date, and its config the addresses of objects in memory.
            config = re.sub(rb'"shared_object_id": \d+', b"", packed.read("config.json"))
            content = config + packed.read("model.weights.h5")
    elif path.suffix == ".html":
        content = re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC</p>", b"", content)
    elif path.suffix == ".onnx":
        content = _of_network(onnx.load(path))
    return hashlib.sha256(content).hexdigest()


def _of_network(model: onnx.ModelProto) -> bytes:
    """Return operators and weights: tf2onnx names and orders them otherwise in each process."""
    operators = sorted(node.op_type for node in model.graph.node)
    arrays = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer]
    weights = sorted(f"{a.dtype}{a.shape}".encode() + a.tobytes() for a in arrays)
    return json.dumps(operators).encode() + b"".join(weights)


def _without_times(content: Any) -> Any:
    if isinstance(content, dict):
        kept = {key: value for key, value in content.items() if key not in VOLATILE}
        if (
            "created" in content
            or "parity" in content
            or str(content.get("file")).endswith(MEASURED)
        ):
            kept.pop("sha256", None)  # It covers times, what a clock measured, or names of nodes.
        return {key: _without_times(value) for key, value in kept.items()}
    return [_without_times(each) for each in content] if isinstance(content, list) else content


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except (OSError, psutil.Error):
        return None


def prepare(bench: Bench, report: dict[str, Any]) -> None:
    """Run all commands undisturbed, each twice, keeping what each starts from and leaves."""
    from toolkit.data.demo import make_demo

    bench.here.mkdir(parents=True, exist_ok=True)
    make_demo(bench.here / "data", train_per_class=12, test_per_class=24)
    small = bench.here / "small"
    small.mkdir()
    (small / "set.yaml").write_text(RECIPE, encoding="utf-8")
    (small / "augmentor.yaml").write_text("- HorizontalFlip: {p: 0.5}\n", encoding="utf-8")
    (small / f"{SMALL}.yaml").write_text("# As the set says.\n", encoding="utf-8")
    for stage in STAGES:
        bench.keep(f"before-{stage.name}")
        states = []
        for _ in range(2):
            bench.take(f"before-{stage.name}")
            failed, seconds = bench.to_the_end(stage)
            if failed:
                raise click.ClickException(f"{stage.name}: {failed}")
            states.append(bench.state())
        differing = differences(*states)
        report["stages"][stage.name] = {
            "command": f"toolkit {' '.join(stage.arguments)}",
            "seconds": round(seconds, 2),
            "undisturbed_runs_differ_in": differing,
            "files": states[-1],
        }
        print(f"{stage.name:<10} undisturbed {seconds:6.1f} s, two runs differ in {differing}")


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return the files that two states do not share."""
    return sorted({name for name, _ in one.items() ^ other.items()})


def trials(
    bench: Bench, stage: Stage, known: dict[str, Any], done: Sequence[dict[str, Any]]
) -> Iterator[Trial]:
    """Carry out trials of a command until it was killed often enough."""
    number, so_far = len(done), sum(len(each["kills"]) for each in done)
    while so_far < stage.kills:
        draw = random.Random(f"{stage.name} {number}")
        bench.take(f"before-{stage.name}")
        kills, orphans, failed = [], 0, ""
        for turn in range(stage.in_a_row):
            after = draw.uniform(0.02, 1.0) * known["seconds"]
            code, left = bench.killed(stage, after, only_first=bool(turn % 2))
            orphans += left
            if code is not None:
                failed = f"exit code {code}" if code else ""
                break
            kills.append(round(after, 3))
            if not differences(bench.state(), known["files"]):
                break  # All was written: the process was ending.
        else:
            failed, _ = bench.to_the_end(stage)
        different = differences(bench.state(), known["files"])
        yield Trial(stage.name, number, kills, orphans, failed, different)
        number, so_far = number + 1, so_far + len(kills)


def summary(report: dict[str, Any]) -> str:
    """Return the table of what came of the trials."""
    lines = [
        f"{'command':<12}{'seconds':>8}{'trials':>8}{'kills':>7}{'identical':>11}{'orphans':>9}"
    ]
    for name, stage in report["stages"].items():
        own = [each for each in report["trials"] if each["stage"] == name]
        identical = sum(not each["failed"] and not each["different"] for each in own)
        kills, orphans = sum(len(each["kills"]) for each in own), sum(e["orphans"] for e in own)
        lines.append(
            f"{name:<12}{stage['seconds']:>8.1f}{len(own):>8}{kills:>7}{identical:>11}{orphans:>9}"
        )
    return "\n".join(lines)


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("kills-work"))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--only", multiple=True, help="These commands alone.")
def main(work: Path, out: Path, only: Sequence[str]) -> None:
    """Carry out all trials that OUT does not hold yet."""
    bench = Bench(work.resolve())
    report: dict[str, Any] = {"stages": {}, "trials": []}
    if out.is_file():
        report = json.loads(out.read_text(encoding="utf-8"))
    else:
        report["machine"] = f"{processor_name()}, {usable_cores()} cores"
        report["command"] = " ".join(["python", *sys.argv])
        shutil.rmtree(work, ignore_errors=True)
        prepare(bench, report)
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for stage in STAGES:
        if only and stage.name not in only:
            continue
        done = [each for each in report["trials"] if each["stage"] == stage.name]
        for trial in trials(bench, stage, report["stages"][stage.name], done):
            report["trials"].append(dataclasses.asdict(trial))
            out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            said = trial.failed or trial.different or "identical"
            print(f"{stage.name} {trial.number}: killed after {trial.kills} s: {said}", flush=True)
    print(summary(report))


if __name__ == "__main__":
    main()
