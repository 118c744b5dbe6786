"""The ways to a lower precision, each judged on held-out photos. Runs in a process of its own."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.pixels import Pixels
from toolkit.errors import ToolkitError
from toolkit.exporting.members import answers_to_views
from toolkit.files import sha256_file, written_whole
from toolkit.inference.bundle import Judged, Member, QuantizationTrial, Variant
from toolkit.inference.devices import choose_device, obstacle
from toolkit.inference.manifest import Precision, Runtime
from toolkit.inference.sessions import Session, open_session
from toolkit.inference.timing import milliseconds_since
from toolkit.inference.views import VIEWS
from toolkit.machine import usable_cores
from toolkit.progress import Reporter

LEAST_AGREEMENT = 0.9
"""Share of the held-out photos whose label has to stay.

A plan lets a photo leave only where its label is clear, and certifies what is delivered; so what
changes on unclear photos costs a further step there, and no label.
"""

NOT_FINITE = "its outputs are not finite"
NO_OPENVINO = "OpenVINO is not installed: pip install 'toolkit[openvino]'"
NO_NNCF = "nncf is not installed: pip install 'toolkit[openvino]'"
NO_CUDA = "no CUDA device to measure it on"

_BATCH = 16
_ROUNDS = 11


@dataclass(frozen=True)
class Bench:
    """Where the precisions of one member are tried.

    Attributes:
        member: In fp32.
        folder: Where its file lies, with what it says to the held-out photos in `NAME.npz`; the
            files of variants are written here.
        pixels: File of all photos at its size.
        held_out: Numbers of the photos that judge.
        calibration: Numbers of the photos that INT8's ranges are found on.
    """

    member: Member
    folder: Path
    pixels: Path
    held_out: list[int]
    calibration: list[int]
    reporter: Reporter

    @property
    def file(self) -> Path:
        """The member's."""
        return self.folder / self.member.file

    def photos(self, numbers: list[int]) -> Pixels:
        """Return photos of shape (photos, size, size, 3), uint8."""
        photos: Pixels = np.load(self.pixels, mmap_mode="r")[numbers]
        return photos

    def open(self, variant: Variant | None, device: str = "cpu", batch: int = _BATCH) -> Session:
        """Load the member, or a variant of it."""
        member, precision = self.member, self.member.precision
        if variant is not None:
            member = dataclasses.replace(member, variants=(variant,))
            precision = variant.precision
        where = choose_device(device)
        return open_session(self.folder, member, precision, where, usable_cores(), batch)


@dataclass(frozen=True)
class Try:
    """One way to a lower precision, and what came of it.

    Attributes:
        variant: What was made, and its figures.
        reason: Why it is refused; empty where it is good.
        device: Where it was measured.
    """

    variant: Variant
    reason: str
    device: str = "cpu"

    def trial(self, member: str) -> QuantizationTrial:
        """Return what the bundle keeps of it."""
        variant, accepted = self.variant, not self.reason
        return QuantizationTrial(
            member, variant.precision, variant.runtime, variant.figures, accepted, self.reason
        )


def try_precisions(
    bench: Bench, precisions: Sequence[str], told: Path
) -> tuple[list[QuantizationTrial], list[Variant]]:
    """Try every way to some precisions, and take the fastest good one to each.

    Args:
        bench: Where.
        precisions: Which.
        told: The `.npz` file to write: by accepted precision, what it says to all views of the
            held-out photos.

    Returns:
        All that was tried, and the accepted variants.
    """
    trials: list[QuantizationTrial] = []
    variants: list[Variant] = []
    answers: dict[str, Any] = {}
    for precision in precisions:
        tries = list(_WAYS[precision](bench))
        good = [index for index, each in enumerate(tries) if not each.reason]
        for index in sorted(good, key=lambda index: _ms(tries[index])):
            each = tries[index]
            if precision in answers:
                reason = f"another way to {precision} is faster"
                tries[index] = dataclasses.replace(each, reason=reason)
                continue
            session = bench.open(each.variant, each.device, len(VIEWS))
            name = f"{bench.member.name} {precision}"
            said = answers_to_views(name, session, bench.pixels, bench.held_out, bench.reporter)
            if np.isfinite(said).all():
                answers[precision] = said
                variants.append(each.variant)
            else:
                tries[index] = dataclasses.replace(each, reason=NOT_FINITE)
        trials.extend(each.trial(bench.member.name) for each in tries)
    with written_whole(told) as temporary:
        np.savez_compressed(temporary, **answers)
    return trials, variants


def refusal(figures: Judged) -> str:
    """Return why figures, all of them measured, are not good enough; empty where they are."""
    if figures.largest_difference is None:
        return NOT_FINITE
    assert figures.agreement is not None and figures.ms is not None and figures.fp32_ms is not None
    if figures.agreement < LEAST_AGREEMENT:
        return (
            f"keeps {100 * figures.agreement:.1f} % of the labels, "
            f"at least {100 * LEAST_AGREEMENT:.0f} % are wanted"
        )
    if figures.ms >= figures.fp32_ms:
        return "not faster than fp32 on this machine"
    return ""


def interleaved_ms(sessions: Sequence[Session], images: Pixels) -> list[float]:
    """Measure sessions in turn, so that whatever else the machine does meets them alike.

    Args:
        sessions: Those to compare.
        images: Shape (images, size, size, 3), uint8; repeated up to a whole run of each.

    Returns:
        The median of each in milliseconds an image.
    """
    samples = np.empty((_ROUNDS, len(sessions)))
    runs = [np.resize(images, (session.batch, *images.shape[1:])) for session in sessions]
    for row in samples:
        for index, (session, whole) in enumerate(zip(sessions, runs, strict=True)):
            # Not counted: meanwhile the other session's threads come to rest.
            session.run(session.place(whole), len(whole))
            started = perf_counter()
            session.run(session.place(whole), len(whole))
            row[index] = milliseconds_since(started) / len(whole)
    return [float(each) for each in np.median(samples, axis=0)]


def _fp16(bench: Bench) -> Iterator[Try]:
    how = "pooling, means, softmax and both ends in fp32"
    if obstacle("cuda"):
        yield _refused("fp16", "onnxruntime", how, NO_CUDA)
        return
    target = bench.folder / f"{bench.member.name}.fp16.onnx"

    def write() -> None:
        from toolkit.exporting.quantize import write_fp16

        write_fp16(bench.file, target)

    yield _made(bench, write, "fp16", "onnxruntime", how, (target,), "cuda")


def _bf16(bench: Bench) -> Iterator[Try]:
    how = "the fp32 file, computed in bf16"
    if importlib.util.find_spec("openvino") is None:
        yield _refused("bf16", "openvino", how, NO_OPENVINO)
        return
    yield _made(bench, lambda: None, "bf16", "openvino", how, (bench.file,))


def _int8(bench: Bench) -> Iterator[Try]:
    yield from _int8_by_onnxruntime(bench)
    yield _int8_by_openvino(bench)


def _int8_by_onnxruntime(bench: Bench) -> Iterator[Try]:
    """Leave more and more in fp32 until the labels stay. Less speed is all that is to come then."""
    from toolkit.exporting.quantize import calibrate, sensitive_nodes, write_int8_onnx

    target = bench.folder / f"{bench.member.name}.int8.onnx"
    ladder: dict[str, Callable[[], list[str]]] = {
        "QDQ": list,
        "QDQ, depthwise, squeeze-excite, first and last in fp32": lambda: sensitive_nodes(
            bench.file
        ),
    }
    ranges: list[Any] = []

    def write(kept: Callable[[], list[str]]) -> None:
        if not ranges:
            ranges.append(calibrate(bench.file, bench.photos(bench.calibration)))
        write_int8_onnx(bench.file, ranges[0], kept(), target)

    for how, kept in ladder.items():
        tried = _made(bench, partial(write, kept), "int8", "onnxruntime", how, (target,))
        yield tried
        if (tried.variant.figures.agreement or 0) >= LEAST_AGREEMENT:
            return


def _int8_by_openvino(bench: Bench) -> Try:
    how = "nncf, mixed"
    for package, complaint in (("openvino", NO_OPENVINO), ("nncf", NO_NNCF)):
        if importlib.util.find_spec(package) is None:
            return _refused("int8", "openvino", how, complaint)
    target = bench.folder / f"{bench.member.name}.int8.xml"

    def write() -> None:
        from toolkit.exporting.quantize import write_int8_openvino

        write_int8_openvino(bench.file, bench.photos(bench.calibration), target)

    return _made(bench, write, "int8", "openvino", how, (target, target.with_suffix(".bin")))


_WAYS: dict[str, Callable[[Bench], Iterator[Try]]] = {"fp16": _fp16, "bf16": _bf16, "int8": _int8}


def _refused(precision: Precision, runtime: Runtime, how: str, reason: str) -> Try:
    return Try(Variant(precision, runtime, {}, Judged(how)), reason)


def _made(
    bench: Bench,
    write: Callable[[], None],
    precision: Precision,
    runtime: Runtime,
    how: str,
    files: Sequence[Path],
    device: str = "cpu",
) -> Try:
    """Make a variant and judge it; a network that a quantizer cannot take is refused."""
    bench.reporter.say(f"{bench.member.name}: {precision} by {runtime} ({how})")
    try:
        write()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        return _refused(precision, runtime, how, f"cannot be made ({reason})")
    hashes = {file.name: sha256_file(file) for file in files}
    variant = Variant(precision, runtime, hashes, Judged(how))
    try:
        session = bench.open(variant, device)
    except ToolkitError as error:
        return _refused(precision, runtime, how, str(error).removeprefix(f"{files[0]}: "))
    figures = _judged(how, bench, session, bench.open(None, device))
    return Try(dataclasses.replace(variant, figures=figures), refusal(figures), device)


def _ms(tried: Try) -> float:
    assert tried.variant.figures.ms is not None
    return tried.variant.figures.ms


def _judged(how: str, bench: Bench, session: Session, reference: Session) -> Judged:
    with np.load(bench.folder / f"{bench.member.name}.npz") as arrays:
        expected: NDArray[np.float32] = arrays["probabilities"][:, 0]
    starts = range(0, len(bench.held_out), _BATCH)
    batches = (bench.photos(bench.held_out[start : start + _BATCH]) for start in starts)
    said = np.concatenate([session.run(session.place(each), len(each)) for each in batches])
    finite = bool(np.isfinite(said).all())
    ms, fp32_ms = interleaved_ms([session, reference], bench.photos(bench.held_out[:_BATCH]))
    return Judged(
        how=how,
        photos=len(said),
        agreement=float((said.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        largest_difference=float(np.abs(said - expected).max()) if finite else None,
        ms=ms,
        fp32_ms=fp32_ms,
    )
