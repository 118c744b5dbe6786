"""Voting: whose word counts how much, and what comes out of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.errors import UsageError
from toolkit.inference.bundle import load_bundle
from toolkit.inference.calls import ModelCall, ModelKey
from toolkit.inference.voting import Mixture, choose_voting, margins, parse_weights, soften, vote

MEMBERS = ("alpha", "beta", "gamma")
WEIGHTS = (0.5, 0.2, 0.3)


def answers(photos: int, views: int, classes: int = 4) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(photos * 100 + views)
    shape = (len(WEIGHTS), photos, views)
    return list(generator.dirichlet([0.5] * classes, shape).astype(np.float32))


def voted_in_a_loop(
    probabilities: list[NDArray[np.float32]], temperature: float
) -> list[list[float]]:
    """The definition, one number at a time."""
    photos, views, classes = probabilities[0].shape
    rows = []
    for photo in range(photos):
        row = []
        for category in range(classes):
            total = 0.0
            for weight, member in zip(WEIGHTS, probabilities, strict=True):
                seen = [float(member[photo, view, category]) for view in range(views)]
                total += weight * sum(seen) / views
            row.append(total ** (1 / temperature))
        rows.append([value / sum(row) for value in row])
    return rows


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
@pytest.mark.parametrize("views", [1, 4, 8])
def test_the_vote_is_the_weighted_mean_over_views_and_members(
    views: int, temperature: float
) -> None:
    probabilities = answers(6, views)
    result = vote(probabilities, WEIGHTS, temperature)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, voted_in_a_loop(probabilities, temperature), rtol=1e-12)
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-12)


def test_a_photos_vote_does_not_depend_on_its_batch() -> None:
    probabilities = answers(37, 8)
    together = vote(probabilities, WEIGHTS, 1.7)
    alone = [vote([m[n : n + 1] for m in probabilities], WEIGHTS, 1.7)[0] for n in range(37)]
    np.testing.assert_array_equal(together, alone)


def test_a_photo_that_was_not_read_leaves_the_others_alone() -> None:
    probabilities = answers(3, 2)
    whole = vote(probabilities, WEIGHTS, 1.5)
    for member in probabilities:
        member[1] = np.nan
    result = vote(probabilities, WEIGHTS, 1.5)
    assert np.isnan(result[1]).all()
    np.testing.assert_array_equal(result[[0, 2]], whole[[0, 2]])


@pytest.mark.parametrize("temperature", [0.05, 0.3, 0.9, 1.1, 3.0, 20.0])
def test_a_temperature_never_changes_a_label(temperature: float) -> None:
    probabilities = np.random.default_rng(0).dirichlet([0.2] * 10, 2000)
    softened = soften(probabilities, temperature)
    np.testing.assert_array_equal(softened.argmax(axis=1), probabilities.argmax(axis=1))


def test_a_temperature_above_one_softens_and_below_one_sharpens() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1]])
    assert soften(probabilities, 2.0).max() < 0.7 < soften(probabilities, 0.5).max()


def test_certainty_survives_every_temperature() -> None:
    certain = np.array([[0.0, 1.0, 0.0]])
    for temperature in (0.05, 1.0, 20.0):
        softened = soften(certain, temperature)
        assert np.isfinite(softened).all()
        assert softened.argmax() == 1


class TestParseWeights:
    def test_weights_are_shares_in_the_order_of_the_members(self) -> None:
        assert parse_weights("gamma=3, alpha=1", MEMBERS) == (0.25, 0.0, 0.75)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("alpha=1,gama=1", r"unknown member 'gama'\. Did you mean 'gamma'\?"),
            ("alpha=1,", r"unknown member ''\. Expected one of: alpha, beta, gamma"),
            ("alpha=much", "received 'alpha=much'"),
            ("alpha", "received 'alpha'"),
            ("alpha=-1", "received 'alpha=-1'"),
            ("alpha=nan", "received 'alpha=nan'"),
            ("alpha=inf", "received 'alpha=inf'"),
            ("alpha=1,alpha=2", "once .* received 'alpha=2'"),
            ("alpha=0,beta=0", "at least one weight over 0"),
        ],
    )
    def test_a_mistake_is_named(self, text: str, complaint: str) -> None:
        with pytest.raises(UsageError, match=complaint):
            parse_weights(text, MEMBERS)


class TestChooseVoting:
    def test_auto_is_the_exports_choice_for_that_number_of_views(self, tiny_bundle) -> None:
        bundle = load_bundle(tiny_bundle.folder)
        assert choose_voting(bundle, 1, "auto").name == "uniform"
        fitted = choose_voting(bundle, 2, "auto")
        assert (fitted.name, fitted.weights, fitted.temperature) == (
            "fitted",
            (0.75, 0.25, 0.0),
            1.5,
        )

    @pytest.mark.parametrize("name", ["uniform", "accuracy", "fitted"])
    def test_an_alternative_is_taken_by_name(self, tiny_bundle, name: str) -> None:
        bundle = load_bundle(tiny_bundle.folder)
        chosen = choose_voting(bundle, 3, name)
        assert chosen.name == name
        assert chosen.weights == bundle.voting[3].alternatives[name].weights
        assert chosen.temperature == bundle.voting[3].alternatives[name].temperature

    def test_own_weights_have_no_temperature(self, tiny_bundle) -> None:
        chosen = choose_voting(load_bundle(tiny_bundle.folder), 2, "beta=1,gamma=1")
        assert (chosen.name, chosen.weights, chosen.temperature) == ("custom", (0, 0.5, 0.5), 1.0)

    def test_an_unknown_name_lists_what_there_is(self, tiny_bundle) -> None:
        with pytest.raises(UsageError, match="Expected auto, uniform, accuracy, fitted, or NAME="):
            choose_voting(load_bundle(tiny_bundle.folder), 2, "best")


def test_margins_are_the_log_of_the_two_best_ones_ratio() -> None:
    found = margins(np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4], [1.0, 0.0, 0.0]]))
    assert found == pytest.approx([np.log(0.7 / 0.2), 0.0, np.log(1e9)])
    assert np.isfinite(found).all()


BY_KEY = {ModelKey("a", "fp32"): 0.6, ModelKey("b", "fp32"): 0.3, ModelKey("c", "fp32"): 0.1}


class TestMixture:
    @pytest.fixture
    def said(self) -> dict[ModelCall, np.ndarray]:
        calls = [ModelCall("b", "fp32", 0), ModelCall("a", "int8", 0), ModelCall("b", "fp32", 3)]
        drawn = np.random.default_rng(0).dirichlet((1, 1, 1, 1), (3, 5)).astype(np.float32)
        return dict(zip(calls, drawn, strict=True))

    def mixture(self, said: dict[ModelCall, np.ndarray]) -> Mixture:
        mixture = Mixture(BY_KEY, 5, 4)
        for call, probabilities in said.items():
            mixture.add(call, probabilities)
        return mixture

    def test_members_count_by_weight_and_their_views_equally(
        self, said: dict[ModelCall, np.ndarray]
    ) -> None:
        b, a, other_b = (each.astype(float) for each in said.values())
        expected = (0.6 * a + 0.3 * (b + other_b) / 2) / 0.9
        np.testing.assert_allclose(self.mixture(said).mean(), expected, rtol=1e-12)

    def test_a_photos_answer_does_not_depend_on_the_others(
        self, said: dict[ModelCall, np.ndarray]
    ) -> None:
        whole, chosen = self.mixture(said), np.array([False, True, True, False, True])
        part = whole.copy()
        part.keep(chosen)
        np.testing.assert_array_equal(part.mean(), whole.mean()[chosen])
        last = ModelCall("c", "fp32", 0)
        added = np.random.default_rng(1).dirichlet((1, 1, 1, 1), 5).astype(np.float32)
        whole.add(last, added)
        part.add(last, added[chosen])
        np.testing.assert_array_equal(part.mean(), whole.mean()[chosen])

    def test_a_copy_leaves_the_original_alone(self, said: dict[ModelCall, np.ndarray]) -> None:
        mixture = self.mixture(said)
        before = mixture.mean()
        copied = mixture.copy()
        copied.add(ModelCall("a", "fp32", 1), np.eye(4, dtype=np.float32)[[0, 0, 0, 0, 0]])
        copied.keep(np.arange(5) < 2)
        np.testing.assert_array_equal(mixture.mean(), before)
        assert copied.mean().shape == (2, 4)
