"""The section on provenance: what to type, with which versions, to make a submission again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.reporting.page.sources import Artifacts
from toolkit.training.run import Run


@dataclass(frozen=True)
class Command:
    """A command, and what it does."""

    line: str
    words: str


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
    manifest = found.submission.manifest if found.submission else {}
    sources = (
        found.runs[0].versions if found.runs else {},
        found.bundle.versions if found.bundle else {},
        manifest.get("versions", {}),
    )
    names = sorted({name for versions in sources for name in versions})
    return ProvenanceSection(
        commands=tuple(_commands(found, manifest)),
        hashes=tuple(_hashes(found, manifest)),
        versions={
            name: (sources[0].get(name, ""), sources[1].get(name, ""), sources[2].get(name, ""))
            for name in names
        },
        facts=tuple(_facts(found, manifest)),
    )


def _commands(found: Artifacts, manifest: Mapping[str, Any]) -> list[Command]:
    commands = [
        Command(_training_command(run), f"trained {run.label}, {_moment(run.finished)}")
        for run in found.runs
    ]
    if found.bundle:
        parts = ["toolkit", "export"]
        for member in found.bundle.members:
            parts += ["--member", f"runs/{member.run}"]
        tried = {row["precision"] for row in found.bundle.precisions}
        if tried:
            parts += ["--precision", ",".join(["fp32", *sorted(tried)])]
        if found.bundle.requested_voting != "auto":
            parts += ["--voting", found.bundle.requested_voting]
        commands.append(
            Command(shlex.join(parts), f"made the bundle, {_moment(found.bundle.created)}")
        )
    if manifest:
        made = _moment(manifest["created"])
        commands.append(Command(_ensemble_command(found, manifest), f"made the submission, {made}"))
    return commands


def _moment(iso: str) -> str:
    return f"{iso[:16].replace('T', ' ')} UTC"


def _training_command(run: Run) -> str:
    recipe, identity = run.recipe, run.identity
    parts = ["toolkit", "train", recipe.backbone, "--recipes", recipe.set]
    name = run.folder.name.removeprefix(recipe.backbone).removeprefix("-")
    if name:
        parts += ["--name", name]
    if identity.get("seed", recipe.seed) != recipe.seed:
        parts += ["--seed", str(identity["seed"])]
    if run.data.split_seed != 42:
        parts += ["--split-seed", str(run.data.split_seed)]
    start = str(identity.get("pretrained", recipe.weights)).partition(" ")[0]
    if start != recipe.weights:
        parts += ["--pretrained", start]
    if run.data.left_out:
        parts.append("--skip-broken")
    if identity.get("mixed_precision"):
        parts.append("--mixed-precision")
    if run.data.validation_fraction == 0:
        parts.append("--refit-all")
    return shlex.join(parts)


def _ensemble_command(found: Artifacts, manifest: Mapping[str, Any]) -> str:
    asked = manifest["options"]
    usual = {
        "data": "data",
        "tta_views": "fixed",
        "voting": "auto",
        "device": "auto",
        "batch": 16,
        "threads": None,
        "seed": 0,
    }
    parts = ["toolkit", "ensemble", "--tta", str(asked["tta"])]
    for key, value in usual.items():
        if asked.get(key, value) != value:
            parts += [f"--{key.replace('_', '-')}", str(asked[key])]
    if manifest["bundle"]["folder"] != "bundle":
        parts += ["--bundle", manifest["bundle"]["folder"]]
    if asked.get("skip_broken"):
        parts.append("--skip-broken")
    plan = asked.get("plan", "exact")
    if isinstance(plan, Mapping):
        parts += ["--plan", str(plan["plan"])]
        for key, value in plan.items():
            if key != "plan" and value is not None and (key, value) != ("certify", "test"):
                parts += [f"--{key.replace('_', '-')}", str(value)]
    if found.submission and found.submission.path.name != "submission.csv":
        parts += ["--out", found.submission.path.name]
    return shlex.join(parts)


def _hashes(found: Artifacts, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    hashes = []
    if manifest:
        hashes.append((manifest["submission"]["file"], manifest["submission"]["sha256"]))
        hashes.append(("bundle of the submission", manifest["bundle"]["sha256"]))
    if found.plan:
        hashes.append(("plan", found.plan.sha256))
    if found.bundle:
        if not manifest or manifest["bundle"]["sha256"] != found.bundle.sha256:
            hashes.append(("bundle", found.bundle.sha256))
        hashes += [(member.file, member.sha256) for member in found.bundle.members]
        for member in found.bundle.members:
            for variant in member.variants:
                hashes += list(variant.files.items())
        hashes.append(("ids and labels", str(found.bundle.data["fingerprint"])))
    elif found.runs:
        hashes.append(("ids and labels", found.runs[0].data.fingerprint))
    hashes += [(f"{run.label} (Keras model)", run.model_sha256) for run in found.runs]
    return hashes


def _facts(found: Artifacts, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if manifest:
        device = manifest["device"]
        facts.append(("predicted on", f"{device['provider']}, {device['device']}"))
        facts.append(("promise", str(manifest["promise"])))
        prior = len(manifest["answered_with_class_prior"])
        facts.append(("answered with the class prior", f"{prior} photos that cannot be read"))
    if found.bundle:
        pixels = found.bundle.pixels
        facts.append(("pixels", f"{pixels.get('decoder_version')}; {pixels.get('resize')}"))
        facts.append(("split seed", str(found.bundle.data.get("split_seed"))))
    if found.runs:
        run = found.runs[0]
        starts = sorted({str(each.identity.get("pretrained", "")) for each in found.runs} - {""})
        facts.append(("trained with", f"Keras on {run.versions.get('backend', 'tensorflow')}"))
        facts.append(("weights to start from", " and ".join(starts)))
        facts.append(
            (
                "photos",
                f"{run.data.training_photos} to train on, {run.data.validation_photos} held out",
            )
        )
    notes = manifest.get("notes", []) if manifest else []
    return [*facts, *(("note", str(note)) for note in notes)]
