"""What a cascade costs as it grows: time a photo, and peak memory.

    python benchmarks/scaling.py --counts 100,1000,10000,100000 --out scaling.json

Each size runs `toolkit ensemble --plan FILE` in a process of its own, on the data folder's photos
repeated under other names, with costs measured and a plan found before. Seconds are from the first
photo to the last. A small bundle serves: the question is how cost grows, not what it is.
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from sides import Work

from toolkit.data.request import load_request
from toolkit.inference.bundle import load_bundle
from toolkit.machine import RUNTIMES, package_versions, processor_name, usable_cores


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), default="bundle")
@click.option("--data", type=click.Path(path_type=Path, exists=True), default="data")
@click.option("--tta", default=4, show_default=True)
@click.option("--counts", default="100,1000,10000,100000", show_default=True)
@click.option("--tolerance", default=0.02, show_default=True)
@click.option("--out", type=click.Path(path_type=Path))
def main(
    bundle: Path, data: Path, tta: int, counts: str, tolerance: float, out: Path | None
) -> None:
    """Print photos, seconds, milliseconds a photo and peak memory."""
    rows: list[dict[str, Any]] = []
    print(f"{'photos':>8} {'seconds':>9} {'ms a photo':>11} {'peak MiB':>9}  guarantee")
    for count in map(int, counts.split(",")):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            Work.repeated(load_request(data), count, Path(folder) / "data")
            job = ["--tolerance", tolerance, "--tta", tta, "--bundle", bundle]
            job += ["--data", f"{folder}/data", "--quiet", "--json"]
            plan = f"{folder}/plan.json"
            told("plan", *job, "--out", plan)
            report = told("ensemble", *job, "--plan", plan, "--out", f"{folder}/s.csv")
        seconds, memory = report["end_to_end"]["seconds"], report["peak_memory_bytes"] / 2**20
        guarantee = report["guarantee"]
        rows.append(
            {"photos": count, "seconds": seconds, "peak_mib": memory, "guarantee": guarantee}
        )
        print(
            f"{count:>8} {seconds:>9.1f} {1e3 * seconds / count:>11.2f} {memory:>9.0f}  {guarantee}"
        )
    if out:
        about = {
            "command": shlex.join(["python", "benchmarks/scaling.py", *sys.argv[1:]]),
            "machine": f"{processor_name()}, {usable_cores()} cores",
            "versions": {"python": platform.python_version(), **package_versions(RUNTIMES)},
            "bundle_sha256": load_bundle(bundle).sha256,
            "provider": report["provider"],
        }
        content = {"about": about, "tolerance": tolerance, "views": tta, "rows": rows}
        out.write_text(json.dumps(content, indent=1))


def told(*arguments: Any) -> dict[str, Any]:
    """Run a command of the toolkit in a process of its own, and return the JSON that it prints."""
    command = [Path(sys.executable).with_name("toolkit"), *arguments]
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    content: dict[str, Any] = json.loads(done.stdout)
    return content


if __name__ == "__main__":
    main()
