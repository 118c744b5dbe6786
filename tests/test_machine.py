"""What a process may use of its machine, asked in processes of their own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import ToolkitError
from toolkit.machine import usable_cores

GROUPS = Path("/sys/fs/cgroup")


def cores_of_a_process(before: str = "pass", **environment: str) -> int:
    code = f"import os; {before}; from toolkit.machine import usable_cores; print(usable_cores())"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return int(told.stdout)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_that_a_process_is_kept_from_do_not_count() -> None:
    first = min(os.sched_getaffinity(0))
    assert cores_of_a_process(f"os.sched_setaffinity(0, [{first}])") == 1


def test_a_limit_of_the_environment_counts() -> None:
    assert cores_of_a_process(LOKY_MAX_CPU_COUNT="1") == 1


def test_a_limit_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "many")
    with pytest.raises(ToolkitError, match="LOKY_MAX_CPU_COUNT=many in the environment: Expected"):
        usable_cores()


def test_the_quota_of_a_control_group_counts() -> None:
    quota, period = quota_and_period()
    available = len(os.sched_getaffinity(0))
    if quota > 0:
        available = min(available, math.ceil(quota / period))
    assert usable_cores() == available


def quota_and_period() -> tuple[int, int]:
    """Microseconds of processor time in each period; -1 where there is no limit."""
    second, first = GROUPS / "cpu.max", GROUPS / "cpu" / "cpu.cfs_quota_us"
    if second.is_file():
        quota, period = second.read_text(encoding="ascii").split()
        return (-1 if quota == "max" else int(quota)), int(period)
    if first.is_file():
        period = first.with_name("cpu.cfs_period_us").read_text(encoding="ascii")
        return int(first.read_text(encoding="ascii")), int(period)
    pytest.skip("no control groups are mounted here")
