"""Limits of configurations: what is outside is refused, wherever a configuration is made."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest

from bb_ir.errors import BytesAndBrainsError
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
        ({"level": 0}, "a whole number, 1 to 9"),
        ({"level": 10}, "a whole number, 1 to 9"),
        ({"most": 0}, "a whole number, at least 1 (bytes), or None"),
        ({"share": 0}, "a number, above 0, below 1"),
        ({"share": 1.0}, "a number, above 0, below 1"),
        ({"share": float("nan")}, "a number, above 0, below 1"),
        ({"share": float("inf")}, "a number, above 0, below 1"),
    ],
    ids=str,
)
def test_what_is_outside_is_refused_and_says_what_is_allowed(bad, expected):
    (name,) = bad
    for make in (lambda: Settings(**bad), lambda: build_config(Settings, bad, "slot")):
        with pytest.raises(ConfigError, match=f"{name} is") as caught:
            make()
        assert caught.value.expected == expected


@pytest.mark.parametrize(
    "bad",
    [{"level": "high"}, {"level": 6.5}, {"level": True}, {"level": None}, {"share": "half"}],
    ids=str,
)
def test_what_is_no_such_number_is_refused(bad):
    (name,) = bad
    with pytest.raises(ConfigError, match=f"{name} is"):
        Settings(**bad)
    with pytest.raises(ConfigError, match=name):
        build_config(Settings, bad, "slot")


def test_numbers_of_numpy_are_numbers():
    assert Settings(level=np.int64(3), share=np.float32(0.25)).level == 3
    with pytest.raises(ConfigError, match="level is"):
        Settings(level=np.float64(3))


def test_a_base_checks_its_own_fields_alone():
    @dataclass(frozen=True)
    class Strict(Base):
        level: Annotated[int, Limits(1, 9)] = 6

        def __post_init__(self) -> None:
            check_limits(self, OddChoice, Base)
            check_limits(self)

    with pytest.raises(OddChoice, match="share is"):
        Strict(share=2.0)
    with pytest.raises(ConfigError, match="level is"):
        Strict(level=0)


@dataclass(frozen=True)
class Choosing:
    mode: Literal["fast", "exact"] = "fast"
    size: Literal[1, 2] | None = None

    def __post_init__(self) -> None:
        check_limits(self, OddChoice)


class OddChoice(BytesAndBrainsError):
    """What this configuration raises."""


@pytest.mark.parametrize("good", [{}, {"mode": "exact"}, {"size": 2}, {"size": None}], ids=str)
def test_a_choice_is_taken(good):
    assert Choosing(**good) == build_config(Choosing, good, "slot")


@pytest.mark.parametrize(
    ("bad", "expected", "fix"),
    [
        ({"mode": "exakt"}, "one of 'fast', 'exact'", "did you mean 'exact'?"),
        ({"mode": None}, "one of 'fast', 'exact'", "choose one of them"),
        ({"mode": ["fast"]}, "one of 'fast', 'exact'", ""),
        ({"size": 3}, "one of 1, 2, None", "choose one of them"),
        ({"size": True}, "one of 1, 2, None", "choose one of them"),
    ],
    ids=str,
)
def test_no_choice_is_refused_with_the_error_of_the_configuration(bad, expected, fix):
    (name,) = bad
    with pytest.raises(OddChoice, match=f"{name} is") as caught:
        Choosing(**bad)
    assert caught.value.expected == expected
    assert caught.value.fix.startswith(fix)
    assert caught.value.where == (name,)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(1, 2**40), "1 to 2**40"),
        (Limits(1, 2**40 - 1), "1 to 1099511627775"),
        (Limits(16, 65536), "16 to 65536"),
        (Limits(above=0, most=2**20), "above 0, at most 2**20"),
        (Limits(1e-150, 1e150), "1e-150 to 1e+150"),
    ],
)
def test_bounds_are_told_as_people_write_them(limits, text):
    assert str(limits) == text


def test_the_wrong_type_is_told_without_the_limits():
    with pytest.raises(ConfigError) as caught:
        build_config(Settings, {"most": "many"}, "slot")
    assert caught.value.expected == "int | None, default None"
    with pytest.raises(ConfigError) as caught:
        build_config(Settings, {"levels": 3}, "slot")
    assert caught.value.expected.startswith("share: float = 0.5, level: int = 6")


def test_so_it_is_where_annotations_are_texts():
    source = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Annotated
from bb_roles.limits import Limits

@dataclass(frozen=True)
class Told:
    rates: Annotated[dict[str, tuple[float, int]], Limits(1, 2)]
"""
    made = {}
    exec(compile(source, "told", "exec"), made)  # noqa: S102  # the text above
    with pytest.raises(ConfigError) as caught:
        build_config(made["Told"], {"rate": 3}, "slot")
    assert caught.value.expected == "rates: dict[str, tuple[float, int]]"


def test_a_fix_of_its_own_is_told():
    @dataclass(frozen=True)
    class Patient:
        defer: Annotated[int | None, Limits(0, fix="None for never")] = None

    with pytest.raises(ConfigError) as caught:
        check_limits(Patient(-1))
    assert caught.value.fix == "None for never"


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
