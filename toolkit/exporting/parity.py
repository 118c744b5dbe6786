"""The proof that an ONNX file computes what its Keras network computes, up to rounding.

How far rounding may move a logit depends on the network: after one epoch from random weights it
may be a thousand times as far as after forty. So it is measured, on the same photos: Keras in
float64 is the reference, what Keras in float32 is off by is the noise floor, and a file may be off
by ten times as much. See docs/design.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.errors import ParityError
from toolkit.exporting.departure import first_departure
from toolkit.exporting.graphs import open_graph, read_graph, rename, run_graph, show
from toolkit.exporting.members import spread
from toolkit.exporting.reference import Reference, images_at_once, logits
from toolkit.exporting.rule import Figure
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

_RUNS_AT_ONCE = 4
"""Batches of the reference that are one of the file: onnxruntime needs less memory."""


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
    everything = range(len(images))
    if not (finite := _finite(keras_logits)).all():
        wrong, name = _wrong(finite, everything, images)
        raise ParityError(
            f"Keras's own output is not finite: train the run again at a lower rate; {wrong} of "
            f"{len(images)} images, first {name}."
        )
    if not (finite := _finite(file, probabilities)).all():
        wrong, name = _wrong(finite, everything, images)
        raise ParityError(
            f"The exported file computes something else: its output is not finite; {wrong} of "
            f"{len(images)} images, first {name}."
        )
    seen = _to_reference(np.abs(file - keras_logits).max(axis=1))
    exact = logits(reference.double, images[seen])
    figure = Figure.of_logits(file[seen], keras_logits[seen], exact)
    if not figure.passed.all():
        where = first_departure(reference, path, images[[seen[int(figure.errors.argmax())]]])
        wrong, name = _wrong(figure.passed, seen, images)
        raise ParityError(
            f"The exported file computes something else: against Keras in float64 a logit is off "
            f"{figure}; {wrong} of {len(seen)} images, first {name}. {where}".rstrip()
        )
    last = Figure.of_softmax(file, probabilities, keras_logits, keras_probabilities)
    if not last.passed.all():
        wrong, name = _wrong(last.passed, everything, images)
        raise ParityError(
            f"The exported file computes something else: its logits are right, but a probability "
            f"is off their softmax {last}; {wrong} of {len(images)} images, first {name}. The "
            f"layer is '{PROBABILITIES_LAYER}'."
        )
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
        raise ParityError(
            f"The exported file: Expected a graph that ends in Softmax, not {producer.op_type}."
        )
    rename(exported.graph, producer.input[0], LOGITS)
    show(exported.graph, LOGITS)
    return open_graph(exported, threads)


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
    at_once = _RUNS_AT_ONCE * images_at_once(single.input_shape[1])
    for start in range(0, len(images), at_once):
        batch = images[range(start, min(start + at_once, len(images)))]
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


def _wrong(passed: NDArray[np.bool_], seen: Sequence[int], images: _Images) -> tuple[int, str]:
    """Return how many images did not pass, and the name of the first."""
    wrong = np.flatnonzero(~passed).tolist()
    return len(wrong), images.name(seen[wrong[0]])
