"""Recipes as files: sets of them, the resolved one of a run, and what is wrong in one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import pydantic
import yaml
from pydantic import BaseModel

from toolkit.data.augmentor import Augmentor
from toolkit.errors import RecipeError, ToolkitError, suggestion
from toolkit.files import regular_file
from toolkit.training.recipe import Recipe
from toolkit.training.registry import BACKBONES, find_backbone

SET_FILE, AUGMENTOR_FILE = "set.yaml", "augmentor.yaml"

LARGEST_RECIPE = 2**20
"""Bytes of a YAML file that is read."""


@dataclass(frozen=True)
class RecipeSet:
    """A folder of recipes that share one augmentor.

    Attributes:
        name: The folder's name.
        description: What the set is for.
        recipes: By backbone, in the registry's order.
    """

    name: str
    description: str
    recipes: Mapping[str, Recipe]

    def recipe(self, backbone: str) -> Recipe:
        """Return the recipe of a backbone.

        Raises:
            ToolkitError: The set has none for it.
        """
        find_backbone(backbone)
        if backbone not in self.recipes:
            raise RecipeError(
                f"recipe set '{self.name}' has no {backbone}.yaml. "
                f"{suggestion(backbone, self.recipes)}"
            )
        return self.recipes[backbone]


def shipped_sets() -> list[str]:
    """Return the names of the recipe sets that come with the toolkit."""
    root = _shipped()
    return sorted(path.name for path in root.iterdir() if (path / SET_FILE).is_file())


def load_set(name: str) -> RecipeSet:
    """Load a recipe set.

    Args:
        name: Of a set that comes with the toolkit, or the path of a folder.

    Returns:
        All its recipes.

    Raises:
        ToolkitError: There is no such set, or a file in it is wrong; the message names file, key
            and what was expected.
    """
    return _load(set_folder(name))


def load_shipped_sets() -> list[RecipeSet]:
    """Load all recipe sets that come with the toolkit, whatever lies in the working folder."""
    return [_load(_shipped() / name) for name in shipped_sets()]


def shipped_twin(recipe: Recipe) -> Recipe | None:
    """Return the recipe that comes with the toolkit and is, but for words, this one; else None."""
    if recipe.set not in shipped_sets():
        return None
    twin = _load(_shipped() / recipe.set).recipes.get(recipe.backbone)
    return twin if twin and twin.settings == recipe.settings else None


def copy_set(name: str, target: Path) -> str:
    """Copy a recipe set into a new folder, to be edited there.

    Returns:
        The name that `load_set` finds the copy by.

    Raises:
        ToolkitError: There is no such set, or the folder exists.
    """
    source = set_folder(name)
    if target.exists():
        raise RecipeError(f"{target}: exists already. Name a new folder.", path=target)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for path in sorted(source.glob("*.yaml")):
            shutil.copyfile(path, partial / path.name)
        partial.rename(target)
    except OSError as error:
        raise RecipeError(f"{target}: cannot be written ({error.strerror}).", path=target) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return f"./{target}" if str(target) in shipped_sets() else str(target)


def set_folder(name: str) -> Path:
    """Return the folder of a set that comes with the toolkit, or of the user's own.

    Raises:
        ToolkitError: There is no such set, or there are two of that name.
    """
    is_shipped, is_own = name in shipped_sets(), (Path(name) / SET_FILE).is_file()
    if is_shipped and is_own:
        raise RecipeError(
            f"recipe set '{name}': comes with the toolkit, and here is a folder of that name. "
            f"Pass ./{name} for the folder, or rename it."
        )
    folder = _shipped() / name if is_shipped else Path(name)
    if not (folder / SET_FILE).is_file():
        own = (str(path.parent) for path in Path(name).parent.glob(f"*/{SET_FILE}"))
        raise RecipeError(
            f"recipe set '{name}': no such set, and no folder with a {SET_FILE}. "
            f"{suggestion(name, [*shipped_sets(), *own])}"
        )
    return folder


def recipe_from_yaml(path: Path) -> Recipe:
    """Read a resolved recipe, as a run folder holds it."""
    content = _read_yaml(path, dict)
    try:
        return Recipe.model_validate(content)
    except ToolkitError as error:
        raise RecipeError(f"{path}: {error}", path=path) from None
    except pydantic.ValidationError as error:
        raise RecipeError(_explain(error, lambda key: path)) from None


def _shipped() -> Path:
    return Path(str(resources.files("toolkit.recipes")))


def _load(folder: Path) -> RecipeSet:
    shared = _read_yaml(folder / SET_FILE, dict)
    steps = _augmentor_steps(folder / AUGMENTOR_FILE)
    files = {path.stem: path for path in folder.glob("*.yaml")}
    unknown = set(files) - {"set", "augmentor", *BACKBONES}
    if unknown:
        path = files[min(unknown)]
        raise RecipeError(
            f"{path}: unknown backbone '{path.stem}'. {suggestion(path.stem, BACKBONES)}", path=path
        )
    set_name = folder.resolve().name
    recipes = {
        backbone: _recipe(set_name, files[backbone], shared, folder / SET_FILE, steps)
        for backbone in BACKBONES
        if backbone in files
    }
    if not recipes:
        raise RecipeError(
            f"{folder}: the recipe set has no recipe. Add a file such as xception.yaml.",
            path=folder,
        )
    return RecipeSet(set_name, str(shared.get("description", "")), recipes)


def _augmentor_steps(path: Path) -> list[Any]:
    steps: list[Any] = _read_yaml(path, list)
    try:
        Augmentor(steps)
    except ToolkitError as error:
        raise RecipeError(f"{path}: {error}", path=path) from None
    return steps


def _recipe(
    set_name: str, path: Path, shared: dict[str, Any], shared_path: Path, steps: list[Any]
) -> Recipe:
    own = _read_yaml(path, dict)
    for key in ("set", "backbone", "augmentor"):
        if key in own or key in shared:
            culprit = path if key in own else shared_path
            raise RecipeError(
                f"{culprit}: {key}: is given by the names of folder and files.", path=culprit
            )
    content = {**shared, **own, "set": set_name, "backbone": path.stem, "augmentor": steps}
    content["description"] = str(own.get("description", shared.get("description", "")))
    known = {*shared, *Recipe.model_fields}
    try:
        return Recipe.model_validate(content)
    except pydantic.ValidationError as error:
        raise RecipeError(
            _explain(error, lambda key: path if key in own or key not in known else shared_path)
        ) from None


class _Loader(yaml.SafeLoader):
    """Reads plain YAML, and takes no key twice: the first of both would count for nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"the key '{key.value}' stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path, kind: type) -> Any:
    try:
        if path.exists():
            regular_file(path, LARGEST_RECIPE)
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file.", path=path) from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise RecipeError(
            f"{path}: {line}cannot be read as YAML ({error.problem}).", path=path
        ) from None
    except RecursionError:
        raise RecipeError(
            f"{path}: cannot be read as YAML (nested too deeply).", path=path
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(
            f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).", path=path
        ) from None
    if content is None:
        return kind()
    if not isinstance(content, kind):
        expected = "keys and values" if kind is dict else "a list"
        raise RecipeError(
            f"{path}: Expected {expected}, received {type(content).__name__}.", path=path
        )
    return content


def _explain(error: pydantic.ValidationError, file_of: Any) -> str:
    # A misspelt key is also a missing one; it is the spelling that has to be told.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if not isinstance(part, str) or "[" not in part]
    key = ".".join(str(part) for part in location)
    message = first["msg"].removeprefix("Value error, ")
    path = file_of(str(location[0]) if location else message.partition(":")[0])
    if first["type"] == "extra_forbidden":
        known = _keys_at(location[:-1])
        return f"{path}: {key}: unknown key. {suggestion(str(location[-1]), known)}"
    if first["type"] == "missing":
        return f"{path}: {key}: the key is missing."
    received = f", received {first['input']!r}" if key else ""
    return f"{path}: {key + ': ' if key else ''}{message}{received}."


def _keys_at(location: list[int | str]) -> list[str]:
    model: Any = Recipe
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _section_in(model.model_fields[part].annotation)
    return [key for key in model.model_fields if key not in ("set", "backbone", "augmentor")]


def _section_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_in(inner) for inner in get_args(annotation))
    return next((model for model in found if model is not None), None)
