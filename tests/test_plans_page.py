"""The page on plans says what the schema and the validator say."""

import re
from pathlib import Path

from bb_ir._proto import plan_pb2
from bb_ir.plan import RULES, TransferKind
from bb_ir.plan.places import SCHEMES

PAGE = (Path(__file__).parents[1] / "docs/reference/plans.md").read_text()


def rows(title):
    """The table below a title: first cell to the rest."""
    part = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE))


def test_fields_and_numbers_are_those_of_the_schema():
    told = {
        name: {int(number): field for number, field in re.findall(r"(\d+) (\w+)", row)}
        for name, row in rows("Messages").items()
    }

    schema = plan_pb2.DESCRIPTOR.message_types_by_name
    assert told == {
        name: {field.number: field.name for field in cls.fields} for name, cls in schema.items()
    }


def test_kinds_schemes_and_rules_are_those_there_are():
    kinds = {kind: int(number) for kind, number in re.findall(r"`(\w+)` (\d)\b", PAGE)}

    assert kinds == {kind.name: kind.value for kind in TransferKind if kind}
    assert set(rows("Places")) == set(SCHEMES)
    assert list(rows("The validator")) == list(RULES)
