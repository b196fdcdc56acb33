"""Limits of configurations: what is outside is refused, wherever a configuration is made."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.limits import Limits, check_limits, limits_of


@dataclass(frozen=True)
class Base:
    share: Annotated[float, Limits(above=0, below=1)] = 0.5

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class Settings(Base):
    level: Annotated[int, Limits(1, 9)] = 6
    most: Annotated[int | None, Limits(least=1, unit="bytes")] = None
    free: float = 0.0


@pytest.mark.parametrize(
    "good",
    [{}, {"level": 1}, {"level": 9}, {"most": 1}, {"most": None}, {"free": -1e9}, {"share": 0.999}],
    ids=str,
)
def test_what_is_within_is_taken(good):
    assert Settings(**good) == build_config(Settings, good, "slot")


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({"level": 0}, "1 to 9"),
        ({"level": 10}, "1 to 9"),
        ({"most": 0}, "at least 1 (bytes)"),
        ({"share": 0}, "above 0, below 1"),
        ({"share": 1.0}, "above 0, below 1"),
        ({"share": float("nan")}, "above 0, below 1"),
        ({"share": float("inf")}, "above 0, below 1"),
    ],
    ids=str,
)
def test_what_is_outside_is_refused_and_says_what_is_allowed(bad, expected):
    (name,) = bad
    for make in (lambda: Settings(**bad), lambda: build_config(Settings, bad, "slot")):
        with pytest.raises(ConfigError, match=f"{name} is") as caught:
            make()
        assert caught.value.expected == expected


def test_what_is_no_number_is_left_to_the_check_of_types():
    assert Settings(level="high").level == "high"
    with pytest.raises(ConfigError, match="'high'"):
        build_config(Settings, {"level": "high"}, "slot")


def test_fields_of_bases_have_limits_too():
    assert {name: str(limits) for name, limits in limits_of(Settings).items()} == {
        "share": "above 0, below 1",
        "level": "1 to 9",
        "most": "at least 1",
    }


def test_a_number_without_bounds_has_to_be_finite():
    @dataclass(frozen=True)
    class Plain:
        rate: Annotated[float, Limits(unit="Hz")]

    check_limits(Plain(3.0))
    with pytest.raises(ConfigError, match="rate is inf") as caught:
        check_limits(Plain(float("inf")))
    assert caught.value.expected == "a finite number (Hz)"
