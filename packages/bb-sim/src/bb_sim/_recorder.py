"""Writes down what happens, round by round; it decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from bb_ir.errors import SourceLine
from bb_runtime import Dropped, Emitted, FrameEnded, OpFailed, Step
from bb_runtime.artifact import Edge
from bb_runtime.digests import code_of
from bb_sim.results import Round, Span

__all__ = ["Recorder"]

#: Peers of which the timeline shows what they did.
_SHOWN = 40
#: And of each the last so many pieces of work.
_MOST = 2000
#: Most letters that are kept of what an op said when it failed.
_LONGEST = 300


def _words(step: OpFailed) -> str:
    """Return which op failed, on which lines, and the first line of what it said."""
    told = str(getattr(step.error, "found", step.error)).partition("\n")[0][:_LONGEST]
    lines = [_line(one) for one in (step.source, step.place) if one is not None]
    at = f" at {', in '.join(lines)}" if lines else ""
    return f"{step.op}{at}: {told}"


def _line(source: SourceLine) -> str:
    # The name of the file alone: where it lies differs from machine to machine.
    return f"{PurePath(source.file).name}:{source.line}"


class Recorder:
    """The rounds of one run.

    Attributes:
        rounds: By number.
        spans: What some peers did, by number of the peer: the first of those that did something.
        traces: The traceback of the first failure of each code since this process began. They
            name places of this machine, so they are no part of a result or of a checkpoint.
    """

    def __init__(self, name_of: Callable[[int], str]) -> None:
        self._name_of = name_of
        self.rounds: dict[int, Round] = {}
        self.spans: dict[int, list[Span]] = {}
        self.traces: dict[str, str] = {}
        self._last = -1

    def round(self, number: int) -> Round:
        """Return a round; what happens before the first belongs to round 0."""
        found = self.rounds.get(number)
        if found is None:
            found = self.rounds[number] = Round(number)
        return found

    def started(self, number: int, when: int) -> None:
        """Note that a peer was invoked for a round."""
        one = self.round(number)
        if one.started_ns < 0:
            one.started_ns = when

    def ended(self, number: int, when: int, how: str) -> None:
        """Note that a round ended at one of the peers that were invoked."""
        self.started(number, when)
        one = self.round(number)
        one.ended[how] += 1
        one.ended_ns = max(one.ended_ns, when)

    def step(self, number: int, step: Step) -> None:
        """Note what a Node reported, envelopes and work left out."""
        one = self.rounds.get(number) or self.round(number)
        if isinstance(step, FrameEnded):
            one.frames[step.how] += 1
        elif isinstance(step, Emitted):
            one.output(step.name).add(step.value)
        elif isinstance(step, Dropped):
            one.refused[step.reason] += 1
        elif isinstance(step, OpFailed):
            code = code_of(step.error)
            one.failures[code] += 1
            self.traces.setdefault(code, step.trace)
            if code not in one.said:
                one.said[code] = _words(step)
                if advice := getattr(step.error, "fix", ""):
                    one.advice[code] = str(advice)[:_LONGEST]

    def answered(self, number: int, edge: Edge, answering: int, asker: int, source: int) -> None:
        """Note that an invoked peer handled an answer.

        Args:
            number: The round in which it asked.
            edge: The answer's.
            answering: How many edges answer the question.
            asker: The invoked peer.
            source: The peer that answered; -1 where that is not known any more.
        """
        one = self.rounds.get(number) or self.round(number)
        one.answers += 1
        if edge.replies > 1 or answering > 1:
            own = f"{asker} {source} {edge.name}"
            one.parts[own] += 1
            if one.parts[own] % edge.replies:
                return
            if answering > 1:
                whole = f"{asker} {source} {edge.answers} answered"
                one.parts[whole] += 1
                if one.parts[whole] % answering != 1:
                    return
        one.answered += 1

    def rejected(self, number: int) -> None:
        """Note that an op of an invoked peer failed on an answer."""
        self.round(number).rejected += 1

    def failed_on(self, number: int, source: int) -> None:
        """Note that a frame failed on the envelope of a peer that opened it."""
        self.round(number).failed_on[self._name_of(source)] += 1

    def sent(self, number: int, edge: str, size: int) -> None:
        """Note an envelope that a peer gave out."""
        one = self.rounds.get(number) or self.round(number)
        one.envelopes[edge] += 1
        one.sent_bytes[edge] += size

    def lost(self, number: int, why: str) -> None:
        """Note an envelope that will not arrive."""
        self.round(number).lost[why] += 1

    def worked(self, peer: int, number: int, start: int, end: int) -> None:
        """Note that a peer worked for a time, if it is one of those that the timeline shows."""
        known = self.spans.get(peer)
        if known is None:
            if len(self.spans) >= _SHOWN:
                if peer > self._last:
                    return
                del self.spans[self._last]  # so that it does not matter who is looked at first
            known = self.spans[peer] = []
            self._last = max(self.spans)
        if len(known) >= _MOST:
            del known[: _MOST // 2]  # no picture shows more
        known.append(Span(self._name_of(peer), number, start, end, "work"))

    def show(self, spans: dict[int, list[Span]]) -> None:
        """Take over what peers did."""
        self.spans = spans
        self._last = max(spans, default=-1)
