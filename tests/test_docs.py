"""The documentation says what is there: commands, keys, files, links, messages, snippets."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from toolkit.cli.main import COMMANDS
from toolkit.cli.wording import in_options
from toolkit.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))

FENCE = re.compile(r"^( *)```(\w+)?([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PLACES = ("toolkit/", "tests/", "benchmarks/", "recipes/", "docs/", "setup.cfg", "CONTRIBUTING.md")


def load_generator() -> ModuleType:
    described = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert described and described.loader
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


generate = load_generator()


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> Iterator[tuple[str, str]]:
    """Yield what stands behind the language, and the code, of a page's blocks."""
    for indent, language, said, code in FENCE.findall(text_of(page)):
        if language in languages:
            yield said, re.sub(f"^{indent}", "", code, flags=re.MULTILINE)


def prose_of(page: str) -> str:
    return FENCE.sub("", text_of(page))


def code_spans(page: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose_of(page))


def anchors_of(page: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", head.lower()).strip() for head in heads]
    return {re.sub(r"[-\s]+", "-", head) for head in plain}


# Generated pages


@pytest.mark.parametrize("name", ["commands.md", "recipes-reference.md"])
def test_generated_page_is_up_to_date(name: str) -> None:
    assert text_of(name) == generate.pages()[name], f"Run: {generate.HOW}, and commit docs/{name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_command_and_its_options_have_help_and_stand_on_the_page(name: str) -> None:
    command = generate.command_named(name)
    page = text_of("commands.md")
    section = page.partition(f"\n## toolkit {name}\n")[2].partition("\n## ")[0]

    assert COMMANDS[name].strip()
    assert (command.help or "").strip(), f"toolkit {name} has no help"
    assert section, f"toolkit {name} is not in docs/commands.md. Run: {generate.HOW}"
    for option in generate.options_of(command):
        assert (option.help or "").strip(), f"toolkit {name} {option.opts[0]} has no help"
        assert f"`{option.opts[-1]}" in section


def test_every_recipe_key_stands_on_the_page() -> None:
    page = text_of("recipes-reference.md")

    assert set(Recipe.model_fields) <= {key for _, keys in sections() for key in keys}
    for path, keys in sections():
        head = f"\n### `{path}`\n" if path else "\n## Keys of a recipe\n"
        section = page.partition(head)[2].partition("\n##")[0]
        for key in keys:
            assert f"\n`{key}`\n" in section, f"{path} {key}: Run: {generate.HOW}"


@pytest.mark.parametrize("path", [path for path, _ in generate.sections()])
def test_every_recipe_key_is_explained(path: str) -> None:
    section = dict(generate.sections())[path]
    said = str(section.get("description", ""))
    missing = [
        key
        for key in section.get("properties", {})
        if key not in generate.explained(section) and f"`{key}`" not in said
    ]
    assert not missing, (
        f"{path or 'Recipe'}: {missing}: say in the section's docstring in "
        "toolkit/training/recipe.py, under 'Attributes:', what it is"
    )


def sections() -> list[tuple[str, list[str]]]:
    return [(path, list(found.get("properties", {}))) for path, found in generate.sections()]


def test_recipe_snippets_are_right() -> None:
    from toolkit.data.augmentor import Augmentor
    from toolkit.training.recipe_files import load_set

    resolved = load_set("improved").recipe("efficientnetb3").model_dump(mode="json")
    snippets = [yaml.safe_load(code) for page in PAGES for _, code in blocks(page, "yaml")]
    assert snippets
    for snippet in snippets:
        if isinstance(snippet, list):
            Augmentor(snippet)
        else:
            Recipe.model_validate({**resolved, **snippet})


# Links and files


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        assert not file or (DOCS / file).is_file(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors_of(file or page), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_project_exist(page: str) -> None:
    named = [span for span in code_spans(page) if span.startswith(PLACES) and " " not in span]
    named += [said.partition('"')[2].rstrip('"') for said, _ in blocks(page, "python") if said]
    for path in named:
        if path.startswith(PLACES):
            assert (ROOT / path).exists(), f"{page}: {path}"


@pytest.mark.parametrize("page", PAGES)
def test_names_in_files_of_the_project_stand_there(page: str) -> None:
    for name, path in re.findall(r"`(\w+)` (?:in|of)\s`(toolkit/[\w/]+\.py)`", prose_of(page)):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8")), (
            f"{page}: {name}"
        )


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = [
        file
        for room in navigation
        for pages in room.values()
        for page in pages
        for file in page.values()
    ]
    assert sorted(named) == PAGES


# Commands in the text


def commands_in(page: str) -> list[str]:
    """Return the lines of shell blocks that call toolkit, comments taken away."""
    lines = [line for _, code in blocks(page, "sh") for line in code.splitlines()]
    return [line for line in lines if line.startswith("toolkit ")]


@pytest.mark.parametrize("page", PAGES)
def test_shell_snippets_use_commands_and_options_that_exist(page: str) -> None:
    for line in commands_in(page):
        _, name, *arguments = shlex.split(line, comments=True)
        assert name in COMMANDS, f"{page}: {line}"
        command = generate.command_named(name)
        try:
            command.make_context(name, arguments)
        except click.ClickException as error:
            pytest.fail(f"{page}: {line}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_in_the_text_exist(page: str) -> None:
    options = {
        name
        for command in COMMANDS
        for option in generate.options_of(generate.command_named(command))
        for name in (*option.opts, *option.secondary_opts)
    } | {"--help", "--version"}
    for span in code_spans(page):
        words = span.split()
        if words[0] == "toolkit" and len(words) > 1 and words[1].islower():
            assert words[1] in {*COMMANDS, "--version", "--help"}, f"{page}: {span}"
        if words[0] in ("toolkit", *COMMANDS) or words[0].startswith("--"):
            used = {word.rstrip(",.") for word in words if word.startswith("--")}
            assert used <= options, f"{page}: {span}"


def test_messages_quoted_can_be_printed() -> None:
    """A message that was reworded has to be reworded here too."""
    templates = list(message_templates())
    quoted = [
        line.partition(": ")[2]
        for page in PAGES
        for _, code in blocks(page, "text")
        for line in code.splitlines()
        if line.startswith(("error: ", "Error: ", "warning: ", "guarantee: "))
    ]
    assert len(quoted) > 30
    for message in quoted:
        found = ((said.search(message), size) for size, said in templates)
        covered = [size for match, size in found if match and len(match[0]) > len(message) / 2]
        # Else a few words that stand in many messages would do.
        assert max(covered, default=0) > len(message) / 4, f"no message reads: {message}"


def message_templates() -> Iterator[tuple[int, re.Pattern[str]]]:
    """Yield all sentences of the source code, values as holes, and how long their words are."""
    for path in sorted((ROOT / "toolkit").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        pieces: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(each, "value", None) for each in node.values]
                pieces.update(map(id, node.values))  # They are walked to after it.
            elif id(node) in pieces:
                continue
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            words = [
                in_options(part.rstrip("\n")) if isinstance(part, str) else None for part in parts
            ]
            size = sum(len(word) for word in words if word)
            if size > 15:
                pattern = "".join(".*" if word is None else re.escape(word) for word in words)
                yield size, re.compile(pattern)


# Python


@pytest.fixture
def snippet_folder(
    tiny_bundle: Any, draw_photo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with all that the pages' snippets name: a bundle, a fused file, photos."""
    from toolkit.exporting.fused import fuse
    from toolkit.inference.bundle import load_bundle

    bundle = tiny_bundle.copy(tmp_path / "bundle")
    (tmp_path / "data" / "test_upload").mkdir(parents=True)
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        draw_photo(seed).save(tmp_path / name)
        shutil.copy(tmp_path / name, tmp_path / "data" / "test_upload" / name)
    fuse(load_bundle(bundle), tmp_path / "ensemble.onnx", [tmp_path / "a.jpg"], voting="uniform")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job_folder(
    trained: Any, exported: Any, draw_photo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with all that the page about Python names: data, recipes, a run, its bundle."""
    shutil.copytree(trained.data, tmp_path / "data")
    shutil.copytree(trained.recipes, tmp_path / "small")
    shutil.copytree(trained.runs[0].folder, tmp_path / "runs" / "small" / "mobilenetv3small")
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        draw_photo(seed).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_snippets_of_the_page_about_python_run(
    job_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for _, code in blocks("python.md", "python"):
        exec(compile(code, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "small/mobilenetv3small" in printed
    assert "voting fited `voting='fited'`: Expected auto" in printed
    assert "no-such-folder no-such-folder: no such folder" in printed


BUNDLE_PAGES = [page for page in PAGES if any(blocks(page, "python")) and page != "python.md"]


@pytest.mark.parametrize("page", BUNDLE_PAGES)
def test_python_snippets_run(page: str, snippet_folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for said, code in blocks(page, "python"):
        compiled = compile(code, f"docs/{page}", "exec")
        if "title=" not in said:  # a title marks an excerpt, or what needs more than a bundle
            exec(compiled, names)


def test_ten_lines_answer_as_the_ensemble_does(snippet_folder: Path) -> None:
    from toolkit import Ensemble

    (code,) = [code for _, code in blocks("deploying.md", "python") if "ensemble.onnx" in code]
    names: dict[str, Any] = {}
    exec(compile(code, "docs/deploying.md", "exec"), names)
    expected = Ensemble.load("bundle", tta=4, voting="uniform").predict(["a.jpg"])

    assert names["probabilities"] == pytest.approx(expected, abs=1e-5)
    assert len(names["squares"]) == 2


@pytest.mark.parametrize("size", [(200, 150), (61, 97), (3, 400), (64, 64)])
def test_squares_of_the_page_are_those_of_the_toolkit(size: tuple[int, int]) -> None:
    import numpy as np
    from PIL import Image

    from toolkit.data.pixels import Square

    (code,) = [code for _, code in blocks("deploying.md", "python") if "def letterboxed" in code]
    names: dict[str, Any] = {"np": np, "Image": Image}
    exec(compile(code, "docs/deploying.md", "exec"), names)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    for name, resize in (("letterboxed", "letterbox"), ("center_cropped", "center_crop")):
        np.testing.assert_array_equal(names[name](photo, 50), Square(50, resize)(photo))


def test_pages_fetch_nothing_when_they_are_read() -> None:
    described = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert described and described.loader
    hooks = importlib.util.module_from_spec(described)
    described.loader.exec_module(hooks)

    assert hooks.fetched('<link rel="stylesheet" href="https://fonts.example.org/a.css">')
    assert hooks.fetched("<script src=//example.org/a.js></script>")
    assert not hooks.fetched('<a href="https://example.org">x</a><script src="assets/a.js">')
