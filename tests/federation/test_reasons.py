"""Every word with which a Node says why it refused, dropped or ended something is provoked.

The words are read from the code of the runtime, and so are the tests that assert them: an assertion
that a word was told can only hold where something made the Node tell it. Kinds of steps are in
`test_traps.py`, errors in `tests/errors`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from bb_ir._framing import Reason

ROOT = Path(__file__).parents[2]
RUNTIME = sorted((ROOT / "packages/bb-runtime/src/bb_runtime").glob("*.py"))
TESTS = sorted(
    path
    for pattern in ("packages/*/tests/**/*.py", "plugins/*/tests/**/*.py", "tests/**/*.py")
    for path in ROOT.glob(pattern)
    if path != Path(__file__)
)

#: Functions that return it, or nothing.
RETURNED_BY = ("check", "check_received", "why_not")
#: What an assertion is about that speaks of such words.
SPEAKS = re.compile(
    r"count|reason|drop|refus|why|give\(|offer\(|answer|\bhows?\b|\bends?\b|ended|expected|told",
    re.IGNORECASE,
)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            function = node.func
            yield function.id if isinstance(function, ast.Name) else function.attr, node


def words_of(value: ast.AST) -> Iterator[str]:
    """Yield the words that an expression may be; of one with a code after it what stands before."""
    match value:
        case ast.Constant(value=str(word)) if word:
            yield word
        case ast.IfExp():
            yield from words_of(value.body)
            yield from words_of(value.orelse)
        case ast.JoinedStr(values=[ast.Constant(value=str(word)), *_]):
            yield word


def told_by(parameter: str) -> dict[str, int]:
    """Return the functions and classes that are given a parameter, and as which argument."""
    found: dict[str, int] = {}
    for path in RUNTIME:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = _parameters(node)
            if parameter in names:
                found[node.name] = names.index(parameter)
    return found


def _parameters(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return [one.arg for one in node.args.args if one.arg != "self"]
    if not isinstance(node, ast.ClassDef):
        return []
    made = [one for one in node.body if getattr(one, "name", "") == "__init__"]
    return _parameters(made[0]) if made else _fields(node)


def _fields(node: ast.ClassDef) -> list[str]:
    targets = (one.target for one in node.body if isinstance(one, ast.AnnAssign))
    return [one.id for one in targets if isinstance(one, ast.Name)]


def declared() -> set[str]:
    """Return the words for what is refused, dropped and ended."""
    found, told = set(get_args(Reason)), told_by("reason")
    for path in RUNTIME:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name, call in calls(tree):
            place = told.get(name, len(call.args))
            given = [*call.args[place : place + 1]]
            given += [one.value for one in call.keywords if one.arg == "reason"]
            found.update(word for arg in given for word in words_of(arg))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name in RETURNED_BY:
                returns = [one for one in ast.walk(node) if isinstance(one, ast.Return)]
                found.update(word for one in returns if one.value for word in words_of(one.value))
    return found


def endings() -> set[str]:
    """Return the words for how frames end."""
    found = set[str]()
    for path in RUNTIME:
        for name, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            if name == "end":
                found.update(word for arg in call.args[1:2] for word in words_of(arg))
    return found


def asserted() -> set[str]:
    """Return all words that tests assert to be told, or are parametrized with."""
    found = set[str]()
    for path in TESTS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert):
                found.update(_affirmed(node.test))
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                found.update(word for one in node.decorator_list for word in _given(one))
    return found


def _affirmed(test: ast.expr) -> set[str]:
    """Return the words that an assertion says are there."""
    if isinstance(test, ast.BoolOp):
        parts = test.values if isinstance(test.op, ast.And) else []
        return {word for part in parts for word in _affirmed(part)}
    if isinstance(test, ast.UnaryOp) or not SPEAKS.search(ast.unparse(test)):
        return set()
    if isinstance(test, ast.Compare):
        against = test.comparators[-1]
        denies = isinstance(test.ops[-1], ast.NotIn | ast.NotEq)
        if denies or (isinstance(against, ast.Constant) and against.value == 0):
            return set()
    constants = (one for one in ast.walk(test) if isinstance(one, ast.Constant))
    return {one.value for one in constants if isinstance(one.value, str)}


def _given(decorator: ast.expr) -> set[str]:
    """Return the texts that a test is parametrized with, where one of them is such a word."""
    if not (isinstance(decorator, ast.Call) and decorator.args):
        return set()
    if not SPEAKS.search(ast.unparse(decorator.args[0])):
        return set()
    constants = (one for one in ast.walk(decorator) if isinstance(one, ast.Constant))
    return {one.value for one in constants if isinstance(one.value, str)}


def is_in(word: str, found: set[str]) -> bool:
    """Whether a word is among others; one with a code after it may have any."""
    return word in found or (
        word.endswith(".") and any(one.startswith(word) and one != word for one in found)
    )


def test_words_are_found_in_the_code():
    assert {"bad_crc", "late", "duplicate", "busy", "queue_full", "refused."} <= declared()
    assert endings() == {"done", "failed", "cancelled", "expired", "interrupted"}


def test_every_reason_is_provoked():
    found = asserted()
    assert sorted(word for word in declared() if not is_in(word, found)) == [], (
        "write a test that makes a Node tell it, and asserts that it did"
    )


def test_every_end_of_a_frame_is_provoked():
    assert endings() <= asserted()


@pytest.mark.parametrize(
    ("assertion", "words"),
    [
        ("node.counters == {'late': 1}", {"late"}),
        ("bench.give(data) == 'late'", {"late"}),
        ("node.counters['late'] == 0", set()),
        ("'late' not in node.counters", set()),
        ("answer.reason != 'late'", set()),
        ("not node.counters['late']", set()),
        ("wire.outputs('late') == []", set()),
        ("a == 1 and node.counters['late'] == 2", {"late"}),
        ("a == 1 or node.counters['late'] == 2", set()),
    ],
)
def test_only_an_assertion_that_a_word_was_told_counts(assertion, words):
    assert _affirmed(ast.parse(assertion, mode="eval").body) == words
