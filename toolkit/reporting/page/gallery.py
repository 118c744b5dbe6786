"""Held-out photos worth a look, and what every member says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.metrics import log_losses
from toolkit.reporting.page.album import Album
from toolkit.reporting.page.ensemble import Judged

SHOWN, SIDE = 24, 208
TOLD = 5
"""Classes a member, of which a photo's probabilities are told."""


@dataclass(frozen=True)
class Card:
    """A photo of a gallery.

    Attributes:
        index: Its number among the held-out photos.
        id: Its id.
        photo: Data URI, or empty.
        truth: Class index.
        answer: Class index of the ensemble's answer.
        figure: What the gallery is ordered by, in words.
    """

    index: int
    id: str
    photo: str
    truth: int
    answer: int
    figure: str


@dataclass(frozen=True)
class Galleries:
    """Photos that the ensemble has most wrong, and those that divide the members most."""

    highest_loss: tuple[Card, ...]
    most_divided: tuple[Card, ...]


def galleries(judged: Judged, ids: Sequence[str], album: Album) -> Galleries:
    """Choose the photos to look at."""
    losses, divided = log_losses(judged.final, judged.labels), divisions(judged.each)

    def chosen(values: NDArray[np.float64], word: str) -> tuple[Card, ...]:
        order = np.argsort(-values, kind="stable")[:SHOWN]
        figures = [f"{word} {values[index]:.2f}" for index in order]
        return cards(judged, ids, album, order, figures)

    divided_cards = chosen(divided, "division") if len(judged.members) > 1 else ()
    return Galleries(chosen(losses, "loss"), divided_cards)


def cards(
    judged: Judged,
    ids: Sequence[str],
    album: Album,
    chosen: Sequence[int] | NDArray[np.intp],
    figures: Sequence[str],
) -> tuple[Card, ...]:
    """Make cards of some held-out photos."""
    answers = judged.final.argmax(axis=1)
    return tuple(
        Card(
            int(index),
            str(ids[index]),
            album.of_id(str(ids[index]), SIDE),
            int(judged.labels[index]),
            int(answers[index]),
            figure,
        )
        for index, figure in zip(chosen, figures, strict=True)
    )


def divisions(each: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much members contradict each other: the Jensen-Shannon divergence in nats.

    Args:
        each: Shape (members, photos, classes).

    Returns:
        Shape (photos,): 0 where all say the same.
    """

    def entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        whole: NDArray[np.float64] = -(
            probabilities * np.log(np.maximum(probabilities, 1e-12))
        ).sum(axis=-1)
        return whole

    found: NDArray[np.float64] = np.maximum(entropy(each.mean(axis=0)) - entropy(each).mean(0), 0)
    return found


def embedded(judged: Judged, ids: Sequence[str], classes: Sequence[str]) -> Mapping[str, Any]:
    """Return what the page's script needs of every held-out photo, small enough for thousands.

    Probabilities are whole thousandths of the likeliest classes: `likely[voter][photo]` is a flat
    list of class, thousandths, class, thousandths... The last voter is the ensemble.
    """
    losses, divided = log_losses(judged.final, judged.labels), divisions(judged.each)
    return {
        "classes": list(classes),
        "voters": [*judged.members, "ensemble"],
        "ids": [str(id) for id in ids],
        "truth": judged.labels.tolist(),
        "answer": judged.final.argmax(axis=1).tolist(),
        "loss": np.round(losses, 3).tolist(),
        "division": np.round(divided, 3).tolist(),
        "likely": [_likely(one, judged.labels) for one in (*judged.each, judged.final)],
    }


def _likely(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> list[list[int]]:
    thousandths = np.round(1000 * probabilities).astype(int)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOLD]
    rows = []
    for photo, classes in enumerate(order.tolist()):
        truth = int(labels[photo])
        told = classes if truth in classes else [*classes, truth]
        rows.append([number for c in told for number in (c, int(thousandths[photo, c]))])
    return rows
