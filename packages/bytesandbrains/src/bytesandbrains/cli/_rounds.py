"""How the rounds of a simulation are told: as a table, and in some lines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bb_sim import Result, Round

__all__ = ["ended", "figures", "summary_of", "table_of", "unlucky"]

#: Rounds that the table shows.
_SHOWN = 10
#: Senders that a line names.
_NAMED = 5


def figures(one: Round) -> dict[str, float]:
    """Return the figures of a round that fit beside a bar: losses and accuracies."""
    wanted = ("loss", "accuracy")
    return {name: value for name, value in one.figures().items() if name.endswith(wanted)}


def table_of(rounds: list[Round]) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines for some of the rounds: the first, the last, some between."""
    names = list(dict.fromkeys(name for one in rounds for name in figures(one)))
    every = max(1, -(-len(rounds) // _SHOWN))
    shown = [one for at, one in enumerate(rounds, 1) if at % every == 0 or at in (1, len(rounds))]
    heads = ["round", "ended", "seconds", "answered", "sent", "lost", "refused", *names]
    return heads, [_line(one, names) for one in shown]


def _line(one: Round, names: list[str]) -> list[str]:
    told = figures(one)
    how_ended = " ".join(
        f"{how}" if many == 1 else f"{many} {how}" for how, many in one.ended.items()
    )
    return [
        str(one.number),
        how_ended or "running",
        f"{one.seconds:.2f}",
        f"{one.answered}/{one.asked}" if one.asked else "-",
        _size(sum(one.sent_bytes.values())),
        str(sum(one.lost.values())),
        str(sum(one.refused.values())),
        *(f"{told[name]:.4f}" if name in told else "-" for name in names),
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
    said = {code: told for one in reversed(result.rounds) for code, told in one.said.items()}
    lines += [f"  {code}, first in {told}" for code, told in sorted(said.items())]
    senders = _total(result, "failed_on").most_common()
    if senders:
        more = f", and {len(senders) - _NAMED} more" if len(senders) > _NAMED else ""
        told = ", ".join(f"{name} ({many})" for name, many in senders[:_NAMED])
        lines.append(f"failed on what came from {told}{more}")
    lines.append(f"digest {result.digest[:16]}")
    return lines


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
