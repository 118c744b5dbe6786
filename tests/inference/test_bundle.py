"""A bundle is what was exported, or it is refused in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.files import sha256_json
from toolkit.inference.bundle import (
    MANIFEST,
    VALIDATION,
    load_bundle,
    load_validation,
    save_bundle,
)
from toolkit.inference.ensemble import Ensemble


@pytest.fixture
def own(tiny_bundle, tmp_path: Path) -> Path:
    """A copy of the bundle, to spoil."""
    folder: Path = tiny_bundle.copy(tmp_path / "bundle")
    return folder


def edited(folder: Path, *, signed: bool = False, **changes: object) -> None:
    """Change the manifest as an editor would, or (signed) with a fitting hash."""
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content |= changes
    if signed:
        del content["sha256"]
        content["sha256"] = sha256_json(content)
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def test_what_was_saved_is_what_is_loaded(own: Path) -> None:
    bundle = load_bundle(own)
    save_bundle(bundle)
    assert load_bundle(own) == bundle
    assert bundle.classes == ("2", "10", "x y")
    assert [member.image_size for member in bundle.members] == [32, 32, 48]
    assert sorted(bundle.voting) == list(range(1, 9))


def test_the_hash_is_stable_over_saving_and_loading(own: Path) -> None:
    first = load_bundle(own)
    written = json.loads((own / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    save_bundle(first)
    assert first.sha256 == written == load_bundle(own).sha256


def test_the_hash_does_not_depend_on_where_the_bundle_lies(own: Path, tmp_path: Path) -> None:
    before = load_bundle(own).sha256
    moved = own.rename(tmp_path / "elsewhere")
    assert load_bundle(moved).sha256 == before


def test_a_folder_that_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        ToolkitError, match=r"no bundle \(no bundle\.json\).*toolkit export"
    ) as told:
        load_bundle(tmp_path)
    assert str(tmp_path) in str(told.value)


def test_an_edited_manifest_is_refused(own: Path) -> None:
    edited(own, classes=["10", "2", "x y"])
    with pytest.raises(ToolkitError, match=r"bundle\.json: was changed after the export") as told:
        load_bundle(own)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("version", [0, 1, "2", None])
def test_another_schema_is_refused(own: Path, version: object) -> None:
    edited(own, signed=True, schema_version=version)
    with pytest.raises(ToolkitError, match=rf"schema_version: Expected 6, received {version!r}\."):
        load_bundle(own)


def test_a_manifest_that_is_no_json_is_refused(own: Path) -> None:
    (own / MANIFEST).write_text('{"schema_version": 1,', encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"bundle\.json: cannot be read as JSON"):
        load_bundle(own)


class TestFiles:
    def refused(self, folder: Path, name: str, complaint: str) -> None:
        for check in (load_bundle(folder).check_files, lambda: Ensemble.load(folder, device="cpu")):
            with pytest.raises(ToolkitError, match=complaint) as told:
                check()
            assert str(told.value).startswith(str(folder / name))
            assert "\n" not in str(told.value)

    def test_whole_files_pass(self, own: Path) -> None:
        load_bundle(own).check_files()

    def test_a_changed_file_is_refused(self, own: Path) -> None:
        content = bytearray((own / "beta.onnx").read_bytes())
        content[-1] ^= 1
        (own / "beta.onnx").write_bytes(content)
        self.refused(own, "beta.onnx", "the file was changed after the export")

    def test_files_that_changed_places_are_refused(self, own: Path) -> None:
        (own / "alpha.onnx").rename(own / "kept")
        (own / "beta.onnx").rename(own / "alpha.onnx")
        (own / "kept").rename(own / "beta.onnx")
        self.refused(own, "alpha.onnx", "was changed")

    def test_a_missing_file_is_refused(self, own: Path) -> None:
        (own / "gamma.onnx").unlink()
        self.refused(own, "gamma.onnx", "the file is missing")

    @pytest.mark.parametrize("name", ["delta.onnx", "alpha.onnx.data"])
    def test_a_foreign_file_is_refused(self, own: Path, name: str) -> None:
        (own / name).write_bytes(b"weights of another")
        self.refused(own, name, "does not belong to the bundle")

    def test_a_member_without_a_vote_may_be_missing(
        self, own: Path, photos: list[Path], tiny_bundle
    ) -> None:
        """Two views vote 'fitted', in which gamma has weight 0: it is neither read nor loaded."""
        (own / "gamma.onnx").unlink()
        ensemble = Ensemble.load(own, tta=2, device="cpu")
        assert ensemble.member_names == ["alpha", "beta"]
        whole = Ensemble.load(tiny_bundle.folder, tta=2, device="cpu")
        np.testing.assert_array_equal(ensemble.predict(photos), whole.predict(photos))


class TestValidation:
    def test_probabilities_come_with_ids_labels_and_groups(self, own: Path) -> None:
        validation = load_validation(load_bundle(own))
        assert validation.probabilities.shape == (3, 12, 8, 3)
        assert validation.ids[3] == "3.jpg"
        assert len(validation.labels) == len(validation.groups) == 12

    def test_first_views_are_averaged_in_double_precision(self, own: Path) -> None:
        validation = load_validation(load_bundle(own))
        said = validation.probabilities.astype(np.float64)
        expected = (said[:, :, 0] + said[:, :, 1] + said[:, :, 2]) / 3
        np.testing.assert_allclose(validation.averaged(3), expected, rtol=1e-14)

    def test_changed_probabilities_are_refused(self, own: Path) -> None:
        with np.load(own / VALIDATION) as arrays:
            changed = dict(arrays)
        changed["probabilities"][:] = np.float32(1 / 3)
        np.savez(own / VALIDATION, **changed)
        with pytest.raises(ToolkitError, match=r"validation\.npz: the file was changed"):
            load_validation(load_bundle(own))

    def test_missing_probabilities_are_named(self, own: Path) -> None:
        (own / VALIDATION).unlink()
        with pytest.raises(ToolkitError, match=r"validation\.npz: the file is missing"):
            load_validation(load_bundle(own))

    def test_a_bundle_trained_on_all_photos_has_none(self, own: Path) -> None:
        edited(own, signed=True, validation_sha256="")
        with pytest.raises(ToolkitError, match="trained on all photos"):
            load_validation(load_bundle(own))
