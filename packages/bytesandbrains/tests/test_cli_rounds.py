"""How `bb sim` tells of rounds."""

import math

import pytest

from bb_sim import Result, Round
from bytesandbrains.cli._rounds import LiveTable, summary_of, table_of


def round_of(number, **outputs):
    one = Round(number)
    for name, value in outputs.items():
        one.output(name).add(value)
    return one


def test_figure_that_is_no_number_is_not_taken_for_one_that_was_not_published():
    rounds = [
        round_of(1, round={"loss": 0.5}),
        round_of(2, round={"loss": math.nan}),
        round_of(3),
    ]

    heads, lines = table_of(rounds)

    assert heads[-1] == "round.loss"
    assert [line[-1] for line in lines] == ["0.5000", "not finite", "-"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figure_that_never_was_a_number_has_a_column(value, capsys):
    table = LiveTable(1)

    table.add(round_of(1, loss=value))

    heads, line = capsys.readouterr().out.splitlines()
    assert heads.endswith("  loss")
    assert line.endswith("  not finite")


def test_summary_says_since_when_a_figure_is_no_number():
    rounds = [
        round_of(1, round={"loss": 0.5}),
        round_of(2, round={"loss": math.nan, "count": 3}),
        round_of(3, round={"loss": math.inf, "count": 3}),
    ]

    told = summary_of(Result(True, rounds, {}, 0, 0, 0, "", []))

    assert "round.loss was NaN or infinite in 2 rounds, first in round 2" in told
    assert not [line for line in told if "count" in line]
