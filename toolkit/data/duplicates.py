"""Photos that are nearly the same, by their perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR_BITS = 4
"""Photos whose 64-bit perceptual hashes differ in at most this many bits are near-duplicates."""

_BLOCK = 1024


def near_matches(
    hashes: Sequence[int], among: Sequence[int], most_bits: int = NEAR_BITS
) -> NDArray[np.int64]:
    """Find for each photo its near-duplicate among others.

    Args:
        hashes: 64-bit perceptual hashes.
        among: Those of the others.
        most_bits: The Hamming distance up to which two photos count.

    Returns:
        Shape (pairs, 2): an index into `hashes`, each once at the most, and one into `among`, which
        is the first of the nearest. All pairs of photos of one colour would fill the memory.
    """
    left, right = np.array(hashes, dtype=np.uint64), np.array(among, dtype=np.uint64)
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(left) if len(right) else 0, _BLOCK):
        bits = np.bitwise_count(left[start : start + _BLOCK, None] ^ right)
        nearest = bits.argmin(axis=1)
        near = np.flatnonzero(bits[np.arange(len(bits)), nearest] <= most_bits)
        found.append(np.stack([near + start, nearest[near]], axis=1))
    return np.concatenate(found)


def near_groups(hashes: Sequence[int], most_bits: int = NEAR_BITS) -> NDArray[np.int64]:
    """Group photos that are near-duplicates of one another, transitively.

    Args:
        hashes: 64-bit perceptual hashes.
        most_bits: The Hamming distance up to which two photos are joined.

    Returns:
        Shape (photos,): a group number each; a photo that is like no other has its own.
    """
    # Many photos may have one hash, as all of one colour do, and their pairs would fill the memory.
    unique, place = np.unique(np.array(hashes, dtype=np.uint64), return_inverse=True)
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(unique), _BLOCK):
        block = unique[start : start + _BLOCK]
        found.append(_near(block, unique[start:], most_bits) + start)
    pairs = np.concatenate(found)
    links = coo_array(
        (np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])),
        shape=(len(unique), len(unique)),
    )
    groups = connected_components(links, directed=False)[1].astype(np.int64)
    joined: NDArray[np.int64] = groups[place]
    return joined


def joined_groups(groups: NDArray[np.int64], others: Sequence[str]) -> NDArray[np.int64]:
    """Join groups with others: photos that share either are in one group, transitively.

    Args:
        groups: Shape (photos,), a group number each.
        others: The name of another group each; empty for none.

    Returns:
        Shape (photos,): a group number each.
    """
    named = [number for number, name in enumerate(others) if name]
    if not named:
        return groups
    _, number = np.unique([others[index] for index in named], return_inverse=True)
    first = int(groups.max()) + 1
    links = coo_array(
        (np.ones(len(named), dtype=np.int8), (groups[named], first + number)),
        shape=(first + len(named), first + len(named)),
    )
    joined: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return np.asarray(joined[groups], dtype=np.int64)


def _near(
    first: NDArray[np.uint64], second: NDArray[np.uint64], most_bits: int
) -> NDArray[np.int64]:
    return np.argwhere(np.bitwise_count(first[:, None] ^ second[None, :]) <= most_bits)
