"""Recipes: the published experiment to the digit, and files whose mistakes are told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import ToolkitError
from toolkit.training import recipe_files as module
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import copy_set, load_set, recipe_from_yaml, shipped_sets

BACKBONES = ("xception", "inceptionv3", "resnet101v2", "efficientnetb3")
PUBLISHED_SETS = ("baseline", "improved", "finetune")
RECIPES = Path(module.__file__).parents[2] / "recipes"

# The published experiment, as the design tells it.

DROPOUT_HEAD = {"pooling": "max", "layers": [{"dropout": {"rate": 0.3}}]}
DENSE_HEAD = {
    "pooling": "max",
    "layers": [
        {"dense": {"units": 256, "activation": "relu", "bias_l2": 0, "activity_l2": 0}},
        {"batch_norm": {}},
        {"dropout": {"rate": 0.5}},
    ],
}
OTHER_HEAD = {
    "pooling": "average",
    "layers": [
        {"batch_norm": {}},
        {"dropout": {"rate": 0.25}},
        {"dense": {"units": 256, "activation": "relu", "bias_l2": 1e-3, "activity_l2": 1e-4}},
        {"batch_norm": {}},
    ],
}
DECAY = {"rate": 0.95, "every_steps": 100}
PLATEAU = {"monitor": "val_loss", "factor": 0.5, "patience": 2, "min_learning_rate": 1e-7}

# Keys that the published sets do not know.
LATER_KEYS = (
    *("zero_init_residual", "warmup_cosine", "label_smoothing", "mixup", "cutmix", "ema"),
    *("focal_gamma", "class_weights", "sampling", "gradient_accumulation_steps"),
)

# name, epochs, frozen share of the layers
ONE_STAGE = [("all", 8, 0)]
FOUR_STAGES = [
    ("head", 10, 1),
    ("upper half", 10, 0.5),
    ("upper three quarters", 10, 0.25),
    ("all", 15, 0),
]

# size, batch, head, decay, plateau, patience of early stopping, stages, pixels, published accuracy
PUBLISHED = {
    "baseline": {
        "xception": (150, 32, DROPOUT_HEAD, None, None, 5, ONE_STAGE, "unit", 0.9099),
        "inceptionv3": (150, 32, DROPOUT_HEAD, None, None, 5, ONE_STAGE, "unit", 0.8829),
        "resnet101v2": (150, 32, DROPOUT_HEAD, None, None, 5, ONE_STAGE, "unit", 0.7459),
        "efficientnetb3": (150, 32, DROPOUT_HEAD, None, None, 5, ONE_STAGE, "raw", 0.9164),
    },
    "improved": {
        "xception": (150, 16, DENSE_HEAD, DECAY, None, 4, ONE_STAGE, "unit", 0.9106),
        "inceptionv3": (150, 16, DENSE_HEAD, DECAY, None, 4, ONE_STAGE, "unit", 0.8964),
        "resnet101v2": (150, 16, DENSE_HEAD, DECAY, None, 4, ONE_STAGE, "unit", 0.9002),
        "efficientnetb3": (150, 16, OTHER_HEAD, None, PLATEAU, 4, ONE_STAGE, "raw", 0.9187),
    },
    "finetune": {
        "xception": (240, 16, DENSE_HEAD, None, PLATEAU, None, FOUR_STAGES, "unit", None),
        "inceptionv3": (240, 16, DENSE_HEAD, None, PLATEAU, None, FOUR_STAGES, "unit", None),
        "resnet101v2": (240, 16, DENSE_HEAD, None, PLATEAU, None, FOUR_STAGES, "unit", None),
        "efficientnetb3": (240, 16, OTHER_HEAD, None, PLATEAU, None, FOUR_STAGES, "raw", None),
    },
}  # fmt: skip

AFFINE = {
    "translate_percent": [-0.08, 0.08],
    "scale": [0.95, 1.05],
    "keep_ratio": True,
    "rotate": [-20, 20],
    "border_mode": "BORDER_REFLECT_101",
}


def brightness_contrast(limit: float) -> dict[str, Any]:
    return {"RandomBrightnessContrast": {"brightness_limit": limit, "contrast_limit": limit}}


# What each step does to photos is measured in tests/data/test_augmentor.py.
AUGMENTORS = {
    "baseline": [
        {
            "Affine": {
                "rotate": [-5, 5],
                "translate_percent": {"x": [-0.1, 0.1], "y": [-0.1, 0.1]},
                "shear": {"x": [-0.1, 0.1], "y": [0, 0]},
                "scale": {"x": [0.9, 1.1], "y": [0.9, 1.1]},
                "keep_ratio": False,
                "border_mode": "BORDER_REFLECT",
                "p": 1,
            }
        }
    ],
    "improved": [
        {"Blur": {"p": 0.07}},
        {"GaussNoise": {"std_range": [0.0124, 0.0277], "p": 0.07}},
        {"Affine": {**AFFINE, "p": 0.65}},
        {"HueSaturationValue": {"p": 0.5}},
        {"HorizontalFlip": {"p": 0.5}},
        {"OneOf": {"transforms": [brightness_contrast(0.2), brightness_contrast(0.1)], "p": 0.5}},
    ],
    "finetune": [
        {"Blur": {"p": 0.07}},
        {"GaussNoise": {"std_range": [0.0124, 0.0277], "p": 0.07}},
        {"Affine": {**AFFINE, "p": 0.7}},
        {"RGBShift": {"p": 0.5}},
        {"HueSaturationValue": {"p": 0.5}},
        {"HorizontalFlip": {"p": 0.5}},
        {"OneOf": {"transforms": [brightness_contrast(0.3), brightness_contrast(0.1)], "p": 0.3}},
    ],
}


def content(recipe: Recipe) -> dict[str, Any]:
    head = recipe.head.model_dump(mode="json", exclude_none=True)
    return {**recipe.model_dump(mode="json"), "head": head}


def test_every_set_has_all_four_backbones() -> None:
    for name in (*PUBLISHED_SETS, "demo"):
        assert set(BACKBONES) <= set(load_set(name).recipes), name


def test_every_shipped_set_loads() -> None:
    assert {*PUBLISHED_SETS, "demo", "modern"} == set(shipped_sets())
    for name in shipped_sets():
        loaded = load_set(name)
        assert loaded.name == name
        assert loaded.description
        assert loaded.recipes


@pytest.mark.parametrize(
    ("recipe_set", "backbone"), [(one, name) for one in PUBLISHED for name in PUBLISHED[one]]
)
def test_a_recipe_is_the_published_one(recipe_set: str, backbone: str) -> None:
    size, batch, head, decay, plateau, patience, stages, pixels, accuracy = PUBLISHED[recipe_set][
        backbone
    ]
    stopping = {"monitor": "val_accuracy", "patience": patience} if patience else None
    recipe = content(load_set(recipe_set).recipe(backbone))
    del recipe["description"]
    assert recipe == {
        "set": recipe_set,
        "backbone": backbone,
        "image_size": size,
        "resize": "stretch",
        "store_size": None,
        "batch_size": batch,
        "validation_fraction": 0.2,
        "seed": 42,
        "weights": "imagenet",
        "pixels": pixels,
        "batch_norm_momentum": None,
        "reestimate_batch_norm": False,
        "head": head,
        "loss": "categorical_crossentropy",
        "optimizer": {"name": "Adamax", "learning_rate": 1e-3},
        "exponential_decay": decay,
        "reduce_on_plateau": plateau,
        "early_stopping": stopping,
        **dict.fromkeys(LATER_KEYS),
        "keep_best": "val_accuracy",
        "stages": [
            {"name": name, "epochs": epochs, "frozen_fraction": frozen, "learning_rate": None}
            for name, epochs, frozen in stages
        ],
        "published_accuracy": accuracy,
        "augmentor": AUGMENTORS[recipe_set],
    }


@pytest.mark.parametrize(("recipe_set", "epochs"), [("baseline", 8), ("finetune", 45)])
def test_epochs_are_those_of_all_stages(recipe_set: str, epochs: int) -> None:
    assert load_set(recipe_set).recipe("xception").epochs == epochs


# A set of one's own.

Edit = Callable[[str, str, str], Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """A function that copies `improved` and replaces some text in one of its files."""

    def edit(file: str, old: str, new: str) -> Path:
        folder = shutil.copytree(RECIPES / "improved", tmp_path / "mine")
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count(old) >= 1
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return edit


def test_a_copied_and_edited_folder_works(edited: Edit) -> None:
    folder = edited("set.yaml", "batch_size: 16", "batch_size: 8")
    mine, shipped = load_set(str(folder)), load_set("improved")
    assert mine.name == "mine"
    assert list(mine.recipes) == list(shipped.recipes)
    for backbone in BACKBONES:
        expected = {**content(shipped.recipe(backbone)), "set": "mine", "batch_size": 8}
        assert content(mine.recipe(backbone)) == expected


def test_a_backbone_file_goes_before_its_set(edited: Edit) -> None:
    folder = edited("xception.yaml", "published", "image_size: 96\npublished")
    loaded = load_set(str(folder))
    assert loaded.recipe("xception").image_size == 96
    assert loaded.recipe("inceptionv3").image_size == 150


def test_a_set_of_one_backbone_says_what_it_has(edited: Edit) -> None:
    folder = edited("set.yaml", "seed: 42", "seed: 43")
    for backbone in BACKBONES[1:]:
        (folder / f"{backbone}.yaml").unlink()
    loaded = load_set(str(folder))
    assert loaded.recipe("xception").seed == 43
    with pytest.raises(ToolkitError, match=r"'mine' has no inceptionv3\.yaml.*xception"):
        loaded.recipe("inceptionv3")
    with pytest.raises(ToolkitError, match=r"unknown backbone 'xcepton'. Did you mean 'xception'"):
        loaded.recipe("xcepton")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        # The key, where it stands, and the one that was probably meant.
        ("set.yaml", "batch_size", "batchsize", "batchsize: unknown key. .*'batch_size'"),
        ("set.yaml", "early_stopping", "early_stoping", "early_stoping: .* 'early_stopping'"),
        ("set.yaml", "learning_rate", "learn_rate", "optimizer.learn_rate: .* 'learning_rate'"),
        ("set.yaml", "units", "unit", "head.layers.0.dense.unit: unknown key. .* 'units'"),
        ("set.yaml", "dropout", "drop_out", "head.layers.2.drop_out: unknown key. .* 'dropout'"),
        ("set.yaml", "epochs: 8", "epoch: 8", "stages.0.epoch: unknown key. .* 'epochs'"),
        ("set.yaml", "every_steps", "steps", "exponential_decay.steps: .* 'every_steps'"),
        ("efficientnetb3.yaml", "pixels", "pixel", "pixel: unknown key. Did you mean 'pixels'"),
        ("efficientnetb3.yaml", "bias_l2", "bias_l1", "head.layers.2.dense.bias_l1: .* 'bias_l2'"),
        ("efficientnetb3.yaml", "pooling", "pool", "head.pool: .* 'pooling'"),
        ("set.yaml", "seed: 42\n", "", "seed: the key is missing"),
        # The value, and those that are allowed.
        ("set.yaml", "Adamax", "Adamix", "optimizer.name: .*'Adamax', 'Adam', .*received 'Adamix'"),
        ("set.yaml", "pixels: unit", "pixels: units", "pixels: .*'unit', 'raw', .*'units'"),
        ("set.yaml", "weights: imagenet", "weights: web", "weights: .*'imagenet' or 'none'"),
        ("set.yaml", "rate: 0.5", "rate: 5", "head.layers.2.dropout.rate: .*less than 1, rec"),
        ("set.yaml", "epochs: 8", "epochs: 0", "stages.0.epochs: .*greater than 0, received 0"),
        ("set.yaml", "batch_size: 16", "batch_size: many", "batch_size: .*integer.*'many'"),
        ("set.yaml", "fraction: 0.2", "fraction: 20", "validation_fraction: .*less than 1"),
        ("set.yaml", "size: 150", "size: 4000", "image_size: .*less than or equal to 1024"),
        ("efficientnetb3.yaml", "relu", "relux", "head.layers.2.dense.activation: .*'relu', 'elu'"),
        ("efficientnetb3.yaml", "average", "mean", "head.pooling: .*'max' or 'average'.*'mean'"),
        # What does not fit together.
        ("set.yaml", "size: 150", "size: 70", "image_size: .*at least 71 for xception"),
        ("set.yaml", "size: 150", "size: 150\nstore_size: 149", "store_size: .*least the image_s"),
        ("set.yaml", "size: 150", "size: 150\nstore_size: 1025", "store_size: .*equal to 1024"),
        ("set.yaml", "size: 150", "size: 150\nresize: pad", "resize: .*'letterbox' or 'center_c"),
        ("inceptionv3.yaml", "pub", "image_size: 74\npub", "image_size: .*at least 75 for"),
        ("efficientnetb3.yaml", "exponential_decay: null\n", "", "only one of exponential_decay"),
        (
            "set.yaml",
            "- batch_norm: {}",
            "- {batch_norm: {}, dropout: {rate: 0.1}}",
            "head.layers.1: Expected exactly one of dense, dropout, batch_norm",
        ),
        (
            "set.yaml",
            "\n  - {name: all, epochs: 8, frozen_fraction: 0}",
            " []",
            "stages: .*at least 1 item",
        ),
        ("xception.yaml", "pub", "backbone: xception\npub", "backbone: is given by the names"),
        ("set.yaml", "seed", "augmentor: []\nseed", "augmentor: is given by the names"),
        ("set.yaml", "seed", "warmup_cosine: {floor: 0.1}\nseed", "one of exponential_decay, "),
        ("set.yaml", "seed", "mixup: {alpha: 1}\ncutmix: {alpha: 1}\nseed", "one of mixup and cut"),
        (
            "set.yaml",
            "seed",
            "class_weights: balanced\nsampling: balanced\nseed",
            "sampling: Expected only one of class_weights and sampling",
        ),
        ("set.yaml", "seed", "focal_gamma: 1\nseed", "focal_gamma: Expected with loss: focal"),
        ("set.yaml", "seed", "class_weights: {a: 0}\nseed", "class_weights: .*received 0 for 'a'"),
        (
            "set.yaml",
            "seed",
            "ema: {momentum: 0.9, stages: [al]}\nseed",
            "ema: stages: unknown stage 'al'. Did you mean 'all'",
        ),
        ("set.yaml", "seed", "ema: {momentum: 1}\nseed", "ema.momentum: .*less than 1, received 1"),
        ("set.yaml", "seed", "mixup: {alpha: 0}\nseed", "mixup.alpha: .*greater than 0, received"),
        ("set.yaml", "seed", "mixup: {beta: 1}\nseed", "mixup.beta: unknown key. .*alpha"),
        ("set.yaml", "seed", "label_smoothing: 10\nseed", "label_smoothing: .*less than 1, rec"),
        (
            "set.yaml",
            "exponential_decay: {rate: 0.95, every_steps: 100}",
            "warmup_cosine: {warmup_fraction: 1}",
            "warmup_cosine.warmup_fraction: .*less than 1, received 1",
        ),
        # No recipe at all.
        ("set.yaml", "seed: 42", "seed: [42", r"line \d+: cannot be read as YAML"),
        ("set.yaml", "seed: 42", "seed: 42\nseed: 43", r"line \d+: .*the key 'seed' stands twice"),
        ("xception.yaml", "published_accuracy: 0.9106", "- 1", "Expected keys and values.* list"),
        ("augmentor.yaml", "- Blur: {p: 0.07}", "- Blurr: {p: 0.07}", "Did you mean 'Blur'"),
        ("augmentor.yaml", "- Blur: {p: 0.07}", "- Blur: {p: 7}", "Blur: p: .*received 7"),
        ("augmentor.yaml", "std_range", "var_limit", "GaussNoise: .*'var_limit'.*std_range"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_and_key(
    edited: Edit, file: str, old: str, new: str, message: str
) -> None:
    folder = edited(file, old, new)
    with pytest.raises(ToolkitError, match=message) as caught:
        load_set(str(folder))
    assert str(caught.value).startswith(f"{folder / file}: ")
    assert "\n" not in str(caught.value)


def test_stages_of_one_name_are_refused(edited: Edit) -> None:
    stage = "- {name: all, epochs: 8, frozen_fraction: 0}"
    folder = edited("set.yaml", stage, f"{stage}\n  {stage}")
    with pytest.raises(ToolkitError, match=r"set\.yaml: stages: Expected different names"):
        load_set(str(folder))


def test_a_file_of_an_unknown_backbone_is_named(edited: Edit) -> None:
    folder = edited("xception.yaml", "published", "published")
    (folder / "xception.yaml").rename(folder / "xeption.yaml")
    with pytest.raises(ToolkitError, match=r"xeption\.yaml: .*'xeption'. Did you mean 'xception'"):
        load_set(str(folder))


def test_an_unknown_set_has_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match=r"'improvd': no such set.*Did you mean 'improved'"):
        load_set("improvd")
    copy_set("improved", tmp_path / "mine")
    with pytest.raises(ToolkitError, match=r"mien': no such set.*Did you mean '.*/mine'"):
        load_set(str(tmp_path / "mien"))
    with pytest.raises(ToolkitError, match=r"no folder with a set\.yaml.*baseline.*improved"):
        load_set(str(tmp_path))
    (tmp_path / "set.yaml").write_text("image_size: 150\n", encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"augmentor\.yaml: no such file"):
        load_set(str(tmp_path))
    (tmp_path / "augmentor.yaml").write_text("- HorizontalFlip:\n", encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"has no recipe. Add a file such as xception\.yaml"):
        load_set(str(tmp_path))


# The resolved recipe of a run.


@pytest.mark.parametrize("recipe_set", ["baseline", "improved", "finetune", "demo", "modern"])
def test_a_resolved_recipe_comes_back_as_it_was(tmp_path: Path, recipe_set: str) -> None:
    for backbone, recipe in load_set(recipe_set).recipes.items():
        path = tmp_path / f"{backbone}.yaml"
        path.write_text(recipe.to_yaml(), encoding="utf-8")
        assert recipe_from_yaml(path) == recipe


def test_steps_without_parameters_come_back_too(edited: Edit, tmp_path: Path) -> None:
    steps = "- HorizontalFlip:\n- Affine: {scale: [0.9, 1.1], translate_percent: null}\n#"
    recipe = load_set(str(edited("augmentor.yaml", "- Blur", steps))).recipe("xception")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert recipe_from_yaml(tmp_path / "recipe.yaml") == recipe
    assert recipe.augmentor[0] == {"HorizontalFlip": None}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size", "batchsize", "batchsize: unknown key. Did you mean 'batch_size'"),
        ("backbone: xception", "backbone: xcepton", "'xcepton'. Did you mean 'xception'"),
        ("image_size: 150", "image_size: 64", "image_size: Expected at least 71"),
    ],
)
def test_a_spoilt_resolved_recipe_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    text = load_set("improved").recipe("xception").to_yaml()
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ToolkitError, match=message) as caught:
        recipe_from_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content", ["[" * 50_000, "{a: " * 50_000, "- " * 50_000, "a: &x [*x]\n" + "[" * 50_000]
)
def test_yaml_that_is_nested_too_deeply_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    mine = tmp_path / "mine"
    copy_set("improved", mine)
    (mine / "xception.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"xception\.yaml: .*cannot be read as YAML") as told:
        load_set(str(mine))
    assert "\n" not in str(told.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the files of Unix")
@pytest.mark.parametrize("name", ["xception.yaml", "augmentor.yaml"])
def test_a_pipe_is_no_recipe(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    copy_set("improved", mine)
    (mine / name).unlink()
    os.mkfifo(mine / name)
    with pytest.raises(ToolkitError, match=f"{name}: is a named pipe"):
        load_set(str(mine))
