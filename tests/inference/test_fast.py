"""A request predicted by a plan: certified on the way, interrupted anywhere, and the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.data.pixels import BrokenPhotoError, read_photo
from toolkit.data.request import Request
from toolkit.errors import ToolkitError, UsageError
from toolkit.inference import cascade, engine, fast, plans
from toolkit.inference.bundle import load_bundle
from toolkit.inference.costs import Costs
from toolkit.inference.ensemble import Ensemble
from toolkit.inference.fast import FastJob, FastOutcome, predict_fast
from toolkit.inference.job import file_numbers
from toolkit.inference.journal import Journal
from toolkit.inference.plan import EXACT, Candidate, Plan, Run, load_plan, save_plan
from toolkit.inference.plans import FastOptions, chosen_plan, folder_beside, within_budget
from toolkit.inference.sessions import Sessions
from toolkit.progress import Reporter

PHOTOS, VIEWS = 120, 2
TOLERANCE, CONFIDENCE = 0.1, 0.9
ALLOWED = 12
PRIOR = (0.2, 0.5, 0.3)
COSTS = {
    ("alpha", "fp32"): 1.0,
    ("alpha", "int8"): 0.3,
    ("beta", "fp32"): 4.0,
    ("gamma", "fp32"): 4.0,
}
EXACT_MS = 18.0
OPTIONS = FastOptions(tolerance=TOLERANCE, confidence=CONFIDENCE)


class Killed(BaseException):
    """As when the process ends there."""


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Costs are given; the batches that they were measured at are told."""
    batches: list[int] = []

    def measure(sessions: Sessions, *_: Any, **__: Any) -> Costs:
        batches.append(sessions.batch)
        return Costs(COSTS)

    monkeypatch.setattr(plans, "measure_costs", measure)
    return batches


@pytest.fixture(scope="module")
def drawn(
    tmp_path_factory: pytest.TempPathFactory, draw_photo: Callable[..., Image.Image]
) -> list[Path]:
    folder = tmp_path_factory.mktemp("drawn")
    paths = [folder / f"{number}.png" for number in range(PHOTOS)]
    for number, path in enumerate(paths):
        draw_photo(7000 + number, (40, 30)).save(path)
    return paths


@pytest.fixture
def bundle(plannable: Path, tmp_path: Path) -> Path:
    """With room for plans beside it."""
    return Path(shutil.copytree(plannable, tmp_path / "home" / "bundle"))


@pytest.fixture
def ensemble(bundle: Path) -> Ensemble:
    return loaded(bundle)


@pytest.fixture(scope="module")
def reference(plannable: Path) -> Ensemble:
    """What all is compared with, loaded apart."""
    return loaded(plannable)


@pytest.fixture(scope="module")
def plan(plannable: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Found once, for `OPTIONS`."""
    folder = Path(shutil.copytree(plannable, tmp_path_factory.mktemp("planned") / "bundle"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plans, "measure_costs", lambda *_, **__: Costs(COSTS))
        return chosen_plan(loaded(folder), OPTIONS, PHOTOS)


def loaded(bundle: Path, batch: int = 4, **options: Any) -> Ensemble:
    return Ensemble.load(bundle, **{"tta": VIEWS, "device": "cpu", "batch": batch, **options})


def same_labels(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def request_for(paths: list[Path]) -> Request:
    return Request(tuple(path.name for path in paths), tuple(paths))


@dataclass
class Sitting:
    """A job that can be begun again and again, as a user types the same command."""

    ensemble: Ensemble
    request: Request
    job: FastJob
    folder: Path

    def begin(self, *, skip_broken: bool = False, **options: Any) -> FastOutcome:
        numbers = file_numbers(self.request)[self.job.order]
        columns = 1 + len(self.ensemble.classes)
        with Journal.held(self.folder, self.job.identity, columns, numbers) as journal:
            return predict_fast(
                self.ensemble, self.request, self.job, journal, skip_broken=skip_broken, **options
            )


@pytest.fixture
def sit(ensemble: Ensemble, drawn: list[Path], tmp_path: Path) -> Callable[..., Sitting]:
    def sit(
        plan: Plan,
        certify: Any = "test",
        *,
        paths: list[Path] | None = None,
        seed: int = 0,
        batch: int = 4,
        name: str = "partial",
    ) -> Sitting:
        request = request_for(paths or drawn)
        job = FastJob.of(plan, certify, len(request.ids), seed=seed)
        used = ensemble if batch == 4 else loaded(ensemble.bundle.folder, batch)
        return Sitting(used, request, job, tmp_path / name)

    return sit


def sampled(job: FastJob) -> list[int]:
    return [int(number) for number in job.order[: job.sample]]


class TestOutcome:
    def test_the_sample_has_the_exact_labels_and_others_the_plans_answers(
        self, sit: Callable[..., Sitting], plan: Plan, drawn: list[Path], reference: Ensemble
    ) -> None:
        sitting = sit(plan)
        outcome = sitting.begin()
        exact, numbers = reference.predict(drawn), sampled(sitting.job)
        assert 0 < outcome.sampled == len(numbers) < PHOTOS / 2
        stayed = outcome.left == len(plan.steps)
        assert stayed[numbers].all()
        same_labels(outcome.probabilities[stayed], exact[stayed])
        assert not (outcome.probabilities[~stayed] == exact[~stayed]).all(axis=1).any()
        assert set(outcome.left[~stayed].tolist()) == set(range(len(plan.steps)))
        assert (outcome.resumed, outcome.broken) == (0, {})

    def test_rows_are_in_the_requests_order(
        self, sit: Callable[..., Sitting], plan: Plan, drawn: list[Path], reference: Ensemble
    ) -> None:
        """Nearly all labels are the exact ensemble's, which few of another order would be."""
        shuffled = [drawn[n] for n in np.random.default_rng(1).permutation(PHOTOS)]
        outcome = sit(plan, paths=shuffled).begin()
        exact = reference.predict(shuffled).argmax(axis=1)
        assert (outcome.probabilities.argmax(axis=1) != exact).sum() <= ALLOWED
        assert (exact != reference.predict(drawn).argmax(axis=1)).sum() > PHOTOS / 2

    def test_the_promise_is_told_and_says_what_was_certified(
        self, sit: Callable[..., Sitting], plan: Plan, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sitting = sit(plan)
        outcome = sitting.begin(reporter=Reporter(quiet=False))
        found = outcome.certificate
        assert (found.kind, found.photos, found.allowed) == ("test", PHOTOS, ALLOWED)
        assert found.shipped > 0
        assert found.sample == outcome.sampled
        assert len(found.p_values) == len(found.disagreements) == len(plan.candidates)
        assert max(found.p_values[: found.shipped]) <= 1 - CONFIDENCE
        assert found.promise == (
            "at most 12 of 120 labels differ from the exact ensemble's, with 90% confidence "
            f"(certified on {found.sample} of these photos, drawn at random)"
        )
        assert f"promise: {found.promise}" in capsys.readouterr().err
        sure = replace(found, confidence=0.999)
        assert "with 99.9% confidence" in sure.promise

    def test_disagreements_are_counted_on_the_sample(
        self, sit: Callable[..., Sitting], plan: Plan, drawn: list[Path], reference: Ensemble
    ) -> None:
        """Every candidate alone, on the photos of the sample."""
        sitting = sit(plan)
        found = sitting.begin().certificate
        paths = [drawn[number] for number in sampled(sitting.job)]
        exact = reference.predict(paths).argmax(axis=1)
        for number, candidate in enumerate(plan.candidates):
            alone = replace(plan, candidates=(candidate,), tolerance=0.99)
            answers = sit(alone, "off", paths=paths, name=f"alone {number}").begin().probabilities
            assert (answers.argmax(axis=1) != exact).sum() == found.disagreements[number]

    def test_another_seed_draws_another_sample(
        self, sit: Callable[..., Sitting], plan: Plan
    ) -> None:
        first, second = sit(plan).job, sit(plan, seed=1).job
        assert first.identity != second.identity
        assert sampled(first) != sampled(second)

    @pytest.mark.parametrize("batch", [1, 16])
    def test_the_batch_changes_no_bit(
        self, sit: Callable[..., Sitting], plan: Plan, batch: int
    ) -> None:
        first = sit(plan).begin()
        other = sit(plan, batch=batch, name="other").begin()
        assert other.probabilities.tobytes() == first.probabilities.tobytes()
        assert other.certificate == first.certificate


class TestInterrupted:
    """Wherever it was killed, the same call goes on and gives the same bytes."""

    @pytest.fixture(autouse=True)
    def _many_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cascade, "BATCHES_A_WINDOW", 4)

    @pytest.fixture
    def expected(self, sit: Callable[..., Sitting], plan: Plan) -> FastOutcome:
        return sit(plan, name="whole").begin()

    @pytest.fixture
    def decided(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many photos were known each time that a certificate was decided."""
        known: list[int] = []
        real = fast._certificate

        def decide(ensemble: Any, job: Any, journal: Journal, *others: Any) -> Any:
            known.append(len(journal.rows()))
            return real(ensemble, job, journal, *others)

        monkeypatch.setattr(fast, "_certificate", decide)
        return known

    def killed_after(self, sitting: Sitting, rows: int) -> int:
        """Kill a sitting when there are so many rows; give how many there are then."""
        real = Journal.append

        def append(journal: Journal, answers: Any) -> None:
            if len(journal.rows()) >= rows:
                raise Killed
            real(journal, answers)

        with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Journal, "append", append)
            sitting.begin()
        numbers = file_numbers(sitting.request)[sitting.job.order]
        with Journal.held(sitting.folder, sitting.job.identity, 4, numbers) as journal:
            return len(journal.rows())

    def same(self, outcome: FastOutcome, expected: FastOutcome) -> None:
        assert outcome.probabilities.tobytes() == expected.probabilities.tobytes()
        np.testing.assert_array_equal(outcome.left, expected.left)
        assert outcome.certificate == expected.certificate

    def test_in_the_sample(
        self,
        sit: Callable[..., Sitting],
        plan: Plan,
        expected: FastOutcome,
        decided: list[int],
    ) -> None:
        sitting = sit(plan)
        done = self.killed_after(sitting, 4)
        assert 4 <= done < sitting.job.sample
        assert decided == []
        outcome = sitting.begin()
        self.same(outcome, expected)
        assert outcome.resumed == done
        assert decided == [sitting.job.sample]

    def test_while_the_plans_are_tried_on_the_sample(
        self,
        sit: Callable[..., Sitting],
        plan: Plan,
        expected: FastOutcome,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        sitting = sit(plan)

        def kill(*_: Any) -> Any:
            raise Killed

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(fast, "certify_by_sample", kill)
            sitting.begin()
        outcome = sitting.begin()
        self.same(outcome, expected)
        assert outcome.resumed == sitting.job.sample

    def test_a_photo_that_is_lost_between_its_exact_label_and_the_plans_certifies_nothing(
        self,
        sit: Callable[..., Sitting],
        plan: Plan,
        expected: FastOutcome,
        decided: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        sitting = sit(plan)
        sample = [sitting.request.paths[number] for number in sampled(sitting.job)]

        def gone(photo: Path, ranges: Any) -> Any:
            if decided and photo == sample[1]:
                raise BrokenPhotoError(str(photo), "no such file")
            return read_photo(photo, ranges)

        with monkeypatch.context() as patched:
            patched.setattr(engine, "read_photo", gone)
            for skip_broken in (False, True):
                with pytest.raises(
                    ToolkitError, match=r"\.png: no such file, and it could be read when it got"
                ):
                    sitting.begin(skip_broken=skip_broken)
        outcome = sitting.begin()
        self.same(outcome, expected)
        assert outcome.resumed == sitting.job.sample

    @pytest.mark.parametrize("more", [0, 1, 64])
    def test_after_the_certificate_which_is_not_decided_anew(
        self,
        sit: Callable[..., Sitting],
        plan: Plan,
        expected: FastOutcome,
        decided: list[int],
        monkeypatch: pytest.MonkeyPatch,
        more: int,
    ) -> None:
        sitting = sit(plan)
        done = self.killed_after(sitting, sitting.job.sample + more)
        assert decided == [sitting.job.sample]
        assert sitting.job.sample + more <= done < PHOTOS
        monkeypatch.setattr(fast, "_certificate", lambda *_: pytest.fail("decided anew"))
        outcome = sitting.begin()
        self.same(outcome, expected)
        assert outcome.resumed == done

    def test_when_all_was_done_but_the_writing(
        self, sit: Callable[..., Sitting], plan: Plan, expected: FastOutcome
    ) -> None:
        sitting = sit(plan)
        sitting.begin()
        outcome = sitting.begin()
        self.same(outcome, expected)
        assert outcome.resumed == PHOTOS
        assert outcome.photos_per_second is None

    def test_where_every_answer_is_exact(
        self, sit: Callable[..., Sitting], plan: Plan, reference: Ensemble, drawn: list[Path]
    ) -> None:
        sitting = sit(replace(plan, candidates=()))
        assert 50 <= self.killed_after(sitting, 50) < PHOTOS
        same_labels(sitting.begin().probabilities, reference.predict(drawn))

    @pytest.fixture
    def own(self, drawn: list[Path], tmp_path: Path) -> list[Path]:
        """Photos that a test may change."""
        folder = Path(shutil.copytree(drawn[0].parent, tmp_path / "own"))
        return [folder / path.name for path in drawn]

    def test_a_photo_of_the_sample_that_changed_voids_the_certificate(
        self, sit: Callable[..., Sitting], plan: Plan, own: list[Path], decided: list[int]
    ) -> None:
        sitting = sit(plan, paths=own)
        self.killed_after(sitting, sitting.job.sample + 10)
        place = 7
        changed, other = own[sitting.job.order[place]], own[sitting.job.order[-1]]
        changed.write_bytes(other.read_bytes())
        outcome = sitting.begin()
        assert outcome.resumed == place
        assert decided == [sitting.job.sample] * 2
        fresh = sit(plan, paths=own, name="fresh").begin()
        self.same(outcome, fresh)

    def test_another_photo_that_changed_does_not(
        self, sit: Callable[..., Sitting], plan: Plan, own: list[Path], decided: list[int]
    ) -> None:
        sitting = sit(plan, paths=own)
        self.killed_after(sitting, sitting.job.sample + 10)
        place = sitting.job.sample + 2
        changed, other = own[sitting.job.order[place]], own[sitting.job.order[-1]]
        changed.write_bytes(other.read_bytes())
        outcome = sitting.begin()
        assert outcome.resumed == place
        assert decided == [sitting.job.sample]
        self.same(outcome, sit(plan, paths=own, name="fresh").begin())


class TestExactly:
    """Where no plan pays or passes, every answer is the exact ensemble's, and that is told."""

    def test_no_candidate_passes(
        self, sit: Callable[..., Sitting], plan: Plan, reference: Ensemble, drawn: list[Path]
    ) -> None:
        figures = {"ms": 0.5, "risk": 0.001}
        bad = replace(
            plan,
            steps=((Run("alpha", "int8", 0),),),
            candidates=(Candidate((0.0,), figures),),
        )
        outcome = sit(bad).begin()
        same_labels(outcome.probabilities, reference.predict(drawn))
        found = outcome.certificate
        assert found.shipped == 0
        assert found.p_values[0] > 1 - CONFIDENCE
        assert found.promise == (
            "every label is the exact ensemble's "
            f"(no plan passed on {outcome.sampled} of these photos)"
        )
        assert (outcome.left == 1).all()

    def test_a_small_job(
        self, sit: Callable[..., Sitting], plan: Plan, reference: Ensemble, drawn: list[Path]
    ) -> None:
        outcome = sit(plan, paths=drawn[:12]).begin()
        same_labels(outcome.probabilities, reference.predict(drawn[:12]))
        assert outcome.sampled == 0
        assert outcome.certificate.promise == (
            "every label is the exact ensemble's "
            "(for so few photos a certificate costs more than it saves)"
        )

    @pytest.mark.parametrize("certify", ["test", "off"])
    def test_nothing_cheaper(
        self,
        sit: Callable[..., Sitting],
        plan: Plan,
        reference: Ensemble,
        drawn: list[Path],
        certify: str,
    ) -> None:
        outcome = sit(replace(plan, steps=(), candidates=()), certify, paths=drawn[:20]).begin()
        same_labels(outcome.probabilities, reference.predict(drawn[:20]))
        assert "(nothing cheaper was found)" in outcome.certificate.promise

    def test_certain(
        self,
        sit: Callable[..., Sitting],
        ensemble: Ensemble,
        reference: Ensemble,
        drawn: list[Path],
    ) -> None:
        plan = chosen_plan(ensemble, FastOptions(plan=plans.CERTAIN), PHOTOS)
        outcome = sit(plan).begin()
        same_labels(outcome.probabilities, reference.predict(drawn))
        assert outcome.certificate.promise == (
            "every label is the exact ensemble's (runs that could not change it were skipped)"
        )
        assert ensemble.timings.runs < 0.8 * PHOTOS * 3 * VIEWS


class TestWithoutCertificate:
    def test_off_takes_the_boldest_that_is_expected_to_hold_and_promises_nothing(
        self, sit: Callable[..., Sitting], plan: Plan
    ) -> None:
        bold = [each.figures["risk"] <= TOLERANCE for each in plan.candidates].count(True)
        outcome = sit(plan, "off").begin()
        assert outcome.sampled == 0
        assert outcome.certificate.shipped == bold
        assert outcome.certificate.promise == "none: nothing was certified"
        careful = replace(plan, tolerance=plan.candidates[1].figures["risk"])
        assert sit(careful, "off", name="careful").begin().certificate.shipped == 2

    def test_off_ships_nothing_where_nothing_is_expected_to_hold(
        self, sit: Callable[..., Sitting], plan: Plan, reference: Ensemble, drawn: list[Path]
    ) -> None:
        outcome = sit(replace(plan, tolerance=1e-9), "off").begin()
        same_labels(outcome.probabilities, reference.predict(drawn))
        assert "no cheaper plan is expected" in outcome.certificate.promise


class TestBrokenPhotos:
    @pytest.fixture
    def spoilt(
        self,
        sit: Callable[..., Sitting],
        plan: Plan,
        drawn: list[Path],
        hostile_photos: Path,
    ) -> Sitting:
        """Two in the sample and two elsewhere; each two times empty and text."""
        order = sit(plan).job.order
        paths = list(drawn)
        sample = sit(plan).job.sample
        for place, name in (
            (0, "zero_bytes.jpg"),
            (sample - 1, "text.jpg"),
            (sample, "header_only.jpg"),
            (PHOTOS - 1, "text.jpg"),
        ):
            paths[order[place]] = hostile_photos / name
        return sit(plan, paths=paths)

    def test_all_are_listed_and_the_job_ends(self, spoilt: Sitting) -> None:
        with pytest.raises(ToolkitError, match=r"4 of the photos .* --skip-broken") as told:
            spoilt.begin()
        assert len(str(told.value).splitlines()) == 5

    def test_a_broken_one_after_the_sample_ends_it_too(
        self, sit: Callable[..., Sitting], plan: Plan, drawn: list[Path], hostile_photos: Path
    ) -> None:
        paths = list(drawn)
        paths[sit(plan).job.order[-1]] = hostile_photos / "text.jpg"
        with pytest.raises(ToolkitError, match=r"1 of the photos .*\n.*text\.jpg: not a photo"):
            sit(plan, paths=paths).begin()

    def test_a_missing_one_is_found_before_any_prediction(
        self,
        sit: Callable[..., Sitting],
        plan: Plan,
        drawn: list[Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(cascade.Cascade, "predict", lambda *_, **__: pytest.fail("predicted"))
        missing = drawn[0].with_name("missing.png")
        with pytest.raises(ToolkitError, match=r"missing\.png: no such file"):
            sit(plan, paths=[*drawn[1:], missing]).begin()

    def test_skipped_they_have_the_class_prior_and_hurt_no_other(
        self, spoilt: Sitting, sit: Callable[..., Sitting], plan: Plan
    ) -> None:
        # A broken photo never disagrees, so with several candidates another one might be shipped.
        plan = replace(plan, candidates=plan.candidates[:1], settled_ms=EXACT_MS)
        outcome = sit(plan, paths=list(spoilt.request.paths)).begin(skip_broken=True)
        whole = sit(plan, name="whole").begin()
        bad = np.flatnonzero(outcome.left == -1)
        assert len(bad) == 4
        np.testing.assert_array_equal(outcome.probabilities[bad], [PRIOR] * 4)
        assert outcome.broken["zero_bytes.jpg"] == "the file is empty"
        assert set(outcome.broken) == {"zero_bytes.jpg", "text.jpg", "header_only.jpg"}
        assert outcome.certificate.shipped == whole.certificate.shipped == 1
        np.testing.assert_array_equal(
            np.delete(outcome.probabilities, bad, axis=0), np.delete(whole.probabilities, bad, 0)
        )

    def test_skipped_and_interrupted_they_are_named_again(self, spoilt: Sitting) -> None:
        first = spoilt.begin(skip_broken=True)
        again = spoilt.begin(skip_broken=True)
        assert again.resumed == PHOTOS
        assert again.broken == first.broken
        assert again.probabilities.tobytes() == first.probabilities.tobytes()


class TestChosenPlan:
    def test_it_is_kept_beside_the_bundle_and_taken_the_next_time(
        self, ensemble: Ensemble, plan: Plan, measured: list[int], bundle: Path
    ) -> None:
        assert chosen_plan(ensemble, OPTIONS, PHOTOS) == plan
        (path,) = folder_beside(ensemble.bundle).iterdir()
        assert path.parent == bundle.parent / "plans"
        assert load_plan(path) == plan
        assert chosen_plan(loaded(bundle), OPTIONS, PHOTOS) == plan
        assert measured == [4], "the costs are measured once"
        load_bundle(bundle).check_files()

    @pytest.mark.parametrize(
        ("change", "photos"),
        [({"tolerance": 0.05}, PHOTOS), ({"confidence": 0.95}, PHOTOS), ({}, PHOTOS + 1)],
    )
    def test_for_another_job_another_is_found(
        self,
        ensemble: Ensemble,
        measured: list[int],
        change: dict[str, float],
        photos: int,
    ) -> None:
        chosen_plan(ensemble, OPTIONS, PHOTOS)
        chosen_plan(ensemble, replace(OPTIONS, **change), photos)
        assert len(measured) == 2

    def test_of_another_voting_too(self, bundle: Path, measured: list[int]) -> None:
        chosen_plan(loaded(bundle), OPTIONS, PHOTOS)
        other = chosen_plan(loaded(bundle, voting="pair"), OPTIONS, PHOTOS)
        assert len(measured) == 2
        assert "gamma" not in {run.member for step in other.steps for run in step}
        assert other.exact_ms == 2 * (1 + 4)

    def test_a_file_is_taken_with_its_own_promise_or_a_given_one(
        self, ensemble: Ensemble, plan: Plan, tmp_path: Path, measured: list[int]
    ) -> None:
        save_plan(plan, tmp_path / "mine.json")
        named = FastOptions(plan=str(tmp_path / "mine.json"))
        assert chosen_plan(ensemble, named, 7) == plan
        changed = chosen_plan(ensemble, replace(named, tolerance=0.02), 7)
        assert changed == replace(plan, tolerance=0.02)
        assert changed.sha256 != plan.sha256
        assert measured == []

    def test_a_file_for_something_else_is_refused(
        self, bundle: Path, plan: Plan, tmp_path: Path
    ) -> None:
        save_plan(plan, tmp_path / "mine.json")
        named = FastOptions(plan=str(tmp_path / "mine.json"))
        for options, what in (({"tta": 3}, "--tta"), ({"voting": "pair"}, "another voting")):
            with pytest.raises(ToolkitError, match=f"made for {what} .*'toolkit plan'"):
                chosen_plan(loaded(bundle, **options), named, PHOTOS)

    def test_a_missing_file_is_named(self, ensemble: Ensemble) -> None:
        with pytest.raises(ToolkitError, match=r"nowhere\.json: no such file"):
            chosen_plan(ensemble, FastOptions(plan="nowhere.json"), PHOTOS)

    def test_without_enough_held_out_photos_there_is_none(self, tiny_bundle: Any) -> None:
        """tiny_bundle has twelve; at two views only members of fp32 vote."""
        ensemble = loaded(tiny_bundle.folder)
        with pytest.raises(ToolkitError, match="12 held-out photos are too few to plan from"):
            chosen_plan(ensemble, OPTIONS, PHOTOS)

    def test_without_any_nothing_is_measured(self, bundle: Path, measured: list[int]) -> None:
        without = replace(load_bundle(bundle), validation_sha256="")
        (bundle / "validation.npz").unlink()
        with pytest.raises(ToolkitError, match="no validation"):
            chosen_plan(loaded(without), OPTIONS, PHOTOS)  # type: ignore[arg-type]
        assert measured == []

    def test_a_certain_one_is_kept_too_and_needs_no_held_out_photos(
        self, bundle: Path, measured: list[int]
    ) -> None:
        certain = FastOptions(plan=plans.CERTAIN)
        made = chosen_plan(loaded(bundle), certain, PHOTOS)
        assert made.exact_ms == EXACT_MS > made.settled_ms
        assert chosen_plan(loaded(bundle), certain, 7) == made
        assert measured == [4]
        (path,) = folder_beside(load_bundle(bundle)).iterdir()
        assert path.name.startswith("certain-")
        without = replace(load_bundle(bundle), validation_sha256="")
        (bundle / "validation.npz").unlink()
        blind = chosen_plan(loaded(without), certain, 7)  # type: ignore[arg-type]
        assert blind.settled_ms == blind.exact_ms == EXACT_MS

    def test_with_a_certain_one_nothing_can_be_promised_less(self) -> None:
        with pytest.raises(UsageError, match="--plan certain, of which every label is exact"):
            FastOptions(plan=plans.CERTAIN, tolerance=0.01)

    @pytest.mark.parametrize("change", [{"tolerance": 0.0}, {"tolerance": 1.0}, {"confidence": 2}])
    def test_a_promise_that_is_no_share_is_bad_usage(self, change: dict[str, float]) -> None:
        with pytest.raises(UsageError, match=f"--{next(iter(change))}: Expected a number between"):
            FastOptions(**change)  # type: ignore[arg-type]


class TestBudget:
    MANY = 5000

    def cost(self, plan: Plan, number: int) -> float:
        """Mean cost a photo where this candidate is accepted."""
        sample = FastJob.of(plan, "test", self.MANY, seed=0).sample
        exactly = sample * (plan.settled_ms + plan.candidates[0].figures["ms"])
        rest = (self.MANY - sample) * plan.candidates[number].figures["ms"]
        return float(exactly + rest) / self.MANY

    def test_no_candidate_costs_more_with_its_certificate(self, plan: Plan) -> None:
        budget = self.cost(plan, len(plan.candidates) // 2)
        kept = within_budget(plan, budget, self.MANY)
        assert 0 < len(kept.candidates) < len(plan.candidates)
        assert kept.candidates == plan.candidates[-len(kept.candidates) :]
        assert all(self.cost(kept, n) <= budget for n in range(len(kept.candidates)))

    def test_without_one_all_stay(self, plan: Plan) -> None:
        assert within_budget(plan, None, self.MANY) == plan

    def test_of_few_photos_exact_labels_are_the_cheapest_within_any(
        self, sit: Callable[..., Sitting], plan: Plan, drawn: list[Path]
    ) -> None:
        kept = within_budget(plan, 2 * plan.settled_ms, 5)
        outcome = sit(kept, paths=drawn[:5]).begin()
        assert "for so few photos a certificate costs more than it saves" in (
            outcome.certificate.promise
        )

    def test_without_a_certificate_only_the_plan_itself_counts(self, plan: Plan) -> None:
        costs = [each.figures["ms"] for each in plan.candidates]
        kept = within_budget(plan, costs[2], self.MANY, "off")
        assert [each.figures["ms"] for each in kept.candidates] == costs[2:]

    def test_one_that_nothing_meets_is_refused_and_the_cheapest_named(
        self, ensemble: Ensemble, plan: Plan
    ) -> None:
        cheapest = plan.candidates[-1].figures["ms"]
        off = replace(OPTIONS, budget_ms=0.01, certify="off")
        with pytest.raises(
            ToolkitError,
            match=rf"--budget-ms 0\.01: no plan meets it; .* {cheapest:.2f} ms a photo for 120",
        ):
            chosen_plan(ensemble, off, PHOTOS)

    def test_one_that_exact_labels_meet_is_met(self, plan: Plan) -> None:
        alone = replace(plan, candidates=())
        assert within_budget(alone, plan.settled_ms, self.MANY) == alone
        with pytest.raises(ToolkitError, match=rf"the cheapest takes {plan.settled_ms:.2f} ms"):
            within_budget(alone, plan.settled_ms - 1, self.MANY)

    def test_where_no_plan_is_certified_dearer_exact_labels_are_not_made_instead(
        self, sit: Callable[..., Sitting], plan: Plan
    ) -> None:
        eager = replace(plan.candidates[-1], thresholds=(0.0,) * len(plan.steps))
        spoilt = replace(plan, candidates=(eager,), tolerance=0.03, confidence=0.8)
        sitting = sit(spoilt)
        assert sitting.begin().certificate.shipped == 0
        tried_ms = sitting.job.sample / PHOTOS * eager.figures["ms"]
        limited = sit(spoilt, name="limited")
        # Enough for exact labels alone, but not after what was tried in vain.
        limited.job = replace(limited.job, budget_ms=plan.settled_ms + tried_ms / 2)
        with pytest.raises(
            ToolkitError,
            match=rf"no plan passed .* take {plan.settled_ms + tried_ms:.2f} ms a photo",
        ):
            limited.begin()
        enough = sit(spoilt, name="enough")
        enough.job = replace(enough.job, budget_ms=plan.settled_ms + 1.01 * tried_ms)
        assert enough.begin().certificate.shipped == 0


def test_the_plan_of_these_tests_mixes_precisions_and_sizes(plan: Plan) -> None:
    """Else they would say less than they seem to."""
    runs = [run for step in plan.steps for run in step]
    assert {run.precision for run in runs} == {EXACT, "int8"}
    assert len(plan.steps) > 1
    assert len(plan.candidates) > 3
