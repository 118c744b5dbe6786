"""Judges converted files, and graphs with faults, in one process: a part of `parity.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from parity_networks import KINDS, photos
from wrong_graphs import FAULTS, with_fault

from toolkit.errors import ToolkitError
from toolkit.exporting.departure import first_departure
from toolkit.exporting.graphs import run_graph
from toolkit.exporting.parity import LOGITS, open_with_logits
from toolkit.exporting.reference import Reference, logits
from toolkit.exporting.rule import Figure
from toolkit.inference.bundle import INPUT, OUTPUT


@dataclass(frozen=True)
class Keras:
    """What Keras computes of the images."""

    images: NDArray[np.uint8]
    exact: NDArray[np.floating]
    single: NDArray[np.floating]

    def beside(self, path: Path, threads: int) -> tuple[NDArray[np.floating], Figure, Figure]:
        """Run a file on the same images; return its logits, and how they and softmax are off."""
        session = open_with_logits(path, threads)
        probabilities, file = run_graph(session, [OUTPUT, LOGITS], {INPUT: self.images})
        softmax = keras.ops.convert_to_numpy(keras.ops.softmax(self.single))
        return (
            file,
            Figure.of_logits(file, self.single, self.exact),
            Figure.of_softmax(file, probabilities, self.single, softmax),
        )


def judged(
    work: Path,
    backbone: str,
    network: keras.Model,
    threads: Sequence[int],
    images: int,
    faulty: str,
) -> list[dict[str, Any]]:
    """Judge each kind's file, and one kind's with each fault.

    Args:
        work: Where the files are.
        backbone: Whose.
        network: Of any weights.
        threads: Of onnxruntime, one after the other.
        images: How many.
        faulty: The kind that gets the faults.

    Returns:
        A row each, with a `kind` or a `fault`.
    """
    reference = Reference(network)
    seen = photos(images, network.input_shape[1])
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        path = work / f"{backbone}-{kind}.onnx"
        with np.load(path.with_suffix(".npz")) as arrays:
            network.set_weights([arrays[name] for name in arrays.files])
        reference.take_weights(network)
        computed = Keras(seen, logits(reference.double, seen), logits(reference.single, seen))
        for count in threads:
            _, figure, soft = computed.beside(path, count)
            passed = figure.passed.all() and soft.passed.all()
            row = {"floor": figure.floor, "error": float(figure.errors.max())}
            rows.append({"kind": kind, "threads": count, **row, "passed": bool(passed)})
        print(f"{backbone}, {kind}: off {figure}", flush=True)
        if kind == faulty:
            rows += _faults(path, network, reference, computed)
    return rows


def _faults(
    path: Path, network: keras.Model, reference: Reference, computed: Keras
) -> Iterator[dict[str, Any]]:
    exported = onnx.load(path)
    right, faithful, _ = computed.beside(path, 1)
    wrong_path = path.with_name(f"wrong-{path.name}")
    for fault, spoil in FAULTS.items():
        try:
            onnx.save(with_fault(exported, network, spoil), wrong_path)
        except LookupError:
            continue  # The network has no place for it.
        row: dict[str, Any] = {"fault": fault, "floor": faithful.floor}
        try:
            wrong, figure, soft = computed.beside(wrong_path, 1)
        except ToolkitError as refused:
            yield row | {"passed": False, "error": None, "moved": None, "where": str(refused)}
            continue
        # Both files round alike, so that what lies between them is the fault's own doing.
        moved = np.abs(wrong - right).max()
        moved = max(moved / np.abs(computed.exact).max(), soft.errors.max())
        passed = bool(figure.passed.all() and soft.passed.all())
        worst = computed.images[[int(figure.errors.argmax())]]
        yield row | {
            "error": float(figure.errors.max()),
            "softmax_error": float(soft.errors.max()),
            "moved": float(moved),
            "passed": passed,
            "where": "" if passed else first_departure(reference, wrong_path, worst),
        }
