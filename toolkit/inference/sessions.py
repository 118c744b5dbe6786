"""Runs one member on the chosen device, in the precision and by the runtime that is wanted.

How the cores are used is one rule: sessions on the CPU run one after another, each on all usable
cores or on as many threads as are given, and waiting threads do not spin. Several sessions at once
with fewer threads each, and spinning, made no difference beyond noise.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from toolkit.artifacts import check_probabilities
from toolkit.data.pixels import Pixels
from toolkit.errors import BundleError, ToolkitError
from toolkit.inference.batching import chunks, padded
from toolkit.inference.bundle import INPUT, MANIFEST, OUTPUT, Bundle, Member, Variant
from toolkit.inference.calls import ModelKey
from toolkit.inference.devices import Device, DeviceError
from toolkit.inference.onnx_file import refuse_external_data
from toolkit.inference.openvino_session import OpenVinoSession
from toolkit.inference.signature import Signature
from toolkit.inference.timing import Timings, milliseconds_since

RUN_PIXELS = 16 * 150**2
"""Pixels a run on the CPU where threads share an operation and a batch has no more.

Such threads wait for one another after each operation, less often in larger runs: at 48 to 75
pixels a side, runs of 64 images took a fifth less time an image than runs of 16. From 150 pixels on
they gain nothing and only need memory, and one thread is as fast with few images.
"""


class Session(Protocol):
    """One network, loaded.

    Attributes:
        provider: What it really runs on.
        batch: Images a run at most; on a GPU and with OpenVINO exactly.
        signature: What its file takes and gives.
    """

    provider: str
    batch: int
    signature: Signature

    def place(self, images: Pixels) -> Any:
        """Bring images to the device; see `MemberSession.place`."""

    def run(self, placed: Any, count: int) -> NDArray[np.float32]:
        """Compute probabilities; see `MemberSession.run`."""


def open_session(
    folder: Path, member: Member, precision: str, device: Device, threads: int, batch: int
) -> Session:
    """Load a member in a precision.

    Args:
        folder: The bundle's.
        member: The member.
        precision: `fp32`, or one of its variants.
        device: Where it shall compute.
        threads: On the CPU, that share one operation.
        batch: Images a run. Of small images the network as exported takes more on the CPU, where
            its answers do not depend on how many there are.

    Raises:
        DeviceError: The GPU cannot run it.
        ToolkitError: The member has no such precision, it is not for the device, or it cannot be
            loaded here.
    """
    variant = member.variant(precision)
    if variant is None:
        if threads > 1 and not device.is_gpu:
            batch = max(batch, RUN_PIXELS // member.image_size**2)
        return MemberSession(folder / member.file, device, threads, batch)
    _check_fit(member, variant, device)
    path = folder / next(iter(variant.files))
    if variant.runtime == "openvino":
        return OpenVinoSession(path, precision, threads, batch)
    return MemberSession(path, device, threads, batch)


_EXPORT_AGAIN = "Export the bundle again."


def _signature(path: Path, session: onnxruntime.InferenceSession) -> Signature:
    """Return what a network takes and gives.

    Raises:
        ToolkitError: It has other inputs or outputs than a member has.
    """
    inputs = [(each.name, each.type, each.shape) for each in session.get_inputs()]
    outputs = [(each.name, each.type, each.shape) for each in session.get_outputs()]
    for kind, received, name, element in (
        ("input", inputs, INPUT, "tensor(uint8)"),
        ("output", outputs, OUTPUT, "tensor(float)"),
    ):
        if [each[:2] for each in received] != [(name, element)]:
            told = ", ".join(f"'{each[0]}' {each[1]}" for each in received) or "none"
            raise ToolkitError(
                f"{path}: Expected the one {kind} '{name}' {element}, received {told}."
            )
    return Signature.of(path, inputs[0][2], outputs[0][2])


def _check_fit(member: Member, variant: Variant, device: Device) -> None:
    by_openvino = variant.runtime == "openvino"
    if device.is_gpu and (by_openvino or variant.precision == "int8"):
        by = " by OpenVINO" if by_openvino else ""
        raise ToolkitError(
            f"'{member.name}' in {variant.precision}{by} is for the CPU, not {device.kind}. Choose "
            f"`device='cpu'`, or a plan that was made for {device.kind}."
        )
    if not device.is_gpu and variant.precision == "fp16":
        raise ToolkitError(
            f"'{member.name}' in fp16 is for a GPU, not the CPU. Pass a plan that was made for it."
        )


class Sessions:
    """The networks of a bundle, each loaded once in a precision, when it is first needed.

    Attributes:
        bundle: The bundle.
        device: Where they compute.
        threads: Of each on the CPU.
        batch: Images a run; see `open_session`.
        timings: Where the time to load is kept, and what they are used for.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device,
        threads: int,
        batch: int,
        timings: Timings,
        opener: Callable[..., Session] = open_session,
    ) -> None:
        """Load nothing yet.

        Args:
            bundle: The bundle.
            device: Where they shall compute.
            threads: Of each on the CPU.
            batch: Images a run.
            timings: Where the time to load is kept.
            opener: Loads one, as `open_session` does.
        """
        self._opener = opener
        self.bundle, self.device, self.threads = bundle, device, threads
        self.batch, self.timings = batch, timings
        self._members = {member.name: member for member in bundle.members}
        self._checked = False
        self._open: dict[ModelKey, Session] = {}

    def load(self, keys: Iterable[ModelKey]) -> None:
        """Load members in precisions, those that are not loaded yet.

        Raises:
            ToolkitError: A file of the bundle was changed, or cannot be loaded here.
        """
        wanted = {key: self._members[key.member] for key in keys if key not in self._open}
        lower = any(member.variant(key.precision) for key, member in wanted.items())
        if wanted and not self._checked:
            # Variants' files are checked only with all others.
            self.bundle.check_files(None if lower else list(wanted.values()))
            self._checked = lower
        for key, member in wanted.items():
            started = perf_counter()
            session = self._opener(
                self.bundle.folder, member, key.precision, self.device, self.threads, self.batch
            )
            name = f"{self.bundle.folder}: member '{key.member}' in {key.precision}"
            self._open[key] = CheckedSession(session, name, self._expected(member))
            self.timings.load[key] = milliseconds_since(started)

    def _expected(self, member: Member) -> Signature:
        return Signature(member.image_size, len(self.bundle.classes))

    def close(self, keys: Iterable[ModelKey]) -> None:
        """Release members in precisions, as if they had never been loaded."""
        for key in keys:
            del self._open[key], self.timings.load[key]
            self.timings.first.pop(key, None)

    def __getitem__(self, key: ModelKey) -> Session:
        """Return a loaded one."""
        return self._open[key]

    def __iter__(self) -> Iterator[ModelKey]:
        """Give all that are loaded."""
        return iter(self._open)

    @property
    def providers(self) -> list[str]:
        """What they say they run on."""
        return sorted({session.provider for session in self._open.values()})


class CheckedSession:
    """A network of a bundle, whose file and probabilities are not believed but checked."""

    def __init__(self, session: Session, name: str, expected: Signature) -> None:
        """Compare the file with the manifest.

        Args:
            session: The network.
            name: What to call it in error messages.
            expected: What it takes and gives by the bundle's manifest.

        Raises:
            BundleError: It takes or gives something else.
        """
        if session.signature != expected:
            raise BundleError(
                f"{name}: Expected by {MANIFEST} {expected}, but its file has "
                f"{session.signature}. {_EXPORT_AGAIN}"
            )
        self._session, self._name, self._classes = session, name, expected.classes
        self.provider, self.batch, self.signature = session.provider, session.batch, expected

    def place(self, images: Pixels) -> Any:
        """Bring images to the device; see `MemberSession.place`."""
        return self._session.place(images)

    def run(self, placed: Any, count: int) -> NDArray[np.float32]:
        """Compute probabilities; see `MemberSession.run`.

        Raises:
            BundleError: They are no probabilities.
        """
        rows = self._session.run(placed, count)
        if wrong := check_probabilities(rows, (count, self._classes)):
            raise BundleError(
                f"{self._name}: its probabilities {wrong}. Export it again, or leave it out of the "
                "voting."
            )
        return rows


class MemberSession:
    """One network, loaded."""

    def __init__(self, path: Path, device: Device, threads: int, batch: int) -> None:
        """Load the network.

        Args:
            path: Its ONNX file.
            device: Where it shall compute.
            threads: On the CPU.
            batch: Images a run. On a GPU every run has exactly this many, because a new shape
                costs a new plan.

        Raises:
            DeviceError: The GPU cannot run it, or onnxruntime fell back to another provider.
            ToolkitError: onnxruntime cannot load it, it refers to other files, or it does not take
                images and give probabilities.
        """
        refuse_external_data(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Memory is laid out anew for each number of images, and kept: a quarter more, no faster.
        options.enable_mem_pattern = device.is_gpu
        # Spinning threads of a session that waits would take cores from the one that runs, and
        # from the threads that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            # It prints what a GPU lacks before it falls back; that is told below instead.
            with contextlib.redirect_stdout(io.StringIO()):
                self._session = onnxruntime.InferenceSession(
                    path, options, providers=device.provider_list()
                )
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no other base
            reason = " ".join(str(error).split())[:300]
            complaint = f"{path}: onnxruntime cannot load it ({reason})"
            raise (DeviceError(complaint) if device.is_gpu else ToolkitError(complaint)) from None
        self._session.disable_fallback()
        self.provider: str = self._session.get_providers()[0]
        if self.provider != device.provider:
            raise DeviceError(
                f"{path}: Expected {device.provider}, but the session runs on {self.provider}"
            )
        self.signature = _signature(path, self._session)
        self._device, self.batch = device, batch
        if device.is_gpu:
            self._warm_up(path)

    def place(self, images: Pixels) -> Any:
        """Bring images to the device, once for all members that see the same ones.

        Args:
            images: Shape (images, size, size, 3), uint8.

        Returns:
            What `run` takes.
        """
        if not self._device.is_gpu:
            return images
        return [
            onnxruntime.OrtValue.ortvalue_from_numpy(padded(chunk, self.batch), "cuda", 0)
            for chunk in chunks(images, self.batch)
        ]

    def run(self, placed: Any, count: int) -> NDArray[np.float32]:
        """Compute probabilities.

        Args:
            placed: From `place`.
            count: How many images it holds.

        Returns:
            Shape (count, classes), float32.
        """
        if self._device.is_gpu:
            answers = [self._run_bound(chunk) for chunk in placed]
        else:
            answers = [
                self._session.run([OUTPUT], {INPUT: chunk})[0]
                for chunk in chunks(placed, self.batch)
            ]
        return np.concatenate(answers)[:count]

    def _warm_up(self, path: Path) -> None:
        """Run a whole batch, which takes all the memory that later ones will.

        Raises:
            DeviceError: There is not enough of it.
        """
        size = self.signature.size
        try:
            self.run(self.place(np.zeros((self.batch, size, size, 3), dtype=np.uint8)), self.batch)
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no other base
            reason = " ".join(str(error).split())[:300]
            raise DeviceError(
                f"{path}: the GPU cannot run {self.batch} images at once ({reason}). Choose a "
                "smaller `batch`"
            ) from None

    def _run_bound(self, chunk: Any) -> NDArray[np.float32]:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT, chunk)
        binding.bind_output(OUTPUT, "cuda")
        self._session.run_with_iobinding(binding)
        answer: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return answer
