"""`toolkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import options
from toolkit.cli.terminal import print_json, print_line
from toolkit.cli.wording import in_options

if TYPE_CHECKING:
    from toolkit.progress import Reporter


@click.command("report")
@click.option("--data", type=options.FOLDER, help="Data folder.  [default: data]")
@click.option("--runs", type=options.FOLDER, help="Run folders.  [default: runs]")
@click.option("--bundle", type=options.FOLDER, help="Bundle folder.  [default: bundle]")
@click.option(
    "--submission",
    type=options.FILE,
    help="With its manifest and latency report beside it.  [default: submission.csv]",
)
@click.option("--labels", type=options.FILE, help="CSV of the true labels of its photos.")
@click.option(
    "--gain",
    type=options.FILE,
    help="What 'toolkit evaluate --gain' wrote of the bundle.  [default: gain.json]",
)
@click.option(
    "--photos/--no-photos",
    default=True,
    show_default=True,
    help="Embed small photos, or none where they must not be passed on.",
)
@click.option(
    "--out", type=options.FILE, default="report.html", show_default=True, help="The page."
)
@options.as_json
@options.reporter
def command(
    data: Path | None,
    runs: Path | None,
    bundle: Path | None,
    submission: Path | None,
    labels: Path | None,
    gain: Path | None,
    photos: bool,
    out: Path,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Write one page that shows data, training, ensemble, plan and cost.

    It needs no network and no file beside it. What is not there is left out, and the page says how
    to get it.
    """
    from toolkit.reporting.page.page import report
    from toolkit.reporting.page.sources import Sources

    sources = Sources(data, runs, bundle, submission, labels, gain)
    written = report(sources, out, photos=photos, wording=in_options, reporter=reporter)
    size = written.page.stat().st_size
    if as_json:
        print_json({"page": str(written.page), "bytes": size, "summary": written.summary})
        return
    for line in written.summary:
        print_line(line)
    print_line(f"Open {written.page.resolve()} in a browser ({size / 1e6:.1f} MB).")
