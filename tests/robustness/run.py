"""Compares aggregation rules under attack, as the tables and picture of a page of the docs.

nox -s robustness               prints the tables
nox -s robustness -- --docs     writes docs/explanation/robustness.md and its picture anew
"""

from __future__ import annotations

import argparse
from pathlib import Path

from comparing import ATTACKS, DIVISIONS, RULES, cells
from robustness_page import draw, table, with_table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "robustness.md"
PICTURE = ROOT / "docs" / "images" / "robustness.png"


def main() -> None:
    """Run all, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--docs", action="store_true", help="write the page and its picture")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    asked = parser.parse_args()
    if asked.docs and asked.seeds != 3:
        parser.error("the page is made of three seeds")
    done = []
    for one in cells(asked.seeds):
        done.append(one)
        many = len(RULES) * len(ATTACKS) * len(DIVISIONS)
        print(f"{len(done):>3} of {many}  {one.division:<7} {one.attack:<10} {one.rule:<13} "
              f"{one.mean:.3f}", flush=True)  # fmt: skip
    text = PAGE.read_text(encoding="utf-8")
    for division in DIVISIONS:
        print(f"\n{division}\n\n{table(done, division)}")
        text = with_table(text, division, table(done, division))
    if asked.docs:
        PAGE.write_text(text, encoding="utf-8")
        PICTURE.write_bytes(draw(done))


if __name__ == "__main__":
    main()
