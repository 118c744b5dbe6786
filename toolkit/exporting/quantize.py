"""Files of a network in lower precisions. Runs in a process of its own: what it calls leaks."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.files import written_whole
from toolkit.inference.bundle import INPUT

Ranges = Mapping[str, tuple[np.float32, np.float32]]

PERCENTILE = 99.99
"""Share of a tensor's values, in percent, that INT8 has to span; the others are cut off."""

QUANTIZED = ("Conv", "MatMul", "Gemm", "Add", "Concat", "MaxPool", "AveragePool", "Relu", "Clip")
"""What onnxruntime computes in INT8, or hands on without leaving it."""

KEPT_IN_FP32 = (
    "AveragePool",
    "GlobalAveragePool",
    "MaxPool",
    "ReduceMean",
    "ReduceSum",
    "Softmax",
)
"""What sums up over a large map overflows in fp16."""

_PHOTOS_AT_ONCE = 4
_SAMPLES = 100_000


def calibrate(file: Path, photos: Pixels) -> Ranges:
    """Find between which values each tensor that INT8 may hold lies.

    The percentiles are taken of a few photos at a time and averaged, so that memory stays bounded.

    Args:
        file: The ONNX file.
        photos: Shape (photos, size, size, 3), uint8: some that the network was trained on.

    Returns:
        Lowest and highest value by tensor.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    cut = (100 - PERCENTILE) / 200
    found: dict[str, list[NDArray[np.float32]]] = {}
    with tempfile.TemporaryDirectory() as folder, silenced():
        calibrator = create_calibrator(
            _inferred(file, Path(folder)),
            QUANTIZED,
            str(Path(folder) / "augmented.onnx"),
            CalibrationMethod.Percentile,
        )
        wanted = sorted(calibrator.tensors_to_calibrate)
        for start in range(0, len(photos), _PHOTOS_AT_ONCE):
            batch = np.asarray(photos[start : start + _PHOTOS_AT_ONCE])
            answers = calibrator.infer_session.run(wanted, {INPUT: batch})
            for name, values in zip(wanted, answers, strict=True):
                # An odd stride meets every channel in turn, whatever the layout.
                some = values.ravel()[:: (values.size // _SAMPLES) | 1]
                found.setdefault(name, []).append(np.quantile(some, (cut, 1 - cut)))
    means = {name: np.mean(ends, axis=0).astype(np.float32) for name, ends in found.items()}
    return {name: (ends[0], ends[1]) for name, ends in means.items()}


def write_int8_onnx(file: Path, ranges: Ranges, kept: list[str], target: Path) -> None:
    """Write a network with INT8 weights per channel and uint8 activations for onnxruntime.

    Args:
        file: The ONNX file.
        ranges: From `calibrate`.
        kept: Nodes to leave in fp32.
        target: The ONNX file to write.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    data = {name: TensorData(lowest=low, highest=high) for name, (low, high) in ranges.items()}
    with tempfile.TemporaryDirectory() as folder, silenced():
        quantizer = QDQQuantizer(
            onnx.load(_inferred(file, Path(folder))),
            True,  # per channel
            False,
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.Percentile, data),
            [],
            kept,
            QUANTIZED,
            {},
        )
        quantizer.quantize_model()
        with written_whole(target) as temporary:
            onnx.save(quantizer.model.model, temporary)


def sensitive_nodes(file: Path) -> list[str]:
    """Name what INT8 breaks first: depthwise convolutions, squeeze-excite, first and last layer."""
    with tempfile.TemporaryDirectory() as folder:
        graph = onnx.load(_inferred(file, Path(folder))).graph
    shapes = {
        value.name: [each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
    }
    weighted = [node for node in graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    depthwise = [
        node
        for node in weighted
        if any(each.name == "group" and each.i > 1 for each in node.attribute)
    ]
    # Squeeze-excite is convolutions of a single pixel.
    squeezing = [
        node
        for node in weighted
        if node.op_type == "Conv" and shapes.get(node.input[0], [])[2:] == [1, 1]
    ]
    nodes = [weighted[0], *depthwise, *squeezing, weighted[-1]]
    return sorted({node.name for node in nodes})


def write_int8_openvino(file: Path, photos: Pixels, target: Path) -> None:
    """Quantize a network by nncf for OpenVINO.

    Args:
        file: The ONNX file.
        photos: Shape (photos, size, size, 3), uint8: some that the network was trained on.
        target: The `.xml` file to write; the weights go into a `.bin` beside it.
    """
    with silenced():
        import nncf
        import openvino

        model = openvino.Core().read_model(file)
        size = photos.shape[1]
        model.reshape([1, size, size, 3])
        quantized = nncf.quantize(
            model,
            nncf.Dataset([np.asarray(photo)[None] for photo in photos]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(photos),
            fast_bias_correction=True,
        )
        quantized.reshape([-1, size, size, 3])
        openvino.save_model(quantized, target, compress_to_fp16=False)


def write_fp16(file: Path, target: Path) -> None:
    """Write a network in fp16 for CUDA; its input and output stay what they were.

    Args:
        file: The ONNX file.
        target: The ONNX file to write.
    """
    from onnxruntime.transformers import float16

    with silenced():
        converted = float16.convert_float_to_float16(
            onnx.load(file),
            keep_io_types=True,
            op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *KEPT_IN_FP32],
        )
    with written_whole(target) as temporary:
        onnx.save(converted, temporary)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep what libraries print, also from native code, off standard output and error."""
    kept = {number: os.dup(number) for number in (1, 2)}
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:  # noqa: PTH123
        warnings.simplefilter("ignore")
        for number in kept:
            os.dup2(nowhere.fileno(), number)
        try:
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def _inferred(file: Path, folder: Path) -> Path:
    """Write the file with the shapes of all tensors into a folder."""
    inferred = folder / "inferred.onnx"
    onnx.shape_inference.infer_shapes_path(str(file), str(inferred))
    return inferred
