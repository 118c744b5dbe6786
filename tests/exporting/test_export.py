"""From runs to a bundle: whole or not at all, of one split, with figures that can be checked."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import onnx
import pytest
from PIL import Image

from toolkit.errors import ToolkitError, UsageError
from toolkit.exporting import export as room
from toolkit.exporting import members
from toolkit.exporting.export import ExportOptions, export
from toolkit.exporting.select import choose_runs, member_names
from toolkit.files import sha256_file, write_json
from toolkit.inference.bundle import Bundle, load_bundle, load_validation
from toolkit.inference.devices import choose_device
from toolkit.inference.sessions import MemberSession
from toolkit.inference.views import VIEWS
from toolkit.progress import Reporter
from toolkit.training.run import Run, load_run

if TYPE_CHECKING:
    from tests.conftest import Trained

SMALL = "mobilenetv3small"


class Killed(BaseException):
    """As a SIGKILL: no handler of ours looks at it."""


@pytest.fixture
def converted(trained: Trained, exported: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts the files that were really converted in place at once, and notes for which member."""
    names: list[str] = []
    files = {member.model_sha256: member for member in exported.members}

    def place(_: Callable[..., Any], model: Path, target: Path, *__: Any, **___: Any) -> Any:
        member = files[sha256_file(model)]
        names.append(target.stem)
        shutil.copy(exported.folder / member.file, target)
        return member.parity

    monkeypatch.setattr(members, "in_own_process", place)
    return names


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


@pytest.fixture
def copied(exported: Bundle, bundle: Path) -> Bundle:
    """A copy of the bundle, to be spoilt."""
    shutil.copytree(exported.folder, bundle)
    return load_bundle(bundle)


def test_a_bundle_holds_all_that_is_needed_to_predict(trained: Trained, exported: Bundle) -> None:
    assert {path.name for path in exported.folder.iterdir()} == {
        "bundle.json",
        f"{SMALL}.onnx",
        f"{SMALL}-second.onnx",
        "validation.npz",
    }
    assert load_bundle(exported.folder) == exported
    exported.check_files()
    assert exported.classes == tuple(str(number) for number in range(8))
    assert len(exported.names) == 8
    assert exported.class_prior == tuple(count / 38 for count in trained.runs[0].data.class_counts)
    for member, run in zip(exported.members, trained.runs, strict=True):
        assert (member.name, member.run) == (run.folder.name, run.label)
        assert member.model_sha256 == run.model_sha256
        assert member.image_size == 32
        assert member.score.accuracy == run.score.accuracy


def test_a_bundle_knows_the_photos_its_members_trained_on(
    trained: Trained, exported: Bundle
) -> None:
    assert exported.data.trained_on == trained.runs[0].trained_on != ""


def test_members_agree_with_keras_on_the_held_out_photos(exported: Bundle) -> None:
    for member in exported.members:
        assert member.parity is not None
        assert member.parity.photos == 10
        assert member.parity.reference_images == 20  # each photo and its mirror image
        assert member.parity.logit_error <= 10 * member.parity.noise_floor + 1e-6


def test_the_files_know_what_they_are(trained: Trained, exported: Bundle) -> None:
    for member, run in zip(exported.members, trained.runs, strict=True):
        content = onnx.load(exported.folder / member.file)
        told = {each.key: each.value for each in content.metadata_props}
        assert json.loads(told["toolkit.classes"]) == list(exported.classes)
        assert told["toolkit.recipe"] == run.recipe.to_yaml()
        assert json.loads(told["toolkit.pixels"])
        assert json.loads(told["toolkit.versions"])["tf2onnx"]


def test_validation_is_what_the_files_say_to_every_view(trained: Trained, exported: Bundle) -> None:
    held_out = load_validation(exported)
    assert held_out.probabilities.shape == (2, 10, len(VIEWS), 8)
    np.testing.assert_allclose(held_out.probabilities.sum(axis=3), 1, rtol=1e-5)
    for index, run in enumerate(trained.runs):
        validation = run.validation
        assert validation is not None
        np.testing.assert_array_equal(held_out.ids, validation.ids)
        np.testing.assert_array_equal(held_out.labels, validation.labels)
        # The first view is the photo itself, which Keras has seen when the run was finished.
        # How far the two round apart depends on the network, but no other photo's answer is nearer.
        first = held_out.probabilities[index, :, 0]
        distances = np.abs(first[:, None] - validation.probabilities[None]).max(axis=2)
        np.testing.assert_array_equal(distances.argmin(axis=1), np.arange(len(first)))
        assert distances.diagonal().max() < 1e-3
    assert not np.allclose(held_out.probabilities[:, :, 0], held_out.probabilities[:, :, 1])


def test_views_are_those_of_the_photos_not_of_each_other(exported: Bundle) -> None:
    # A photo of one colour looks the same in every view, whatever the network says of it.
    member = exported.members[0]
    session = MemberSession(exported.folder / member.file, choose_device("cpu"), 1, batch=8)
    grey = np.full((1, 32, 32, 3), 90, dtype=np.uint8)
    views = np.concatenate([view(grey[0])[None] for view in VIEWS])
    answers = session.run(views, len(VIEWS))
    np.testing.assert_allclose(answers, np.repeat(answers[:1], len(VIEWS), axis=0), atol=1e-6)


def test_there_is_a_vote_for_every_number_of_views(exported: Bundle) -> None:
    assert sorted(exported.voting) == list(range(1, len(VIEWS) + 1))
    for table in exported.voting.values():
        assert set(table.alternatives) == {"uniform", "accuracy", "fitted"}
        for alternative in table.alternatives.values():
            assert sum(alternative.weights) == pytest.approx(1)


def test_the_same_runs_are_not_exported_again(
    trained: Trained, copied: Bundle, converted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    again = export(trained.runs, ExportOptions(bundle=copied.folder), Reporter(quiet=False))
    assert again == copied
    assert not converted
    told = capsys.readouterr().err
    assert "already holds these runs, not exported again (`fresh=True` does it" in told


def test_a_bundle_whose_files_were_changed_is_not_taken_for_done(
    trained: Trained, copied: Bundle, converted: list[str]
) -> None:
    (copied.folder / f"{SMALL}.onnx").write_bytes(b"another network")
    with pytest.raises(ToolkitError, match=f"{SMALL}.onnx: the file was changed"):
        export(trained.runs, ExportOptions(bundle=copied.folder))


@pytest.mark.parametrize("voting", ["auto", "uniform"])
def test_another_bundle_is_not_replaced_unless_told(
    voting: str, trained: Trained, copied: Bundle, converted: list[str]
) -> None:
    runs = trained.runs[:1] if voting == "auto" else trained.runs
    options = ExportOptions(bundle=copied.folder, voting=voting)
    with pytest.raises(ToolkitError, match=r"made from other runs or with another .*`fresh=") as no:
        export(runs, options)
    asked = ", ".join(run.label for run in runs)
    assert f"requested: {asked} (voting {voting} by log-loss, fp32). " in str(no.value)
    assert load_bundle(copied.folder) == copied
    made = export(runs, dataclasses.replace(options, fresh=True))
    assert [member.run for member in made.members] == [run.label for run in runs]
    assert made.requested_voting == voting
    made.check_files()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_is_no_bundle_is_never_removed(
    fresh: bool, trained: Trained, bundle: Path, converted: list[str]
) -> None:
    bundle.mkdir()
    (bundle / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(ToolkitError, match="exists and is no bundle"):
        export(trained.runs, ExportOptions(bundle=bundle, fresh=fresh))
    assert (bundle / "thesis.tex").exists()


def test_an_interrupted_export_goes_on_with_the_members_that_are_not_done(
    trained: Trained, bundle: Path, converted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = members.in_own_process

    def killed_at_the_second(*arguments: Any, **more: Any) -> Any:
        if arguments[2].stem.endswith("second"):
            raise Killed
        return place(*arguments, **more)

    with monkeypatch.context() as power_cut:
        power_cut.setattr(members, "in_own_process", killed_at_the_second)
        with pytest.raises(Killed):
            export(trained.runs, ExportOptions(bundle=bundle))
    assert converted == [SMALL]
    assert not bundle.exists()
    made = export(trained.runs, ExportOptions(bundle=bundle))
    assert converted == [SMALL, f"{SMALL}-second"]
    made.check_files()
    assert {path.name for path in bundle.parent.iterdir()} == {"bundle"}


def test_a_member_of_another_training_is_not_taken_from_an_interrupted_export(
    trained: Trained,
    exported: Bundle,
    bundle: Path,
    converted: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = trained.runs
    # Trained anew under the same name, its export was killed; then the old run came back.
    anew = dataclasses.replace(second, folder=tmp_path / "runs" / "small" / first.folder.name)
    shutil.copytree(second.folder, anew.folder)

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    for run, module, then in ((first, room, "save_bundle"), (anew, members, "answers_to_views")):
        with monkeypatch.context() as power_cut:
            power_cut.setattr(module, then, killed)
            with pytest.raises(Killed):
                export([run], ExportOptions(bundle=bundle))
    made = export([first], ExportOptions(bundle=bundle))
    assert converted == [SMALL] * 3
    assert made.members[0].sha256 == exported.members[0].sha256
    assert made.members[0].sha256 != exported.members[1].sha256


def test_the_bundle_appears_whole_or_not_at_all(
    trained: Trained, bundle: Path, converted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Bundle) -> None:
        assert not bundle.exists()
        raise Killed

    with monkeypatch.context() as power_cut:
        power_cut.setattr(room, "save_bundle", killed)
        with pytest.raises(Killed):
            export(trained.runs, ExportOptions(bundle=bundle))
    assert not bundle.exists()
    export(trained.runs, ExportOptions(bundle=bundle)).check_files()


@pytest.mark.parametrize("last", ["_tidy", "replace_folder", "Path.rename"])
@pytest.mark.parametrize("replacing", [False, True])
def test_an_export_killed_in_its_last_step_is_finished_by_the_next_call(
    last: str,
    replacing: bool,
    trained: Trained,
    exported: Bundle,
    bundle: Path,
    converted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ExportOptions(bundle=bundle, fresh=replacing)
    if replacing:
        shutil.copytree(exported.folder, bundle)
    rename = Path.rename

    def killed(path: Any, *_: Any) -> Any:
        if last == "Path.rename" and path == bundle:
            return rename(path, *_)  # The old one is aside, and the new one not yet there.
        raise Killed

    with monkeypatch.context() as power_cut:
        power_cut.setattr(*((Path, "rename") if last == "Path.rename" else (room, last)), killed)
        with pytest.raises(Killed):
            export(trained.runs, options)
    assert len(converted) == 2
    made = export(trained.runs, options)
    assert len(converted) == 2
    made.check_files()
    assert [member.sha256 for member in made.members] == [
        member.sha256 for member in exported.members
    ]
    assert {path.name for path in bundle.parent.iterdir()} == {"bundle"}


def test_another_export_does_not_take_what_was_finished_for_its_own(
    trained: Trained, bundle: Path, converted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as power_cut:
        power_cut.setattr(room, "replace_folder", killed)
        with pytest.raises(Killed):
            export(trained.runs, ExportOptions(bundle=bundle))
    one = ExportOptions(bundle=bundle, voting="uniform")
    with pytest.raises(ToolkitError, match="made from other runs or with another voting"):
        export(trained.runs, one)
    load_bundle(bundle).check_files()
    made = export(trained.runs, dataclasses.replace(one, fresh=True))
    assert made.requested_voting == "uniform"


def test_two_exports_to_one_bundle_are_refused(
    trained: Trained, bundle: Path, converted: list[str]
) -> None:
    with (
        filelock.FileLock(bundle.with_name(".bundle.lock")),
        pytest.raises(ToolkitError, match=r"bundle: another process is exporting.*`bundle=DIR`"),
    ):
        export(trained.runs, ExportOptions(bundle=bundle))
    assert not converted


@pytest.fixture
def own(trained: Trained, tmp_path: Path) -> Run:
    """A copy of the first run, to be spoilt."""
    folder = tmp_path / "runs" / "small" / SMALL
    shutil.copytree(trained.runs[0].folder, folder)
    return load_run(folder)


@pytest.mark.parametrize("kept", [None, 0.0, 0.5])
def test_held_out_answers_that_are_lost_are_not_taken_for_a_training_on_all_photos(
    kept: float | None, own: Run, bundle: Path, converted: list[str]
) -> None:
    path = own.folder / "validation.npz"
    content = path.read_bytes()
    path.unlink()
    if kept is not None:
        path.write_bytes(content[: int(kept * len(content))])
    complaint = r"validation\.npz: (the file is missing|cannot be read).*again with `fresh=True`\."
    with pytest.raises(ToolkitError, match=complaint):
        export([own], ExportOptions(bundle=bundle))
    assert not converted
    assert not bundle.exists()


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_a_network_that_is_not_the_one_of_its_manifest_is_refused(
    lost: bool, exists: bool, own: Run, trained: Trained, bundle: Path, converted: list[str]
) -> None:
    if exists:
        export([own], ExportOptions(bundle=bundle))
        converted.clear()
    if lost:
        own.model_path.unlink()
    else:
        shutil.copy(trained.runs[1].model_path, own.model_path)
    complaint = "the file is missing" if lost else "is not the network that run.json beside it"
    told = rf"{SMALL}/model\.keras: {complaint}.*again with `fresh"
    with pytest.raises(ToolkitError, match=told):
        export([own], ExportOptions(bundle=bundle))
    assert not converted


@pytest.mark.parametrize(
    ("name", "now"),
    [("package_versions", lambda _: {"onnx": "another"}), ("DECODER_VERSION", "another")],
)
def test_a_member_made_with_other_libraries_is_not_taken_from_an_interrupted_export(
    name: str,
    now: Any,
    trained: Trained,
    bundle: Path,
    converted: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(_: Bundle) -> None:
        raise Killed

    with monkeypatch.context() as power_cut:
        power_cut.setattr(room, "save_bundle", killed)
        with pytest.raises(Killed):
            export(trained.runs[:1], ExportOptions(bundle=bundle))
    monkeypatch.setattr(members, name, now)
    export(trained.runs[:1], ExportOptions(bundle=bundle))
    assert converted == [SMALL, SMALL]


def test_a_link_to_a_bundle_stays_one(
    trained: Trained, copied: Bundle, converted: list[str], tmp_path: Path
) -> None:
    link = tmp_path / "elsewhere" / "latest"
    link.parent.mkdir()
    link.symlink_to(copied.folder)
    made = export(trained.runs, ExportOptions(bundle=link, voting="uniform", fresh=True))
    assert (made.folder, link.readlink()) == (link, copied.folder)
    assert load_bundle(copied.folder).requested_voting == "uniform"
    assert [path.name for path in link.parent.iterdir()] == ["latest"]


def test_an_export_that_came_to_nothing_leaves_nothing(
    trained: Trained, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise ToolkitError("the disk is full")

    monkeypatch.setattr(members, "decoded_photos", full)
    with pytest.raises(ToolkitError, match="disk is full"):
        export(trained.runs, ExportOptions(bundle=bundle))
    assert not list(bundle.parent.iterdir())


def test_a_member_that_does_not_agree_with_keras_is_named(
    trained: Trained, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: Any, **__: Any) -> Any:
        raise ToolkitError("The exported file computes something else: a logit differs")

    monkeypatch.setattr(members, "in_own_process", differs)
    with pytest.raises(ToolkitError, match=rf"{SMALL} \(.*runs/small/{SMALL}\): The exported file"):
        export(trained.runs, ExportOptions(bundle=bundle))
    assert not bundle.exists()


class TestVoting:
    def test_an_alternative_can_be_asked_for(
        self, trained: Trained, bundle: Path, converted: list[str]
    ) -> None:
        made = export(trained.runs, ExportOptions(bundle=bundle, voting="accuracy"))
        assert {table.choice for table in made.voting.values()} == {"accuracy"}

    @pytest.mark.parametrize("voting", ["accuracy", "fitted", "uniform"])
    def test_photos_that_are_all_alike_can_fit_no_weights(
        self, voting: str, own: Run, bundle: Path, converted: list[str]
    ) -> None:
        validation = own.validation
        assert validation is not None
        alike = np.zeros_like(validation.groups)
        dataclasses.replace(validation, groups=alike).save(own.folder / "validation.npz")
        wanted = ExportOptions(bundle=bundle, voting=voting)
        if voting == "uniform":
            made = export([own], wanted)
            assert all(table.choice in table.alternatives for table in made.voting.values())
            return
        with pytest.raises(UsageError, match=rf"`voting='{voting}'`: .* are near-duplicates.*auto"):
            export([own], wanted)
        assert not converted

    def test_weights_can_be_given(
        self, trained: Trained, bundle: Path, converted: list[str]
    ) -> None:
        voting = f"{SMALL}=1,{SMALL}-second=3"
        made = export(trained.runs, ExportOptions(bundle=bundle, voting=voting))
        for table in made.voting.values():
            assert table.choice == "custom"
            assert table.alternatives["custom"].weights == (0.25, 0.75)
            assert table.alternatives["custom"].accuracy is not None

    @pytest.mark.parametrize(
        ("voting", "message"),
        [
            (
                "majority",
                "`voting='majority'`: Expected auto, uniform, accuracy, fitted, selected or NAME=",
            ),
            ("xception=1", "unknown member 'xception'"),
            (f"{SMALL}=-1", "weight of at least 0"),
            (f"{SMALL}=0", "at least one weight over 0"),
        ],
    )
    def test_a_wrong_wish_is_refused_before_any_work(
        self, voting: str, message: str, trained: Trained, bundle: Path, converted: list[str]
    ) -> None:
        with pytest.raises(UsageError, match=message):
            export(trained.runs, ExportOptions(bundle=bundle, voting=voting))
        assert not converted
        assert not bundle.exists()


@pytest.fixture
def refit(trained: Trained, tmp_path: Path) -> Run:
    """The first run, as if it had been trained on all photos."""
    run = trained.runs[0]
    folder = tmp_path / "runs" / "small" / f"{SMALL}-refit"
    shutil.copytree(run.folder, folder)
    (folder / "validation.npz").unlink()
    content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    content["data"] |= {"validation_fraction": 0.0, "validation_photos": 0, "held_out": ""}
    content["score"] = None
    write_json(folder / "run.json", content)
    return load_run(folder)


class TestMembersThatTrainedOnAllPhotos:
    def test_vote_uniformly_and_claim_no_figures(
        self, refit: Run, bundle: Path, converted: list[str]
    ) -> None:
        made = export([refit], ExportOptions(bundle=bundle))
        assert {table.choice for table in made.voting.values()} == {"uniform"}
        assert made.voting[1].alternatives["uniform"].weights == (1.0,)
        assert made.voting[1].alternatives["uniform"].accuracy is None
        assert made.validation_sha256 == ""
        assert made.members[0].score is None
        made.check_files()
        with pytest.raises(ToolkitError, match="trained on all photos: no validation"):
            load_validation(made)

    def test_leave_nothing_of_an_interrupted_export_of_others_in_the_bundle(
        self,
        refit: Run,
        trained: Trained,
        bundle: Path,
        converted: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def killed(_: Bundle) -> None:
            raise Killed

        with monkeypatch.context() as power_cut:
            power_cut.setattr(room, "save_bundle", killed)
            with pytest.raises(Killed):
                export(trained.runs, ExportOptions(bundle=bundle))
        export([refit], ExportOptions(bundle=bundle)).check_files()

    @pytest.mark.parametrize("voting", ["accuracy", "fitted"])
    def test_cannot_have_fitted_weights_which_is_told_before_any_work(
        self, refit: Run, bundle: Path, converted: list[str], voting: str
    ) -> None:
        with pytest.raises(UsageError, match="only be found where photos were held out"):
            export([refit], ExportOptions(bundle=bundle, voting=voting))
        assert not converted
        assert not list(bundle.parent.glob(".bundle*"))

    def test_are_chosen_only_by_name(self, refit: Run) -> None:
        runs = refit.folder.parents[1]
        with pytest.raises(ToolkitError, match="no finished run"):
            choose_runs(runs)
        assert choose_runs(runs, name="refit") == [refit]

    def test_do_not_mix_with_validated_ones(self, refit: Run, trained: Trained) -> None:
        with pytest.raises(ToolkitError, match="one would vote on photos that the other"):
            choose_runs([trained.runs[0].folder, refit.folder])


class TestTheDataThatRunsSaw:
    @pytest.fixture
    def data(self, trained: Trained, tmp_path: Path) -> Path:
        shutil.copytree(trained.data, tmp_path / "data")
        return tmp_path / "data"

    def test_may_have_moved(
        self, trained: Trained, data: Path, bundle: Path, converted: list[str], exported: Bundle
    ) -> None:
        made = export(trained.runs, ExportOptions(bundle=bundle, data=data))
        assert made.data == exported.data
        np.testing.assert_array_equal(
            load_validation(made).probabilities, load_validation(exported).probabilities
        )

    def test_may_not_have_changed(
        self, trained: Trained, data: Path, bundle: Path, converted: list[str]
    ) -> None:
        table = data / "train.csv"
        lines = table.read_text(encoding="utf-8").splitlines()
        identity, label = lines[1].split(",")
        lines[1] = f"{identity},{(int(label) + 1) % 8}"
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
        (photo,) = (data / "train").rglob(identity)
        photo.rename(data / "train" / lines[1].split(",")[1] / identity)
        with pytest.raises(ToolkitError, match=r"other photos or labels than .* was trained on"):
            export(trained.runs, ExportOptions(bundle=bundle, data=data))
        assert not converted

    def test_may_not_have_been_replaced_under_the_same_names(
        self, trained: Trained, data: Path, bundle: Path, converted: list[str]
    ) -> None:
        photo = next((data / "train").rglob("*.jpg"))
        Image.open(photo).save(photo, quality=60)
        with pytest.raises(
            ToolkitError, match=r"data: photos were replaced .* `data=DIR`, or train"
        ):
            export(trained.runs, ExportOptions(bundle=bundle, data=data))
        assert not converted

    def test_must_be_readable(
        self, trained: Trained, data: Path, bundle: Path, converted: list[str]
    ) -> None:
        photo = sorted((data / "train").rglob("*.jpg"))[7]
        photo.write_bytes(b"")
        with pytest.raises(ToolkitError, match=f"cannot be read:\n.*{photo.name}"):
            export(trained.runs, ExportOptions(bundle=bundle, data=data))


class TestChoosingRuns:
    def test_the_latest_of_each_backbone_is_taken(self, trained: Trained) -> None:
        (chosen,) = choose_runs(trained.folder)
        assert chosen.label == trained.runs[1].label

    def test_an_earlier_run_that_is_left_out_is_named(
        self, trained: Trained, capsys: pytest.CaptureFixture[str]
    ) -> None:
        choose_runs(trained.folder, reporter=Reporter(quiet=False))
        told = " ".join(capsys.readouterr().err.split())
        assert f"left out: {trained.runs[0].folder}, because a later run has the same" in told

    def test_a_name_is_taken_by_the_word(self, trained: Trained) -> None:
        (chosen,) = choose_runs(trained.folder, name="second")
        assert chosen.label == f"small/{SMALL}-second"
        with pytest.raises(ToolkitError, match="no finished run 'third'"):
            choose_runs(trained.folder, name="third")

    def test_a_set_without_runs_is_told(self, trained: Trained) -> None:
        with pytest.raises(ToolkitError, match=r"no finished run of set 'improved'.*train-all"):
            choose_runs(trained.folder, set_name="improved")

    def test_their_order_is_not_that_in_which_they_finished(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        for finished, backbone in enumerate(("efficientnetb3", "xception", "resnet101v2")):
            folder = tmp_path / "small" / backbone
            shutil.copytree(trained.runs[0].folder, folder)
            content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            content["finished"] = f"2026-01-01T00:00:0{finished}+00:00"
            write_json(folder / "run.json", content)
            recipe = folder / "recipe.yaml"
            text = recipe.read_text(encoding="utf-8")
            recipe.write_text(
                text.replace(SMALL, backbone).replace("image_size: 32", "image_size: 75"),
                encoding="utf-8",
            )
        chosen = [run.recipe.backbone for run in choose_runs(tmp_path)]
        assert chosen == ["xception", "resnet101v2", "efficientnetb3"]

    def test_members_are_taken_in_the_order_given(self, trained: Trained) -> None:
        folders = [run.folder for run in reversed(trained.runs)]
        assert [run.folder for run in choose_runs(folders)] == folders

    def test_the_folder_that_one_is_in_has_its_name(
        self, trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(trained.runs[0].folder)
        assert member_names(choose_runs([Path()])) == [SMALL]

    def test_a_folder_that_is_given_twice_is_refused(self, trained: Trained) -> None:
        folder = trained.runs[0].folder
        again = folder.parent / ".." / folder.parent.name / folder.name
        with pytest.raises(UsageError, match=r"`runs=.*: is named twice"):
            choose_runs([folder, again])

    @pytest.mark.parametrize(
        "other",
        [
            {"held_out": "0" * 64},
            {"fingerprint": "0" * 64},
            {"left_out": ["a.jpg"]},
            {"photos_sha256": "0" * 64},
        ],
    )
    def test_members_of_different_splits_are_refused(
        self, other: dict[str, Any], trained: Trained, tmp_path: Path
    ) -> None:
        shutil.copytree(trained.runs[1].folder, tmp_path / "run")
        content = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
        content["data"] |= other
        write_json(tmp_path / "run" / "run.json", content)
        with pytest.raises(ToolkitError, match="trained on different data or splits"):
            choose_runs([trained.runs[0].folder, tmp_path / "run"])

    def test_members_are_named_after_their_folders_and_sets_where_needed(
        self, trained: Trained
    ) -> None:
        first, second = trained.runs
        other_set = dataclasses.replace(first, folder=Path("runs/other") / SMALL)
        assert member_names([first, second]) == [SMALL, f"{SMALL}-second"]
        assert member_names([first, second, other_set]) == [
            f"small-{SMALL}",
            f"{SMALL}-second",
            f"other-{SMALL}",
        ]

    def test_members_of_one_set_in_two_folders_of_runs_are_told_apart(
        self, trained: Trained, bundle: Path, converted: list[str], tmp_path: Path
    ) -> None:
        folder = tmp_path / "seed7" / "small" / SMALL
        shutil.copytree(trained.runs[1].folder, folder)
        runs = [trained.runs[0], load_run(folder)]
        assert member_names(runs) == [f"small-{SMALL}", f"small-{SMALL}-2"]
        made = export(runs, ExportOptions(bundle=bundle))
        made.check_files()
        assert len({member.sha256 for member in made.members}) == 2
        assert [each.model_sha256 for each in made.members] == [run.model_sha256 for run in runs]


def test_weights_by_another_metric_are_another_bundle(
    trained: Trained, exported: Bundle, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported.folder, tmp_path / "bundle"))
    with pytest.raises(ToolkitError, match=r"voting auto by log-loss.*voting auto by macro-f1"):
        export(trained.runs, ExportOptions(bundle=folder, metric="macro-f1"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"metric": "auc", "voting": "selected"},
            "`voting='selected'`: Expected with a metric of labels",
        ),
        ({"voting": "selected"}, "received log-loss, which 'fitted' and 'auto' serve"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_before_anything_is_exported(
    trained: Trained, tmp_path: Path, options: dict[str, str], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        export(trained.runs, ExportOptions(bundle=tmp_path / "bundle", **options))
    assert not list(tmp_path.iterdir())


def test_classes_without_an_order_have_no_kappa_to_choose_by(
    trained: Trained, tmp_path: Path
) -> None:
    named = dataclasses.replace(trained.runs[0].data, classes=tuple("abcdefgh"))
    runs = [dataclasses.replace(run, data=named) for run in trained.runs]
    with pytest.raises(UsageError, match=r"`metric='kappa'`: the classes of .* are not numbers"):
        export(runs, ExportOptions(bundle=tmp_path / "bundle", metric="kappa"))
