"""Runs a network with OpenVINO, on many CPUs faster than onnxruntime in bf16 and INT8."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.errors import ToolkitError
from toolkit.inference.batching import chunks, padded
from toolkit.inference.onnx_file import refuse_external_data
from toolkit.inference.signature import Signature


class OpenVinoSession:
    """One network, loaded into OpenVINO's CPU plugin; a `Session`."""

    def __init__(self, path: Path, precision: str, threads: int, batch: int) -> None:
        """Load and compile the network.

        Args:
            path: An ONNX file, or OpenVINO's `.xml` with its `.bin` beside it.
            precision: `fp32`, `bf16` or `int8` (which the file itself has to hold).
            threads: On the CPU.
            batch: Images a run; every run has exactly this many, so that an image's answer does
                not depend on how many others there are.

        Raises:
            ToolkitError: OpenVINO is not installed, cannot load the file, or this processor does
                not compute in that precision.
        """
        if importlib.util.find_spec("openvino") is None:
            raise ToolkitError(
                f"{path}: {precision} is run by OpenVINO: pip install 'toolkit[openvino]', or "
                "leave `tolerance` and `plan` out."
            )
        computed = "bf16" if precision == "bf16" else "f32"
        try:
            import openvino

            core = openvino.Core()
            if path.suffix == ".onnx":
                refuse_external_data(path)
            model = core.read_model(path)
            self.signature = _signature(path, model)
            size = self.signature.size
            model.reshape([batch, size, size, 3])
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": "1",
                    "INFERENCE_NUM_THREADS": str(threads),
                    "INFERENCE_PRECISION_HINT": computed,
                    # Pinned threads of two sessions would be pinned to the same cores.
                    "ENABLE_CPU_PINNING": False,
                },
            )
            real = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        except (ImportError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ToolkitError(f"{path}: OpenVINO cannot load it ({reason})") from None
        if real != computed:
            raise ToolkitError(
                f"{path}: Expected OpenVINO to compute in {computed}, but on this processor it "
                f"takes {real}."
            )
        self.provider = f"OpenVINO {precision}"
        self._request, self.batch = compiled.create_infer_request(), batch

    def place(self, images: Pixels) -> Any:
        """Return what `run` takes for images of shape (images, size, size, 3), uint8."""
        return images

    def run(self, placed: Any, count: int) -> NDArray[np.float32]:
        """Compute probabilities, shape (count, classes), float32."""
        answers = [
            np.array(next(iter(self._request.infer({0: padded(chunk, self.batch)}).values())))
            for chunk in chunks(placed, self.batch)
        ]
        rows: NDArray[np.float32] = np.concatenate(answers)[:count]
        return rows


def _signature(path: Path, model: Any) -> Signature:
    """Return what a network takes and gives.

    Raises:
        ToolkitError: It has other inputs or outputs than a member has.
    """
    shapes = []
    for kind, ports, element in (("input", model.inputs, "u8"), ("output", model.outputs, "f32")):
        received = [port.get_element_type().get_type_name() for port in ports]
        if received != [element]:
            raise ToolkitError(
                f"{path}: Expected one {kind} of {element}, received "
                f"{', '.join(received) or 'none'}."
            )
        sides = ports[0].get_partial_shape()
        if sides.rank.is_dynamic:
            raise ToolkitError(f"{path}: Expected an {kind} of a known shape.")
        shapes.append([side.get_length() if side.is_static else "?" for side in sides])
    return Signature.of(path, *shapes)
