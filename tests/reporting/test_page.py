"""The page shows what is there, says how to get what is not, and trusts no name."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import markupsafe
import numpy as np
import pytest
from PIL import Image

from toolkit.data.augmentor import Augmentor
from toolkit.data.dataset import Dataset, Photo
from toolkit.data.overview import Overview
from toolkit.data.survey import PhotoFacts
from toolkit.errors import ToolkitError
from toolkit.exporting.weights import BEST_ALONE, cross_fitting, voting_table
from toolkit.inference.bundle import (
    Alternative,
    BundleValidation,
    VotingTable,
    load_bundle,
    save_bundle,
)
from toolkit.inference.voting import Voting
from toolkit.metrics import score
from toolkit.reporting.page.album import Album
from toolkit.reporting.page.commands import commands
from toolkit.reporting.page.data import data_section
from toolkit.reporting.page.ensemble import ensemble_section, judge
from toolkit.reporting.page.page import page_of, render, report
from toolkit.reporting.page.sources import Artifacts, Sources, gather
from toolkit.reporting.page.training import training_section
from toolkit.training.recipe import Stage
from toolkit.training.run import Fold


class Parsed(HTMLParser):
    """Elements, ids and text of a page; it fails where tags do not match."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "path", "use", "rect", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [str(value) for key, value in attrs if key == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [str(value) for key, value in attrs if key == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def sources(folder: Path, *parts: str) -> Sources:
    """Name some parts of a finished job."""
    places = {
        "data": folder / "data",
        "runs": folder / "runs",
        "bundle": folder / "bundle",
        "submission": folder / "submission.csv",
        "labels": folder / "labels.csv",
    }
    return Sources(**{part: places[part] for part in parts})


TINY = ("alpha", "beta", "gamma")
ALL = ("data", "runs", "bundle", "submission", "labels")


@pytest.fixture(scope="module")
def page(finished_job: Path, _cache_of_the_session: Path) -> str:
    with pytest.MonkeyPatch.context() as session:
        session.setenv("TOOLKIT_CACHE", str(_cache_of_the_session))
        return render(page_of(gather(sources(finished_job, *ALL))))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


class TestPage:
    def test_it_is_well_formed_and_ids_are_unique(self, page: str) -> None:
        parsed = Parsed(page)
        assert len(parsed.ids) == len(set(parsed.ids))
        links = [a["href"] for tag, a in parsed.tags if tag == "a" and a.get("href")]
        assert {str(link)[1:] for link in links} <= set(parsed.ids)

    def test_it_loads_nothing(self, page: str) -> None:
        for tag, attributes in Parsed(page).tags:
            for key in ("src", "href", "xlink:href"):
                value = attributes.get(key)
                if value is not None:
                    assert value.startswith(("#", "data:")), (tag, value)
        assert "@import" not in page
        assert not re.search(r"url\((?!#)", page)

    def test_names_are_text(self, page: str) -> None:
        assert "<b>bold" not in page
        assert "&lt;b&gt;bold&lt;/b&gt;" in page
        assert "<script>alert" not in page
        scripts = Parsed(page).scripts
        held_out = next(json.loads(one) for one in scripts if one.startswith("{"))
        assert held_out["classes"] == [
            "<b>bold</b>",
            "</script><script>alert(1)</script>",
            "A & B",
        ]

    def test_every_picture_is_told_in_words_and_drawn_in_the_pages_colours(self, page: str) -> None:
        pictures = [a for tag, a in Parsed(page).tags if tag == "svg"]
        assert len(pictures) > 8
        assert all(one["role"] == "img" for one in pictures)
        drawn = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
        fixed = {colour for one in drawn for colour in re.findall(r"[:\s\"]#[0-9a-f]{6}\b", one)}
        assert fixed == set(), "a colour that the dark theme does not change"
        assert "DejaVu" not in page

    def test_what_is_wrong_with_photos_is_shown(self, page: str) -> None:
        assert "1 broken photo." in page
        assert "3.jpg" in page
        assert "<bdi>0.jpg</bdi>, <bdi>6.jpg</bdi>" in page
        assert "<bdi>1.jpg</bdi>, <bdi>t0.jpg</bdi>" in page

    def test_published_figures_come_with_what_they_are(self, page: str) -> None:
        assert "91.06 %" in page
        assert "91.87 %" in page
        assert "<em>augmented</em> validation photos with last-epoch weights" in page

    def test_the_commands_make_it_again(
        self, finished_job: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = gather(sources(finished_job, "data", "runs", "bundle", "submission"))
        monkeypatch.chdir(finished_job)
        members = "--member runs/tiny/alpha --member runs/tiny/beta --member runs/tiny/gamma"
        assert [one.line for one in commands(found)] == [
            "toolkit train efficientnetb3 --recipes improved --skip-broken",
            "toolkit train xception --recipes improved --skip-broken",
            f"toolkit export {members}",
            "toolkit ensemble --tta 2 --device cpu --batch 4 --threads 1",
        ]

    def test_the_commands_name_every_place_that_is_not_the_usual_one(
        self, finished_job: Path, nowhere: Path
    ) -> None:
        copy = Path(shutil.copytree(finished_job, nowhere / "my job"))
        (copy / "submission.csv").rename(copy / "mine.csv")
        (copy / "submission.json").rename(copy / "mine.json")
        wanted = sources(copy, "data", "runs", "bundle")
        found = gather(replace(wanted, submission=copy / "mine.csv"))
        local = replace(
            found.runs[0],
            identity={"seed": 42, "pretrained": "imagenet 0123456789ab"},
            weights_folder="/weights",
        )
        lines = [one.line for one in commands(replace(found, runs=(local,)))]
        places = "--data 'my job/data' --runs 'my job/runs'"
        train = f"toolkit train efficientnetb3 --recipes improved {places}"
        assert lines[0] == f"{train} --pretrained /weights --skip-broken"
        members = " ".join(f"--member 'my job/runs/tiny/{name}'" for name in TINY)
        where = "--data 'my job/data' --bundle 'my job/bundle'"
        assert lines[1] == f"toolkit export {members} {where}"
        where = f"--bundle 'my job/bundle' --data {finished_job / 'data'}"
        cpu = "--tta 2 --device cpu --batch 4 --threads 1"
        assert lines[2] == f"toolkit ensemble {where} {cpu} --out 'my job/mine.csv'"
        words = commands(replace(found, runs=(local,)))[0].words
        assert "from weights in a folder, whose SHA-256 begins 0123456789ab" in words
        alone = commands(replace(found, overview=None, runs=(local,)))[0].line
        assert "--data /elsewhere " in alone

    def test_the_command_of_a_fold_names_it(self, finished_job: Path, nowhere: Path) -> None:
        found = gather(sources(finished_job, "runs"))
        first = found.runs[0]
        fold = Fold(number=2, count=5, dealt="", outside_photos=9, holdout=0.2)
        for folder, name in (("fold2", ""), ("wide-fold2", "--name wide ")):
            run = replace(
                first,
                folder=first.folder.with_name(f"efficientnetb3-{folder}"),
                data=replace(first.data, fold=fold),
            )
            line = commands(replace(found, runs=(run,)))[0].line
            assert f" {name}--folds 5 --only-folds 2 --holdout 0.2 " in line
            assert line.count("fold2") == 0

    def test_a_changed_recipe_is_not_taken_for_the_shipped_one_of_that_name(
        self, finished_job: Path, nowhere: Path
    ) -> None:
        found = gather(sources(finished_job, "runs"))
        shipped = found.runs[0]
        own = replace(shipped, recipe=shipped.recipe.model_copy(update={"batch_size": 8}))
        said = [commands(replace(found, runs=(run,)))[0] for run in (shipped, own)]
        assert "--recipes improved " in said[0].line
        assert "of your own" not in said[0].words
        assert "--recipes ./improved " in said[1].line
        assert f"by a recipe of your own: {own.folder / 'recipe.yaml'}" in said[1].words

    def test_stages_may_have_any_name(self, finished_job: Path, nowhere: Path) -> None:
        shutil.copytree(finished_job / "runs", nowhere / "runs")
        run = gather(Sources(runs=nowhere / "runs")).runs[0]
        history = run.folder / "history.csv"
        text = history.read_text(encoding="utf-8")
        for names in (("1", "2"), ("NA", "1")):
            renamed = text.replace(",head,", f",{names[0]},").replace(",all,", f",{names[1]},")
            history.write_text(renamed, encoding="utf-8")
            stages = tuple(Stage(name=name, epochs=3, frozen_fraction=0) for name in names)
            recipe = run.recipe.model_copy(update={"stages": stages})
            (curves,) = training_section([replace(run, recipe=recipe)]).curves
            first, second = names
            assert curves.stages == f"1 {first}: 2 of 3 epochs; 2 {second}: 1 of 3 epochs"

    def test_where_runs_differ_each_is_described(self, finished_job: Path, nowhere: Path) -> None:
        found = gather(sources(finished_job, "runs"))
        first, second = found.runs
        second = replace(
            second,
            data=replace(second.data, training_photos=40, validation_photos=20),
            versions={"backend": "jax", "keras": "3"},
        )
        text = render(page_of(replace(found, runs=(first, second))))
        assert "judged on 12 or 20 held-out photos" in text
        assert "Keras on tensorflow (improved/efficientnetb3); jax (improved/xception)" in text
        assert "40 to train on, 20 held out (improved/xception)" in text
        assert "<td>3</td>" in text

    def test_the_ring_is_at_the_epoch_whose_weights_were_kept(
        self, finished_job: Path, nowhere: Path
    ) -> None:
        found = gather(sources(finished_job, "runs"))
        text = render(page_of(replace(found, runs=(replace(found.runs[0], best_epoch=1),))))
        assert "it is 0.500 in epoch 1, whose weights were kept" in text
        assert "it is 1.200 in epoch 1, whose weights were kept" in text

    def test_the_augmentor_is_shown_at_the_size_of_training(
        self, finished_job: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = set()
        real = Augmentor.__call__

        def seen(self: Augmentor, pixels: np.ndarray, seed: int) -> np.ndarray:
            sizes.add(pixels.shape)
            return real(self, pixels, seed)

        monkeypatch.setattr(Augmentor, "__call__", seen)
        found = gather(sources(finished_job, "data", "runs"))
        small = found.runs[0].recipe.model_copy(update={"image_size": 75})
        assert found.overview is not None
        section = data_section(found.overview, Album({}), small)
        assert sizes == {(75, 75, 3)}
        picture = base64.b64decode(section.augmented[0][1].partition(",")[2])
        assert Image.open(io.BytesIO(picture)).size == (112, 112)

    def test_a_changed_recipe_has_no_published_figure(
        self, finished_job: Path, nowhere: Path
    ) -> None:
        found = gather(sources(finished_job, "runs"))
        runs = [
            replace(run, recipe=run.recipe.model_copy(update={"batch_size": 8}))
            for run in found.runs
        ]
        text = render(page_of(replace(found, runs=tuple(runs))))
        assert "75.00 %" in text
        assert "91.06 %" not in text

    def test_without_photos_none_is_embedded(self, finished_job: Path, nowhere: Path) -> None:
        out = report(sources(finished_job, *ALL), nowhere / "report.html", photos=False).page
        text = out.read_text(encoding="utf-8")
        assert "data:image" not in text
        assert "without the photos themselves" in text

    @pytest.mark.parametrize("part", ["data", "runs", "bundle", "submission"])
    def test_any_one_part_makes_a_page(self, finished_job: Path, nowhere: Path, part: str) -> None:
        text = render(page_of(gather(sources(finished_job, part))))
        Parsed(text)
        ways = {
            "data": "Name the data folder with `data=DIR`.",
            "runs": "Train with `train()`",
            "bundle": "Make one with `export()`",
            "submission": "toolkit ensemble",
        }
        for other, way in ways.items():
            if other != part:
                assert way in text

    def test_a_submission_of_another_bundle_is_told(
        self, finished_job: Path, nowhere: Path, tiny_bundle
    ) -> None:
        wanted = replace(sources(finished_job, "submission"), bundle=tiny_bundle.folder)
        assert "made with another bundle" in render(page_of(gather(wanted)))

    @pytest.mark.parametrize("name", ["submission.json", "latency.json"])
    @pytest.mark.parametrize("content", ['{"schema_version": 1, "mine": 2}', "[]", "none"])
    def test_a_foreign_file_beside_the_submission_is_left_out_and_told(
        self, finished_job: Path, nowhere: Path, name: str, content: str
    ) -> None:
        for part in ("submission.csv", "submission.json", "latency.json"):
            shutil.copy(finished_job / part, nowhere)
        (nowhere / name).write_text(content, encoding="utf-8")
        text = render(page_of(gather(Sources(bundle=finished_job / "bundle"))))
        assert re.search(f'<p class="remark">[^<]*{name}[^<]*It is left out.</p>', text)

    def test_the_latency_report_of_another_submission_is_left_out_and_told(
        self, finished_job: Path, nowhere: Path
    ) -> None:
        for part in ("submission.csv", "submission.json", "latency.json"):
            shutil.copy(finished_job / part, nowhere)
        spent = json.loads((nowhere / "latency.json").read_text(encoding="utf-8"))
        spent["inference"]["ms_a_photo"] = 7777.7
        (nowhere / "latency.json").write_text(json.dumps(spent), encoding="utf-8")
        text = render(page_of(gather(Sources(bundle=finished_job / "bundle"))))
        assert "latency.json is not of submission.csv" in text
        assert "7,777.7" not in text

    def test_photos_of_other_data_are_not_shown_as_those_that_were_held_out(
        self, finished_job: Path, nowhere: Path
    ) -> None:
        other = Path(shutil.copytree(finished_job / "data", nowhere / "data"))
        table = (other / "train.csv").read_text(encoding="utf-8")
        (other / "train.csv").write_text(table.replace("0.jpg,2", "0.jpg,10"), encoding="utf-8")
        page = page_of(gather(replace(sources(finished_job, "bundle"), data=other)))
        assert page.galleries is not None
        assert not any(card.photo for card in page.galleries.highest_loss)
        assert "The data folder holds other photos or labels" in render(page)

    def test_nothing_at_all_is_an_error(self, nowhere: Path) -> None:
        with pytest.raises(ToolkitError, match="nothing to report on"):
            gather(Sources())

    def test_what_is_named_must_be_there(self, nowhere: Path) -> None:
        with pytest.raises(ToolkitError, match="`runs='elsewhere'`: no such"):
            gather(Sources(runs=Path("elsewhere")))


class TestFigures:
    """What was fitted is judged on photos that it was not fitted on."""

    def test_the_voters_are_those_that_export_prints(self, finished_job: Path) -> None:
        bundle = load_bundle(finished_job / "bundle")
        validation = _validation(200, ("alpha", "beta", "gamma"), 3)
        averaged = validation.probabilities[:, :, :4].mean(axis=2).astype(np.float64)
        names = [member.name for member in bundle.members]
        table = voting_table(averaged, validation.labels, validation.groups, names)
        bundle = replace(bundle, voting=bundle.voting | {4: table})
        judged = judge(bundle, validation, 4)
        assert judged is not None
        section = ensemble_section(bundle, validation, judged, bundle.classes)
        found = {one.name: one.score for one in section.voters}
        for name, alternative in table.alternatives.items():
            assert found[name].accuracy == pytest.approx(alternative.accuracy)
            assert found[name].log_loss == pytest.approx(alternative.log_loss)
        assert found["best alone"].accuracy == pytest.approx(table.best_single.accuracy)
        assert section.chosen.name == table.choice

    def test_weights_of_a_submission_that_the_bundle_has_not_are_listed_as_such(
        self, finished_job: Path
    ) -> None:
        bundle = load_bundle(finished_job / "bundle")
        validation = _validation(200, ("alpha", "beta", "gamma"), 3)
        averaged = validation.probabilities[:, :, :4].mean(axis=2).astype(np.float64)
        names = [member.name for member in bundle.members]
        exported = (0.5, 0.5, 0.0)
        table = voting_table(averaged, validation.labels, validation.groups, names, exported)
        bundle = replace(bundle, voting=bundle.voting | {4: replace(table, choice="custom")})
        judged = judge(bundle, validation, 4, Voting("custom", (0.9, 0.1, 0.0)))
        assert judged is not None
        section = ensemble_section(bundle, validation, judged, bundle.classes)
        assert section.weights["custom"] == exported
        assert section.weights[section.chosen.name] == (0.9, 0.1, 0.0)
        assert section.temperatures[section.chosen.name] == 1.0
        whole = score(0.9 * averaged[0] + 0.1 * averaged[1], validation.labels)
        assert section.chosen.score.accuracy == whole.accuracy
        assert section.chosen.score.log_loss == pytest.approx(whole.log_loss)

    def test_the_best_single_network_is_not_chosen_on_the_photos_that_judge_it(self) -> None:
        validation = _validation(200, ("a", "b", "c"), 3)
        each = validation.probabilities.mean(axis=2).astype(np.float64)
        fitted = cross_fitting(BEST_ALONE, each, validation.labels, validation.groups)
        for fold, weights in enumerate(fitted.weights):
            others = fitted.folds != fold
            accuracy = (each[:, others].argmax(axis=2) == validation.labels[others]).mean(axis=1)
            assert weights.argmax() == accuracy.argmax()
        assert score(fitted.judge(each), validation.labels).photos == 200


def test_a_page_of_15000_photos_is_less_than_20_megabytes(
    finished_job: Path, tmp_path: Path, draw_photo: Callable[..., Image.Image]
) -> None:
    members = ("alpha", "beta", "gamma", "delta")
    classes = tuple(str(number) for number in range(10))
    made = load_bundle(finished_job / "bundle")
    validation = _validation(15_000, members, 10, views=2)
    path = tmp_path / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (320, 320, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    photos = tuple(
        Photo(str(id), path, int(label))
        for id, label in zip(validation.ids, validation.labels, strict=True)
    )
    counts = dict(zip(classes, np.bincount(validation.labels).tolist(), strict=True))
    facts = [PhotoFacts("", 200 + n % 97, 150 + n % 89, n, "") for n in range(len(photos))]
    found = Overview(
        Dataset(tmp_path, classes, photos), None, counts, facts, [], [[path] * 2] * 500, [], []
    )
    uniform = Alternative((0.25,) * 4, 1.0, 0.5, 1.0)
    table = VotingTable("uniform", "", {"uniform": uniform, "fitted": uniform}, None)
    bundle = replace(
        made,
        classes=classes,
        names={},
        data=replace(made.data, fingerprint=found.dataset.fingerprint),
        class_prior=(0.1,) * 10,
        members=tuple(replace(made.members[0], name=name, file=f"{name}.onnx") for name in members),
        voting=dict.fromkeys(range(1, 9), table),
    )
    submission = gather(sources(finished_job, "submission")).submission
    page = page_of(Artifacts(found, (), bundle, validation, submission))
    assert len(render(page).encode()) < 20e6
    assert page.galleries is not None
    assert all(card.photo for card in page.galleries.highest_loss)
    assert len(page.embedded["ids"]) == 15_000


def _validation(
    photos: int, members: tuple[str, ...], classes: int, views: int = 8
) -> BundleValidation:
    generator = np.random.default_rng(5)
    labels = np.arange(photos) % classes
    said = generator.dirichlet(np.ones(classes), (len(members), photos, views))
    said += 0.4 * np.eye(classes)[labels][None, :, None]
    return BundleValidation(
        ids=np.array([f"{number}.jpg" for number in range(photos)]),
        labels=labels,
        groups=np.arange(photos),
        probabilities=(said / said.sum(axis=-1, keepdims=True)).astype(np.float32),
    )


STRANGE_NAMES = (
    "</script><script>alert(1)</script>",
    "\u202egpj.exe",
    "\"onload=\"alert(1)' onerror='alert(2)",
    "\x1b]0;owned\x07",
    "<img src=http://example.com/x.png>",
    "أحمر",
)


class TestNamesOfStrangers:
    """Whatever a class, a photo or a folder is called, the page shows it and does nothing else."""

    @pytest.fixture(scope="class")
    @staticmethod
    def pages(finished_job: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
        """Two pages, of three names each."""
        folder = tmp_path_factory.mktemp("strangers") / "bundle"
        shutil.copytree(finished_job / "bundle", folder)
        bundle, written = load_bundle(folder), []
        for start in (0, 3):
            names = dict(zip(bundle.classes, STRANGE_NAMES[start : start + 3], strict=True))
            save_bundle(replace(bundle, folder=folder, names=names))
            found = gather(replace(sources(finished_job, "bundle"), bundle=folder))
            written.append(render(page_of(found)))
        return written

    @pytest.fixture
    def named(self, pages: list[str]) -> str:
        return "".join(pages)

    def test_markup_and_quotes_stay_text(self, named: str) -> None:
        for name in (STRANGE_NAMES[0], STRANGE_NAMES[2], STRANGE_NAMES[4]):
            assert name not in named
            assert f"<bdi>{markupsafe.escape(name)}</bdi>" in named
        assert named.count("<script") == named.count("</script>") == 4

    def test_marks_that_turn_or_steer_are_shown_as_codes(self, named: str) -> None:
        assert not {"\u202e", "\x1b", "\x07"} & set(named)
        assert "<bdi>\\u202egpj.exe</bdi>" in named
        assert "<bdi>\\x1b]0;owned\\x07</bdi>" in named
        assert f"<bdi>{STRANGE_NAMES[5]}</bdi>" in named

    def test_nothing_is_loaded_and_only_its_own_script_runs(self, pages: list[str]) -> None:
        page = pages[0]
        policy = html.unescape(re.search(r'Security-Policy" content="([^"]+)"', page)[1])
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["img-src"] == "data:"
        for element, rule in (("script", "script-src"), ("style", "style-src-elem")):
            (text,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert rules[rule] == f"'sha256-{digest}'"
        assert not re.findall(r"<style[ >]", page.replace("<style>", "", 1))
        for tag, attributes in Parsed(page).tags:
            assert not [key for key in attributes if key.startswith("on")]
            for key in ("src", "href", "xlink:href", "action"):
                assert (attributes.get(key) or "#").startswith(("data:", "#")), tag
