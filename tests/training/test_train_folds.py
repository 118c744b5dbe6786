"""`train(folds=K)`: a run for each fold, photos outside all folds, and what is refused before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from toolkit.errors import ToolkitError, UsageError
from toolkit.training.recipe_files import load_set
from toolkit.training.run import PHOTO_DIGITS, Run, load_run
from toolkit.training.train import TrainingOptions, train

if TYPE_CHECKING:
    from tests.conftest import Trained

SMALL = "mobilenetv3small"


def test_each_photo_is_held_out_by_one_fold_or_is_outside_all(folds: list[Run]) -> None:
    assert [run.folder.name for run in folds] == [f"{SMALL}-fold{n}" for n in range(3)]
    outside = folds[0].outside
    assert outside is not None
    held_out = [run.validation for run in folds]
    ids = [str(id) for each in held_out if each for id in each.ids]
    whole = sorted([*ids, *outside.ids.tolist()])
    assert len(set(whole)) == len(whole)
    for run in folds:
        seen = run.data
        assert seen.fold is not None
        assert seen.fold.outside_photos == len(outside.ids)
        together = seen.training_photos + seen.validation_photos + seen.fold.outside_photos
        assert together == len(whole)
        assert sum(seen.class_counts) == seen.training_photos
        assert len(run.trained_on) == PHOTO_DIGITS * seen.training_photos
        assert min(seen.class_counts) > 0


def test_all_folds_answer_the_same_outside_photos_in_their_own_way(folds: list[Run]) -> None:
    said = [run.outside for run in folds]
    assert said[0] and said[1]
    assert np.array_equal(said[0].ids, said[1].ids)
    assert not np.array_equal(said[0].probabilities, said[1].probabilities)


def test_folds_of_another_deal_are_refused_before_training(
    folds: list[Run], trained: Trained
) -> None:
    options = TrainingOptions(data=trained.data, runs=folds[0].folder.parents[1], folds=4)
    with pytest.raises(ToolkitError, match=r"fold0: holds a run with another fold"):
        train(load_set(str(trained.recipes)), [SMALL], options)


def test_a_missing_file_of_outside_predictions_is_named(folds: list[Run], tmp_path: Path) -> None:
    import shutil

    copied = load_run(Path(shutil.copytree(folds[0].folder, tmp_path / "set" / "a")))
    (copied.folder / "outside.npz").unlink()
    with pytest.raises(ToolkitError, match=r"outside\.npz"):
        _ = copied.outside


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"holdout": 0.2}, "`holdout"),
        ({"only_folds": (0,)}, "`only_folds"),
        ({"folds": 1}, "`folds"),
        ({"folds": 3, "refit_all": True}, "`refit_all"),
        ({"folds": 3, "holdout": 1.0}, "`holdout"),
        ({"folds": 3, "only_folds": (3,)}, "from 0 to 2"),
        ({"folds": 3, "only_folds": (0, 0)}, "each once"),
        ({"folds": 3, "only_folds": ()}, "each once"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(
    arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        TrainingOptions(**arguments).check()


def test_more_folds_than_photos_and_classes_without_training_photos_are_refused(
    trained: Trained, tmp_path: Path
) -> None:
    recipes = load_set(str(trained.recipes))
    many = TrainingOptions(data=trained.data, runs=tmp_path / "runs", folds=1000)
    with pytest.raises(ToolkitError, match="at least 1000 photos that differ"):
        train(recipes, [SMALL], many)
    assert not list((tmp_path / "runs").glob("*/*"))
