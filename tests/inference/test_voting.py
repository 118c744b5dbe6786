"""Voting: whose word counts how much, and what comes out of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.errors import UsageError
from toolkit.inference.bundle import load_bundle
from toolkit.inference.voting import choose_voting, parse_weights, soften, vote

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
