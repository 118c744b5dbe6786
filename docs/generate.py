"""Writes the reference pages: every command from click, every recipe key from its schema.

    python docs/generate.py            # writes docs/commands.md and docs/recipes-reference.md
    python docs/generate.py --check    # says whether they are up to date

Whoever adds a command, an option, a recipe key or a backbone runs it and commits the pages. A key
is explained in the docstring of its section in `toolkit/training/recipe.py`, under `Attributes:`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from toolkit.cli.main import COMMANDS, cli
from toolkit.training.recipe import Recipe
from toolkit.training.recipe_files import load_shipped_sets
from toolkit.training.registry import BACKBONES

HERE = Path(__file__).parent
HOW = "python docs/generate.py"
NOTE = f"<!-- Made by '{HOW}'. Do not edit. -->\n"


def pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    return {"commands.md": commands_page(), "recipes-reference.md": recipes_page()}


# Commands


def commands_page() -> str:
    """Describe all commands, as click knows them."""
    lines = [
        NOTE,
        "# Every command",
        "",
        "What each command says with `--help`, on one page. Exit codes: 0 for success, 2 for",
        "wrong usage, 1 for anything else that you can mend, 130 after Ctrl-C, 143 after SIGTERM,",
        "and 141 where the program that it was piped into has ended.",
        "",
        "| command | what it does |",
        "|---|---|",
        *(
            f"| [`toolkit {name}`](#toolkit-{name}) | {_text(COMMANDS[name])} |"
            for name in COMMANDS
        ),
        "",
        "`toolkit --version` prints the version, `toolkit --help` and `toolkit COMMAND --help` (or",
        "`-h`) the help.",
    ]
    for name in COMMANDS:
        lines += ["", *_command(name)]
    return _joined(lines)


def command_named(name: str) -> click.Command:
    """Return a command of `toolkit`."""
    found = cli.get_command(click.Context(cli), name)
    assert found is not None, name
    return found


def options_of(command: click.Command) -> list[click.Option]:
    """Return the options that a command has, without --help."""
    return [each for each in command.params if isinstance(each, click.Option)]


def _command(name: str) -> Iterator[str]:
    command = command_named(name)
    group = click.Context(cli, **cli.context_settings)
    pieces = command.collect_usage_pieces(click.Context(command, parent=group, info_name=name))
    yield f"## toolkit {name}"
    yield ""
    yield f"    toolkit {name} {' '.join(pieces)}"
    yield ""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield _text(" ".join(paragraph.split()))
        yield ""
    for option in options_of(command):
        names = ", ".join(
            f"`{each}{_taken(option)}`" for each in (*option.opts, *option.secondary_opts)
        )
        help, said = _help_and_default(option)
        facts = "; ".join(each for each in (said, _bounds(option)) if each)
        yield names
        yield f":   {_text(help)}{f' *{_text(facts[0].upper() + facts[1:])}.*' if facts else ''}"
        yield ""


def _help_and_default(option: click.Option) -> tuple[str, str]:
    help, _, said = (option.help or "").partition("[default: ")
    if said:
        return help.strip(), f"default: {said.rstrip(']')}"
    if isinstance(option.show_default, str):
        return help, f"default: {option.show_default}"
    return help, f"default: {option.default}" if option.show_default else ""


def _taken(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    kind = option.type
    word = "TEXT"
    if option.metavar:
        word = option.metavar
    elif isinstance(kind, click.Choice):
        word = "|".join(map(str, kind.choices))
    elif isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        word = "NUMBER"
    elif isinstance(kind, click.Path):
        word = "PATH" if kind.file_okay and kind.dir_okay else "FILE" if kind.file_okay else "DIR"
    return f" [{word}]" if option.is_flag is False and _may_be_bare(option) else f" {word}"


def _may_be_bare(option: click.Option) -> bool:
    """Return whether an option may stand without its value."""
    return bool(getattr(option, "_flag_needs_value", False))


def _bounds(option: click.Option) -> str:
    kind = option.type
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    low = None if kind.min is None else f"{'above' if kind.min_open else 'at least'} {kind.min}"
    high = None if kind.max is None else f"{'below' if kind.max_open else 'at most'} {kind.max}"
    if low and high and not (kind.min_open or kind.max_open):
        return f"{kind.min} to {kind.max}"
    return ", ".join(each for each in (low, high) if each)


# Recipes


def recipes_page() -> str:
    """Describe all keys of a recipe, the backbones and the sets that come with the toolkit."""
    schema = Recipe.model_json_schema()
    lines = [
        NOTE,
        "# Recipe reference",
        "",
        "How recipes are used stands in [Recipes](recipes.md). All of this is read from the schema",
        "that checks a recipe; a key that is not here is an error, and so is a value outside what",
        "is said here.",
        "",
        "## Keys of a recipe",
        "",
        *_section(schema),
    ]
    for path, section in _sections(schema, schema):
        lines += ["", f"### `{path}`", "", *_section(section)]
    lines += ["", "## Backbones", "", *_backbones(), "", "## Sets that come with the toolkit", ""]
    lines += _sets()
    return _joined(lines)


def sections() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the schema of each section of a recipe with its dotted key; the recipe's is empty."""
    schema = Recipe.model_json_schema()
    yield "", schema
    yield from _sections(schema, schema)


def explained(section: Mapping[str, Any]) -> dict[str, str]:
    """Return what a section's docstring says of each key, under `Attributes:`."""
    _, _, said = str(section.get("description", "")).partition("Attributes:\n")
    found: dict[str, str] = {}
    for key, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", said, flags=re.MULTILINE):
        found[key] = " ".join(text.split())
    return found


def _sections(
    section: Mapping[str, Any], schema: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in section.get("properties", {}).items():
        for inner in _referred(value):
            found = schema["$defs"][inner]
            if found.get("type") == "object":
                yield prefix + key, found
                yield from _sections(found, schema, f"{prefix}{key}.")


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "$ref":
                yield inner.rsplit("/", 1)[1]
            else:
                yield from _referred(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _referred(inner)


def _section(section: Mapping[str, Any]) -> Iterator[str]:
    said, needed = explained(section), section.get("required", ())
    for paragraph in str(section.get("description", "")).partition("Attributes:")[0].split("\n\n"):
        if paragraph.strip():
            yield _text(" ".join(paragraph.split()))
            yield ""
    properties = section.get("properties", {})
    for key, value in properties.items():
        default = "needed" if key in needed else f"default: {_written(value.get('default'))}"
        meaning = said.get(key, value.get("description", ""))
        yield f"`{key}`"
        yield f":   {_text(f'{meaning} '.lstrip())}*{_values(value)}; {default}.*"
        yield ""
    if not properties:
        yield "It has no keys: write `{}`."
        yield ""


def _values(value: Mapping[str, Any]) -> str:
    if "anyOf" in value:
        kinds = [_values(each) for each in value["anyOf"] if each.get("type") != "null"]
        return " or ".join(kinds)
    if "$ref" in value:
        return "A section, below"
    if "const" in value or "enum" in value:
        return ", ".join(f"`{each}`" for each in value.get("enum", [value.get("const")]))
    return _kind(value)


def _kind(value: Mapping[str, Any]) -> str:
    kind = value.get("type")
    if kind == "array":
        inner = value.get("items", {})
        return "A list of sections, below" if "$ref" in inner else f"A list: {_values(inner)}"
    words = {
        "integer": "A whole number",
        "number": "A number",
        "boolean": "`true` or `false`",
        "string": "Text",
        "object": "Names with their parameters",
    }
    limits = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    if kind == "object" and value.get("additionalProperties", True) is not True:
        return "Names with numbers"
    said = [f"{word} {value[key]:g}" for key, word in limits.items() if key in value]
    return ", ".join([words.get(str(kind), "Anything"), *said])


def _written(value: Any) -> str:
    if value in (None, (), [], ""):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _backbones() -> list[str]:
    return _table(
        ("backbone", "in `keras.applications`", "smallest px", "`own` pixels", "weights file"),
        (
            (
                f"`{each.name}`",
                f"`{each.constructor}`",
                each.smallest_size,
                f"`{each.own_pixels}`",
                f"`{each.weights_file}`",
            )
            for each in BACKBONES.values()
        ),
    )


def _sets() -> Iterator[str]:
    for recipes in load_shipped_sets():
        yield f"### Set `{recipes.name}`"
        yield ""
        yield _text(recipes.description)
        yield ""
        yield from _table(
            ("backbone", "px", "batch", "epochs at most", "pixels", "weights", "learning rate"),
            (
                (
                    f"`{name}`",
                    recipe.image_size,
                    recipe.batch_size,
                    recipe.epochs,
                    f"`{recipe.pixels}`",
                    f"`{recipe.weights}`",
                    f"{recipe.optimizer.name} {recipe.optimizer.learning_rate:g}",
                )
                for name, recipe in recipes.recipes.items()
            ),
        )
        yield ""


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    heads = list(heads)
    return [
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def _joined(lines: Iterable[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _text(said: str) -> str:
    """Write help as Markdown: what it quotes, and options, as code."""
    quoted = r"(?<!\w)'([^']+)'|(?<![\w`'-])(--[a-z][a-z-]*)"
    marked = re.sub(quoted, lambda found: f"`{found[1] or found[2]}`", said)
    return re.sub(r"<(\w+)>", r"&lt;\1&gt;", marked)


def stale() -> list[str]:
    """Return the names of generated pages that are not what would be written now."""
    return [
        name
        for name, text in pages().items()
        if not (HERE / name).is_file() or (HERE / name).read_text(encoding="utf-8") != text
    ]


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail where a page is out of date.")
def main(check: bool) -> None:
    """Write the reference pages."""
    if check:
        if found := stale():
            raise click.ClickException(f"docs/{', docs/'.join(found)}: out of date. Run: {HOW}")
        return
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
        print(HERE / name)


if __name__ == "__main__":
    main()
