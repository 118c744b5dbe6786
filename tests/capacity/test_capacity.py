"""Free memory honours the limits of containers; free disk is that of folders to come."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest

from toolkit.capacity import (
    IGNORE,
    RESERVED_BYTES,
    Capacity,
    Need,
    available_memory,
    disk_needs,
    free_disk,
    how_many_fit,
    refuse_what_does_not_fit,
)
from toolkit.errors import ToolkitError
from toolkit.progress import Reporter

MIB, GIB = 2**20, 2**30


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The root of a system that has `proc` and `sys` and no control groups yet."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    return tmp_path


def group(system: Path, folder: str, **files: str) -> None:
    path = system / "sys" / "fs" / "cgroup" / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / f"memory.{name}").write_text(f"{content}\n", encoding="ascii")


def belongs_to(system: Path, *lines: str) -> None:
    content = "".join(f"{line}\n" for line in lines)
    (system / "proc" / "self" / "cgroup").write_text(content, encoding="ascii")


class TestAvailableMemory:
    def test_without_control_groups_it_is_what_the_system_has_free(self, tmp_path: Path) -> None:
        free = psutil.virtual_memory().available
        assert available_memory(tmp_path) == pytest.approx(free, rel=0.2)

    def test_a_limit_leaves_what_is_not_taken_and_the_cache_is_free(self, system: Path) -> None:
        belongs_to(system, "0::/")
        stat = f"anon 1\ninactive_file {30 * MIB}\nactive_file 5"
        group(system, "", max=str(100 * MIB), current=str(70 * MIB), stat=stat)
        assert available_memory(system) == 60 * MIB

    def test_the_tightest_of_nested_limits_counts(self, system: Path) -> None:
        belongs_to(system, "0::/pod/container")
        group(system, "pod", max=str(50 * MIB), current=str(40 * MIB), stat="")
        group(system, "pod/container", max=str(90 * MIB), current=str(1 * MIB), stat="")
        assert available_memory(system) == 10 * MIB

    def test_max_is_no_limit(self, system: Path) -> None:
        belongs_to(system, "0::/a")
        group(system, "a", max="max", current=str(GIB), stat="")
        free = psutil.virtual_memory().available
        assert available_memory(system) == pytest.approx(free, rel=0.2)

    def test_the_first_version_of_control_groups_counts_too(self, system: Path) -> None:
        # As in Docker: the path is the host's, the container's own group is mounted as the root.
        belongs_to(system, "7:cpu,cpuacct:/x", "4:memory:/docker/0123", "0::/")
        stat = f"inactive_file 0\ntotal_inactive_file {20 * MIB}"
        group(
            system,
            "memory",
            limit_in_bytes=str(80 * MIB),
            usage_in_bytes=str(70 * MIB),
            stat=stat,
        )
        assert available_memory(system) == 30 * MIB

    def test_a_group_over_its_limit_leaves_nothing(self, system: Path) -> None:
        belongs_to(system, "0::/")
        group(system, "", max=str(10 * MIB), current=str(20 * MIB), stat="")
        assert available_memory(system) == 0


class TestFreeDisk:
    def test_a_folder_to_come_is_on_the_disk_of_its_parent(self, tmp_path: Path) -> None:
        free = shutil.disk_usage(tmp_path).free
        assert free_disk(tmp_path / "runs" / "improved") == pytest.approx(free, rel=0.1)

    def test_a_relative_folder_is_below_the_current_one(self) -> None:
        assert free_disk(Path("no/such/folder")) > 0


class TestHowManyFit:
    @pytest.mark.parametrize(
        ("free", "at_most", "fit"),
        [(7 * GIB, 4, 3), (7 * GIB, 2, 2), (3 * GIB, 4, 1), (0, 4, 1)],
    )
    def test_one_runs_always_and_more_where_their_memory_is_free(
        self, free: int, at_most: int, fit: int
    ) -> None:
        assert how_many_fit([2 * GIB] * at_most, available=free + RESERVED_BYTES) == fit

    def test_the_largest_decide_because_they_may_meet(self) -> None:
        needs = [GIB, 4 * GIB, 2 * GIB]
        assert how_many_fit(needs, available=6 * GIB + RESERVED_BYTES) == 2
        assert how_many_fit(needs, available=7 * GIB + RESERVED_BYTES) == 3

    def test_without_figures_the_system_is_asked(self) -> None:
        assert how_many_fit([1, 1, 1]) == 3
        assert how_many_fit([2**60] * 3) == 1


class TestNeed:
    @pytest.mark.parametrize(
        ("needed", "verdict"),
        [(0, "fits"), (8 * GIB, "fits"), (9 * GIB, "tight"), (12 * GIB, "tight"), (14 * GIB, None)],
    )
    def test_estimates_leave_a_margin_on_both_sides(self, needed: int, verdict: str | None) -> None:
        assert Need("it", "memory", needed, 10 * GIB).verdict == (verdict or "too little")

    def test_what_fits_is_not_mentioned(self, capsys: pytest.CaptureFixture[str]) -> None:
        refuse_what_does_not_fit(Need("it", "memory", 1, GIB), "Do.", Reporter(quiet=False))
        assert capsys.readouterr().err == ""

    def test_what_is_tight_is_warned_of_with_both_figures(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        need = Need("training x", "memory", 4 * GIB, 4 * GIB)
        refuse_what_does_not_fit(need, "Close programs.", Reporter(quiet=False))
        assert capsys.readouterr().err == (
            "warning: training x needs about 4.0 GiB of memory, 4.0 GiB are available. "
            "Close programs.\n"
        )

    def test_what_does_not_fit_is_refused_with_both_figures_and_two_ways_out(self) -> None:
        with pytest.raises(ToolkitError) as caught:
            refuse_what_does_not_fit(Need("x", "memory", 4 * GIB, GIB), "Close.", Reporter())
        assert str(caught.value) == (
            "x needs about 4.0 GiB of memory, 1.0 GiB are available. Close. "
            "TOOLKIT_IGNORE_CAPACITY=1 tries it anyway."
        )

    def test_a_user_may_try_it_anyway(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(IGNORE, "1")
        refuse_what_does_not_fit(Need("x", "memory", 4 * GIB, GIB), "", Reporter(quiet=False))
        assert capsys.readouterr().err.startswith("warning: x needs about 4.0 GiB")

    def test_folders_on_one_disk_share_what_is_free(self, tmp_path: Path) -> None:
        wanted = {tmp_path / "runs" / "a": 3 * GIB, tmp_path / "cache": 2 * GIB}
        [need] = disk_needs("it", wanted, Capacity(0, lambda folder: GIB))
        assert (need.needed, need.available) == (5 * GIB, GIB)
        assert str(tmp_path / "runs" / "a") in need.kind
        assert str(tmp_path / "cache") in need.kind
