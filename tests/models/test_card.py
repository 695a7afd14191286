import json
from dataclasses import asdict
from typing import Any

import pytest

from lacunar.errors import ModelError
from lacunar.models.card import Card

CARD = Card(
    summary="A network for tests.",
    licence="CC0-1.0",
    data=("noise",),
    places=("here", "there"),
    command="lacunar train tiny",
    steps=12,
    seeds=(3, 4),
    scores={"gap_rmse_kelvin": {"22 %": 1.5}, "loss": 0.25},
    notes=("Never use it.",),
    sha256="abc",
)


def test_card_survives_json() -> None:
    assert Card.from_dict(json.loads(json.dumps(asdict(CARD)))) == CARD


def test_card_reads_as_markdown() -> None:
    assert (
        CARD.to_markdown("tiny", parameters=1234567, dtype="float16")
        == """# tiny

A network for tests.

| | |
|---|---|
| parameters | 1,234,567 (float16) |
| licence | CC0-1.0 |
| data | noise |
| places | here, there |
| steps | 12 |
| seeds | 3, 4 |
| command | `lacunar train tiny` |
| sha256 | `abc` |

## Scores

| score | value |
|---|---|
| gap_rmse_kelvin / 22 % | 1.5 |
| loss | 0.25 |

## Notes

- Never use it.
"""
    )


def test_what_is_not_known_is_left_out() -> None:
    text = Card(summary="Bare.", licence="MIT").to_markdown("bare", parameters=1, dtype="float32")
    assert [line for line in text.splitlines() if line.startswith("| ")][1:] == [
        "| parameters | 1 (float32) |",
        "| licence | MIT |",
    ]
    assert "##" not in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"summary": "x"}, r"missing keys \['licence'\]"),
        ({"summary": "x", "licence": "y", "author": "z"}, r"unknown keys \['author'\]"),
        ({"summary": 3, "licence": "y"}, "summary is 3, wanted text"),
        ({"summary": "x", "licence": "y", "places": "here"}, "places is 'here', wanted a list of str"),
        ({"summary": "x", "licence": "y", "seeds": ["1"]}, r"seeds is \['1'\], wanted a list of int"),
        ({"summary": "x", "licence": "y", "steps": None}, "steps is None, wanted a whole number"),
        ({"summary": "x", "licence": "y", "scores": []}, r"scores is \[\], wanted a mapping"),
    ],
)
def test_card_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Card.from_dict(values)


@pytest.mark.parametrize(
    "ranges", [{"lst": (0, 1)}, {"red": (1, 0)}, {"red": (0,)}, {"red": "01"}, {"red": (0, float("inf"))}, ["red"]]
)
def test_ranges_that_are_none_are_refused(ranges: Any) -> None:
    with pytest.raises(ModelError, match=r"model card: ranges is .* wanted two rising numbers by band, of blue, green"):
        Card(summary="", licence="", ranges=ranges)
    given = Card(summary="", licence="", ranges={"red": (0.02, 1.5)})
    assert "| ranges | red 0.02 to 1.5 |" in given.to_markdown("a", parameters=1, dtype="float32")
