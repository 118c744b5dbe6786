"""What the pictures show, looked at in the figures before they become pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from toolkit.inference.plan import Way
from toolkit.reporting import pictures, sheets
from toolkit.reporting.curves import curves_figure, draw_curves
from toolkit.reporting.style import save_figure


def rows(stages: list[str], validated: bool = True) -> list[dict[str, Any]]:
    """A history of one row a stage name; validation is at its best in the second last epoch."""
    best = max(len(stages) - 1, 1)
    return [
        {
            "epoch": epoch,
            "stage": stage,
            "loss": 1 / epoch,
            "accuracy": 1 - 1 / (epoch + 1),
            "val_loss": 0.5 + abs(epoch - best) if validated else None,
            "val_accuracy": 0.9 - abs(epoch - best) / 10 if validated else None,
            "learning_rate": 0.001,
        }
        for epoch, stage in enumerate(stages, start=1)
    ]


def photo(seed: int, size: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def texts(artist: Any) -> list[str]:
    return [text.get_text() for text in artist.texts]


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def test_curves_show_training_and_validation_with_the_epoch_that_was_kept() -> None:
    figure = curves_figure(rows(["head"] * 2 + ["all"] * 3), 4, "Xception")
    panels = figure.axes
    assert [panel.get_title("left") for panel in panels] == ["accuracy", "loss"]
    for panel, told in zip(panels, ("0.900", "0.500"), strict=True):
        lines = {line.get_label(): line for line in panel.lines}
        assert {"training", "validation", "weights kept"} <= set(lines)
        assert list(lines["training"].get_xdata()) == [1, 2, 3, 4, 5]
        assert list(lines["weights kept"].get_xdata()) == [4]
        assert panel.get_title("right") == f"validation {told} in epoch 4"


def test_curves_name_each_stage_and_draw_a_line_between_them() -> None:
    figure = curves_figure(rows(["head"] * 2 + ["half"] + ["all"] * 2), 1, "Xception")
    for panel in figure.axes:
        assert texts(panel) == ["head", "half", "all"]
        borders = [line.get_xdata()[0] for line in panel.lines if line.get_gid() == "stage"]
        assert borders == [2.5, 3.5]


def test_curves_of_one_stage_name_no_stage() -> None:
    figure = curves_figure(rows(["head"] * 3), 1, "Xception")
    assert [texts(panel) for panel in figure.axes] == [[], []]


def test_names_of_short_stages_do_not_overlap(tmp_path: Path) -> None:
    names = ["only the head", "upper half, slowly", "everything", "polish"]
    figure = curves_figure(rows([*names, *["polish"] * 50]), 1, "Xception")
    save_figure(figure, tmp_path / "curves.png")
    for panel in figure.axes:
        boxes = [text.get_window_extent() for text in panel.texts]
        pairs = [(a, b) for index, a in enumerate(boxes) for b in boxes[:index]]
        assert len(pairs) == 6
        assert not any(a.overlaps(b) for a, b in pairs)


def test_curves_without_validation_show_training_alone() -> None:
    figure = curves_figure(rows(["head"] * 3, validated=False), 1, "All photos")
    for panel in figure.axes:
        assert [line.get_label() for line in panel.lines] == ["training"]
        assert panel.get_title("right") == ""


def test_an_epoch_without_validation_leaves_a_gap() -> None:
    history = rows(["head"] * 4)
    history[0]["val_loss"] = history[0]["val_accuracy"] = None
    accuracy, _ = curves_figure(history, 3, "Xception").axes
    lines = {line.get_label(): line for line in accuracy.lines}
    assert np.isnan(lines["validation"].get_ydata()).tolist() == [True, False, False, False]
    assert list(lines["weights kept"].get_xdata()) == [3]


def test_one_epoch_shows_markers_and_only_its_own_tick(tmp_path: Path) -> None:
    figure = curves_figure(rows(["head"]), 1, "Xception")
    save_figure(figure, tmp_path / "one.png")
    for panel in figure.axes:
        assert all(line.get_marker() == "o" for line in panel.lines)
        low, high = panel.get_xlim()
        assert [tick for tick in panel.get_xticks() if low <= tick <= high] == [1]


def test_a_history_without_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one epoch"):
        curves_figure([], 1, "Xception")


def test_a_histogram_keeps_the_order_and_writes_each_count() -> None:
    figure = pictures.class_histogram_figure({"zebra": 1200, "ant $5 and $10": 0, "cat": 30})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "zebra",
        "ant $5 and $10",
        "cat",
    ]
    assert texts(axes) == ["1,200", "0", "30"]
    assert [bar.get_width() for bar in axes.patches] == [1200, 0, 30]
    bottom, top = axes.get_ylim()
    assert bottom > top  # The first class is the upmost.


def test_a_histogram_grows_with_its_classes(tmp_path: Path) -> None:
    heights = []
    for classes in (2, 200):
        path = tmp_path / f"{classes}.png"
        pictures.draw_class_histogram({f"class {n}": n for n in range(classes)}, path)
        heights.append(pixels(path).shape[0])
    few, many = heights
    assert few < 300
    assert many / 200 > 15  # Pixels a class: room for a legible line.


def test_classes_whose_long_names_begin_alike_keep_their_own_bars() -> None:
    start = "a very long name of a class of photos, number "
    figure = pictures.class_histogram_figure({f"{start}{n}": n for n in (1, 2)})
    assert len(figure.axes[0].patches) == 2
    assert len({bar.get_y() for bar in figure.axes[0].patches}) == 2


def test_photos_of_a_sample_sheet_keep_their_pixels(tmp_path: Path) -> None:
    samples = {"cat": [photo(1, 100), photo(2, 100)], "dog": [photo(3, 100)]}
    path = tmp_path / "new" / "sheet.png"
    sheets.draw_sample_sheet(samples, path)
    sheet = pixels(path)
    figure = sheets.sample_sheet_figure(samples)
    assert texts(figure) == ["cat", "dog"]
    shown = [item for photos in samples.values() for item in photos]
    corners = []
    for image, expected in zip(figure.images, shown, strict=True):
        left, bottom = int(image.ox), int(image.oy)
        top = len(sheet) - bottom - 100
        assert np.array_equal(sheet[top : top + 100, left : left + 100], expected)
        corners.append((left, top))
    assert corners[0][1] == corners[1][1] < corners[2][1]  # A row a class,
    assert corners[0][0] == corners[2][0] < corners[1][0]  # photos in columns.


def test_small_photos_are_enlarged_without_blur_and_large_ones_shrunk() -> None:
    small, large = photo(1, 32), photo(2, 400)
    (enlarged,) = sheets.sample_sheet_figure({"cat": [small]}).images
    (shrunk,) = sheets.sample_sheet_figure({"cat": [large]}).images
    assert np.array_equal(enlarged.get_array(), small.repeat(3, axis=0).repeat(3, axis=1))
    assert shrunk.get_array().shape == (192, 192, 3)


def test_a_sheet_without_photos_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one photo"):
        sheets.sample_sheet_figure({"cat": []})


def test_an_augmentation_sheet_frames_each_original_before_its_versions(tmp_path: Path) -> None:
    originals, versions = [photo(1), photo(2)], [[photo(3), photo(4)], [photo(5), photo(6)]]
    figure = sheets.augmentation_sheet_figure(originals, versions, "flips")
    assert texts(figure) == ["flips", "original", "augmented"]
    frames = figure.artists
    assert len(frames) == 2
    assert len(figure.images) == 6
    columns = figure.images[::3], figure.images[1::3]
    for frame, original, version in zip(frames, *columns, strict=True):
        assert frame.get_x() == original.ox - 1
        assert frame.get_y() == original.oy - 1
        assert original.ox < version.ox
    path = tmp_path / "sheet.png"
    sheets.draw_augmentation_sheet(originals, versions, "flips", path)
    assert pixels(path).shape[1] > 3 * 96


def test_a_confusion_is_coloured_by_row_and_tells_counts() -> None:
    counts = np.array([[8, 2, 0], [1, 0, 3], [0, 0, 0]])
    figure = pictures.confusion_figure(counts, ["cat", "dog", "emu"], "Ensemble")
    axes, bar = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "emu"]
    assert np.allclose(axes.images[0].get_array(), [[0.8, 0.2, 0], [0.25, 0, 0.75], [0, 0, 0]])
    written = {text.get_position()[::-1]: int(text.get_text()) for text in axes.texts}
    assert written == dict(np.ndenumerate(counts))
    assert "true class" in bar.get_ylabel()


def test_cells_of_many_classes_are_not_written() -> None:
    counts = np.eye(31, dtype=np.int64)
    figure = pictures.confusion_figure(counts, [f"class {n}" for n in range(31)], "Ensemble")
    assert texts(figure.axes[0]) == []
    assert len(figure.axes[0].get_xticklabels()) == 31


@pytest.mark.parametrize("classes", [2, 12, 40])
def test_nothing_of_a_confusion_is_cut_off(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "confusion.png"
    names = [f"class of photos {n}" for n in range(classes)]
    pictures.draw_confusion(np.eye(classes, dtype=np.int64), names, "A title of some length", path)
    picture = pixels(path)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (border == 255).all()


def test_drawing_leaves_no_trace_but_the_picture(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    draw_curves(rows(["head", "all"]), 1, "Xception", tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert pixels(tmp_path / "curves.png").shape == (504, 1200, 3)


def way(name: str, ms: float, agreement: float) -> Way:
    return Way(way=name, ms=ms, calls=1.0, agreement=agreement, accuracy=agreement)


def test_costs_show_cascades_as_a_line_and_name_every_other_way(tmp_path: Path) -> None:
    table = [
        way("full", 160.0, 1.0),
        way("uniform ensemble", 160.0, 1.0),
        way("small, 1 view", 5.0, 0.7),
        way("cascade 1", 40.0, 1.0),
        way("cascade 2", 20.0, 0.98),
    ]
    (panel,) = pictures.cost_figure(table, "bundle").axes
    line = next(line for line in panel.lines if len(line.get_xdata()) == 2)
    assert line.get_xydata() == pytest.approx(np.array([[40.0, 0.0], [20.0, 2.0]]))
    assert {text.get_text() for text in panel.texts} == {"full, uniform ensemble", "small, 1 view"}
    pictures.draw_cost(table, "bundle", tmp_path / "costs.png")
    assert (tmp_path / "costs.png").stat().st_size > 1000


def test_names_of_ways_of_like_cost_do_not_cover_each_other() -> None:
    alike = [way(f"a network called {n}, 4 views", 50.0 + n, 0.9 + n / 500) for n in range(4)]
    table = [way("full", 160.0, 1.0), *alike]
    (panel,) = pictures.cost_figure(table, "bundle").axes
    boxes = [text.get_window_extent() for text in panel.texts]
    assert len(boxes) == 5
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)
