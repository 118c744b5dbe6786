"""`toolkit export`: what it prints of a bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from toolkit.cli.export import print_voting
from toolkit.inference.bundle import load_bundle


def test_every_choice_of_the_voting_table_is_explained(
    tiny_bundle: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = load_bundle(tiny_bundle.folder)
    reasons = {1: "they are alike", 2: "they are better", 4: "they are better", 8: "asked for"}
    tables = {
        views: replace(table, reason=reasons.get(views, ""))
        for views, table in bundle.voting.items()
    }
    print_voting(replace(bundle, voting=tables), (1, 2, 4, 8))
    told = capsys.readouterr().out
    assert told.count(" *") == 4
    assert "* chosen:\n  1 view: they are alike\n  2 views and 4 views: they are better\n" in told
    assert "  8 views: asked for\n" in told
