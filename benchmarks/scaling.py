"""What a fast job costs as it grows: time a photo, and peak memory.

    python benchmarks/scaling.py --counts 100,1000,10000,100000 --out scaling.json

Each size runs `toolkit ensemble --plan fast` in a process of its own, on the data folder's photos
repeated under other names. A small bundle serves: the question is how cost grows, not what it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from sides import Work

from toolkit.data.dataset import load_request


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
    print(f"{'photos':>8} {'seconds':>9} {'ms a photo':>11} {'peak MiB':>9}  promise")
    for count in map(int, counts.split(",")):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            Work.repeated(load_request(data), count, Path(folder) / "data")
            command: list[Any] = [Path(sys.executable).with_name("toolkit"), "ensemble", "--json"]
            command += ["--plan", "fast", "--tolerance", tolerance, "--tta", tta, "--quiet"]
            command += ["--bundle", bundle, "--data", f"{folder}/data", "--out", f"{folder}/s.csv"]
            told = subprocess.run(
                [str(part) for part in command],
                check=True,
                capture_output=True,
                text=True,
            )
        report = json.loads(told.stdout)
        seconds, memory = report["end_to_end"]["seconds"], report["peak_memory_bytes"] / 2**20
        promise = report["fast"]["promise"]
        rows.append({"photos": count, "seconds": seconds, "peak_mib": memory, "promise": promise})
        print(
            f"{count:>8} {seconds:>9.1f} {1e3 * seconds / count:>11.2f} {memory:>9.0f}  {promise}"
        )
    if out:
        out.write_text(json.dumps({"tolerance": tolerance, "views": tta, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
