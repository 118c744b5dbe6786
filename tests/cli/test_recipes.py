"""`toolkit recipes` and `toolkit augment`: the experiment as data, and what it does to photos."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

SETS = {"baseline", "demo", "finetune", "improved", "modern"}
BACKBONES = ["xception", "inceptionv3", "resnet101v2", "efficientnetb3"]


class TestRecipes:
    def test_all_sets_are_listed_with_their_backbones(self, toolkit) -> None:
        told = toolkit("recipes")
        assert told.code == 0
        for word in (*SETS, *BACKBONES, "91.87 %", "augmented validation photos"):
            assert word in told.out
        assert set(toolkit("recipes", "--json").json) >= SETS

    def test_a_recipe_is_shown_with_everything_resolved(self, toolkit) -> None:
        told = toolkit("recipes", "improved", "xception")
        shown = yaml.safe_load(told.out)
        assert told.out.startswith("# improved/xception.yaml, resolved\n")
        assert shown["image_size"] == 150
        assert shown["optimizer"] == {"name": "Adamax", "learning_rate": 0.001}

    def test_json_holds_the_same_recipe(self, toolkit) -> None:
        (as_json,) = toolkit("recipes", "improved", "xception", "--json").json
        as_yaml = yaml.safe_load(toolkit("recipes", "improved", "xception").out)
        for key in as_yaml:
            assert as_json[key] == as_yaml[key], key

    def test_a_set_is_shown_whole(self, toolkit) -> None:
        assert [each["backbone"] for each in toolkit("recipes", "demo", "--json").json] == BACKBONES

    def test_a_copy_can_be_edited_and_used(self, toolkit, here: Path) -> None:
        told = toolkit("recipes", "demo", "--copy", "mine")
        assert told.out == "mine: edit it, then 'toolkit train-all --recipes mine'\n"
        settings = here / "mine" / "set.yaml"
        settings.write_text(settings.read_text().replace("image_size: 75", "image_size: 80"))
        assert toolkit("recipes", "mine", "inceptionv3", "--json").json[0]["image_size"] == 80

    def test_a_copy_of_a_shipped_name_is_loaded_by_what_is_printed(
        self, toolkit, here: Path
    ) -> None:
        told = toolkit("recipes", "demo", "--copy", "improved")
        assert told.out.endswith("--recipes ./improved'\n")
        told = toolkit("recipes", "improved")
        assert (told.code, told.out) == (1, "")
        assert "Pass ./improved for the folder" in told.err
        (recipe,) = toolkit("recipes", "./improved", "inceptionv3", "--json").json
        assert recipe["image_size"] == 75
        assert toolkit("recipes").code == 0

    @pytest.mark.parametrize(
        ("arguments", "code", "complaint"),
        [
            (["improvd"], 1, "Did you mean 'improved'?"),
            (["improved", "xeption"], 2, "Did you mean 'xception'?"),
            (["--copy", "mine"], 2, "--copy needs the name of a set"),
        ],
    )
    def test_a_mistake_is_named(
        self, toolkit, here: Path, arguments: list[str], code: int, complaint: str
    ) -> None:
        told = toolkit("recipes", *arguments)
        assert (told.code, told.out) == (code, "")
        assert complaint in told.err

    def test_an_existing_folder_is_not_overwritten(self, toolkit, here: Path) -> None:
        (here / "mine").mkdir()
        (here / "mine" / "set.yaml").write_text("mine", encoding="utf-8")
        told = toolkit("recipes", "demo", "--copy", "mine")
        assert told.code != 0
        assert "mine" in told.err
        assert (here / "mine" / "set.yaml").read_text(encoding="utf-8") == "mine"


class TestAugment:
    def test_a_sheet_is_drawn(self, toolkit, home: Path) -> None:
        told = toolkit("augment", "--photos", 2, "--versions", 3, "--preview", "sheet.png")
        assert told.code == 0, told.err
        assert told.out == "sheet.png: 2 photos, 3 versions each\n"
        with Image.open(home / "sheet.png") as sheet:
            assert min(sheet.size) > 100

    def test_preview_needs_no_name(self, toolkit, home: Path) -> None:
        assert toolkit("augment", "--photos", 1, "--versions", 1, "--preview").code == 0
        assert (home / "augmentation.png").is_file()

    def test_more_photos_than_there_are_is_all_of_them(self, toolkit, home: Path) -> None:
        told = toolkit("augment", "--photos", 40, "--versions", 1)
        assert told.out == "augmentation.png: 12 photos, 1 version each\n"

    def test_a_name_that_is_not_one_of_a_picture_is_refused_before_any_work(
        self, toolkit, here: Path
    ) -> None:
        told = toolkit("augment", "--preview", "sheet.foo", "--data", "nowhere")
        assert (told.code, told.out) == (2, "")
        assert "sheet.foo: Expected a picture's name that ends in .png" in told.err

    def test_a_broken_photo_is_named(self, toolkit, home: Path) -> None:
        for path in (home / "data" / "train").glob("*/*.png"):
            path.write_bytes(b"")
        told = toolkit("augment")
        assert told.code == 1
        assert "the file is empty" in told.err
