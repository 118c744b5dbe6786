"""What a training needs is estimated before it begins, and refused where it surely does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from toolkit.capacity import Capacity
from toolkit.data.pixels import PixelDefinition
from toolkit.errors import ToolkitError
from toolkit.progress import Reporter
from toolkit.training.backend import may_have_gpu
from toolkit.training.memory import refuse_too_little, training_disk, training_memory
from toolkit.training.recipe_files import RecipeSet, load_set
from toolkit.training.train import TrainingOptions, train

MIB, GIB = 2**20, 2**30
RECIPES = load_set("improved").recipes
HASHES = [f"{number:064x}" for number in range(1000)]
PIXELS = PixelDefinition()


def capacity(memory: int = 64 * GIB, disk: int = 500 * GIB) -> Capacity:
    return Capacity(memory, lambda folder: disk)


class TestEstimates:
    def test_larger_photos_and_batches_take_more_memory(self) -> None:
        recipe = RECIPES["xception"]
        larger = recipe.model_copy(update={"image_size": 300})
        more = recipe.model_copy(update={"batch_size": 64})
        assert training_memory(recipe) < training_memory(larger) == training_memory(more)

    def test_runs_at_once_have_their_checkpoints_at_once(self) -> None:
        recipes = list(RECIPES.values())
        assert training_disk(recipes) < training_disk(recipes, at_once=2) < 4 * GIB


class TestRefusal:
    def refuse(self, tmp_path: Path, available: Capacity, *, quiet: bool = True) -> None:
        recipes = list(RECIPES.values())
        runs = tmp_path / "runs"
        refuse_too_little(recipes, runs, HASHES, PIXELS, available, Reporter(quiet), on_gpu=False)

    def test_enough_of_both_is_not_mentioned(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.refuse(tmp_path, capacity(), quiet=False)
        assert capsys.readouterr().err == ""

    def test_too_little_memory_names_the_network_and_both_figures(self, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError, match=r"GiB of memory, 1\.0 GiB are available") as caught:
            self.refuse(tmp_path, capacity(memory=GIB))
        assert str(caught.value).startswith("training xception at 150 px in batches of 16 needs")

    def test_too_small_a_disk_names_the_folders(self, tmp_path: Path) -> None:
        with pytest.raises(ToolkitError, match=r"GiB of disk for .*runs.*, 0\.1 GiB are available"):
            self.refuse(tmp_path, capacity(disk=100 * MIB))

    def test_nothing_to_train_needs_nothing(self, tmp_path: Path) -> None:
        refuse_too_little([], tmp_path, HASHES, PIXELS, capacity(0, 0), Reporter(), on_gpu=False)

    def test_on_a_gpu_the_memory_is_the_gpu_s(self, tmp_path: Path) -> None:
        recipes = list(RECIPES.values())
        refuse_too_little(recipes, tmp_path, HASHES, PIXELS, capacity(0), Reporter(), on_gpu=True)

    @pytest.mark.skipif(may_have_gpu(), reason="a GPU's memory is not looked at")
    def test_train_refuses_before_work_starts(
        self, tmp_path: Path, draw_photo: Callable[..., Image.Image]
    ) -> None:
        for number in range(24):
            photo = tmp_path / "data" / str(number % 2) / f"{number}.png"
            photo.parent.mkdir(parents=True, exist_ok=True)
            draw_photo(number).save(photo)
        huge = RECIPES["xception"].model_copy(update={"batch_size": 2**20})
        options = TrainingOptions(data=tmp_path / "data", runs=tmp_path / "runs", pretrained="none")
        with pytest.raises(ToolkitError, match=r"training .* needs about .* GiB are available"):
            train(RecipeSet("huge", "", {"xception": huge}), ["xception"], options)
        assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_dir()]
