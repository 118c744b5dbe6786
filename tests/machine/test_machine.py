"""What is said of this machine and of this process is true."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from toolkit.machine import peak_memory_bytes

PRINT_PEAK = "from toolkit.machine import peak_memory_bytes; print(peak_memory_bytes())"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hand the peak down")
def test_the_peak_of_a_process_is_not_that_of_its_parent() -> None:
    ballast = np.ones(2**25)  # 256 MiB
    mine = peak_memory_bytes()
    assert mine is not None
    assert mine > ballast.nbytes
    child = subprocess.run(
        [sys.executable, "-c", PRINT_PEAK], capture_output=True, text=True, check=True
    )
    assert 2**22 < int(child.stdout) < 2**27


def test_memory_that_was_given_back_counts_still() -> None:
    before = peak_memory_bytes()
    assert before is not None
    ballast = np.ones(before // 8)
    size = ballast.nbytes
    del ballast
    assert (peak_memory_bytes() or 0) > size
