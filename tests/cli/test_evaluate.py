"""`toolkit evaluate` and `toolkit bench`: figures of a bundle, in tables and in JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.inference import devices
from toolkit.inference.bundle import load_bundle, save_bundle


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "obstacle", lambda kind: f"there is no {kind} in tests")


class TestEvaluate:
    def test_a_data_folder_is_read_as_it_was_for_training(self, toolkit, home: Path) -> None:
        table = home / "data" / "train.csv"
        rows = table.read_text(encoding="utf-8").splitlines()
        answers = [row.split(",")[1] for row in rows[1:]]
        two = [
            "Id,kind,colour",
            *(f"{row},{new}" for row, new in zip(rows[1:], answers[::-1], strict=True)),
        ]
        table.write_text("\n".join(two) + "\n", encoding="utf-8")
        by_itself = toolkit("evaluate", "bundle", "--data", "data", "--json").json
        bundle = load_bundle(home / "bundle")
        said = replace(bundle.data, reading={"label_column": "colour"})
        save_bundle(replace(bundle, data=said))
        told = toolkit("evaluate", "bundle", "--data", "data", "--json")
        assert told.code == 0, told.err
        as_trained = told.json
        # The other column has the classes in the opposite order.
        assert as_trained["confusion"] == by_itself["confusion"][::-1] != by_itself["confusion"]

    def test_a_table_of_the_training_that_is_gone_is_named_with_what_is_read_instead(
        self, toolkit, home: Path
    ) -> None:
        bundle = load_bundle(home / "bundle")
        said = {"labels": "tables/v2.csv", "label_column": "kind"}
        save_bundle(replace(bundle, data=replace(bundle.data, reading=said)))
        lost = "data: has no tables/v2.csv, which was named for training as the table of labels. "
        told = toolkit("evaluate", "--data", "data", "--json", "--quiet")
        assert told.code == 0, told.err
        assert told.err == (
            f"warning: {lost}Read instead: labels: train.csv (id 'Id', label 'Category'); photos: "
            "train/\n"
        )
        told = toolkit("ensemble")
        assert told.code == 0, told.err
        assert f"{lost}Instead, what is in the folder is found by itself\n" in told.err
        table = (home / "data" / "train.csv").read_text(encoding="utf-8")
        (home / "data" / "one.csv").write_text(table.replace(",2", ",10"), encoding="utf-8")
        (home / "data" / "train.csv").rename(home / "data" / "two.csv")
        told = toolkit("evaluate", "--data", "data")
        assert (told.code, told.out) == (1, "")
        assert "2 tables have labels of photos here, and they differ" in told.err

    def test_a_bundle_on_a_data_folder(self, toolkit, home: Path) -> None:
        told = toolkit("evaluate", "--data", "data", "--json", "--quiet")
        assert (told.code, told.err) == (0, "")
        found = told.json
        assert list(found["scores"]) == ["alpha", "beta", "gamma", "ensemble of 3"]
        assert found["scores"]["alpha"]["photos"] == 12
        assert {name: row["photos"] for name, row in found["classes"].items()} == {
            "2": 4,
            "10": 4,
            "x y": 4,
        }
        assert [sum(row) for row in found["confusion"]] == [4, 4, 4]
        right = sum(found["confusion"][n][n] for n in range(3))
        assert found["scores"]["ensemble of 3"]["accuracy"] == pytest.approx(right / 12)

    def test_tables_say_the_same(self, toolkit, home: Path) -> None:
        share = toolkit("evaluate", "--data", "data", "--json").json["scores"]["alpha"]["accuracy"]
        told = toolkit("evaluate", "--data", "data")
        assert f"{100 * share:.2f} %" in told.out
        assert "On 12 photos of data." in told.out
        assert "Classes, by ensemble of 3" in told.out

    def test_the_ensemble_is_compared_with_its_best_member(self, toolkit, home: Path) -> None:
        told = toolkit("evaluate", "--data", "data", "--json", "--gain", "gain.json", "--quiet")
        assert told.code == 0, told.err
        scores, gain = told.json["scores"], told.json["gain"]
        ensemble = scores.pop("ensemble of 3")["accuracy"]
        assert gain["members"] == {name: each["accuracy"] for name, each in scores.items()}
        best = max(each["accuracy"] for each in scores.values())
        assert gain["paired"]["accuracies"] == [ensemble, best]
        assert scores[gain["best"]]["accuracy"] == best
        assert json.loads((home / "gain.json").read_text(encoding="utf-8")) == gain
        printed = toolkit("evaluate", "--data", "data").out
        low, high = (100 * bound for bound in gain["paired"]["difference_interval"])
        assert (
            f"With 1 view per photo the ensemble of 3 is right on {100 * ensemble:.1f} % of 12 "
            f"photos, the best single network, {gain['best']}, on {100 * best:.1f} %: "
            f"{100 * (ensemble - best):+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, "
        ) in printed

    def test_a_single_vote_gains_nothing_over_itself(self, toolkit, home: Path) -> None:
        arguments = ("evaluate", "--data", "data", "--voting", "beta=1")
        assert "best single network" not in toolkit(*arguments).out
        told = toolkit(*arguments, "--gain", "gain.json", "--quiet")
        assert (told.code, told.out) == (1, "")
        assert "--gain: Expected a bundle whose votes are several" in told.err
        assert not (home / "gain.json").exists()

    def test_a_bundle_without_photos_is_scored_on_the_held_out_ones(
        self, toolkit, home: Path
    ) -> None:
        told = toolkit("evaluate", "bundle", "--tta", 2)
        assert told.code == 0, told.err
        assert "12 photos held out from training, by what the members said of them" in told.out
        assert "bundle, 2 views" in told.out
        assert "bundle, 1 view\n" in toolkit("evaluate", "bundle").out

    def test_a_changed_network_is_not_scored_by_what_it_said_once(
        self, toolkit, home: Path
    ) -> None:
        with (home / "bundle" / "beta.onnx").open("ab") as file:
            file.write(b"more")
        told = toolkit("evaluate", "bundle")
        assert (told.code, told.out) == (1, "")
        assert "beta.onnx: the file was changed after the export" in told.err

    def test_a_missing_photo_is_named_where_a_user_would_look_for_it(
        self, toolkit, home: Path
    ) -> None:
        (home / "labels.csv").write_text("Id,Category\n1.png,2\nzzz.jpg,10\n", encoding="utf-8")
        told = toolkit("evaluate", "--labels", "labels.csv", "--photos", "data/test_upload")
        assert (told.code, told.out) == (1, "")
        assert f"{Path('data/test_upload/zzz.jpg')}: no such file" in told.err

    def test_photos_that_lie_elsewhere_are_asked_for(self, toolkit, home: Path) -> None:
        (home / "labels.csv").write_text("Id,Category\nx1.png,2\nx2.png,10\n", encoding="utf-8")
        told = toolkit("evaluate", "--labels", "labels.csv")
        assert (told.code, told.out) == (1, "")
        assert "None of the 2 labelled photos is there; the first is looked for at " in told.err
        assert "Name their folder with --photos" in told.err

    def test_labels_in_other_words_than_the_answers_are_told(self, toolkit, home: Path) -> None:
        (home / "answers.csv").write_text("Id,Category\na,2\nb,10\n", encoding="utf-8")
        (home / "labels.csv").write_text("Id,Category\na,two\nb,10\n", encoding="utf-8")
        told = toolkit("evaluate", "answers.csv", "--labels", "labels.csv")
        assert told.code == 0
        assert "of whose categories no answer has: two" in " ".join(told.out.split())
        (home / "labels.csv").write_text("Id,Category\na,two\nb,ten\n", encoding="utf-8")
        told = toolkit("evaluate", "answers.csv", "--labels", "labels.csv")
        assert (told.code, told.out) == (1, "")
        assert "none of its categories (ten, two) is among the answers (2, 10)." in told.err

    def test_a_submission_of_labels_has_no_figure_of_probabilities(
        self, toolkit, home: Path
    ) -> None:
        toolkit("ensemble", "--quiet")
        lines = (home / "submission.csv").read_text(encoding="utf-8").splitlines()
        answers = dict(line.split(",") for line in lines[1:])
        labels = "\n".join(["Id,Category", *(f"{id},2" for id in answers)])
        (home / "labels.csv").write_text(labels, encoding="utf-8")
        told = toolkit("evaluate", "submission.csv", "--labels", "labels.csv", "--json")
        (score,) = told.json["scores"].values()
        assert score["photos"] == 9
        assert score["accuracy"] == pytest.approx(list(answers.values()).count("2") / 9)
        assert not {"log_loss", "calibration_error"} & set(score)
        shown = toolkit("evaluate", "submission.csv", "--labels", "labels.csv").out
        assert "macro-F1" in shown
        assert "log-loss" not in shown

    @pytest.mark.parametrize(
        ("name", "title"),
        [
            ("log-loss", "log-loss"),
            ("macro-f1", "macro-F1"),
            ("balanced-accuracy", "balanced accuracy"),
            ("auc", "AUC"),
        ],
    )
    def test_the_chosen_metric_stands_first_with_its_interval(
        self, toolkit, home: Path, name: str, title: str
    ) -> None:
        told = toolkit("evaluate", "--metric", name, "--json").json
        assert list(told["estimates"]) == list(told["scores"])
        for voter, found in told["estimates"].items():
            assert found["value"] == pytest.approx(told["scores"][voter][name.replace("-", "_")])
            assert found["interval"][0] <= found["value"] <= found["interval"][1]
        shown = toolkit("evaluate", "--metric", name).out
        head = next(line for line in shown.splitlines() if " by " in f" {line}" and "95 %" in line)
        assert head.split("95 %")[0].split("by", 1)[1].strip() == title
        assert f"Interval: {found['how']}." in shown

    def test_a_metric_without_a_value_is_refused_and_says_why(self, toolkit, home: Path) -> None:
        told = toolkit("evaluate", "--metric", "kappa")
        assert (told.code, told.out) == (1, "")
        assert "no quadratic kappa: kappa needs classes in an order, and their names" in told.err
        (home / "answers.csv").write_text("Id,Category\na,2\nb,10\n", encoding="utf-8")
        told = toolkit("evaluate", "answers.csv", "--labels", "answers.csv", "--metric", "auc")
        assert (told.code, told.out) == (1, "")
        assert "no AUC: AUC needs probabilities, and only labels are given." in told.err

    def test_grades_have_a_kappa(self, toolkit, home: Path) -> None:
        (home / "answers.csv").write_text("Id,Category\na,2\nb,10\nc,1\n", encoding="utf-8")
        (home / "labels.csv").write_text("Id,Category\na,2\nb,10\nc,2\n", encoding="utf-8")
        told = toolkit(
            "evaluate", "answers.csv", "--labels", "labels.csv", "--metric", "kappa", "--json"
        )
        # Places in the order of the classes, 1, 2, 10: one is off by one place.
        assert told.json["estimates"]["answers.csv"]["value"] == pytest.approx(1 - 3 * 1 / 9)

    def test_too_few_photos_are_marked(self, toolkit, home: Path) -> None:
        told = toolkit("evaluate")
        assert "Do not rely on the figures: only 12 photos (at least 30 are needed)." in told.out

    def test_the_confusion_matrix_is_drawn(self, toolkit, home: Path) -> None:
        assert toolkit("evaluate", "--confusion", "confusion.png").code == 0
        assert (home / "confusion.png").is_file()

    @pytest.mark.parametrize(
        ("arguments", "code", "complaint"),
        [
            (
                ["nowhere"],
                1,
                "nowhere: no such file or folder. Name a run folder, a bundle folder or",
            ),
            (["--data", "nowhere"], 1, "nowhere: no such folder"),
            (["--voting", "best"], 2, "no such voting"),
            (["--photos", "data/train"], 2, "--labels FILE"),
            (["--device", "cuda", "--data", "data"], 1, "there is no cuda in tests"),
        ],
    )
    def test_a_mistake_is_one_line(
        self, toolkit, home: Path, arguments: list[str], code: int, complaint: str
    ) -> None:
        told = toolkit("evaluate", *arguments)
        assert (told.code, told.out) == (code, "")
        assert told.err.startswith("error: ")
        assert complaint in told.err
        assert told.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (
                ["run", "--data", "data", "--tta", "4", "--device", "cuda"],
                "--tta, --device: Expected for a bundle. run is a run: one view, by Keras.",
            ),
            (
                ["answers.csv", "--labels", "answers.csv", "--voting", "auto"],
                "--voting: Expected for a bundle. answers.csv is a submission: its answers are",
            ),
            (
                ["bundle", "--tta", "2", "--batch", "4"],
                "--batch: Expected with --data or --labels. The held-out photos were answered",
            ),
            (
                ["answers.csv", "--against", "answers.csv", "--tta", "1"],
                "--tta, --voting, --device and --batch: Expected without --against",
            ),
        ],
    )
    def test_options_that_would_change_nothing_are_refused(
        self, toolkit, home: Path, arguments: list[str], complaint: str
    ) -> None:
        (home / "run").mkdir()
        (home / "run" / "run.json").touch()
        (home / "answers.csv").write_text("Id,Category\na,2\n", encoding="utf-8")
        told = toolkit("evaluate", *arguments)
        assert (told.code, told.out) == (2, "")
        assert complaint in told.err


class TestAgainst:
    """Ten photos: three right only in fast.csv, one only in exact.csv, one wrong in two ways."""

    LABELS = "2222222222"
    FAST = "2222222345"
    EXACT = "2222345246"

    @pytest.fixture(autouse=True)
    def submissions(self, here: Path) -> None:
        for name, answers in {
            "labels": self.LABELS,
            "fast": self.FAST,
            "exact": self.EXACT,
            "short": self.FAST[:8],
        }.items():
            rows = [f"{number}.jpg,{answer}" for number, answer in enumerate(answers)]
            (here / f"{name}.csv").write_text("\n".join(["Id,Category", *rows]), encoding="utf-8")

    def test_two_submissions_are_compared_photo_by_photo(self, toolkit) -> None:
        told = toolkit(
            *("evaluate", "fast.csv", "--labels", "labels.csv", "--against", "exact.csv", "--json")
        )
        assert (told.code, told.err) == (0, "")
        found = told.json
        assert (found["subject"], found["against"]) == ("fast.csv", "exact.csv")
        assert found["photos"] == "10 photos of labels.csv"
        assert found["agreement"] == {"photos": 10, "differing": 5, "equal": 0.5}
        paired = found["paired"]
        assert paired["accuracies"] == [0.7, 0.5]
        low, high = paired["intervals"][1]
        assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # Wilson, 5 of 10
        assert paired["difference"] == pytest.approx(0.2)
        assert (paired["only_first"], paired["only_second"], paired["both_wrong"]) == (3, 1, 1)
        assert paired["p_value"] == pytest.approx(2 * 5 / 16)

    def test_tables_say_the_same(self, toolkit) -> None:
        told = toolkit("evaluate", "exact.csv", "--labels", "labels.csv", "--against", "fast.csv")
        assert told.code == 0, told.err
        assert told.out.startswith(
            "exact.csv against fast.csv, 10 photos of labels.csv: 50.00 % of the labels are equal, "
            "5 differ\n"
        )
        lines = [line.split() for line in told.out.splitlines()]
        assert ["exact.csv", "50.00", "%", "23.7", "..", "76.3", "1"] in lines
        assert ["fast.csv", "70.00", "%", "39.7", "..", "89.2", "3"] in lines
        assert "Both are wrong, with different labels, on 1." in told.out
        assert "Difference -20.00 points (95 % interval -51.95 to +18.62), p = 0.62" in told.out

    def test_without_labels_only_the_agreement_is_told(self, toolkit) -> None:
        told = toolkit("evaluate", "fast.csv", "--against", "exact.csv")
        assert told.code == 0, told.err
        assert told.out == (
            "fast.csv against exact.csv, 10 photos: 50.00 % of the labels are equal, 5 differ\n"
        )
        found = toolkit("evaluate", "fast.csv", "--against", "exact.csv", "--json").json
        assert found["agreement"] == {"photos": 10, "differing": 5, "equal": 0.5}
        assert found["paired"] is None

    def test_a_submission_agrees_with_itself(self, toolkit) -> None:
        told = toolkit("evaluate", "fast.csv", "--labels", "labels.csv", "--against", "fast.csv")
        assert "100.00 % of the labels are equal, 0 differ" in told.out
        assert "Difference +0.00 points (95 % interval -16.33 to +16.33), p = 1 " in told.out

    @pytest.mark.parametrize(
        ("arguments", "code", "complaint"),
        [
            (["fast.csv", "--against", "short.csv"], 1, "short.csv: has no row for '8.jpg' and 1"),
            (["short.csv", "--against", "fast.csv"], 1, "short.csv: has no row for '8.jpg' and 1"),
            (
                ["fast.csv", "--against", "short.csv", "--labels", "labels.csv"],
                1,
                "short.csv: has no row for '8.jpg' and 1 other.",
            ),
            (["fast.csv", "--against", "no.csv"], 1, "no.csv: no such file"),
            (["no.csv", "--against", "fast.csv"], 1, "no.csv: no such file"),
            (["--against", "fast.csv"], 2, "bundle: Expected the CSV of a submission"),
            (
                ["runs/improved/xception", "--against", "fast.csv"],
                2,
                "xception: Expected the CSV of a submission",
            ),
            (
                ["fast.csv", "--against", "labels.txt"],
                2,
                "labels.txt: Expected the CSV of a submission",
            ),
            (["fast.csv", "--against", "exact.csv", "--data", "data"], 2, "--labels FILE"),
            (["fast.csv", "--against", "exact.csv", "--photos", "data"], 2, "--labels FILE"),
        ],
    )
    def test_a_mistake_is_one_line(
        self, toolkit, arguments: list[str], code: int, complaint: str
    ) -> None:
        told = toolkit("evaluate", *arguments)
        assert (told.code, told.out) == (code, "")
        assert told.err.startswith("error: ")
        assert complaint in told.err
        assert told.err.count("\n") == 1

    def test_there_is_no_confusion_to_draw(self, toolkit, here: Path) -> None:
        told = toolkit("evaluate", "fast.csv", "--against", "exact.csv", "--confusion", "it.png")
        assert (told.code, told.out) == (2, "")
        assert "Expected without --against" in told.err
        assert not (here / "it.png").exists()


class TestBench:
    def test_offline_reports_throughput_of_all_photos(self, toolkit, home: Path) -> None:
        report = toolkit("bench", "--count", 200, "--batch", 8, "--json", "--quiet").json
        assert (report["scenario"], report["photos"], report["batch"]) == ("offline", 200, 8)
        assert report["latency_ms"]["n"] == 25
        assert report["photos_per_second"] == pytest.approx(200 / report["seconds"], rel=0.2)

    def test_single_stream_is_at_batch_1_whatever_was_asked(self, toolkit, home: Path) -> None:
        arguments = ("--scenario", "single-stream", "--count", 50, "--batch", 8)
        report = toolkit("bench", *arguments, "--json").json
        assert (report["batch"], report["photos"], report["latency_ms"]["n"]) == (1, 50, 50)
        assert report["latency_ms"]["p90"] >= report["latency_ms"]["p50"] > 0
        assert report["latency_ms"]["p99"] is None

    def test_it_names_the_machine_and_not_the_wish(self, toolkit, home: Path) -> None:
        report = toolkit("bench", "--count", 1, "--json").json
        assert report["provider"] == "CPUExecutionProvider"
        assert report["device"] == devices.processor_name()
        assert report["threads"] >= 1

    def test_raw_samples_are_kept(self, toolkit, home: Path) -> None:
        toolkit("bench", "--count", 20, "--batch", 5, "--out", "bench.json")
        kept = json.loads((home / "bench.json").read_text(encoding="utf-8"))
        assert len(kept["samples_ms"]) == kept["latency_ms"]["n"] == 4

    def test_a_short_run_is_called_that(self, toolkit, home: Path) -> None:
        assert "short run" in toolkit("bench", "--count", 3).out
