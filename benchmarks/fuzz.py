"""Feed spoilt photos, tables, archives and artifacts to what reads them, for some minutes.

python benchmarks/fuzz.py --minutes 20 --out fuzz.json

Hypothesis spoils real files: it flips, cuts, repeats and inserts bytes, and puts other values into
manifests, whose hashes are then made to fit. Whatever comes of it must be a result or a
`ToolkitError`; anything else is a failure, and so is an input that takes longer than a limit. Each
round is a process of its own, with a seed that is kept and a limit on its memory, so that a crash
of native code and a memory bomb are found too. `--only TARGET --seed N` repeats a round.
"""

from __future__ import annotations

import collections
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import hypothesis
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from toolkit.artifacts import dump_artifact
from toolkit.errors import ToolkitError
from toolkit.files import sha256_json
from toolkit.machine import processor_name, usable_cores

MEMORY = 6 * 2**30
SECONDS_AN_INPUT = 20.0
EXAMPLES_A_ROUND = 400

Read = Callable[[Path, bytes], object]


class Target:
    """Something that reads files of strangers.

    Attributes:
        seeds: Whole files, to be spoilt.
        read: Reads one, given an empty folder.
        is_json: Whether values are replaced instead of bytes.
    """

    def __init__(self, seeds: list[bytes], read: Read, *, is_json: bool = False) -> None:
        self.seeds, self.read, self.is_json = seeds, read, is_json

    @property
    def inputs(self) -> st.SearchStrategy[bytes]:
        """Spoilt files, and a few of no kind at all."""
        whole = st.sampled_from(self.seeds)
        spoilt = st.builds(spoil_json, whole, st.lists(_JSON_EDITS, min_size=1, max_size=3))
        cut = st.builds(spoil, whole, st.lists(_EDITS, min_size=1, max_size=6))
        return st.one_of(spoilt, spoilt, cut) if self.is_json else st.one_of(cut, cut, st.binary())


_EDITS = st.tuples(
    st.sampled_from(("flip", "cut", "end", "insert", "repeat", "zero")),
    st.floats(0, 1),
    st.integers(1, 64),
    st.binary(min_size=1, max_size=8),
)

_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from((0, -1, 1, 40000, 2**31, 1e308, -1e-308)),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(("", "..", "../../etc/passwd", "/dev/zero", "a/b", "nan", "\ud800")),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(-2, 2), max_size=2),
)

_JSON_EDITS = st.tuples(st.sampled_from(("put", "drop", "add")), st.integers(0, 10**6), _VALUES)


def spoil(content: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    """Change bytes of a file."""
    for kind, where, length, new in edits:
        at = int(where * len(content))
        if kind == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ new[0]]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] + content[at + length :]
        elif kind == "end":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + new + content[at:]
        elif kind == "repeat":
            content = content[:at] + content[at : at + length] * 3 + content[at + length :]
        elif kind == "zero":
            content = content[:at] + bytes(length) + content[at + length :]
    return content


def spoil_json(content: bytes, edits: list[tuple[str, int, Any]]) -> bytes:
    """Change values and keys of a JSON file, at any depth."""
    whole = json.loads(content)
    for kind, number, value in edits:
        places = list(_places(whole))
        holder, key = places[number % len(places)]
        if kind == "drop":
            del holder[key]
        elif kind == "add" and isinstance(holder, dict):
            holder[str(value)] = value
        else:
            holder[key] = value
        if not list(_places(whole)):
            break
    return json.dumps(whole).encode()


def _places(content: Any) -> Any:
    keys = content.keys() if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def with_hash(content: bytes) -> bytes:
    """Compute the hash in an artifact anew, as any sender can."""
    try:
        whole = json.loads(content)
    except ValueError:
        return content
    if not isinstance(whole, dict):
        return content
    whole.pop("sha256", None)
    return json.dumps({**whole, "sha256": sha256_json(whole)}).encode()


def photos() -> Target:
    """Photos of all formats that Pillow writes here."""
    from toolkit.data.pixels import Square, load

    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    seeds = []
    for mode in ("RGB", "L", "P", "RGBA", "CMYK", "1", "I;16"):
        grey = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
        image = grey if mode == "I;16" else Image.fromarray(noise).convert(mode)
        for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM"):
            stream = io.BytesIO()
            try:
                image.save(stream, kind)
            except (OSError, ValueError, KeyError):
                continue  # Not every format has every mode.
            seeds.append(stream.getvalue())

    def read(folder: Path, content: bytes) -> object:
        path = folder / "photo.jpg"
        path.write_bytes(content)
        return load(path, Square(16))

    return Target(seeds, read)


def tables() -> Target:
    """Tables of labels."""
    from toolkit.data.labelled import load_labelled

    rows = [f"p{n}.jpg,{'ab'[n % 2]}" for n in range(6)]
    text = "\n".join(["Id,Category", *rows]) + "\n"
    tabbed = '"id"\t"label"\n' + "".join(f'"p{n}"\t"{n % 2}"\n' for n in range(6))
    seeds = [text.encode(), tabbed.encode("utf-16"), text.replace(",", ";").encode("utf-8-sig")]

    def read(folder: Path, content: bytes) -> object:
        (folder / "train").mkdir()
        for n in range(6):
            (folder / "train" / f"p{n}.jpg").write_bytes(b"x")
        (folder / "train.csv").write_bytes(content)
        return load_labelled(folder)

    return Target(seeds, read)


def archives() -> Target:
    """Zip and tar archives."""
    import tarfile

    from toolkit.data.archives import extract, names_in

    packed, taped = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        for n in range(3):
            zipped.writestr(f"train/{n}.jpg", bytes(200))
    with tarfile.open(fileobj=taped, mode="w") as tar:
        for n in range(3):
            info = tarfile.TarInfo(f"train/{n}.jpg")
            info.size = 200
            tar.addfile(info, io.BytesIO(bytes(200)))

    def read(folder: Path, content: bytes) -> object:
        path = folder / ("a.zip" if content[:1] == b"P" else "a.tar")
        path.write_bytes(content)
        extract(path, folder / "out")
        return names_in(path)

    return Target([packed.getvalue(), taped.getvalue()], read)


def recipes() -> Target:
    """Recipe sets: set, recipe and augmentor in one text, parted by a line."""
    from toolkit.training.recipe_files import load_set, set_folder

    folder = set_folder("improved")
    names = ("set.yaml", "efficientnetb3.yaml", "augmentor.yaml")
    seed = b"\n=====\n".join((folder / name).read_bytes() for name in names)

    def read(here: Path, content: bytes) -> object:
        for name, part in zip(names, content.split(b"\n=====\n"), strict=False):
            (here / name).write_bytes(part)
        return load_set(str(here))

    return Target([seed], read)


def bundles() -> Target:
    """Manifests of bundles."""
    from toolkit.data.pixels import PixelDefinition
    from toolkit.inference import bundle as module

    with tempfile.TemporaryDirectory() as made:
        table = module.VotingTable(
            "uniform",
            "",
            {name: module.Alternative((0.5, 0.5), 1.0, 0.5, 1.0) for name in ("uniform", "fitted")},
            module.BestSingle("a", 0.5, 1.0),
        )
        figures = module.Judged("QDQ", 10, 0.95, 0.1, 1.0, 2.0)
        variant = module.Variant("int8", "onnxruntime", {"a.int8.onnx": "1" * 64}, figures)
        parity = module.Parity(10, 10, 1e-6, 1e-6, 0)
        members = tuple(
            module.Member(
                name=name,
                run=f"set/{name}",
                model_sha256="0" * 64,
                backbone="Xception",
                file=f"{name}.onnx",
                sha256="0" * 64,
                precision="fp32",
                image_size=32,
                augmentor=({"HorizontalFlip": {"p": 0.5}},),
                score=None,
                parity=parity,
                variants=(variant,) if name == "a" else (),
            )
            for name in ("a", "b")
        )
        module.save_bundle(
            module.Bundle(
                folder=Path(made),
                created="2026-01-01T00:00:00+00:00",
                versions={"onnx": "1"},
                classes=("1", "2", "3"),
                names={"1": "one"},
                class_prior=(0.2, 0.3, 0.5),
                pixels=PixelDefinition(),
                data=module.TrainedOn("f", 42, 0.2),
                members=members,
                voting=dict.fromkeys(range(1, 9), table),
                requested_voting="auto",
                precisions=(
                    module.QuantizationTrial("a", "int8", "onnxruntime", figures, True, ""),
                ),
            )
        )
        seed = (Path(made) / module.MANIFEST).read_bytes()

    def read(folder: Path, content: bytes) -> object:
        (folder / module.MANIFEST).write_bytes(with_hash(content))
        bundle = module.load_bundle(folder)
        bundle.check_pixels()
        return bundle.sha256

    return Target([seed], read, is_json=True)


def plans() -> Target:
    """Plans of all three kinds."""
    from toolkit.inference.calls import ModelCall, ModelKey
    from toolkit.inference.exits import settling_steps
    from toolkit.inference.plan import (
        CascadePlan,
        MeasuredCost,
        PlanDevice,
        PlanSearch,
        PlanVoting,
        ThresholdSet,
        Voter,
        Way,
        load_plan,
    )

    voters = tuple(Voter(member=name, precision="fp32", weight=0.5) for name in "ab")
    voting = PlanVoting(name="uniform", members=voters, temperature=1.0)
    costs = {ModelKey(name, "fp32"): 2.0 for name in "ab"} | {ModelKey("a", "int8"): 1.0}
    step = (ModelCall("a", "int8", 0), ModelCall("b", "fp32", 1))
    found = PlanSearch(
        device=PlanDevice(kind="cpu", name="x"),
        tolerance=0.01,
        confidence=0.95,
        photos=100,
        full_ms=8.0,
        settled_ms=6.0,
        costs=tuple(
            MeasuredCost(member=k.member, precision=k.precision, ms=v) for k, v in costs.items()
        ),
        table=(Way(way="full", ms=8.0, calls=4, agreement=1, accuracy=0.9),),
    )
    one = ThresholdSet(
        thresholds=(0.5,), ms=4.0, calls=3, exits=(0.5,), agreement=1, accuracy=0.9, risk=0.001
    )
    cascade = CascadePlan(
        bundle="0" * 64,
        views=2,
        voting=voting,
        steps=(step,),
        threshold_sets=(one,),
        rest=settling_steps(step, voting.weights, 2, costs),
        search=found,
    )
    rest = settling_steps((), voting.weights, 2, costs)
    exact = CascadePlan(bundle="0" * 64, views=2, voting=voting, rest=rest)
    seeds = [json.dumps(plan.content).encode() for plan in (cascade, cascade, exact)]

    def read(folder: Path, content: bytes) -> object:
        (folder / "plan.json").write_bytes(with_hash(content))
        return load_plan(folder / "plan.json").calls

    return Target(seeds, read, is_json=True)


def submissions() -> Target:
    """Manifests of submissions, read with what a page does with them."""
    from toolkit.inference.calls import ModelKey
    from toolkit.inference.exits import settling_steps
    from toolkit.inference.plan import CascadePlan, PlanVoting, Voter
    from toolkit.reporting import manifest as module
    from toolkit.reporting.formats import AnswerFormat, FormatOptions

    voters = tuple(Voter(member=name, precision="fp32", weight=0.5) for name in "ab")
    voting = PlanVoting(name="uniform", members=voters, temperature=1.0)
    costs = dict.fromkeys((ModelKey("a", "fp32"), ModelKey("b", "fp32")), 2.0)
    rest = settling_steps((), voting.weights, 2, costs)
    digest = "0" * 64
    made = module.SubmissionManifest(
        created="2026-01-01T00:00:00+00:00",
        submission=module.WrittenFile("submission.csv", digest),
        format=AnswerFormat("probabilities", ("id", "x", "y"), "id", ("x", "y"), ("1", "2")),
        classes=("1", "2"),
        latency=module.WrittenFile("latency.json", digest),
        bundle=module.UsedBundle("bundle", digest),
        options=module.Options(
            data="data",
            reading={"sample": "sample.csv"},
            skip_broken=False,
            answer=FormatOptions(),
            skipping=module.SkippingRecord(full=False, plan=None, certify="test", budget_ms=None),
            tta=2,
            tta_views="fixed",
            voting="auto",
            device="auto",
            batch=16,
            threads=None,
            seed=0,
        ),
        typed_in=".",
        request=module.RequestRecord(digest, digest, "01234567"),
        plan=CascadePlan(bundle=digest, views=2, voting=voting, rest=rest),
        probabilities=module.ProbabilitiesRecord(digest, None, None),
        voting=module.VotingRecord("uniform", {"a": 0.5, "b": 0.5}, 1.0),
        method="label-exact",
        guarantee="every label is the full ensemble's",
        photos=1,
        answered_with_class_prior={},
        device=module.UsedDevice("CPUExecutionProvider", "x"),
        threads=2,
        notes=(),
        versions={"numpy": "2"},
    )
    seed = json.dumps(dump_artifact(made)).encode()

    def read(folder: Path, content: bytes) -> object:
        from toolkit.data.reading import Reading
        from toolkit.reporting.answered import read_answers

        (folder / "submission.json").write_bytes(content)
        (folder / "submission.csv").write_text("id,x,y\na,0.25,0.75\n", encoding="utf-8")
        answers = read_answers(folder / "submission.csv", labels=("x", "y"))
        found = module.Made.load(folder / "submission.json")
        options = found.manifest.options
        Reading.of_record(options.reading, found.found(options.data))
        return answers, found.submission, found.found(found.manifest.bundle.folder).is_dir()

    return Target([seed], read, is_json=True)


def arrays() -> Target:
    """Held-out predictions."""
    from toolkit.training.run import DataSeen, Validation

    data = DataSeen("data", "f", ("a", "b"), (4, 4), 42, 0.5, 4, 4)
    stream = io.BytesIO()
    np.savez(
        stream,
        ids=np.array(["a", "b", "c", "d"]),
        labels=np.array([0, 1, 0, 1]),
        groups=np.arange(4),
        probabilities=np.full((4, 2), 0.5, dtype=np.float32),
    )

    def read(folder: Path, content: bytes) -> object:
        (folder / "validation.npz").write_bytes(content)
        return Validation.load(folder / "validation.npz", data)

    return Target([stream.getvalue()], read)


def networks() -> Target:
    """ONNX files, as far as they are read before onnxruntime gets them."""
    import onnx

    from toolkit.inference.onnx_file import refuse_external_data

    helper = onnx.helper
    weights = onnx.numpy_helper.from_array(np.ones((3, 3), dtype=np.float32), "w")
    ends = [helper.make_tensor_value_info(name, 1, ["n", 3]) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    seed = helper.make_model(graph).SerializeToString()

    def read(folder: Path, content: bytes) -> object:
        (folder / "a.onnx").write_bytes(content)
        refuse_external_data(folder / "a.onnx")
        return None

    return Target([seed], read)


TARGETS: dict[str, Callable[[], Target]] = {
    "photos": photos,
    "tables": tables,
    "archives": archives,
    "recipes": recipes,
    "bundles": bundles,
    "plans": plans,
    "submissions": submissions,
    "arrays": arrays,
    "networks": networks,
}
"""By name. Another kind of file is another function that returns its `Target`."""


def one_round(name: str, seed: int) -> dict[str, Any]:
    """Spoil and read files of one target in this process."""
    target, counts = TARGETS[name](), collections.Counter[str]()
    slowest, failure = 0.0, ""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=EXAMPLES_A_ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(target.inputs)
    def feed(content: bytes) -> None:
        nonlocal slowest
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                target.read(Path(folder), content)
            except ToolkitError as error:
                lines = str(error).strip().splitlines()
                assert lines and len(lines) <= 25, f"not a short message: {error}"
                counts["errors of one line" if len(lines) == 1 else "errors with a list"] += 1
            else:
                counts["results"] += 1
        slowest = max(slowest, time.monotonic() - started)
        assert slowest < SECONDS_AN_INPUT, "too slow"

    try:
        feed()
    except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
        failure = traceback.format_exc()[-3000:]
    return {"target": name, "seed": seed, **counts, "slowest_s": slowest, "failure": failure}


def in_own_process(name: str, seed: int) -> dict[str, Any]:
    """Carry out a round where neither a crash nor a memory bomb is the end of all rounds."""
    command = [sys.executable, __file__, "--only", name, "--seed", str(seed)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return {"target": name, "seed": seed, "slowest_s": 600.0, "failure": "no end in 600 s"}
    try:
        answered: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answered
    except (IndexError, ValueError):
        told = f"exit code {done.returncode}: {done.stderr[-2000:]}"
        return {"target": name, "seed": seed, "slowest_s": 0.0, "failure": told}


def summary(rounds: list[dict[str, Any]]) -> str:
    """Return the table of what came of the rounds."""
    kinds = ("results", "errors of one line", "errors with a list")
    lines = [f"{'target':<12}{'rounds':>7}" + "".join(f"{each:>20}" for each in kinds)]
    lines[0] += f"{'slowest, s':>12}{'failures':>10}"
    for name in TARGETS:
        own = [each for each in rounds if each["target"] == name]
        counted = "".join(f"{sum(each.get(kind, 0) for each in own):>20,}" for kind in kinds)
        slowest = max((each["slowest_s"] for each in own), default=0.0)
        failures = sum(bool(each["failure"]) for each in own)
        lines.append(f"{name:<12}{len(own):>7}{counted}{slowest:>12.2f}{failures:>10}")
    return "\n".join(lines)


@click.command()
@click.option("--minutes", default=20.0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--only", type=click.Choice(list(TARGETS)), help="This target, in this process.")
@click.option("--seed", default=1, show_default=True, help="Of the first round.")
def main(minutes: float, out: Path | None, only: str | None, seed: int) -> None:
    """Carry out rounds, each of all targets, until the time is over."""
    if only:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        print(json.dumps(one_round(only, seed)))
        return
    ends, rounds = time.monotonic() + 60 * minutes, []
    while time.monotonic() < ends:
        for name in TARGETS:
            rounds.append(in_own_process(name, seed))
            if failure := rounds[-1]["failure"]:
                print(f"{name}, seed {seed}: {failure}", flush=True)
        seed += 1
        report = {
            "machine": f"{processor_name()}, {usable_cores()} cores",
            "command": " ".join(["python", *sys.argv]),
            "rounds": rounds,
        }
        if out:
            out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(summary(rounds))
    sys.exit(any(each["failure"] for each in rounds))


if __name__ == "__main__":
    main()
