"""The proof that an ONNX file computes what its Keras network computes, up to rounding.

How far rounding may move a logit depends on the network: after one epoch from random weights it
may be a thousand times as far as after forty. So it is measured, on the same photos: Keras in
float64 is the reference, what Keras in float32 is off by is the noise floor, and a file may be off
by ten times as much. See docs/design.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.errors import ToolkitError
from toolkit.exporting.departure import first_departure
from toolkit.exporting.graphs import open_graph, read_graph, rename, run_graph, show
from toolkit.exporting.members import spread
from toolkit.exporting.reference import Reference, logits
from toolkit.exporting.rule import Figure, softmax
from toolkit.inference.bundle import INPUT, OUTPUT, Parity
from toolkit.inference.views import VIEWS
from toolkit.training.model import PROBABILITIES_LAYER

REFERENCE_IMAGES = 64
"""Most images that are run in float64, which takes several times as long as float32."""

WIDEST = 16
"""So many of them are those on which the file and Keras in float32 differ most."""

FEWEST_IMAGES = 16
"""Fewer photos are looked at through several views: on one or two the noise floor is a lottery."""

LOGITS = "logits"

_BATCH = 32


@dataclass(frozen=True)
class Outputs:
    """What was computed on the same images.

    Attributes:
        reference: Logits of Keras in float64, shape (images, classes).
        keras: Logits of Keras in float32.
        keras_probabilities: Their softmax, by Keras in float32.
        file: Logits of the ONNX file.
        probabilities: What the file gives out.
    """

    reference: NDArray[np.floating]
    keras: NDArray[np.floating]
    keras_probabilities: NDArray[np.floating]
    file: NDArray[np.floating]
    probabilities: NDArray[np.floating]

    @property
    def logit_figure(self) -> Figure:
        """How far logits are off, of the file and of Keras in float32."""
        return Figure.of(self.file, self.reference, self.keras, self.reference)

    @property
    def softmax_figure(self) -> Figure:
        """How far probabilities are off the softmax of the logits that they were made from."""
        made_from = softmax(self.file), softmax(self.keras)
        return Figure.of(self.probabilities, made_from[0], self.keras_probabilities, made_from[1])


def compare(
    reference: Reference,
    path: Path,
    photos: Pixels,
    chosen: NDArray[np.int64],
    names: Sequence[str],
    threads: int | None = None,
) -> Parity:
    """Judge an ONNX file by Keras in float64 and float32 on the same photos.

    Keras in float32 and the file see all photos. Float64 sees some of them, those on which the two
    differ most among them: so on no other photo is the file further from Keras in float32 than it
    is on these, and a label changes only where two logits are nearer to each other than that.

    Args:
        reference: The Keras network.
        path: Its ONNX file.
        photos: Shape (photos, size, size, 3), uint8.
        chosen: Numbers of those to run.
        names: Of those to run, for people.
        threads: Of onnxruntime; None takes all cores.

    Returns:
        The figures of a file that passed.

    Raises:
        ToolkitError: It computes something else; gives the figures, the first photo, and the first
            layer whose output departs.
    """
    images = _Images(photos, chosen, names)
    session = open_with_logits(path, threads)
    keras_logits, keras_probabilities, file, probabilities = _in_float32(
        reference.single, session, images
    )
    # First what cannot be compared.
    _require(_finite(keras_logits), images, "Keras's own output is not finite: train the run again")
    _require(_finite(file, probabilities), images, _DIFFERS.format("its output is not finite"))
    seen = _to_reference(np.abs(file - keras_logits).max(axis=1))
    exact = logits(reference.double, images[seen]).astype(np.float64)
    outputs = Outputs(
        exact, keras_logits[seen], keras_probabilities[seen], file[seen], probabilities[seen]
    )
    figure = outputs.logit_figure
    if not figure.passed.all():
        where = first_departure(reference, path, images[[seen[int(figure.errors.argmax())]]])
        complaint = _DIFFERS.format(f"against Keras in float64 a logit is off {figure}")
        _require(figure.passed, images, complaint, seen, where)
    last = outputs.softmax_figure
    complaint = _DIFFERS.format(f"a probability is off the softmax of its logits {last}")
    _require(last.passed, images, complaint, seen, f"The layer is '{PROBABILITIES_LAYER}'.")
    changed = keras_logits.argmax(axis=1) != file.argmax(axis=1)
    return Parity(
        photos=len(chosen),
        reference_images=len(seen),
        logit_error=float(figure.errors.max()),
        noise_floor=figure.floor,
        labels_changed=int(changed[: len(chosen)].sum()),
    )


def open_with_logits(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    """Open a file with its logits as a second output, `LOGITS`: softmax hides errors.

    Args:
        path: The ONNX file.
        threads: None takes all cores.

    Raises:
        ToolkitError: It cannot be opened, or does not end in softmax.
    """
    exported = read_graph(path)
    producer = next(node for node in exported.graph.node if OUTPUT in node.output)
    if producer.op_type != "Softmax":
        raise ToolkitError(
            f"The exported file: Expected a graph that ends in Softmax, not {producer.op_type}."
        )
    rename(exported.graph, producer.input[0], LOGITS)
    show(exported.graph, LOGITS)
    return open_graph(exported, threads)


_DIFFERS = "The exported file computes something else: {}"


class _Images:
    """The photos, and where they are few more views of each after all of them."""

    def __init__(self, photos: Pixels, chosen: NDArray[np.int64], names: Sequence[str]) -> None:
        self._photos, self._chosen, self._names = photos, chosen, names
        self._views = min(len(VIEWS), -(-FEWEST_IMAGES // len(chosen)))

    def __len__(self) -> int:
        return self._views * len(self._chosen)

    def __getitem__(self, numbers: Sequence[int]) -> Pixels:
        photos = len(self._chosen)
        return np.stack(
            [
                VIEWS[number // photos](np.asarray(self._photos[self._chosen[number % photos]]))
                for number in numbers
            ]
        )

    def name(self, number: int) -> str:
        view, photo = divmod(number, len(self._chosen))
        return f"{self._names[photo]} ({VIEWS[view].name})" if view else self._names[photo]


def _in_float32(
    single: keras.Model, session: onnxruntime.InferenceSession, images: _Images
) -> tuple[NDArray[np.float32], ...]:
    """Return Keras's logits and probabilities and the file's, each (images, classes)."""
    found = []
    for start in range(0, len(images), _BATCH):
        batch = images[range(start, min(start + _BATCH, len(images)))]
        expected = logits(single, batch)
        expected_probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(expected))
        probabilities, received = run_graph(session, [OUTPUT, LOGITS], {INPUT: batch})
        found.append((expected, expected_probabilities, received, probabilities))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _to_reference(differences: NDArray[np.float32]) -> list[int]:
    """Return the images for float64: where both differ most, and others evenly spread."""
    widest = np.argsort(-differences, kind="stable")[:WIDEST].tolist()
    others = [number for number in range(len(differences)) if number not in set(widest)]
    some = spread(len(others), REFERENCE_IMAGES - len(widest))
    return sorted([*widest, *(others[number] for number in some)])


def _finite(*values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(np.hstack(values)).all(axis=1))


def _require(
    passed: NDArray[np.bool_],
    images: _Images,
    complaint: str,
    seen: Sequence[int] | None = None,
    where: str = "",
) -> None:
    if passed.all():
        return
    wrong = np.flatnonzero(~passed).tolist()
    numbers = range(len(images)) if seen is None else seen
    raise ToolkitError(
        f"{complaint}; {len(wrong)} of {len(passed)} images, first "
        f"{images.name(numbers[wrong[0]])}. {where}".rstrip()
    )
