"""How many networks are trained at the same time, and with how many threads each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from toolkit.capacity import RESERVED_BYTES, available_memory
from toolkit.machine import usable_cores
from toolkit.processes import import_quietly, in_own_process
from toolkit.training.backend import gpu_is_visible, may_have_gpu

MOST_THREADS = 8
"""Threads of one training beyond which batches of photos are too small a work to be shared."""

BYTES_OF_A_TRAINING = 4 * 2**30
"""Peak memory of the largest of the published four, ResNet101V2 at 150 px in batches of 16."""


def default_threads() -> int:
    """Return how many threads a new training computes with.

    That depends on the machine's cores alone, not on its free memory or on what else is trained at
    the same time: the number of threads decides over the last bits of the weights. Threads of
    trainings at the same time may so be more than there are cores, which costs little: while one
    network is traced, on one core, or the last one is trained alone, the others have work.
    """
    return min(usable_cores(), MOST_THREADS)


def trainings_at_once(
    needs: Sequence[int], backend: str, *, cores: int | None = None, memory: int | None = None
) -> int:
    """Return how many networks to train at the same time on this machine.

    Args:
        needs: Peak memory of training each, in bytes.
        backend: Keras's backend.
        cores: That may be used; None asks the system.
        memory: Free bytes; None asks the system.

    Returns:
        One where a GPU is used. Else no more than there are cores, of which each training fills one
        at least, and than fit into the memory that is free.
    """
    most = min(len(needs), cores or usable_cores())
    if most <= 1:
        return 1
    if may_have_gpu() and in_own_process(_has_gpu, environment={"KERAS_BACKEND": backend}):
        return 1
    return max(1, min(most, how_many_fit(needs, memory)))


def how_many_fit(needs: Sequence[int], memory: int | None = None) -> int:
    """Return how many trainings fit into free memory at the same time, whichever they are.

    Args:
        needs: Peak memory of training each, in bytes.
        memory: Free bytes; None asks the system.
    """
    free = (available_memory() if memory is None else memory) - RESERVED_BYTES
    return sum(total <= free for total in accumulate(sorted(needs, reverse=True)))


def _has_gpu() -> bool:
    import_quietly("keras")
    return gpu_is_visible()
