"""Whether the guarantee of a cascade holds: certificates over photos whose truth is known.

    python benchmarks/guarantee.py --draws 20000 --out guarantee.json

Labels are drawn, no network runs. Cases:
  boundary     one threshold set, which disagrees on one photo more than allowed: hardest to refuse
  several      ten threshold sets, conservative to aggressive: the last three break the guarantee
  drift        held-out photos are easier than those predicted: what the certificate does then, and
               what one on held-out photos would do, which the toolkit does not offer
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, hypergeom

from toolkit.inference.guarantee import (
    Guarantee,
    accepted,
    draw_sample,
    p_values,
)

PHOTOS, TOLERANCE, CONFIDENCE = 2000, 0.01, 0.95


def broken_guarantees(
    wrong: NDArray[np.int64], sample: int, draws: int, *, photos: int = PHOTOS
) -> int:
    """Count the draws of the sample after which too many labels differ.

    Args:
        wrong: Photos on which each threshold set disagrees, conservative ones first; the photos of
            a conservative set are among those of an aggressive one.
        sample: Photos that are drawn, and get the full ensemble's label.
        draws: How often.
        photos: All that are predicted.
    """
    allowed = Guarantee(TOLERANCE, CONFIDENCE).allowed(photos)
    drawn = (draw_sample(photos, sample, seed) for seed in range(draws))
    found = np.array([np.searchsorted(numbers, wrong) for numbers in drawn])
    broken = 0
    for row, values in zip(found, p_values(photos, allowed, sample, found), strict=True):
        shipped = accepted(values, CONFIDENCE)
        if shipped:
            broken += wrong[shipped - 1] - row[shipped - 1] > allowed
    return int(broken)


def smallest_sample(photos: int = PHOTOS) -> int:
    """Return the smallest sample in which no disagreement certifies."""
    allowed = Guarantee(TOLERANCE, CONFIDENCE).allowed(photos)
    return next(
        size
        for size in range(1, photos)
        if accepted(p_values(photos, allowed, size, [0]), CONFIDENCE)
    )


def drift(draws: int, *, held_out: int = 600, photos: int = PHOTOS) -> dict[str, int]:
    """Count broken guarantees where 0.1 % of the held-out and 3 % of the predicted photos disagree.

    A certificate on held-out photos assumes that the predicted ones are like them: were all of them
    shuffled, and one more than allowed among the predicted ones, then so few disagreements among
    the held-out ones would have the hypergeometric probability.
    """
    generator = np.random.default_rng(1)
    wrong, allowed = int(0.03 * photos), Guarantee(TOLERANCE, CONFIDENCE).allowed(photos)
    assert wrong > allowed, "else no guarantee could be broken"
    found = generator.binomial(held_out, 0.001, draws)
    values = np.asarray(hypergeom.cdf(found, held_out + photos, found + allowed + 1, held_out))
    return {
        "held-out photos": int((values <= 1 - CONFIDENCE).sum()),
        "sample": broken_guarantees(np.array([wrong]), smallest_sample(), draws),
    }


@click.command()
@click.option("--draws", default=20000, show_default=True)
@click.option("--out", type=click.Path(path_type=Path))
def main(draws: int, out: Path | None) -> None:
    """Print how often the guarantee was broken; an honest one is in at most 5 % of the draws."""
    allowed, sample = Guarantee(TOLERANCE, CONFIDENCE).allowed(PHOTOS), smallest_sample()
    conservative = np.array([0, 2, 4, 6, 9, 12, 16, allowed + 1, 2 * allowed, 5 * allowed])
    drifted = drift(draws)
    counts = {
        "boundary": broken_guarantees(np.array([allowed + 1]), sample, draws),
        "several": broken_guarantees(conservative, sample, draws),
        "drift": drifted["sample"],
        "drift, on held-out photos": drifted["held-out photos"],
    }
    print(f"{PHOTOS} photos, tolerance {TOLERANCE}, confidence {CONFIDENCE}, sample {sample}")
    rows: dict[str, Any] = {}
    for case, broken in counts.items():
        over = binomtest(broken, draws, 1 - CONFIDENCE, alternative="greater").pvalue
        rows[case] = {"broken": broken, "draws": draws, "p_more_than_5_percent": float(over)}
        print(f"{case:<28} broken in {broken / draws:7.2%} of {draws} draws")
    if out:
        content = {
            "photos": PHOTOS,
            "tolerance": TOLERANCE,
            "confidence": CONFIDENCE,
            "sample": sample,
            "cases": rows,
        }
        out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
