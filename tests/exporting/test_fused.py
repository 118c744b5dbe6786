"""The fused file: the same numbers as the bundle, by onnxruntime alone and by OpenVINO."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from PIL import Image

from toolkit.cli.main import main
from toolkit.data.pixels import Pixels, Square, load
from toolkit.errors import ToolkitError, UsageError
from toolkit.exporting import fused as module
from toolkit.exporting.fused import TOLERANCE, Fused, fuse
from toolkit.exporting.fused_graph import Graph, add_views
from toolkit.exporting.rule import MARGIN
from toolkit.files import sha256_file
from toolkit.inference.bundle import Bundle, load_bundle, save_bundle
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.views import VIEWS, View

if TYPE_CHECKING:
    from tests.conftest import Trained

SIZES = (32, 48)
CPU = ["CPUExecutionProvider"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, draw_photo: Callable[..., Any]) -> list[Path]:
    """Four soft photos and one of noise, where each rounding shows."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths[:4]):
        draw_photo(number, (90 + 7 * number, 60 + 3 * number)).save(path)
    Image.fromarray(noise(64)).save(paths[4])
    return paths


@pytest.fixture(scope="module")
def made(tiny_bundle: Any, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Fused:
    """Alpha and beta with four views and a temperature of 1.5."""
    file = tmp_path_factory.mktemp("fused") / "fused.onnx"
    return fuse(load_bundle(tiny_bundle.folder), file, photos)


def noise(size: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def answers(file: Path | bytes, images: dict[int, Pixels]) -> NDArray[np.float32]:
    """What the fused file says to images by size."""
    session = onnxruntime.InferenceSession(file, providers=CPU)
    feed = {each.name: images[each.shape[1]] for each in session.get_inputs()}
    rows: NDArray[np.float32] = session.run(["probabilities"], feed)[0]
    return rows


def resized(photos: list[Path], sizes: tuple[int, ...] = SIZES) -> dict[int, Pixels]:
    return {size: np.stack([load(photo, Square(size)) for photo in photos]) for size in sizes}


def revoted(folder: Path, weights: tuple[float, ...], temperature: float) -> Bundle:
    """Give a bundle's uniform voting other weights and another temperature."""
    bundle = load_bundle(folder)
    changed = {
        views: dataclasses.replace(
            table,
            choice="uniform",
            alternatives={
                "uniform": dataclasses.replace(
                    table.alternatives["uniform"], weights=weights, temperature=temperature
                )
            },
        )
        for views, table in bundle.voting.items()
    }
    save_bundle(dataclasses.replace(bundle, voting=changed))
    return load_bundle(folder)


class TestTheSameNumbersAsTheBundle:
    # Of an even number of views `auto` leaves gamma out and has the temperature 1.5.
    @pytest.mark.parametrize(
        ("views", "voting"),
        [(1, "auto"), (4, "auto"), (4, "accuracy"), (8, "uniform"), (3, "alpha=3,gamma=1")],
    )
    def test_for_any_views_and_voting(
        self, tiny_bundle: Any, photos: list[Path], tmp_path: Path, views: int, voting: str
    ) -> None:
        bundle = load_bundle(tiny_bundle.folder)
        made = fuse(bundle, tmp_path / "fused.onnx", photos, views=views, voting=voting)
        ensemble = Ensemble.load(bundle, tta=views, voting=voting, device="cpu")
        expected = ensemble.predict(photos)
        received = answers(made.file, resized(photos))
        np.testing.assert_allclose(received, expected, rtol=0, atol=5e-6)
        assert np.ptp(expected, axis=0).min() > 0.1, "photos that all look alike prove nothing"
        assert (made.views, made.voting) == (views, ensemble.voting.name)
        assert made.largest_difference == pytest.approx(np.abs(received - expected).max(), abs=1e-6)
        alone = np.concatenate([answers(made.file, resized([photo])) for photo in photos])
        np.testing.assert_allclose(alone, received, rtol=0, atol=5e-6)

    def test_for_networks_that_keras_trained(
        self, exported: Bundle, trained: Trained, tmp_path: Path
    ) -> None:
        photos = sorted((trained.data / "test_upload").glob("*"))[:5]
        made = fuse(exported, tmp_path / "fused.onnx", photos)
        assert made.largest_difference <= TOLERANCE + MARGIN * made.noise_floor
        assert (made.members, made.views) == (("mobilenetv3small", "mobilenetv3small-second"), 4)
        assert (made.inputs, made.photos) == (("images_32",), 5)

    @pytest.mark.parametrize("temperature", [0.05, 0.4, 20.0])
    def test_where_probabilities_vanish(
        self, tiny_bundle: Any, photos: list[Path], tmp_path: Path, temperature: float
    ) -> None:
        """A high temperature makes much of the least differences between small probabilities."""
        folder = tiny_bundle.copy(tmp_path / "bundle")
        bundle = load_bundle(folder)
        for number, member in enumerate(bundle.members):
            path = folder / member.file
            network = onnx.load(path)
            for constant in network.graph.initializer:
                if constant.name in ("weights", "bias"):
                    steep = 30 * numpy_helper.to_array(constant)
                    constant.CopyFrom(numpy_helper.from_array(steep, constant.name))
            onnx.save(network, path)
            members = list(bundle.members)
            members[number] = dataclasses.replace(member, sha256=sha256_file(path))
            bundle = dataclasses.replace(bundle, members=tuple(members))
        save_bundle(bundle)
        bundle = revoted(folder, (1.0, 0.0, 0.0), temperature)
        alone = Ensemble.load(bundle, voting="alpha=1", device="cpu").predict(photos)
        assert alone.min() < 1e-30
        made = fuse(bundle, tmp_path / "fused.onnx", photos, views=1)
        assert made.largest_difference < 1e-5

    def test_in_openvino(self, tiny_bundle: Any, photos: list[Path], tmp_path: Path) -> None:
        openvino = pytest.importorskip("openvino")
        bundle = load_bundle(tiny_bundle.folder)
        made = fuse(bundle, tmp_path / "fused.onnx", photos, views=8, voting="accuracy")
        core = openvino.Core()
        compiled = core.compile_model(made.file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        feed = {f"images_{size}": images for size, images in resized(photos).items()}
        received = compiled(feed)["probabilities"]
        expected = Ensemble.load(bundle, tta=8, voting="accuracy", device="cpu").predict(photos)
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4)


class TestViewsInTheGraph:
    @pytest.mark.parametrize("size", [16, 33, 75, 96, 150, 299])
    def test_are_byte_for_byte_those_of_the_engine(self, size: int) -> None:
        images = np.stack([noise(size, seed) for seed in range(2)])
        received = seen_by_onnxruntime(size, images)
        for view, made in zip(VIEWS, received, strict=True):
            np.testing.assert_array_equal(made, [view(each) for each in images], view.name)

    def test_are_exact_at_the_largest_size(self) -> None:
        """A crop of another shape, whose weights are odd, of the brightest noise."""
        size, view = 1023, View("crop", 0.87)
        images = np.maximum(noise(size), 200)[None]
        np.testing.assert_array_equal(
            seen_by_onnxruntime(size, images, (view,))[0, 0], view(images[0])
        )

    @pytest.mark.parametrize("size", [75, 150])
    def test_are_byte_for_byte_the_same_in_openvino(self, size: int) -> None:
        openvino = pytest.importorskip("openvino")
        images = np.stack([noise(size, seed) for seed in range(2)])
        model = openvino.Core().read_model(views_graph(size, VIEWS))
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(model, "CPU", hint)
        received = compiled(images)[0].reshape(len(VIEWS), *images.shape)
        for view, made in zip(VIEWS, received, strict=True):
            np.testing.assert_array_equal(made, [view(each) for each in images], view.name)

    def test_divide_exactly_at_every_size(self) -> None:
        """Beside each multiple, where a rounded quotient could cross a whole number."""
        half = np.float32(0.5)
        for scale in range(32, 2049, 2):
            unit = np.float32(1 / scale)
            for offset in (-1, 0, scale - 1):
                whole = np.arange(1, scale) * scale + offset
                quotient = np.floor((whole.astype(np.float32) + half) * unit)
                # As a runtime may compute it that multiplies out.
                other = np.floor(whole.astype(np.float32) * unit + half * unit)
                np.testing.assert_array_equal(quotient, whole // scale, str(scale))
                np.testing.assert_array_equal(other, whole // scale, str(scale))


def views_graph(size: int, views: tuple[View, ...]) -> bytes:
    """The part of the fused graph that makes views, alone."""
    graph = Graph()
    seen = add_views(graph, Square(size), views)
    kind, shape = onnx.TensorProto.UINT8, ["batch", size, size, 3]
    name = f"images_{size}"
    made = helper.make_graph(
        graph.nodes,
        "views",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info(seen, kind, ["views", size, size, 3])],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", 17)]
    model: bytes = helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()
    return model


def seen_by_onnxruntime(
    size: int, images: Pixels, views: tuple[View, ...] = VIEWS
) -> NDArray[np.uint8]:
    """Shape (views, images, size, size, 3)."""
    session = onnxruntime.InferenceSession(views_graph(size, views), providers=CPU)
    seen: NDArray[np.uint8] = session.run(None, {f"images_{size}": images})[0]
    return seen.reshape(len(views), *images.shape)


class TestTheFile:
    def test_is_used_with_onnxruntime_alone(self, made: Fused) -> None:
        session = onnxruntime.InferenceSession(made.file, providers=CPU)
        classes = json.loads(session.get_modelmeta().custom_metadata_map["toolkit.classes"])
        photo = noise(32)
        (probabilities,) = session.run(None, {"images_32": photo[None]})
        assert classes[probabilities[0].argmax()] in ("2", "10", "x y")
        assert probabilities.shape == (1, 3)

    def test_leaves_out_members_without_a_vote(self, made: Fused) -> None:
        graph = onnx.load(made.file).graph
        assert [each.name for each in graph.input] == ["images_32"]
        assert {node.name.split("/")[1] for node in graph.node if "members/" in node.name} <= {
            "alpha",
            "beta",
        }
        assert not any("gamma" in each.name for each in graph.initializer)
        assert made.members == ("alpha", "beta")

    def test_says_what_it_is(self, made: Fused, tiny_bundle: Any) -> None:
        metadata = {each.key: each.value for each in onnx.load(made.file).metadata_props}
        assert json.loads(metadata["toolkit.classes"]) == ["2", "10", "x y"]
        assert json.loads(metadata["toolkit.views"]) == [view.name for view in VIEWS[:4]]
        assert json.loads(metadata["toolkit.weights"]) == {"alpha": 0.75, "beta": 0.25}
        assert json.loads(metadata["toolkit.temperature"]) == 1.5
        assert metadata["toolkit.bundle_sha256"] == load_bundle(tiny_bundle.folder).sha256
        assert "toolkit" in json.loads(metadata["toolkit.versions"])

    def test_has_inputs_of_its_members_sizes_and_one_batch(
        self, tiny_bundle: Any, photos: list[Path], tmp_path: Path
    ) -> None:
        bundle = load_bundle(tiny_bundle.folder)
        made = fuse(bundle, tmp_path / "fused.onnx", photos, views=1)
        session = onnxruntime.InferenceSession(made.file, providers=CPU)
        assert {each.name: (each.type, each.shape) for each in session.get_inputs()} == {
            "images_32": ("tensor(uint8)", ["batch", 32, 32, 3]),
            "images_48": ("tensor(uint8)", ["batch", 48, 48, 3]),
        }
        (output,) = session.get_outputs()
        assert (output.name, output.shape) == ("probabilities", ["batch", 3])
        assert made.bytes == made.file.stat().st_size


class TestRefuses:
    def refused(
        self, bundle: Path, target: Path, photos: list[Path], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            fuse(load_bundle(bundle), target, photos)
        assert not target.is_file()
        assert not target.parent.is_dir() or not list(target.parent.glob(".*"))

    @pytest.mark.parametrize("name", ["fused.txt", "fused", "folder.onnx"])
    def test_a_name_that_is_no_onnx_file(
        self, tiny_bundle: Any, photos: list[Path], tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "folder.onnx").mkdir()
        self.refused(tiny_bundle.folder, tmp_path / name, photos, UsageError, r"in \.onnx")

    def test_a_file_in_the_bundle(self, tiny_bundle: Any, photos: list[Path]) -> None:
        target = tiny_bundle.folder / "fused.onnx"
        self.refused(tiny_bundle.folder, target, photos, UsageError, "never changes")

    def test_a_folder_that_cannot_be(
        self, tiny_bundle: Any, photos: list[Path], tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        target = tmp_path / "file" / "fused.onnx"
        self.refused(tiny_bundle.folder, target, photos, ToolkitError, "cannot be written")

    def test_members_that_do_not_fit_into_one_file(
        self, tiny_bundle: Any, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_BYTES", 1000)
        target = tmp_path / "fused.onnx"
        self.refused(tiny_bundle.folder, target, photos, ToolkitError, "ends at")

    def test_a_file_that_computes_something_else(
        self, tiny_bundle: Any, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "VIEWS", VIEWS[4:])
        target = tmp_path / "fused.onnx"
        self.refused(tiny_bundle.folder, target, photos, ToolkitError, "differ from the bundle")


class TestTheCommand:
    def run(self, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
        monkeypatch.setattr("sys.argv", ["toolkit", "export", *map(str, arguments)])
        try:
            main()
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    def test_fuses_a_bundle_that_is_already_there(
        self,
        exported: Bundle,
        trained: Trained,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        target = tmp_path / "fused.onnx"
        members = [word for run in trained.runs for word in ("--member", run.folder)]
        options = ("--bundle", exported.folder, "--fused", target, "--fused-tta", 2)
        before = sorted(exported.folder.iterdir())
        assert self.run(*members, *options, monkeypatch=monkeypatch) == 0
        told = capsys.readouterr()
        line = next(line for line in told.out.splitlines() if str(target) in line)
        assert "images_32" in line
        assert "2 views" in line
        assert "MB" in line
        assert sorted(exported.folder.iterdir()) == before
        assert answers(target, {32: noise(32)[None]}).shape == (1, 8)

    def test_refuses_a_wrong_name_before_anything_is_exported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert self.run("--fused", "fused.txt", monkeypatch=monkeypatch) == 2
        assert capsys.readouterr().err.strip().endswith("a file that ends in .onnx.")
        assert not list(tmp_path.iterdir())
