"""The whole ensemble as one ONNX file: views, members, weights and temperature in one graph."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from toolkit.data.pixels import decode, resize
from toolkit.errors import ToolkitError, UsageError
from toolkit.exporting.members import VERSIONED, Photos
from toolkit.files import written_whole
from toolkit.inference.bundle import INPUT, OUTPUT, Bundle, Member
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.views import VIEWS, View
from toolkit.inference.voting import Voting
from toolkit.machine import package_versions, usable_cores
from toolkit.progress import SILENT, Reporter
from toolkit.training.run import Run

try:
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper
except ImportError:
    raise ToolkitError("Exporting needs the package onnx: pip install 'toolkit[train]'.") from None

TOLERANCE = 1e-5
"""Largest difference of a probability from the bundle's."""

PHOTOS = 32
"""Photos that the file is compared with the bundle on."""

MOST_BYTES = 2**31 - 2**24
"""Members' files together: protobuf ends at 2 GB, and views and voting need a little of it."""

_BATCH = 2


@dataclass(frozen=True)
class Fused:
    """A file that was written, and how it compares with the bundle.

    Attributes:
        file: Where it lies.
        inputs: Names of its inputs, `images_<size>`.
        members: Those in it.
        views: Views a photo.
        voting: Name of the weights.
        bytes: Its size.
        photos: How many it was compared on.
        largest_difference: Of a probability from the bundle's.
    """

    file: Path
    inputs: tuple[str, ...]
    members: tuple[str, ...]
    views: int
    voting: str
    bytes: int
    photos: int
    largest_difference: float


def check_target(target: Path, bundle: Path) -> None:
    """Refuse a file that could not be written, before the work is done.

    Args:
        target: The file that shall be written.
        bundle: The bundle's folder.

    Raises:
        UsageError: It is no `.onnx` file, or lies in the bundle, which never changes.
        ToolkitError: Its folder cannot be written to.
    """
    if target.suffix != ".onnx" or target.is_dir():
        raise UsageError(f"{target}: Expected the name of a file that ends in .onnx.")
    if bundle.resolve() in target.resolve().parents:
        raise UsageError(f"{target}: lies in the bundle, which never changes. Name one beside it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolkitError(f"{target}: cannot be written ({error.strerror}).") from None
    if not os.access(target.parent, os.W_OK):
        raise ToolkitError(f"{target}: cannot be written (its folder is read-only).")


def photos_to_compare(runs: Sequence[Run], data: Path | None, reporter: Reporter) -> list[Path]:
    """Return up to `PHOTOS` photos, held-out ones where there are any; see `Photos.find`."""
    photos = Photos.find(runs, data, reporter)
    count = len(photos.chosen)
    spread = np.linspace(0, count - 1, min(count, PHOTOS)).round().astype(int)
    return [photos.paths[photos.chosen[place]] for place in spread]


def fuse(
    bundle: Bundle,
    target: Path,
    photos: Sequence[Path],
    *,
    views: int = 4,
    voting: str = "auto",
    reporter: Reporter = SILENT,
) -> Fused:
    """Write a bundle's ensemble as one ONNX file that computes the same probabilities.

    Its inputs are `images_<size>`, uint8 of shape (batch, size, size, 3), RGB, one a size that a
    member wants: the same photos, resized. Its output is `probabilities`, float32 of shape (batch,
    classes).

    Args:
        bundle: The bundle.
        target: The file to write.
        photos: What both are compared on.
        views: Views a photo, 1 to 8.
        voting: As for `Ensemble.load`; members without a vote are left out.
        reporter: Where progress is told.

    Returns:
        What was written.

    Raises:
        ToolkitError: The file cannot be written, would be too large, or computes something else.
    """
    check_target(target, bundle.folder)
    ensemble = Ensemble.load(bundle, tta=views, voting=voting, device="cpu", batch=_BATCH)
    chosen, names = ensemble.voting, tuple(ensemble.member_names)
    members = [member for member in bundle.members if member.name in names]
    _check_size(bundle, members)
    reporter.say(f"{target}: {len(members)} members and {views} views, compared with the bundle")
    expected = ensemble.predict(photos)
    del ensemble  # Else all members would be in memory twice.
    with written_whole(target) as temporary:
        _save(_model(bundle, members, chosen, views), temporary, target)
        sizes = _sizes(members)
        difference = float(np.abs(_probabilities(temporary, photos, sizes) - expected).max())
        if not difference <= TOLERANCE:
            raise ToolkitError(
                f"{target}: was not written. Its probabilities differ from the bundle's by "
                f"{difference:.1e} on {len(photos)} photos (allowed: {TOLERANCE:.0e}); "
                "use the bundle itself."
            )
        size = temporary.stat().st_size
    inputs = tuple(_input(each) for each in sizes)
    return Fused(target, inputs, names, views, chosen.name, size, len(photos), difference)


@dataclass
class _Graph:
    """A graph in the making. Names are paths, so that no two parts use the same."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        node = helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def constant(self, value: Any, name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def number(self, value: float, name: str) -> str:
        return self.constant(np.float32(value), name)


def _model(
    bundle: Bundle, members: Sequence[Member], voting: Voting, views: int
) -> onnx.ModelProto:
    weights = {
        member.name: weight
        for member, weight in zip(bundle.members, voting.weights, strict=True)
        if weight > 0
    }
    graph = _Graph()
    seen = {size: _add_views(graph, size, VIEWS[:views]) for size in _sizes(members)}
    opsets: dict[str, int] = {}
    answers: dict[str, str] = {}
    ir_version = 0
    for member in members:
        model = onnx.load(bundle.folder / member.file)
        ir_version = max(ir_version, model.ir_version)
        for opset in model.opset_import:
            if opsets.setdefault(opset.domain, opset.version) != opset.version:
                raise ToolkitError(
                    f"{bundle.folder}: its members are of different ONNX opsets "
                    f"({opsets[opset.domain]} and {opset.version}). Export the bundle again."
                )
        prefix = f"members/{member.name}/"
        compose.add_prefix_graph(model.graph, prefix, inplace=True)
        graph.add("Identity", [seen[member.image_size]], prefix + INPUT)
        graph.nodes.extend(model.graph.node)
        graph.constants.extend(model.graph.initializer)
        answers[member.name] = prefix + OUTPUT
    classes = len(bundle.classes)
    _add_voting(graph, answers, weights, voting.temperature, views, classes)
    inputs = [
        helper.make_tensor_value_info(_input(size), TensorProto.UINT8, ["batch", size, size, 3])
        for size in seen
    ]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes])]
    fused: onnx.ModelProto = helper.make_model(
        helper.make_graph(graph.nodes, "ensemble", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid(*opset) for opset in opsets.items()],
        ir_version=ir_version,
        producer_name="toolkit",
    )
    metadata = {
        "toolkit.classes": json.dumps(bundle.classes),
        "toolkit.views": json.dumps([view.name for view in VIEWS[:views]]),
        "toolkit.weights": json.dumps(weights),
        "toolkit.temperature": json.dumps(voting.temperature),
        "toolkit.bundle_sha256": bundle.sha256,
        "toolkit.versions": json.dumps(package_versions(VERSIONED)),
        "toolkit.pixels": json.dumps(bundle.pixels),
    }
    helper.set_model_props(fused, metadata)
    return fused


def _add_views(graph: _Graph, size: int, views: Sequence[View]) -> str:
    """Add all views of a batch as one batch: all photos' first view, then their second, ..."""
    within = f"views/{size}"
    crops: dict[tuple[float, str], str] = {(1.0, "centre"): _input(size)}
    seen: list[str] = []
    for number, view in enumerate(views):
        key = (view.fraction, view.anchor)
        if key not in crops:
            crops[key] = _add_crop(graph, size, view, f"{within}/{number}")
        if view.mirrored:
            columns = graph.constant(np.arange(size)[::-1].copy(), f"{within}/{number}/columns")
            mirror = graph.add("Gather", [crops[key], columns], f"{within}/{number}/mirror", axis=2)
            seen.append(mirror)
        else:
            seen.append(crops[key])
    return graph.add("Concat", seen, within, axis=0)


def _add_crop(graph: _Graph, size: int, view: View, within: str) -> str:
    """Add a crop brought back to size, byte for byte as `toolkit.inference.views.enlarge` does.

    With scale = 2 * size, the rows mixed by weights that sum to scale are whole numbers r up to
    255 * scale. What r and the columns' weights w give, up to 255 * scale ** 2, is over float32's
    whole numbers (2 ** 24) and integer division is not exact in every runtime. So r is cut into
    a * scale + b, and with A, B for a, b mixed by the columns

        (scale * A + B + scale ** 2 / 2) // scale ** 2 = (A + size + B // scale) // scale

    where nothing is over scale ** 2 <= 2 ** 22. Half a unit is added before each division, so that
    multiplying by the rounded 1 / scale gives the right whole number too.
    """
    scale, side = 2 * size, round(view.fraction * size)
    start = {"centre": (size - side) // 2, "upper left": 0, "lower right": size - side}[view.anchor]
    position = np.clip((2 * np.arange(size) + 1) * side - size, 0, (side - 1) * scale)
    low = np.minimum(position // scale, max(side - 2, 0))
    weight = (position - low * scale).astype(np.float32)
    sources = {"low": start + low, "high": start + np.minimum(low + 1, side - 1)}
    shares = {"low": scale - weight, "high": weight}
    for end in ("low", "high"):
        graph.constant(sources[end].astype(np.int64), f"{within}/{end}")
        for axis, shape in ((1, (1, size, 1, 1)), (2, (1, 1, size, 1))):
            graph.constant(shares[end].reshape(shape), f"{within}/{end} share {axis}")
    graph.number(scale, f"{within}/scale")
    graph.number(1 / scale, f"{within}/unit")
    graph.number(0.5, f"{within}/half")
    graph.number(size, f"{within}/size")

    def mixed(source: str, axis: int, name: str) -> str:
        for end in ("low", "high"):
            graph.add("Gather", [source, f"{within}/{end}"], f"{name}/{end}", axis=axis)
            graph.add("Mul", [f"{name}/{end}", f"{within}/{end} share {axis}"], f"{name}/{end}er")
        return graph.add("Add", [f"{name}/lower", f"{name}/higher"], name)

    def over_scale(value: str, name: str) -> str:
        middle = graph.add("Add", [value, f"{within}/half"], f"{name}/middle")
        share = graph.add("Mul", [middle, f"{within}/unit"], f"{name}/share")
        return graph.add("Floor", [share], name)

    floats = graph.add("Cast", [_input(size)], f"{within}/floats", to=TensorProto.FLOAT)
    rows = mixed(floats, 1, f"{within}/rows")
    whole = over_scale(rows, f"{within}/whole")
    scaled = graph.add("Mul", [whole, f"{within}/scale"], f"{within}/scaled")
    rest = graph.add("Sub", [rows, scaled], f"{within}/rest")
    low_part = over_scale(mixed(rest, 2, f"{within}/rests"), f"{within}/carried")
    high_part = mixed(whole, 2, f"{within}/wholes")
    both = graph.add("Sum", [high_part, low_part, f"{within}/size"], f"{within}/both")
    levels = over_scale(both, f"{within}/levels")
    return graph.add("Cast", [levels], f"{within}/crop", to=TensorProto.UINT8)


def _add_voting(
    graph: _Graph,
    answers: dict[str, str],
    weights: dict[str, float],
    temperature: float,
    views: int,
    classes: int,
) -> None:
    """Add what `toolkit.inference.voting.vote` does, in float32.

    A temperature is a softmax of the logarithms over it. The mixed probabilities may be so small
    that float32 holds few of their digits, and a high temperature makes them count: they are
    lifted first, which normalizing takes away again.
    """
    lift = 2.0**64 if temperature > 1 else 1.0
    by_view = graph.constant(np.array([views, -1, classes]), "voting/by view")
    axis = graph.constant(np.array([0]), "voting/views")
    votes: list[str] = []
    for name, answer in answers.items():
        within = f"voting/{name}"
        graph.add("Reshape", [answer, by_view], f"{within}/answers")
        graph.add("ReduceSum", [f"{within}/answers", axis], f"{within}/sum", keepdims=0)
        graph.number(lift * weights[name] / views, f"{within}/weight")
        votes.append(graph.add("Mul", [f"{within}/sum", f"{within}/weight"], f"{within}/vote"))
    mixed = graph.add("Sum", votes, "voting/mixed")
    if temperature == 1.0:
        by_class = graph.constant(np.array([1]), "voting/classes")
        total = graph.add("ReduceSum", [mixed, by_class], "voting/total", keepdims=1)
        graph.add("Div", [mixed, total], OUTPUT)
        return
    # Probabilities of 0 are as small as `soften` takes them for.
    least = graph.number(np.log(np.finfo(np.float64).tiny) + np.log(lift), "voting/least")
    present = graph.add("Greater", [mixed, graph.number(0, "voting/none")], "voting/present")
    logs = graph.add("Where", [present, graph.add("Log", [mixed], "voting/log"), least], "voting/l")
    colder = graph.number(1 / temperature, "voting/over temperature")
    graph.add("Softmax", [graph.add("Mul", [logs, colder], "voting/logits")], OUTPUT, axis=1)


def _save(model: onnx.ModelProto, path: Path, target: Path) -> None:
    try:
        onnx.save(model, path)
    except OSError as error:
        raise ToolkitError(f"{target}: cannot be written ({error.strerror}).") from None
    onnx.checker.check_model(path, full_check=True)


def _probabilities(path: Path, photos: Sequence[Path], sizes: list[int]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    answers: list[NDArray[np.float32]] = []
    for start in range(0, len(photos), _BATCH):
        images = [decode(photo) for photo in photos[start : start + _BATCH]]
        feed = {_input(size): np.stack([resize(each, size) for each in images]) for size in sizes}
        answers += session.run([OUTPUT], feed)
    return np.concatenate(answers)


def _check_size(bundle: Bundle, members: Sequence[Member]) -> None:
    total = sum((bundle.folder / member.file).stat().st_size for member in members)
    if total > MOST_BYTES:
        raise ToolkitError(
            f"{bundle.folder}: its members have {total / 1e9:.2f} GB together, and an ONNX file "
            f"ends at {MOST_BYTES / 1e9:.2f} GB. Give fewer of them a vote with --voting "
            "NAME=WEIGHT,..."
        )


def _sizes(members: Sequence[Member]) -> list[int]:
    return sorted({member.image_size for member in members})


def _input(size: int) -> str:
    return f"{INPUT}_{size}"
