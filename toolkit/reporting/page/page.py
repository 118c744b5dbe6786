"""The page: its sections put together and written as one file."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

import toolkit
from toolkit.console import printable
from toolkit.data.duplicates import NEAR_BITS
from toolkit.errors import ToolkitError
from toolkit.exporting.weights import FOLDS
from toolkit.files import write_text
from toolkit.inference.timing import SAMPLES_FOR_P90, SAMPLES_FOR_P99
from toolkit.inference.voting import Voting
from toolkit.progress import SILENT, Reporter
from toolkit.reporting.page.album import Album
from toolkit.reporting.page.cost import CostSection, cost_section
from toolkit.reporting.page.data import SAMPLE_CLASSES, DataSection, data_section
from toolkit.reporting.page.ensemble import EnsembleSection, Judged, ensemble_section, judge
from toolkit.reporting.page.gallery import Galleries, embedded, galleries
from toolkit.reporting.page.provenance import ProvenanceSection, provenance_section
from toolkit.reporting.page.scored import ScoredSection, scored_section
from toolkit.reporting.page.sources import Artifacts, Sources, gather
from toolkit.reporting.page.summary import summary
from toolkit.reporting.page.training import TrainingSection, training_section
from toolkit.reporting.page.views import ViewsSection, views_section
from toolkit.reporting.pictures import COUNTED_CLASSES

SAID: Mapping[str, Any] = {
    "folds": FOLDS,
    "samples": {"p90": SAMPLES_FOR_P90, "p99": SAMPLES_FOR_P99},
    "limits": {
        "matrix_classes": COUNTED_CLASSES,
        "sample_classes": SAMPLE_CLASSES,
        "near_bits": NEAR_BITS,
    },
}
"""Numbers that the page's sentences say, from where they are decided."""


@dataclass(frozen=True)
class Page:
    """All that the template shows; a section that is None is left out.

    Attributes:
        title: Of the page.
        made: When, UTC.
        version: Of the toolkit.
        classes: Names in class order.
        missing: By section, how to get it.
        remarks: What does not fit together.
        photos: Whether photos are embedded.
        embedded: What the script needs of every held-out photo.
    """

    title: str
    made: str
    version: str
    classes: tuple[str, ...]
    missing: Mapping[str, str]
    remarks: tuple[str, ...]
    photos: bool
    data: DataSection | None
    training: TrainingSection | None
    ensemble: EnsembleSection | None
    galleries: Galleries | None
    scored: ScoredSection | None
    views: ViewsSection | None
    cost: CostSection | None
    provenance: ProvenanceSection
    embedded: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """A written page.

    Attributes:
        page: The HTML file.
        summary: What came out and what it cost, in plain words, a line each.
    """

    page: Path
    summary: tuple[str, ...]


def report(
    sources: Sources,
    out: Path,
    *,
    photos: bool = True,
    wording: Callable[[str], str] = str,
    reporter: Reporter = SILENT,
) -> Report:
    """Write a page of all that is there.

    Args:
        sources: Where the parts are.
        out: The HTML file.
        photos: Whether photos are embedded.
        wording: What turns the way to a missing part, which names calls and arguments as Python,
            into other words.
        reporter: Where progress is shown.

    Raises:
        ToolkitError: A part is not as expected, or there is none.
    """
    found = gather(sources, reporter)
    reporter.say("drawing the page")
    page = page_of(found, photos=photos)
    missing = {section: wording(way) for section, way in page.missing.items()}
    page = replace(page, missing=missing)
    write_text(out, render(page))
    return Report(out, tuple(summary(found, page.scored)))


def page_of(found: Artifacts, *, photos: bool = True) -> Page:
    """Put the sections together."""
    missing = dict(found.missing or {})
    album = _album(found, photos)
    recipe = found.runs[0].recipe if found.runs else None
    judged = _judged(found, missing)
    bundle, validation = found.bundle, found.validation
    ensemble = views = gallery = None
    if bundle and validation and judged:
        ensemble = ensemble_section(bundle, validation, judged, found.class_names)
        gallery = galleries(judged, validation.ids.tolist(), album)
        if judged.views > 1:
            views = views_section(bundle, validation, judged, album)
        else:
            missing["views"] = "One view per photo was used. `predict(tta=4)` looks at four."
    elif "ensemble" in missing:
        missing.setdefault("views", missing["ensemble"])
    submission = found.submission
    return Page(
        title=_title(found),
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=toolkit.__version__,
        classes=found.class_names,
        missing=missing,
        remarks=found.remarks,
        photos=photos,
        data=data_section(found.overview, album, recipe) if found.overview else None,
        training=training_section(found.runs) if found.runs else None,
        ensemble=ensemble,
        galleries=gallery,
        scored=(
            scored_section(submission, found.truth, found.classes, found.class_names, found.gain)
            if submission and found.truth
            else None
        ),
        views=views,
        cost=cost_section(
            submission.latency if submission else None,
            bundle.precisions if bundle else (),
            found.plan.search if found.plan else None,
        ),
        provenance=provenance_section(found),
        embedded=(
            embedded(judged, validation.ids.tolist(), found.class_names)
            if validation and judged
            else {}
        ),
    )


def render(page: Page) -> str:
    """Return the page as HTML. Whatever comes from a user is escaped."""
    folder = resources.files(__package__)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_unsteered,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent,
        points=_points,
        bounds=_bounds,
        number=_number,
        duration=_duration,
        chance=_chance,
        chart=_chart,
        bdi=_isolated,
    )
    environment.globals.update(SAID)
    parts = {
        name: markupsafe.Markup((folder / f"page.{name}").read_text(encoding="utf-8"))
        for name in ("css", "js")
    }
    return environment.get_template("page.html").render(
        page=page,
        style=parts["css"],
        script=parts["js"],
        json=_script_json(page.embedded),
        policy=_policy(parts["css"], parts["js"]),
    )


def _policy(style: str, script: str) -> str:
    """Return the page's Content-Security-Policy: its own script and style, and nothing from afar.

    The style attributes are widths and colours of bars, which no hash could name beforehand.
    """
    own = {
        name: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for name, text in (("style", style), ("script", script))
    }
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"script-src {own['script']}",
            f"style-src-elem {own['style']}",
            "style-src-attr 'unsafe-inline'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _unsteered(value: object) -> object:
    """Show what would steer the writing direction, or is no character, as its code."""
    is_text = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
    return printable(str(value)) if is_text else value


def _isolated(name: object) -> markupsafe.Markup:
    """Keep the writing direction of a name from the text around it."""
    return markupsafe.Markup("<bdi>{}</bdi>").format(printable(str(name)))


def _album(found: Artifacts, photos: bool) -> Album:
    bundle = found.bundle
    if found.overview is None or (bundle and not found.holds(bundle.data.fingerprint)):
        return Album({}, photos)
    return Album({photo.id: photo.path for photo in found.overview.dataset.photos}, photos)


def _judged(found: Artifacts, missing: dict[str, str]) -> Judged | None:
    bundle, validation = found.bundle, found.validation
    if not (bundle and validation):
        return None
    submitted = None
    made = found.submission.made if found.submission else None
    if made and made.manifest.bundle.sha256 == bundle.sha256:
        voted = made.manifest.voting
        if set(voted.weights) != {member.name for member in bundle.members}:
            raise ToolkitError(
                f"{made.path}: voting.weights: Expected one for each member of the bundle.",
                path=made.path,
            )
        weights = tuple(voted.weights[member.name] for member in bundle.members)
        submitted = Voting(voted.name, weights, voted.temperature)
    judged = judge(bundle, validation, found.views, submitted)
    if judged is None:
        missing["ensemble"] = "Too few photos were held out to judge the ensemble on."
    return judged


def _title(found: Artifacts) -> str:
    classes = len(found.classes)
    if found.bundle:
        members = len(found.bundle.members)
        what = f"Ensemble of {members} networks" if members > 1 else "One network"
    elif found.runs:
        what = f"{len(found.runs)} trained networks" if len(found.runs) > 1 else "A trained network"
    else:
        what = "Photos"
    return f"{what}, {classes} classes" if classes else what


def _script_json(content: Mapping[str, Any]) -> markupsafe.Markup:
    """Write JSON that cannot end the script element it stands in."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return markupsafe.Markup(text.replace("<", "\\u003c").replace(">", "\\u003e"))


def _chart(chart: Any) -> markupsafe.Markup:
    return markupsafe.Markup(chart.svg)  # Its text was escaped when it was drawn.


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _points(difference: float | None, digits: int = 1) -> str:
    return "–" if difference is None else f"{100 * difference:+.{digits}f}".replace("-", "−")


def _bounds(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _chance(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes < 10 else f"{round(seconds / 60)} min"
