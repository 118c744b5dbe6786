"""A request predicted by a plan: certified on the way, interrupted anywhere, and the same bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.data.pixels import BrokenPhotoError
from toolkit.data.request import Request
from toolkit.errors import ToolkitError
from toolkit.inference.bundle import load_bundle, load_validation
from toolkit.inference.calls import ModelCall, ModelKey
from toolkit.inference.devices import Device
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.evidence import gather
from toolkit.inference.executor import Windows, open_photo
from toolkit.inference.guarantee import Guarantee
from toolkit.inference.journal import Journal
from toolkit.inference.plan import CascadePlan
from toolkit.inference.planner import make_plan
from toolkit.inference.predict import (
    PredictionJob,
    Predictions,
    columns,
    file_numbers,
    job_identity,
    predict_request,
)
from toolkit.inference.sessions import Sessions
from toolkit.inference.timing import Timings
from toolkit.inference.voting import choose_voting
from toolkit.progress import Reporter

PHOTOS, VIEWS = 120, 2
GUARANTEE = Guarantee(tolerance=0.1, confidence=0.9)
ALLOWED = 12
PRIOR = (0.2, 0.5, 0.3)
COSTS = {
    ModelKey("alpha", "fp32"): 1.0,
    ModelKey("alpha", "int8"): 0.3,
    ModelKey("beta", "fp32"): 4.0,
    ModelKey("gamma", "fp32"): 4.0,
}
PLANS = ["full", "label-exact", "cascade"]


class Killed(BaseException):
    """As when the process ends there."""


class DyingJournal(Journal):
    """Ends the process when it holds so many rows."""

    last = 0

    def append(self, answers: Any) -> None:
        if len(self.rows()) >= self.last:
            raise Killed
        super().append(answers)


@pytest.fixture(scope="module")
def drawn(
    tmp_path_factory: pytest.TempPathFactory, draw_photo: Callable[..., Image.Image]
) -> list[Path]:
    folder = tmp_path_factory.mktemp("drawn")
    paths = [folder / f"{number}.png" for number in range(PHOTOS)]
    for number, path in enumerate(paths):
        draw_photo(7000 + number, (40, 30)).save(path)
    return paths


def loaded(
    folder: Path, batch: int = 4, opener: Any = open_photo, voting: str = "auto"
) -> Ensemble:
    bundle = load_bundle(folder)
    device = Device("cpu", "processor")
    sessions = Sessions(bundle, device=device, threads=1, batch=batch, timings=Timings())
    chosen = choose_voting(bundle, VIEWS, voting)
    return Ensemble(sessions, chosen, views=VIEWS, windows=Windows(batches=4), opener=opener)


@pytest.fixture(scope="module")
def plans(plannable: Path) -> dict[str, CascadePlan]:
    """One of each kind; the cascade was searched for."""
    ensemble = loaded(plannable)
    bundle, voting = ensemble.bundle, ensemble.voting
    evidence = gather(bundle, load_validation(bundle), voting, VIEWS, COSTS)
    return {
        "full": CascadePlan.full(bundle, voting, VIEWS),
        "label-exact": CascadePlan.label_exact(bundle, voting, VIEWS, COSTS),
        "cascade": make_plan(bundle, voting, evidence, GUARANTEE, PHOTOS, ensemble.device),
    }


@pytest.fixture(scope="module")
def plan(plans: dict[str, CascadePlan]) -> CascadePlan:
    return plans["cascade"]


@pytest.fixture(scope="module")
def full(plannable: Path, drawn: list[Path]) -> np.ndarray:
    """The full ensemble's probabilities of the drawn photos."""
    return loaded(plannable).predict(drawn)


def searched(plan: CascadePlan, **changes: Any) -> CascadePlan:
    """Return a plan that was searched for another guarantee, or at other costs."""
    assert plan.search is not None
    return plan.model_copy(update={"search": plan.search.model_copy(update=changes)})


def request_for(paths: Sequence[Path]) -> Request:
    return Request(tuple(path.name for path in paths), tuple(paths))


@dataclass
class Work:
    """A job that can be begun again and again, as a user types the same command."""

    folder: Path
    request: Request
    job: PredictionJob
    result: Path
    batch: int = 4
    opened: list[Path] = field(default_factory=list)
    opener: Any = open_photo

    def begin(
        self, *, skip_broken: bool = False, journals: type[Journal] = Journal, **options: Any
    ) -> Predictions:
        def opener(photo: Path, ranges: Any) -> Any:
            self.opened.append(photo)
            return self.opener(photo, ranges)

        self.opened.clear()
        ensemble = loaded(self.folder, self.batch, opener)
        numbers = file_numbers(self.request)[self.job.order]
        with journals.held(self.result, self.job.identity, columns(ensemble), numbers) as journal:
            return predict_request(
                ensemble, self.request, self.job, journal, skip_broken=skip_broken, **options
            )

    def killed_after(self, rows: int) -> int:
        """Kill it when there are so many rows; give how many photos it opened for the rest."""

        class Dying(DyingJournal):
            last = rows

        with pytest.raises(Killed):
            self.begin(journals=Dying)
        numbers = file_numbers(self.request)[self.job.order]
        with Journal.held(self.result, self.job.identity, 2 + 3, numbers) as journal:
            return len(journal.rows())

    @property
    def sample(self) -> list[int]:
        return [int(number) for number in self.job.order[: self.job.sample]]


@pytest.fixture
def work(plannable: Path, drawn: list[Path], tmp_path: Path) -> Callable[..., Work]:
    def work(
        plan: CascadePlan,
        certify: Any = "test",
        *,
        paths: Sequence[Path] | None = None,
        name: str = "submission.csv",
        batch: int = 4,
        **options: Any,
    ) -> Work:
        request = request_for(paths or drawn)
        job = PredictionJob.of(plan, len(request.ids), certify=certify, **options)
        return Work(plannable, request, job, tmp_path / name, batch)

    return work


def same(found: Predictions, expected: Predictions) -> None:
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()
    np.testing.assert_array_equal(found.exit_step, expected.exit_step)
    assert found.certificate == expected.certificate


def labels(probabilities: np.ndarray) -> list[int]:
    found: list[int] = probabilities.argmax(axis=1).tolist()
    return found


class TestPredictions:
    def test_the_full_plan_gives_the_full_ensembles_probabilities(
        self, work: Callable[..., Work], plans: dict[str, CascadePlan], full: np.ndarray
    ) -> None:
        found = work(plans["full"]).begin()
        np.testing.assert_array_equal(found.probabilities, full)
        assert found.guarantee == "every label is the full ensemble's"
        assert (found.resumed, found.broken, found.sampled) == (0, {}, 0)
        assert found.photos_per_second == pytest.approx(PHOTOS / found.seconds)

    def test_label_exact_gives_its_labels(
        self, work: Callable[..., Work], plans: dict[str, CascadePlan], full: np.ndarray
    ) -> None:
        found = work(plans["label-exact"]).begin()
        assert labels(found.probabilities) == labels(full)
        assert (found.probabilities != full).any()
        assert found.guarantee == (
            "every label is the full ensemble's (calls that could not change it were skipped)"
        )

    def test_in_a_cascade_the_sample_gets_the_full_ensemble_and_others_exit(
        self, work: Callable[..., Work], plan: CascadePlan, full: np.ndarray
    ) -> None:
        job = work(plan)
        found = job.begin()
        assert 0 < found.sampled == len(job.sample) < PHOTOS / 2
        stayed = found.exit_step == len(plan.steps)
        assert stayed[job.sample].all()
        np.testing.assert_array_equal(found.probabilities[job.sample], full[job.sample])
        assert labels(found.probabilities[stayed]) == labels(full[stayed])
        assert set(found.exit_step[~stayed].tolist()) == set(range(len(plan.steps)))
        assert (found.probabilities.argmax(axis=1) != full.argmax(axis=1)).sum() <= ALLOWED
        assert found.precisions == ["fp32", "int8"]

    @pytest.mark.parametrize("kind", PLANS)
    def test_rows_are_in_the_requests_order(
        self,
        work: Callable[..., Work],
        plans: dict[str, CascadePlan],
        drawn: list[Path],
        full: np.ndarray,
        kind: str,
    ) -> None:
        """Nearly all labels are the full ensemble's, which few of another order would be."""
        order = np.random.default_rng(1).permutation(PHOTOS)
        found = work(plans[kind], paths=[drawn[number] for number in order]).begin()
        other = np.array(labels(found.probabilities)) != full[order].argmax(axis=1)
        assert other.sum() <= (ALLOWED if kind == "cascade" else 0)
        assert (full[order].argmax(axis=1) != full.argmax(axis=1)).sum() > PHOTOS / 2

    @pytest.mark.parametrize("kind", PLANS)
    @pytest.mark.parametrize("batch", [1, 16])
    def test_the_batch_changes_no_bit(
        self, work: Callable[..., Work], plans: dict[str, CascadePlan], kind: str, batch: int
    ) -> None:
        other = work(plans[kind], batch=batch, name="other.csv").begin()
        same(other, work(plans[kind]).begin())


class TestCertificate:
    def test_the_guarantee_is_reported_and_says_what_was_certified(
        self, work: Callable[..., Work], plan: CascadePlan, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = work(plan).begin(reporter=Reporter(quiet=False))
        certificate = found.certificate
        assert (certificate.kind, certificate.photos, certificate.allowed) == ("test", 120, 12)
        assert certificate.accepted > 0
        assert certificate.sample == found.sampled
        sets = len(plan.threshold_sets)
        assert len(certificate.p_values) == len(certificate.disagreements) == sets
        assert max(certificate.p_values[: certificate.accepted]) <= 0.1 + 1e-9
        assert found.guarantee == (
            "at most 12 of 120 labels differ from the full ensemble's, with 90% confidence "
            f"(certified on {certificate.sample} of these photos, drawn at random)"
        )
        assert f"guarantee: {found.guarantee}" in capsys.readouterr().err
        assert "with 99.9% confidence" in replace(certificate, confidence=0.999).guarantee

    def test_disagreements_are_those_of_the_labels_that_would_be_written(
        self, work: Callable[..., Work], plan: CascadePlan, drawn: list[Path], full: np.ndarray
    ) -> None:
        """Every threshold set alone, on the photos of the sample."""
        job = work(plan)
        certificate = job.begin().certificate
        paths = [drawn[number] for number in job.sample]
        for number, each in enumerate(plan.threshold_sets):
            alone = searched(plan.with_threshold_sets([each]), tolerance=0.99)
            found = work(alone, "off", paths=paths, name=f"alone {number}.csv").begin()
            other = found.probabilities.argmax(axis=1) != full[job.sample].argmax(axis=1)
            assert other.sum() == certificate.disagreements[number]

    def test_a_plan_that_spoils_labels_of_photos_that_never_exit_is_not_accepted(
        self, work: Callable[..., Work], plan: CascadePlan, full: np.ndarray
    ) -> None:
        """As by a call counted fifty times, which no file can hold: nothing counts as exact."""
        never = plan.threshold_sets[0].model_copy(update={"thresholds": (inf,), "exits": (0.0,)})
        gamma = ModelCall("gamma", "fp32", 0)
        forged = plan.model_copy(
            update={
                "steps": ((gamma,) * 50,),
                "threshold_sets": (never,),
                "rest": tuple(
                    tuple(call for call in step if call != gamma) or (gamma,) for step in plan.rest
                ),
            }
        )
        job = work(plan)
        job.job = replace(job.job, plan=forged)
        found = job.begin()
        assert found.certificate.disagreements[0] > 0
        assert found.certificate.accepted == 0
        assert labels(found.probabilities) == labels(full)

    def test_another_seed_draws_another_sample(
        self, work: Callable[..., Work], plan: CascadePlan
    ) -> None:
        first, second = work(plan), work(plan, seed=1)
        assert first.job.identity != second.job.identity
        assert first.sample != second.sample

    def test_of_few_photos_all_labels_are_the_full_ensembles(
        self, work: Callable[..., Work], plan: CascadePlan, drawn: list[Path], full: np.ndarray
    ) -> None:
        found = work(plan, paths=drawn[:12]).begin()
        assert labels(found.probabilities) == labels(full[:12])
        assert found.sampled == 0
        assert found.guarantee == (
            "every label is the full ensemble's "
            "(for so few photos a certificate costs more than it saves)"
        )

    @pytest.mark.parametrize("certify", ["test", "off"])
    def test_where_nothing_cheaper_was_found(
        self,
        work: Callable[..., Work],
        plan: CascadePlan,
        drawn: list[Path],
        full: np.ndarray,
        certify: str,
    ) -> None:
        found = work(plan.with_threshold_sets([]), certify, paths=drawn[:20]).begin()
        assert labels(found.probabilities) == labels(full[:20])
        assert "(no cheaper plan was found, or none within the budget)" in found.guarantee

    def test_off_takes_what_is_expected_to_hold_and_guarantees_nothing(
        self, work: Callable[..., Work], plan: CascadePlan
    ) -> None:
        within = [each.risk <= GUARANTEE.tolerance for each in plan.threshold_sets].count(True)
        found = work(plan, "off").begin()
        assert found.sampled == 0
        assert found.certificate.accepted == within
        assert found.guarantee == "none: nothing was certified"
        conservative = searched(plan, tolerance=plan.threshold_sets[1].risk)
        second = work(conservative, "off", name="second.csv").begin()
        assert second.certificate.accepted == 2

    def test_off_takes_none_where_none_is_expected_to_hold(
        self, work: Callable[..., Work], plan: CascadePlan, full: np.ndarray
    ) -> None:
        found = work(searched(plan, tolerance=1e-9), "off").begin()
        assert labels(found.probabilities) == labels(full)
        assert "no cheaper plan is expected" in found.guarantee

    def test_where_none_is_accepted_labels_over_the_budget_are_refused(
        self, work: Callable[..., Work], plan: CascadePlan
    ) -> None:
        zero = (0.0,) * len(plan.steps)
        eager = plan.threshold_sets[-1].model_copy(update={"thresholds": zero})
        spoilt = searched(plan.with_threshold_sets([eager]), tolerance=0.03, confidence=0.8)
        assert spoilt.search is not None
        first = work(spoilt)
        assert first.begin().certificate.accepted == 0
        sample = first.job.sample
        tried = spoilt.search.full_ms + eager.ms
        ms = (sample * tried + (PHOTOS - sample) * spoilt.search.settled_ms) / PHOTOS
        with pytest.raises(ToolkitError, match=rf"`budget_ms=.* take {ms:.2f} ms a photo"):
            work(spoilt, name="limited.csv", budget_ms=0.99 * ms).begin()
        enough = work(spoilt, name="enough.csv", budget_ms=1.01 * ms).begin()
        assert enough.certificate.accepted == 0


class TestInterrupted:
    """Wherever it was killed, the same call goes on and gives the same bytes."""

    @pytest.mark.parametrize("kind", PLANS)
    @pytest.mark.parametrize("rows", [1, 17, 30, 60, 100])
    def test_anywhere(
        self, work: Callable[..., Work], plans: dict[str, CascadePlan], kind: str, rows: int
    ) -> None:
        """In the sample, between it and the others, and among those."""
        expected = work(plans[kind], name="whole.csv").begin()
        job = work(plans[kind])
        done = job.killed_after(rows)
        assert rows <= done < PHOTOS
        found = job.begin()
        same(found, expected)
        assert found.resumed == done
        opened = set(job.opened)
        assert len(opened) == len(job.opened) == PHOTOS - done, "what is known is not read again"

    def test_resuming_is_reported(
        self, work: Callable[..., Work], plan: CascadePlan, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job = work(plan)
        done = job.killed_after(8)
        job.begin(reporter=Reporter(quiet=False))
        reported = capsys.readouterr()
        assert f"resuming after {done} of 120 photos" in reported.err
        assert reported.out == ""

    @pytest.mark.parametrize("kind", PLANS)
    def test_when_all_was_done_but_the_writing(
        self, work: Callable[..., Work], plans: dict[str, CascadePlan], kind: str
    ) -> None:
        job = work(plans[kind])
        expected = job.begin()
        found = job.begin()
        same(found, expected)
        assert found.resumed == PHOTOS
        assert found.photos_per_second is None
        assert job.opened == []

    @pytest.fixture
    def own(self, drawn: list[Path], tmp_path: Path) -> list[Path]:
        """Photos that a test may change."""
        folder = Path(shutil.copytree(drawn[0].parent, tmp_path / "own"))
        return [folder / path.name for path in drawn]

    @pytest.mark.parametrize("after_sample", [-7, 2])
    def test_a_photo_that_changed_is_predicted_anew_and_certified_anew(
        self, work: Callable[..., Work], plan: CascadePlan, own: list[Path], after_sample: int
    ) -> None:
        job = work(plan, paths=own)
        job.killed_after(job.job.sample + 10)
        place = job.job.sample + after_sample
        changed, other = own[job.job.order[place]], own[job.job.order[-1]]
        changed.write_bytes(other.read_bytes())
        found = job.begin()
        assert found.resumed == place
        same(found, work(plan, paths=own, name="fresh.csv").begin())


class TestBrokenPhotos:
    @pytest.fixture
    def spoilt(
        self, work: Callable[..., Work], plan: CascadePlan, drawn: list[Path], hostile_photos: Path
    ) -> list[Path]:
        """Two in the sample and two elsewhere, one of them missing."""
        order, sample = work(plan).job.order, work(plan).job.sample
        paths = list(drawn)
        for place, name in (
            (0, "zero_bytes.jpg"),
            (sample - 1, "text.jpg"),
            (sample, "header_only.jpg"),
            (PHOTOS - 1, "missing.jpg"),
        ):
            paths[order[place]] = hostile_photos / name
        return paths

    @pytest.mark.parametrize("kind", PLANS)
    def test_all_are_listed_at_once_and_before_any_prediction(
        self,
        work: Callable[..., Work],
        plans: dict[str, CascadePlan],
        spoilt: list[Path],
        kind: str,
    ) -> None:
        job = work(plans[kind], paths=spoilt)
        with pytest.raises(ToolkitError, match=r"4 of the photos .* cannot be read") as told:
            job.begin()
        lines = str(told.value).splitlines()[1:]
        assert sorted(line.rpartition(": ")[2] for line in lines) == [
            "cannot be decoded (Truncated File Read)",
            "no such file",
            "not a photo in a known format",
            "the file is empty",
        ]
        assert job.opened == []

    @pytest.mark.parametrize("kind", PLANS)
    def test_one_that_is_met_on_the_way_ends_the_job(
        self,
        work: Callable[..., Work],
        plans: dict[str, CascadePlan],
        drawn: list[Path],
        hostile_photos: Path,
        kind: str,
    ) -> None:
        paths = list(drawn)
        paths[work(plans[kind]).job.order[-1]] = hostile_photos / "text.jpg"
        with pytest.raises(ToolkitError, match=r"1 of the photos .*\n.*text\.jpg: not a photo"):
            work(plans[kind], paths=paths).begin()

    @pytest.mark.parametrize("kind", PLANS)
    def test_skipped_they_have_the_class_prior_and_hurt_no_other(
        self,
        work: Callable[..., Work],
        plans: dict[str, CascadePlan],
        spoilt: list[Path],
        kind: str,
    ) -> None:
        # A broken photo never differs, so with several sets another one might be accepted.
        plan = plans[kind]
        if kind == "cascade":
            plan = searched(plan.with_threshold_sets(plan.threshold_sets[:1]), settled_ms=18.0)
        found = work(plan, paths=spoilt).begin(skip_broken=True)
        whole = work(plan, name="whole.csv").begin()
        bad = np.flatnonzero(found.exit_step == -1)
        assert len(bad) == 4
        np.testing.assert_array_equal(found.probabilities[bad], [PRIOR] * 4)
        assert found.broken["zero_bytes.jpg"] == "the file is empty"
        assert found.broken["missing.jpg"] == "no such file"
        assert len(found.broken) == 4
        assert found.certificate.accepted == whole.certificate.accepted
        np.testing.assert_array_equal(
            np.delete(found.probabilities, bad, axis=0), np.delete(whole.probabilities, bad, 0)
        )

    def test_skipped_and_interrupted_they_are_named_again(
        self, work: Callable[..., Work], plan: CascadePlan, spoilt: list[Path]
    ) -> None:
        job = work(plan, paths=spoilt)
        first = job.begin(skip_broken=True)
        again = job.begin(skip_broken=True)
        assert again.resumed == PHOTOS
        assert again.broken == first.broken
        assert again.probabilities.tobytes() == first.probabilities.tobytes()
        with pytest.raises(ToolkitError, match=r"^4 of the photos to predict cannot be read"):
            job.begin()

    def test_one_that_can_be_read_a_moment_later_is_not_called_broken(
        self, work: Callable[..., Work], plan: CascadePlan, drawn: list[Path]
    ) -> None:
        def hiccup(photo: Path, ranges: Any) -> Any:
            if photo == drawn[2]:
                raise BrokenPhotoError(str(photo), "Stale file handle")
            return open_photo(photo, ranges)

        job = work(plan, paths=drawn[:4])
        job.opener = hiccup
        with pytest.raises(
            ToolkitError, match=r"Stale file handle, and a moment later .* the same command again"
        ):
            job.begin()
        assert job.begin(skip_broken=True).broken == {drawn[2].name: "Stale file handle"}

    def test_a_request_of_nothing_but_broken_ones_is_answered(
        self, work: Callable[..., Work], plan: CascadePlan, hostile_photos: Path
    ) -> None:
        found = work(plan, paths=[hostile_photos / "text.jpg"]).begin(skip_broken=True)
        np.testing.assert_array_equal(found.probabilities, [PRIOR])


class TestIdentity:
    """Two calls are the same job exactly if they must give the same bytes."""

    def identity(
        self, folder: Path, paths: Sequence[Path], voting: str = "auto", **settings: Any
    ) -> dict[str, Any]:
        ensemble = loaded(folder, voting=voting)
        return job_identity(ensemble, request_for(paths), **{"tta": 2, "seed": 0, **settings})

    def test_it_is_the_same_for_the_same_call(self, plannable: Path, drawn: list[Path]) -> None:
        identity = self.identity(plannable, drawn)
        assert identity == self.identity(plannable, drawn)
        assert identity["bundle"] == load_bundle(plannable).sha256
        assert "onnxruntime" in " ".join(identity["runtimes"])

    @pytest.mark.parametrize("change", [{"voting": "pair"}, {"tta": 3}, {"seed": 1}])
    def test_other_settings_are_another_job(
        self, plannable: Path, drawn: list[Path], change: dict[str, Any]
    ) -> None:
        assert self.identity(plannable, drawn, **change) != self.identity(plannable, drawn)

    def test_another_order_is_another_job(self, plannable: Path, drawn: list[Path]) -> None:
        assert self.identity(plannable, drawn[::-1]) != self.identity(plannable, drawn)

    def test_a_photo_that_was_replaced_has_another_number(
        self, photos: list[Path], tmp_path: Path
    ) -> None:
        path = tmp_path / "a.png"
        request = request_for([path])
        missing = file_numbers(request)[0]
        path.write_bytes(photos[0].read_bytes())
        first = file_numbers(request)[0]
        path.write_bytes(photos[1].read_bytes())
        os.utime(path, ns=(0, 0))
        assert len({missing, first, file_numbers(request)[0]}) == 3


def test_the_plan_of_these_tests_mixes_precisions_and_sizes(plan: CascadePlan) -> None:
    """Else they would say less than they seem to."""
    calls = [call for step in plan.steps for call in step]
    assert {call.precision for call in calls} == {"fp32", "int8"}
    assert len(plan.steps) > 1
    assert len(plan.threshold_sets) > 3
