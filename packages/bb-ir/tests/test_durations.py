"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1ns", 1),
        ("2us", 2_000),
        ("250ms", 250_000_000),
        ("30s", 30 * 10**9),
        ("1.5m", 90 * 10**9),
        ("0.1s", 100_000_000),
        ("2h", 7200 * 10**9),
        (" 30 s ", 30 * 10**9),
        ("0.3ns", None),
    ],
)
def test_parse(text, nanoseconds):
    if nanoseconds is None:
        with pytest.raises(ValueError, match="longer than nothing"):
            parse_duration(text)
    else:
        assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "30 sec", "1d", "1e3s", "1.s", "٣s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="such as '30s'"):
        parse_duration(text)


def test_nothing_is_no_duration():
    with pytest.raises(ValueError, match="longer than nothing"):
        parse_duration("0s")


@given(st.integers(1, 10**18))
def test_format_is_exact(nanoseconds):
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(1, "1ns"), (1_500, "1500ns"), (90 * 10**9, "90s"), (120 * 10**9, "2m"), (3600 * 10**9, "1h")],
)
def test_format_is_short(nanoseconds, text):
    assert format_duration(nanoseconds) == text
