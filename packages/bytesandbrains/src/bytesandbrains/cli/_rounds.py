"""How the rounds of a simulation are told: as a table, and in some lines.

On a terminal a bar shows how far it is, and the table comes at the end; elsewhere the lines of the
table are printed as their rounds end. What is told once is not told again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import click

from bytesandbrains.cli._errors import CliError

if TYPE_CHECKING:
    from bb_sim import Result, Round

__all__ = ["LiveTable", "ended", "figures", "nothing_done", "summary_of", "table_of", "unlucky"]

_HEADS = ("round", "ended", "seconds", "answered", "rejected", "sent", "lost", "refused")
#: Rounds that the table shows.
_SHOWN = 10
#: Senders that a line names.
_NAMED = 5
#: Figures that the table shows, by how their names end.
_WANTED = ("loss", "accuracy")
#: What stands in the place of a figure that was published and is NaN or infinite.
_NOT_FINITE = "not finite"


class NoRoundDone(CliError):
    """No round of a simulation came to its end.

    Met at the end of `bb sim`, whose exit code is then 1. The error tells what went wrong first,
    and how often anything did; `failed_on` in the JSON names the peers that sent what made it fail.
    """


def nothing_done(result: Result, until: str) -> NoRoundDone | None:
    """Return what to say of a simulation of which no round succeeded; `None` if one did.

    Args:
        result: What it brought.
        until: The virtual time at which it was to stop; may be empty.
    """
    if any(one.ended["done"] for one in result.rounds):
        return None
    if not ended(result):
        return NoRoundDone(
            f"no round ended{f' within {until}' if until else ''}",
            expected="at least one",
            fix="ask for more time with --until" if until else "look at what was lost above",
        )
    said = [(code, told) for one in result.rounds for code, told in one.said.items()]
    many = _total_ends(result)
    if not said:
        lost = _total(result, "lost")
        reasons = ", ".join(f"{count} {why}" for why, count in lost.most_common())
        return NoRoundDone(
            f"no round succeeded: {many}; no op failed"
            + (f", and envelopes were lost: {reasons}" if reasons else ""),
            expected="a round that is done",
            fix="give the rounds more time, let fewer peers be gone, or ask for fewer answers",
        )
    code, told = said[0]
    advice = dict.fromkeys(text for one in result.rounds for text in one.advice.values())
    return NoRoundDone(
        f"no round succeeded: {many}; first {code}, in {told}",
        expected="a round that is done",
        fix="; ".join(advice) or f"put right what raised {code}",
    )


def _total_ends(result: Result) -> str:
    total = _total(result, "ended")
    return ", ".join(f"{count} {how}" for how, count in total.most_common())


def figures(one: Round) -> dict[str, float]:
    """Return the figures of a round that fit beside a bar: losses and accuracies."""
    return {name: value for name, value in one.figures().items() if name.endswith(_WANTED)}


def _not_finite(one: Round) -> Iterator[str]:
    """Yield the names of the figures that a round published as NaN or infinite.

    Results hold nothing in the place of such a number, as JSON has none.
    """
    for output, published in one.outputs.items():
        value: Any = published.last
        fields = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {"": value}
        for field, number in fields.items():
            name = f"{output}.{field}" if field else output
            if number is None and name.endswith(_WANTED):
                yield name


def _names(one: Round) -> list[str]:
    """Return the names of the figures of a round, finite or not."""
    return list(dict.fromkeys([*figures(one), *_not_finite(one)]))


def table_of(rounds: list[Round]) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines for some of the rounds: the first, the last, some between."""
    names = list(dict.fromkeys(name for one in rounds for name in _names(one)))
    every = max(1, -(-len(rounds) // _SHOWN))
    shown = [one for at, one in enumerate(rounds, 1) if at % every == 0 or at in (1, len(rounds))]
    return [*_HEADS, *names], [_line(one, names) for one in shown]


class LiveTable:
    """Prints the same table line by line, while the rounds that it tells of end.

    Args:
        total: How many rounds there will be.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._told = 0
        self._names: list[str] = []
        self._widths: list[int] = []

    def add(self, one: Round) -> None:
        """Print the line of a round that ended, if it is one of those that are shown."""
        self._done += 1
        every = max(1, -(-self._total // _SHOWN))
        if self._done % every == 0 or self._done in (1, self._total):
            self._print(one)

    def end(self, rounds: list[Round]) -> None:
        """Print the line of the last round, if it was not shown."""
        if rounds and rounds[-1].number > self._told:
            self._print(rounds[-1])

    def _print(self, one: Round) -> None:
        new = [name for name in _names(one) if name not in self._names]
        self._names += new
        line = _line(one, self._names)
        if new or not self._widths:
            heads = [*_HEADS, *self._names]
            self._widths = [
                max(len(head), len(cell)) for head, cell in zip(heads, line, strict=True)
            ]
            self._echo(heads)
        self._widths = [max(wide, len(cell)) for wide, cell in zip(self._widths, line, strict=True)]
        self._echo(line)
        self._told = one.number

    def _echo(self, cells: list[str]) -> None:
        padded = (cell.ljust(wide) for cell, wide in zip(cells, self._widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _line(one: Round, names: list[str]) -> list[str]:
    told = dict.fromkeys(_not_finite(one), _NOT_FINITE)
    told |= {name: f"{value:.4f}" for name, value in figures(one).items()}
    how_ended = " ".join(
        f"{how}" if many == 1 else f"{many} {how}"
        for how, many in sorted(one.ended.items(), key=lambda row: (row[0] != "done", row[0]))
    )
    return [
        str(one.number),
        how_ended or "running",
        f"{one.seconds:.2f}",
        f"{one.answered}/{one.asked}" if one.asked else "-",
        str(one.rejected),
        _size(sum(one.sent_bytes.values())),
        str(sum(one.lost.values())),
        str(sum(one.refused.values())),
        *(told.get(name, "-") for name in names),
    ]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def ended(result: Result) -> int:
    """Return how many rounds ended."""
    return sum(bool(one.ended) for one in result.rounds)


def summary_of(result: Result) -> list[str]:
    """Return what all rounds together brought, in lines."""
    peers = f"{result.installed:,} of {sum(result.peers.values()):,} peers were needed"
    rounds = ended(result)
    time = f"{rounds} round{'s' * (rounds != 1)} in {result.virtual_ns / 1e9:.2f} virtual seconds"
    lines = [f"{time}; {peers}"]
    for title, field in (("lost", "lost"), ("refused", "refused"), ("failed ops", "failures")):
        total = _total(result, field)
        if total:
            told = ", ".join(f"{many} {reason}" for reason, many in sorted(total.items()))
            lines.append(f"{title}: {told}")
    lines += _lost_numbers(result)
    said = {code: told for one in reversed(result.rounds) for code, told in one.said.items()}
    lines += [f"  {code}, first in {told}" for code, told in sorted(said.items())]
    senders = _total(result, "failed_on").most_common()
    if senders:
        more = f", and {len(senders) - _NAMED} more" if len(senders) > _NAMED else ""
        told = ", ".join(f"{name} ({many})" for name, many in senders[:_NAMED])
        lines.append(f"failed on what came from {told}{more}")
    lines.append(f"digest {result.digest[:16]}")
    return lines


def _lost_numbers(result: Result) -> Iterator[str]:
    """Yield a line for each figure that was NaN or infinite in some round."""
    rounds: dict[str, list[int]] = {}
    for one in result.rounds:
        for name in _not_finite(one):
            rounds.setdefault(name, []).append(one.number)
    for name, numbers in rounds.items():
        many = f"in {len(numbers)} round{'s' * (len(numbers) != 1)}"
        yield f"{name} was NaN or infinite {many}, first in round {numbers[0]}"


def unlucky(one: Round) -> str:
    """Return how a round ended, if not all of those who were invoked finished it."""
    wrong = sorted(how for how in one.ended if how != "done")
    return f" {', '.join(wrong)}" if wrong else ""


def _total(result: Result, field: str) -> Counter[str]:
    """Return the sums of one kind of counts over all rounds."""
    total = Counter[str]()
    for one in result.rounds:
        total.update(getattr(one, field))
    return total
