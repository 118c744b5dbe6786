"""`--folds`, `--holdout`, `--only-folds` and `--fold-policy`, as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--folds 1", "'--folds'"),
        ("--folds 3 --holdout 0", "'--holdout'"),
        ("--folds 3 --holdout 1", "'--holdout'"),
        ("--folds 3 --only-folds 0,x", "Expected numbers with commas between, such as 0,1"),
        ("--folds 3 --only-folds 3", "--only-folds 3: Expected each once, from 0 to 2."),
        ("--folds 3 --only-folds 1,1", "--only-folds 1,1: Expected each once"),
        ("--holdout 0.2", "--holdout 0.2: Expected together with --folds"),
        ("--only-folds 0", "--only-folds 0: Expected together with --folds"),
        ("--folds 3 --refit-all", "--refit-all"),
    ],
)
@pytest.mark.parametrize("command", ["train-all", "train xception"])
def test_options_of_folds_that_do_not_fit_are_bad_usage(
    toolkit: Any, home: Path, command: str, options: str, told: str
) -> None:
    found = toolkit(*command.split(), *options.split())
    assert (found.code, found.out) == (2, "")
    assert told in found.err
    assert not (home / "runs").exists()


def test_the_options_choose_the_folds(
    toolkit: Any, folds: Any, demo_data: Path, small_recipes: Path
) -> None:
    runs = folds[0].folder.parents[1]
    where = ("--recipes", small_recipes, "--data", demo_data, "--runs", runs)
    found = toolkit(
        *("train-all", *where, "--folds", 3, "--holdout", "0.2", "--only-folds", "2,0", "--json")
    )
    assert found.code == 0
    shown = json.loads(found.out)
    assert [run["data"]["fold"]["number"] for run in shown] == [2, 0]
    assert {run["data"]["fold"]["holdout"] for run in shown} == {0.2}


def test_a_missing_fold_is_named_with_the_command_that_trains_it(
    toolkit: Any, here: Path, folds: Any, demo_data: Path
) -> None:
    for run in folds[:2]:
        shutil.copytree(run.folder, here / "runs" / "small" / run.folder.name)
    found = toolkit("export")
    assert (found.code, found.out) == (1, "")
    assert "missing of 3 folds: 2." in found.err
    command = (
        f"'toolkit train mobilenetv3small --recipes ./small --data {demo_data} --runs runs "
        "--split-seed 42 --folds 3 --holdout 0.2 --only-folds 2'"
    )
    assert command in found.err


def test_a_best_fold_where_there_are_none_is_bad_usage(
    toolkit: Any, here: Path, trained: Any
) -> None:
    found = toolkit("export", "--runs", trained.folder, "--fold-policy", "best")
    assert (found.code, found.out) == (2, "")
    assert "--fold-policy best: Expected with runs trained in folds" in found.err
