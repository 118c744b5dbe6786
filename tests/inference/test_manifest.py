"""A manifest of a stranger is not believed: each flaw is one line that names file and key."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.errors import ToolkitError
from toolkit.files import sha256_file, sha256_json
from toolkit.inference.bundle import MANIFEST, VALIDATION, load_bundle, load_validation
from toolkit.inference.ensemble import Ensemble

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def own(tiny_bundle, tmp_path: Path) -> Path:
    """A copy of the bundle, to spoil."""
    folder: Path = tiny_bundle.copy(tmp_path / "bundle")
    return folder


def content_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return content


def signed(folder: Path, content: dict[str, Any]) -> None:
    """Write a manifest with the hash that fits, as any sender can."""
    content.pop("sha256", None)
    content["sha256"] = sha256_json(content)
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def spoiled(folder: Path, edit: Edit) -> None:
    content = content_of(folder)
    edit(content)
    signed(folder, content)


def refusal(folder: Path, read: Callable[[Path], object] = load_bundle) -> str:
    with pytest.raises(ToolkitError) as told:
        read(folder)
    assert "\n" not in str(told.value)
    return str(told.value)


def put(*keys: str | int, value: object) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return edit


def drop(*keys: str | int) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return edit


TABLE = ("voting", "2")
FITTED = (*TABLE, "alternatives", "fitted")
NAN = float("nan")
VARIANT = {
    "precision": "int8",
    "runtime": "onnxruntime",
    "files": {"alpha.int8.onnx": "0" * 64},
    "figures": {"how": "QDQ"},
}


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (drop("classes"), "classes: the key is missing"),
        (drop("members", 1, "sha256"), "members.1.sha256: the key is missing"),
        (drop(*FITTED, "temperature"), "voting.2.alternatives.fitted.temperature: the key is"),
        (put("colour", value="red"), "colour: unknown key"),
        (put("members", 0, "run_me", value="sh"), "members.0.run_me: unknown key"),
        (put("folder", value="/etc"), "folder: unknown key"),
        (put("classes", value="2,10"), "classes: Input should be a valid array"),
        (put("classes", value=[]), "classes: Tuple should have at least 2 items"),
        (put("classes", value=["one"]), "classes: Tuple should have at least 2 items"),
        (put("classes", value=["a", "b", "a"]), "classes: Expected each once, received 'a' twice"),
        (put("classes", value=["a", "", "b"]), "classes: Expected a category for each"),
        (put("classes", 1, value=10), "classes.1: Input should be a valid string, received 10"),
        (
            put("class_prior", value=[0.5, 0.5]),
            "class_prior: Expected one number for each of the 3",
        ),
        (put("class_prior", value=[0.5, 0.5, 0.5]), "class_prior: Expected numbers that sum to 1"),
        (put("class_prior", value=[1.5, -0.5, 0.0]), "class_prior.0: Input should be less than"),
        (put("members", value=[]), "members: Tuple should have at least 1 item"),
        (put("members", value=None), "members: Input should be a valid"),
        (put("members", 1, "name", value="alpha"), "members: Expected each once, received 'alpha'"),
        (put("members", 1, "name", value="a/b"), "members.1.name: Expected a bare file name"),
        (put("members", 1, "name", value=""), "members.1.name: Expected a bare file name"),
        (put("members", 0, "file", value="/tmp/a.onnx"), "members.0.file: Expected a bare file"),
        (put("members", 0, "file", value="../a.onnx"), "members.0.file: Expected a bare file name"),
        (put("members", 0, "file", value="sub/a.onnx"), "members.0.file: Expected a bare file"),
        (
            put("members", 0, "file", value="C:\\a.onnx"),
            "members.0.file: Expected a bare file name",
        ),
        (put("members", 0, "file", value=".a.onnx"), "members.0.file: Expected a bare file name"),
        (put("members", 0, "file", value="bundle.json"), "members.0.file: String should match"),
        (
            put("members", 0, "file", value="beta.onnx"),
            "members: Expected each once, received 'bet",
        ),
        (put("members", 0, "sha256", value="abc"), "members.0.sha256: String should match"),
        (
            put("members", 0, "image_size", value=40000),
            "members.0.image_size: Input should be less",
        ),
        (put("members", 0, "image_size", value=0), "members.0.image_size: Input should be greater"),
        (put("members", 0, "image_size", value=-32), "members.0.image_size: Input should be great"),
        (
            put("members", 0, "image_size", value="32"),
            "members.0.image_size: Input should be a val",
        ),
        (
            put("members", 0, "image_size", value=32.5),
            "members.0.image_size: Input should be a val",
        ),
        (
            put("members", 0, "image_size", value=True),
            "members.0.image_size: Input should be a val",
        ),
        (put("members", 0, "resize", value="crop"), "members.0.resize: Input should be 'stretch'"),
        (
            put("members", 0, "precision", value="fp8"),
            "members.0.precision: Input should be 'fp32'",
        ),
        (
            put("members", 0, "variants", value=[VARIANT, VARIANT]),
            "members.0: variants: Expected ea",
        ),
        (
            put("members", 0, "variants", value=[VARIANT | {"files": {"../x.onnx": "0" * 64}}]),
            "members.0.variants.0.files.../x.onnx.[key]: Expected a bare file name",
        ),
        (
            put("members", 0, "variants", value=[VARIANT | {"files": {}}]),
            "members.0: variants: int8: files: Expected at least one file",
        ),
        (
            put(*FITTED, "temperature", value=-1),
            "temperature: Input should be greater than or equal",
        ),
        (
            put(*FITTED, "temperature", value=0),
            "temperature: Input should be greater than or equal",
        ),
        (put(*FITTED, "temperature", value=float("inf")), "temperature: Input should be"),
        (put(*FITTED, "temperature", value=1e9), "temperature: Input should be less than or equal"),
        (put(*FITTED, "temperature", value=NAN), "temperature: Input should be"),
        (put(*FITTED, "weights", value=[1.5, -0.5, 0]), "fitted.weights.0: Input should be less"),
        (
            put(*FITTED, "weights", value=[0, 0, 0]),
            "fitted: weights: Expected numbers that sum to 1",
        ),
        (put(*FITTED, "weights", value=[NAN, 0.5, 0.5]), "fitted.weights.0: Input should be"),
        (
            put(*FITTED, "weights", value=[0.5, 0.5]),
            "fitted.weights: Expected one for each of the 3",
        ),
        (put(*TABLE, "choice", value="best"), "voting.2: choice: Expected one of the alternatives"),
        (
            put(*TABLE, "alternatives", value={}),
            "voting.2: choice: Expected one of the alternatives",
        ),
        (put(*TABLE, "metric", value="luck"), "voting.2: metric: Expected one of accuracy"),
        (drop("voting", "3"), "voting.3: Expected a table for 1 to 8 views each"),
        (put("voting", "9", value={}), "voting.9"),
        (put("voting", value={}), "voting.1: Expected a table for 1 to 8 views each"),
        (put("validation_sha256", value="x"), "validation_sha256"),
        (put("pixels", "rules", value=[]), "pixels.rules: Input should be an object"),
        (
            put("pixels", "ranges", value={"16-bit grey": {"low": 5, "high": 5}}),
            "Expected low below",
        ),
        (put("data", "validation_fraction", value=2), "data.validation_fraction: Input should be"),
        (
            put("data", "fingerprint", value=None),
            "data.fingerprint: Input should be a valid string",
        ),
    ],
)
def test_a_flaw_is_named_though_the_hash_fits(own: Path, edit: Edit, complaint: str) -> None:
    spoiled(own, edit)
    told = refusal(own)
    assert told.startswith(f"{own / MANIFEST}: ")
    assert complaint in told
    assert told.endswith("Export the bundle again.")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read as JSON"),
        ("[1, 2]", "Expected a JSON object, received list"),
        ('"bundle"', "Expected a JSON object, received str"),
        ("null", "Expected a JSON object, received NoneType"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('{"members": {"x": {"y": 1, "y": 1}}}', "the key 'y' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 50_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ("\ufeff{}", "cannot be read as JSON"),
    ],
)
def test_what_is_no_manifest_is_one_line(own: Path, text: str, complaint: str) -> None:
    (own / MANIFEST).write_text(text, encoding="utf-8")
    told = refusal(own)
    assert told.startswith(f"{own / MANIFEST}: ")
    assert complaint in told


def test_a_manifest_of_other_bytes_is_one_line(own: Path) -> None:
    (own / MANIFEST).write_bytes(b"\xff\xfe\x00\x00")
    assert "cannot be read as JSON" in refusal(own)


def test_a_manifest_too_large_is_not_read(own: Path) -> None:
    with (own / MANIFEST).open("wb") as file:
        file.truncate(2**33)  # A sparse file: it takes no room.
    assert "has 8,192 MiB; at most 512 are read" in refusal(own)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
class TestLinksAndPipes:
    def test_a_manifest_that_is_a_pipe_or_a_link_is_not_opened(self, own: Path) -> None:
        kept = (own / MANIFEST).rename(own.parent / "kept.json")
        (own / MANIFEST).symlink_to(kept)
        assert "bundle.json: is a link" in refusal(own)
        (own / MANIFEST).unlink()
        os.mkfifo(own / MANIFEST)
        assert "no bundle (no bundle.json)" in refusal(own)

    @pytest.mark.parametrize("name", ["alpha.onnx", "gamma.onnx", VALIDATION])
    def test_a_file_that_is_a_link_is_refused_though_its_bytes_fit(
        self, own: Path, name: str
    ) -> None:
        kept = (own / name).rename(own.parent / "kept")
        (own / name).symlink_to(kept)
        told = refusal(own, lambda folder: load_bundle(folder).check_files())
        assert told.startswith(f"{own / name}: is a link")

    @pytest.mark.parametrize("name", ["alpha.onnx", "beta.onnx", VALIDATION])
    def test_a_file_that_is_a_pipe_is_refused_without_waiting(self, own: Path, name: str) -> None:
        (own / name).unlink()
        os.mkfifo(own / name)
        told = refusal(own, lambda folder: load_bundle(folder).check_files())
        assert told == f"{own / name}: is a named pipe, not a file."


class TestValidation:
    """`validation.npz` is checked as the manifest is: its hash can be computed by anybody."""

    def rewritten(self, folder: Path, **changes: Any) -> None:
        with np.load(folder / VALIDATION) as arrays:
            content = dict(arrays) | changes
        np.savez(folder / VALIDATION, **{k: v for k, v in content.items() if v is not None})
        spoiled(folder, put("validation_sha256", value=sha256_file(folder / VALIDATION)))

    def told(self, folder: Path) -> str:
        told = refusal(folder, lambda each: load_validation(load_bundle(each)))
        assert told.startswith(f"{folder / VALIDATION}: ")
        return told

    def probabilities(self, value: float) -> Any:
        rows = np.full((3, 12, 8, 3), 1 / 3, dtype=np.float32)
        rows[1, 2, 3] = value
        return rows

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            (np.nan, "probabilities: are not finite"),
            (np.inf, "probabilities: are not finite"),
            (-1 / 3, "probabilities: are below 0"),
            (0.0, "probabilities: do not sum to 1 (0)"),
            (0.5, "probabilities: do not sum to 1 (1.5)"),
        ],
    )
    def test_numbers_that_are_no_probabilities(
        self, own: Path, value: float, complaint: str
    ) -> None:
        self.rewritten(own, probabilities=self.probabilities(value))
        assert complaint in self.told(own)

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"labels": None}, "labels: the array is missing"),
            ({"extra": np.arange(3)}, "extra: unknown array"),
            ({"alpha/int8": np.arange(3)}, "alpha/int8: unknown array"),
            ({"labels": np.full(12, 3)}, "labels: Expected 0 to 2, received 3 to 3"),
            ({"labels": np.full(12, -1)}, "labels: Expected 0 to 2, received -1 to -1"),
            ({"labels": np.zeros(12)}, "labels: Expected 12 whole numbers, received float64"),
            ({"labels": np.zeros(11, int)}, "labels: Expected 12 whole numbers, received int64 of"),
            ({"groups": np.zeros((12, 1), int)}, "groups: Expected 12 whole numbers"),
            ({"ids": np.arange(12)}, "ids: Expected text of shape (photos,)"),
            ({"ids": np.array(["a.jpg"] * 12)}, "ids: Expected each once"),
            ({"ids": np.array([], dtype=str)}, "ids: Expected text of shape (photos,)"),
            (
                {"probabilities": np.full((3, 12, 8, 3), 1 / 3)},
                "probabilities: Expected float32 of shape (3, 12, 8, 3), received float64",
            ),
            (
                {"probabilities": np.full((3, 12, 4, 3), 1 / 3, dtype=np.float32)},
                "probabilities: Expected float32 of shape (3, 12, 8, 3), received float32 of shape",
            ),
            ({"probabilities": np.float32(1)}, "probabilities: Expected float32 of shape"),
        ],
    )
    def test_arrays_that_do_not_fit(
        self, own: Path, changes: dict[str, Any], complaint: str
    ) -> None:
        self.rewritten(own, **changes)
        assert complaint in self.told(own)

    def test_objects_are_not_unpickled(self, own: Path) -> None:
        np.savez(own / VALIDATION, ids=np.array([{"a": 1}], dtype=object), allow_pickle=True)
        spoiled(own, put("validation_sha256", value=sha256_file(own / VALIDATION)))
        assert "cannot be read (Object arrays cannot be loaded" in self.told(own)

    @pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 40])
    def test_what_is_no_archive(self, own: Path, content: bytes) -> None:
        (own / VALIDATION).write_bytes(content)
        spoiled(own, put("validation_sha256", value=sha256_file(own / VALIDATION)))
        assert "cannot be read" in self.told(own)

    @pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPX"])
    def test_an_entry_that_is_no_array(self, own: Path, content: bytes) -> None:
        with zipfile.ZipFile(own / VALIDATION, "a") as packed:
            packed.writestr("groups.txt", content)
        spoiled(own, put("validation_sha256", value=sha256_file(own / VALIDATION)))
        assert "groups.txt: is no array" in self.told(own)

    def test_a_small_archive_that_unpacks_to_much_is_not_unpacked(self, own: Path) -> None:
        with zipfile.ZipFile(own / VALIDATION, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("ids.npy", b"x")
        # The size that the archive claims, which is what an unpacking would begin with.
        small, claimed = (1).to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little")
        content = (own / VALIDATION).read_bytes()
        directory = content.rindex(b"PK\x01\x02")
        entry = content[directory:].replace(small, claimed, 1)
        many = io.BytesIO(content[:directory] + entry)
        (own / VALIDATION).write_bytes(many.getvalue())
        spoiled(own, put("validation_sha256", value=sha256_file(own / VALIDATION)))
        from toolkit.artifacts import read_arrays

        with pytest.raises(ToolkitError, match="and at most 1,024 are read"):
            read_arrays(own / VALIDATION, "", [], most_bytes=2**30)


def network(
    path: Path,
    *,
    inputs: tuple[tuple[str, int, list[Any]], ...] = (("images", 2, ["batch", 32, 32, 3]),),
    outputs: tuple[tuple[str, list[Any]], ...] = (("probabilities", ["batch", 3]),),
    row: tuple[float, ...] = (0.2, 0.3, 0.5),
) -> None:
    """Write a network that answers every image with one row. Types: 1 float, 2 uint8, 7 int64."""
    from onnx import TensorProto, helper, numpy_helper, save

    names = [name for name, _, _ in inputs]
    nodes = [
        helper.make_node("Shape", [names[0]], ["shape"], start=0, end=1),
        helper.make_node("Concat", ["shape", "one"], ["wanted"], axis=0),
        *(helper.make_node("Expand", ["row", "wanted"], [name]) for name, _ in outputs),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [
            numpy_helper.from_array(np.array([row], dtype=np.float32), "row"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
        ],
    )
    opsets = [helper.make_opsetid("", 18)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


class TestNetworks:
    """What a file takes, gives and answers is checked, whatever the manifest says of it."""

    def replaced(self, folder: Path, **settings: Any) -> None:
        network(folder / "alpha.onnx", **settings)
        self.vouched(folder)

    def vouched(self, folder: Path) -> None:
        spoiled(folder, put("members", 0, "sha256", value=sha256_file(folder / "alpha.onnx")))

    def told(self, folder: Path) -> str:
        return refusal(folder, lambda each: Ensemble.load(each, device="cpu"))

    @pytest.mark.parametrize(
        ("settings", "complaint"),
        [
            (
                {"inputs": (("photos", 2, ["batch", 32, 32, 3]),)},
                "the one input 'images' tensor(ui",
            ),
            ({"inputs": (("images", 1, ["batch", 32, 32, 3]),)}, "received 'images' tensor(float)"),
            (
                {"inputs": (("images", 2, ["batch", 3, 32, 32]),)},
                "Expected shapes (batch, size, si",
            ),
            ({"inputs": (("images", 2, ["batch", 32, 48, 3]),)}, "received (batch, 32, 48, 3)"),
            ({"inputs": (("images", 2, ["batch", "h", "w", 3]),)}, "received (batch, h, w, 3)"),
            ({"inputs": (("images", 2, [1, 32, 32, 3]),)}, "received (1, 32, 32, 3)"),
            ({"inputs": (("images", 2, ["batch", 48, 48, 3]),)}, "its file has images of 48 px"),
            (
                {
                    "inputs": (
                        ("images", 2, ["batch", 32, 32, 3]),
                        ("more", 2, ["batch", 32, 32, 3]),
                    )
                },
                "received 'images' tensor(uint8), 'more' tensor(uint8)",
            ),
            ({"outputs": (("logits", ["batch", 3]),)}, "the one output 'probabilities'"),
            (
                {"outputs": (("probabilities", ["batch", 3]), ("more", ["batch", 3]))},
                "received 'probabilities' tensor(float), 'more' tensor(float)",
            ),
            (
                {"outputs": (("probabilities", ["batch", 4]),), "row": (0.25,) * 4},
                "its file has images of 32 px and 4 classes",
            ),
        ],
    )
    def test_another_input_or_output_is_refused_at_load(
        self, own: Path, settings: dict[str, Any], complaint: str
    ) -> None:
        self.replaced(own, **settings)
        told = self.told(own)
        assert complaint in told
        assert "alpha" in told

    @pytest.mark.parametrize(
        ("row", "complaint"),
        [
            ((0.0, 0.0, 0.0), "do not sum to 1 (0)"),
            ((2.0, 3.0, 5.0), "do not sum to 1 (10)"),
            ((0.2, 0.3, 0.4), "do not sum to 1 (0.9)"),
            ((float("nan"), 0.5, 0.5), "are not finite"),
            ((float("inf"), 0.0, 0.0), "are not finite"),
            ((-1.0, 1.0, 1.0), "are below 0 (-1)"),
        ],
    )
    def test_answers_that_are_no_probabilities_name_the_member(
        self, own: Path, photos: list[Path], row: tuple[float, ...], complaint: str
    ) -> None:
        self.replaced(own, row=row)
        told = refusal(own, lambda each: Ensemble.load(each, device="cpu").predict(photos[:2]))
        assert told.startswith(f"{own}: member 'alpha' in fp32: its probabilities {complaint}")

    @pytest.mark.parametrize("location", [".hidden", "../outside", "weights.bin"])
    def test_weights_in_another_file_are_refused_before_they_are_read(
        self, own: Path, location: str
    ) -> None:
        import onnx
        from onnx.external_data_helper import set_external_data

        network(own / "alpha.onnx")
        model = onnx.load(own / "alpha.onnx")
        tensor = model.graph.initializer[0]
        (own / location).write_bytes(tensor.raw_data)
        set_external_data(tensor, location)
        tensor.ClearField("raw_data")
        (own / "alpha.onnx").write_bytes(model.SerializeToString())
        (own / location).rename((own / location).with_name(".elsewhere"))
        self.vouched(own)
        assert "alpha.onnx: refers to other files that hold its weights" in self.told(own)

    @pytest.mark.parametrize("content", [b"", b"\xff" * 12, b"\x3a\x7f", b"\x0b\x0b\x0b"])
    def test_what_is_no_network(self, own: Path, content: bytes) -> None:
        (own / "alpha.onnx").write_bytes(content)
        self.vouched(own)
        assert "alpha.onnx: is no ONNX file" in self.told(own)
