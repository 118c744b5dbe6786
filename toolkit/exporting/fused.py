"""The whole ensemble as one ONNX file: views, members, weights and temperature in one graph."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from toolkit.data.pixels import Square, decode
from toolkit.data.ranges import Ranges
from toolkit.errors import ParityError, ToolkitError, UsageError
from toolkit.exporting.members import VERSIONED, Photos, spread
from toolkit.exporting.rule import MARGIN
from toolkit.files import written_whole
from toolkit.inference.bundle import INPUT, OUTPUT, Bundle, Member
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.views import VIEWS
from toolkit.inference.voting import Voting
from toolkit.machine import package_versions, usable_cores
from toolkit.progress import SILENT, Reporter, counted
from toolkit.training.run import Run

try:
    import onnx
    from onnx import TensorProto, compose, helper

    from toolkit.exporting.fused_graph import Graph, add_views, add_voting, input_name
except ModuleNotFoundError:
    raise ToolkitError("Exporting needs the package onnx: pip install 'toolkit[train]'.") from None

TOLERANCE = 1e-5
"""A probability may differ from the bundle's by this, for voting in float32, and by `MARGIN` times
what rounding moves it by: that depends on the members (`toolkit.exporting.parity`)."""

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
        inputs: Names of its inputs; see `fuse`.
        members: Those in it.
        views: Views a photo.
        voting: Name of the weights.
        bytes: Its size.
        photos: How many it was compared on.
        largest_difference: Of a probability from the bundle's.
        noise_floor: The same of the file from itself, computed without onnxruntime's fusions.
    """

    file: Path
    inputs: tuple[str, ...]
    members: tuple[str, ...]
    views: int
    voting: str
    bytes: int
    photos: int
    largest_difference: float
    noise_floor: float


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
        raise UsageError(f"{target}: Expected the name of a file that ends in .onnx.", path=target)
    if bundle.resolve() in target.resolve().parents:
        raise UsageError(
            f"{target}: lies in the bundle, which never changes. Name one beside it.", path=target
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolkitError(
            f"{target}: cannot be written ({error.strerror}).", path=target
        ) from None
    if not os.access(target.parent, os.W_OK):
        raise ToolkitError(f"{target}: cannot be written (its folder is read-only).", path=target)


def photos_to_compare(run: Run, data: Path | None, reporter: Reporter) -> list[Path]:
    """Return up to `PHOTOS` photos, held-out ones where there are any; see `Photos.chosen`."""
    photos = Photos.find([run], data, reporter)
    chosen = photos.chosen(run)
    return [photos.paths[chosen[place]] for place in spread(len(chosen), PHOTOS)]


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

    Its inputs are `images_<size>`, uint8 of shape (batch, size, size, 3), RGB, one for each square
    that a member wants: the same photos, stretched. Where they are resized in another way its name
    follows, as in `images_150_letterbox`. Its output is `probabilities`, float32 of shape (batch,
    classes).

    Args:
        bundle: The bundle.
        target: The file to write.
        photos: What both are compared on.
        views: Views a photo, 1 to 8.
        voting: As for `Ensemble.load`; members without a vote are left out.

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
    parts = f"{counted(len(members), 'member')} and {counted(views, 'view')}"
    reporter.say(f"{target}: {parts}, compared with the bundle")
    expected = ensemble.predict(photos)
    del ensemble  # Else all members would be in memory twice.
    with written_whole(target) as temporary:
        _save(_model(bundle, members, chosen, views), temporary, target)
        squares, ranges = _squares(members), bundle.pixels.ranges
        received = _probabilities(temporary, photos, squares, ranges)
        difference = float(np.abs(received - expected).max())
        plain = _probabilities(temporary, photos, squares, ranges, fusions=False)
        noise_floor = float(np.abs(received - plain).max())
        allowed = TOLERANCE + MARGIN * noise_floor
        if not difference <= allowed:
            raise ParityError(
                f"{target}: was not written. Its probabilities differ from the bundle's by "
                f"{difference:.1e} on {counted(len(photos), 'photo')} (allowed: {allowed:.1e}, of "
                f"which {MARGIN} times what rounding moves them by); use the bundle itself.",
                path=target,
            )
        size = temporary.stat().st_size
    inputs = tuple(input_name(each) for each in squares)
    figures = len(photos), difference, noise_floor
    return Fused(target, inputs, names, views, chosen.name, size, *figures)


def _model(
    bundle: Bundle, members: Sequence[Member], voting: Voting, views: int
) -> onnx.ModelProto:
    weights = {
        member.name: weight
        for member, weight in zip(bundle.members, voting.weights, strict=True)
        if weight > 0
    }
    graph = Graph()
    seen = {square: add_views(graph, square, VIEWS[:views]) for square in _squares(members)}
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
                    f"({opsets[opset.domain]} and {opset.version}). Export the bundle again.",
                    path=bundle.folder,
                )
        prefix = f"members/{member.name}/"
        compose.add_prefix_graph(model.graph, prefix, inplace=True)
        graph.add("Identity", [seen[member.square]], prefix + INPUT)
        graph.nodes.extend(model.graph.node)
        graph.constants.extend(model.graph.initializer)
        answers[member.name] = prefix + OUTPUT
    classes = len(bundle.classes)
    add_voting(graph, answers, weights, voting.temperature, views, classes)
    inputs = [
        helper.make_tensor_value_info(
            input_name(square), TensorProto.UINT8, ["batch", square.size, square.size, 3]
        )
        for square in seen
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
        "toolkit.pixels": json.dumps(asdict(bundle.pixels)),
        "toolkit.inputs": json.dumps({input_name(square): asdict(square) for square in seen}),
    }
    helper.set_model_props(fused, metadata)
    return fused


def _save(model: onnx.ModelProto, path: Path, target: Path) -> None:
    try:
        onnx.save(model, path)
    except OSError as error:
        raise ToolkitError(
            f"{target}: cannot be written ({error.strerror}).", path=target
        ) from None
    onnx.checker.check_model(path, full_check=True)


def _probabilities(
    path: Path,
    photos: Sequence[Path],
    squares: list[Square],
    ranges: Ranges,
    *,
    fusions: bool = True,
) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    if not fusions:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    answers: list[NDArray[np.float32]] = []
    for start in range(0, len(photos), _BATCH):
        images = [decode(photo, ranges) for photo in photos[start : start + _BATCH]]
        feed = {
            input_name(square): np.stack([square(each) for each in images]) for square in squares
        }
        answers += session.run([OUTPUT], feed)
    return np.concatenate(answers)


def _check_size(bundle: Bundle, members: Sequence[Member]) -> None:
    total = sum((bundle.folder / member.file).stat().st_size for member in members)
    if total > MOST_BYTES:
        raise ToolkitError(
            f"{bundle.folder}: its members have {total / 1e9:.2f} GB together, and an ONNX file "
            f"ends at {MOST_BYTES / 1e9:.2f} GB. Give fewer of them a vote with "
            "`voting='NAME=WEIGHT,...'`.",
            path=bundle.folder,
        )


def _squares(members: Sequence[Member]) -> list[Square]:
    return sorted({member.square for member in members})
