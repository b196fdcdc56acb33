"""Robust rules withstand what the mean does not, and the page says what its command gives."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from comparing import ATTACKS, DIVISIONS, RULES, cells, command  # noqa: E402
from robustness_page import draw, read_table, table, with_table  # noqa: E402

PAGE = (DOCS / "explanation" / "robustness.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def flipped():
    """All rules against reversed updates, for fewer rounds and seeds than the page has."""
    found = list(cells(seeds=1, rounds=8, divisions=("even",), attacks=("sign-flip",)))
    return {one.rule: one for one in found}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "fedavg"])
def test_robust_rules_beat_the_mean_under_sign_flip_by_far(flipped, rule):
    assert flipped[rule].mean > 0.8
    assert flipped[rule].mean > flipped["fedavg"].mean + 0.6


def test_picture_can_be_drawn_of_some_cells(flipped):
    assert draw(list(flipped.values())).startswith(b"\x89PNG")


@pytest.mark.parametrize("division", DIVISIONS)
def test_page_has_all_cells_and_robust_rules_win_in_it(division):
    found = read_table(PAGE, division)

    assert list(found) == [(rule, attack) for rule in RULES for attack in ATTACKS]
    for attack in ("sign-flip", "gaussian"):
        best = max(found[rule, attack] for rule in RULES)
        assert best > found["fedavg", attack] + 0.7


@pytest.mark.parametrize(
    ("rule", "attack"), [("fedavg", "sign-flip"), ("median", "label-flip"), ("krum", "gaussian")]
)
def test_page_says_what_the_command_gives(rule, attack):
    (cell,) = cells(divisions=("even",), rules=(rule,), attacks=(attack,))

    # Processors differ in the last bits of a product, and training makes more of it.
    assert cell.mean == pytest.approx(read_table(PAGE, "even")[rule, attack], abs=0.02)


def test_picture_is_there():
    assert (DOCS / "images" / "robustness.png").read_bytes().startswith(b"\x89PNG")


def test_table_is_put_between_its_markers():
    found = list(cells(seeds=1, rounds=1, divisions=("even",), attacks=tuple(ATTACKS)))
    page = "a\n<!-- table even -->\nold\n<!-- end even -->\nb\n"

    written = with_table(page, "even", table(found, "even"))

    assert written.startswith("a\n<!-- table even -->\n| Rule |")
    assert written.endswith("<!-- end even -->\nb\n")
    assert read_table(written, "even")["median", "none"] == pytest.approx(
        next(one.mean for one in found if (one.rule, one.attack) == ("median", "none")), abs=5e-4
    )


def test_command_of_the_page_is_one_that_is_run():
    line = command("even", "krum", "sign-flip", 0)

    shown = "bb sim fedavg --aggregator krum --attack sign-flip --attackers 0.2"
    assert shown in PAGE
    assert [part for part in shown.split()[1:] if part not in line] == []
