"""The section on provenance: what to type, with which versions, to make a submission again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from toolkit.reporting.manifest import SubmissionManifest
from toolkit.reporting.page.commands import Command, commands
from toolkit.reporting.page.sources import Artifacts
from toolkit.training.run import Run


@dataclass(frozen=True)
class ProvenanceSection:
    """What the page says of where things come from.

    Attributes:
        commands: In order.
        hashes: What, and its SHA-256.
        versions: By library, what trained, exported and predicted with.
        facts: Other facts, by name.
    """

    commands: tuple[Command, ...]
    hashes: tuple[tuple[str, str], ...]
    versions: Mapping[str, tuple[str, str, str]]
    facts: tuple[tuple[str, str], ...]


def provenance_section(found: Artifacts) -> ProvenanceSection:
    """Describe how the artifacts came to be."""
    manifest = found.manifest
    exported = found.bundle.versions if found.bundle else {}
    predicted = manifest.versions if manifest else {}
    trained = {name for run in found.runs for name in run.versions}
    names = sorted({*trained, *exported, *predicted})
    return ProvenanceSection(
        commands=commands(found),
        hashes=tuple(_hashes(found, manifest)),
        versions={
            name: (_version(found.runs, name), exported.get(name, ""), predicted.get(name, ""))
            for name in names
        },
        facts=tuple(_facts(found, manifest)),
    )


def _hashes(found: Artifacts, manifest: SubmissionManifest | None) -> list[tuple[str, str]]:
    hashes = []
    if manifest:
        hashes.append((manifest.submission.file, manifest.submission.sha256))
        hashes.append(("bundle of the submission", manifest.bundle.sha256))
    if found.plan:
        hashes.append(("plan", found.plan.sha256))
    if found.bundle:
        if not manifest or manifest.bundle.sha256 != found.bundle.sha256:
            hashes.append(("bundle", found.bundle.sha256))
        hashes += [(member.file, member.sha256) for member in found.bundle.members]
        for member in found.bundle.members:
            for variant in member.variants:
                hashes += list(variant.files.items())
        hashes.append(("ids and labels", found.bundle.data.fingerprint))
    elif found.runs:
        hashes += [
            ("ids and labels", value)
            for value in dict.fromkeys(run.data.fingerprint for run in found.runs)
        ]
    hashes += [(f"{run.label} (Keras model)", run.model_sha256) for run in found.runs]
    return hashes


def _facts(found: Artifacts, manifest: SubmissionManifest | None) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if manifest:
        device = manifest.device
        facts.append(("predicted on", f"{device.provider}, {device.device}"))
        facts.append(("guarantee", manifest.guarantee))
        prior = len(manifest.answered_with_class_prior)
        facts.append(("answered with the class prior", f"{prior} photos that cannot be read"))
    if found.bundle:
        pixels = found.bundle.pixels
        facts.append(("pixels", f"{pixels.decoder_version}; {pixels.rules.get('resize', '')}"))
        facts.append(("split seed", str(found.bundle.data.split_seed)))
    if found.runs:
        starts = sorted({str(each.identity.get("pretrained", "")) for each in found.runs} - {""})
        backends = _by_run(found.runs, lambda run: run.versions.get("backend", "tensorflow"))
        facts.append(("trained with", f"Keras on {backends}"))
        facts.append(("weights to start from", " and ".join(starts)))
        facts.append(("photos", _by_run(found.runs, _photos)))
    notes = manifest.notes if manifest else ()
    return [*facts, *(("note", note) for note in notes)]


def _version(runs: Sequence[Run], name: str) -> str:
    known = [run for run in runs if name in run.versions]
    return _by_run(known, lambda run: run.versions[name]) if known else ""


def _photos(run: Run) -> str:
    return f"{run.data.training_photos} to train on, {run.data.validation_photos} held out"


def _by_run(runs: Sequence[Run], said: Callable[[Run], str]) -> str:
    """Return what is true of all runs, or, where they differ, of which of them each is true."""
    labels: dict[str, list[str]] = {}
    for run in runs:
        labels.setdefault(said(run), []).append(run.label)
    if len(labels) == 1:
        return next(iter(labels))
    return "; ".join(f"{value} ({', '.join(some)})" for value, some in labels.items())
