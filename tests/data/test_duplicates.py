"""Near-duplicates: the groups that a plain double loop finds, and what counts as one on photos."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.data.duplicates import NEAR_BITS, near_groups, near_matches
from toolkit.data.survey import survey


def partition(groups: Iterable[int]) -> set[frozenset[int]]:
    members: dict[int, set[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(int(group), set()).add(index)
    return {frozenset(indices) for indices in members.values()}


def groups_by_double_loop(hashes: list[int], most_bits: int) -> list[int]:
    group = list(range(len(hashes)))
    for i, first in enumerate(hashes):
        for j, second in enumerate(hashes[:i]):
            if (first ^ second).bit_count() <= most_bits and group[i] != group[j]:
                old, new = group[i], group[j]
                group = [new if one == old else one for one in group]
    return group


def related_hashes(count: int, seed: int) -> list[int]:
    """Hashes of which many are others with up to eight bits turned, all 64 bits in use."""
    generator = np.random.default_rng(seed)
    hashes = [int(one) for one in generator.integers(0, 2**64, count // 4, dtype=np.uint64)]
    while len(hashes) < count:
        turned = generator.choice(64, generator.integers(0, 9), replace=False)
        parent = hashes[generator.integers(len(hashes))]
        hashes.append(parent ^ sum(1 << int(bit) for bit in turned))
    return [hashes[index] for index in generator.permutation(count)]


@pytest.mark.parametrize("most_bits", [0, NEAR_BITS, 8])
def test_groups_are_those_of_a_double_loop(most_bits: int) -> None:
    hashes = related_hashes(300, seed=most_bits)
    assert partition(near_groups(hashes, most_bits)) == partition(
        groups_by_double_loop(hashes, most_bits)
    )


def test_photos_of_one_hash_take_no_room_for_their_pairs() -> None:
    hashes = [5] * 6_000 + [0xFFFF << 20] * 6_000 + related_hashes(100, seed=2)
    tracemalloc.start()
    groups = near_groups(hashes)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10e6
    assert partition(groups[:12_000]) == {
        frozenset(range(6_000)),
        frozenset(range(6_000, 12_000)),
    }


def test_groups_reach_across_blocks() -> None:
    hashes = related_hashes(1_500, seed=3)
    expected = groups_by_double_loop(hashes, NEAR_BITS)
    assert partition(near_groups(hashes)) == partition(expected)


def test_a_match_is_the_nearest_of_the_others() -> None:
    # More than are compared at once.
    hashes = related_hashes(1500, seed=1)
    photos, others = hashes[:1300], hashes[1300:]
    expected = []
    for index, photo in enumerate(photos):
        bits = [(photo ^ other).bit_count() for other in others]
        if min(bits) <= NEAR_BITS:
            expected.append((index, bits.index(min(bits))))
    assert len(expected) > 10
    assert expected[-1][0] > 1024
    assert list(map(tuple, near_matches(photos, others))) == expected


def test_where_there_are_no_others_nothing_matches() -> None:
    assert near_matches([5, 6], []).shape == near_matches([], [5, 6]).shape == (0, 2)


def test_matches_of_photos_of_one_hash_are_no_more_than_the_photos() -> None:
    assert near_matches([5] * 3_000, [7] * 3_000).tolist() == [[n, 0] for n in range(3_000)]


def test_likeness_is_passed_on() -> None:
    # First and last differ in eight bits, but each is near the one between them.
    assert partition(near_groups([0b0, 0b1111, 0b11111111, 1 << 40 | 1 << 50 | 0xF0F0])) == {
        frozenset({0, 1, 2}),
        frozenset({3}),
    }


def test_copies_of_a_photo_are_grouped_and_other_photos_are_not(
    tmp_path: Path, draw_photo: Callable[..., Image.Image]
) -> None:
    paths = []
    for seed in range(12):
        photo = draw_photo(seed, (320, 240))
        copies = {
            "original.png": photo,
            "recompressed.jpg": Image.open(io.BytesIO(jpeg(photo, quality=30))),
            "smaller.png": photo.resize((120, 90)),
            "stretched.png": photo.resize((200, 300)),
        }
        for name, copy in copies.items():
            paths.append(tmp_path / f"{seed}-{name}")
            copy.save(paths[-1])
    groups = near_groups([facts.perceptual_hash for facts in survey(paths)])
    assert partition(groups) == {frozenset(range(4 * n, 4 * n + 4)) for n in range(12)}


def jpeg(photo: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    photo.save(content, "JPEG", quality=quality)
    return content.getvalue()
