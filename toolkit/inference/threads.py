"""How sessions on the CPU use its cores."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.machine import usable_cores


@dataclass(frozen=True)
class Threads:
    """How sessions on the CPU use the cores.

    Attributes:
        intra_op: Threads that share one operation.
        spinning: Whether waiting threads keep a core busy.
        parallel: Sessions that run at once.
    """

    intra_op: int
    spinning: bool = True
    parallel: int = 1


def plan_threads(number: int | None = None) -> Threads:
    """Return how a plan uses the cores: one session after another.

    Threads do not spin: those of a session that waits would take cores from the one that runs, and
    from the threads that decode.

    Args:
        number: Threads of a session; None takes all cores.
    """
    return Threads(number or usable_cores(), spinning=False)


def describe(threads: Threads) -> str:
    """Say how the cores are used, for people."""
    plural = "" if threads.intra_op == 1 else "s"
    idle = "" if threads.spinning or threads.intra_op == 1 else ", not spinning"
    at_once = f", {threads.parallel} members at once" if threads.parallel > 1 else ""
    return f"{threads.intra_op} thread{plural}{idle}{at_once}"
