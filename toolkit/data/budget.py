"""Memory that threads share, so that together they never take more than there is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryBudget:
    """Lets a block begin once its share of a fixed amount is free."""

    def __init__(self, total: int) -> None:
        """Hold so many bytes."""
        self.total = total
        self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, amount: int) -> Iterator[None]:
        """Wait until so many bytes are free, and hold them during the block.

        A thread that holds some must not reserve more: two such could wait for each other.

        Args:
            amount: In bytes, at most `total`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()
