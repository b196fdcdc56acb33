"""Word that an answer will not come, said again where the edge of the answer has retries.

Such a word stands for an answer, so losing it is as bad: whoever asked would wait until its
deadline, for the question was acknowledged and is not sent again. But nothing acknowledges a word
between engines. So it is said as often as the answer would have been, under one message id and
with the same growing waits; who has heard it drops the others as duplicates. A question that comes
again although its frame has failed is told so at once.

What is kept is a header's worth for each word, for so many of one peer and of all; what fails
beyond that is said once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bb_ir.wire import FLAG_RETRY, EnvelopeHead, Failed
from bb_runtime import _health
from bb_runtime._estimates import LONGEST_NS
from bb_runtime._frames import NOTHING
from bb_runtime._misread import peer_of, whole

if TYPE_CHECKING:
    from bb_ir.ids import PeerId
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Edge

__all__ = ["Unanswered", "Word"]

#: So many words are kept to be said again, and so many for one peer: an eighth, as of all bounds.
_MOST = 1024
_MOST_FOR_ONE = _MOST // 8

#: Who asked, from which frame, and on which edge the answer would have been.
_Key = tuple["PeerId", int, int, int]


class Word:
    """Word to a peer that an answer will not come.

    Attributes:
        number: Its message id.
        left: How often it may still be said.
        times: How often it was said again.
        until_ns: When nobody waits for the answer any more.
        alarm_ns: When it is said again.
    """

    __slots__ = ("alarm_ns", "control", "edge", "left", "number", "peer", "times", "until_ns")

    def __init__(
        self, peer: PeerId, edge: Edge, control: Failed, *, number: int, until_ns: int
    ) -> None:
        self.peer = peer
        self.edge = edge
        self.control = control
        self.number = number
        self.left = edge.retries
        self.times = 0
        self.until_ns = until_ns
        self.alarm_ns = -1

    @property
    def key(self) -> _Key:
        """What it is an answer to."""
        return self.peer, self.control.frame, self.control.incarnation, self.edge.id


class Unanswered:
    """The words of one Node that are said again.

    Attributes:
        open: By what they are answers to.
    """

    __slots__ = ("_engine", "open")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.open: dict[_Key, Word] = NOTHING

    def watch(self, peer: PeerId, edge: Edge, control: Failed, number: int) -> None:
        """Say a word again that was just said, if there is room to remember it."""
        engine = self._engine
        word = Word(peer, edge, control, number=number, until_ns=engine.now_ns + edge.deadline_ns)
        if word.key in self.open:
            self._forget(self.open[word.key])
        for_one = sum(one.peer == peer for one in self.open.values())
        if len(self.open) >= _MOST or for_one >= _MOST_FOR_ONE:
            return
        self._keep(word)
        self._wait(word)

    def due(self, word: Word) -> None:
        """Say a word again."""
        engine = self._engine
        if engine.now_ns >= word.until_ns or not engine.gathers.talks_to(word.peer):
            self._forget(word)
            return
        self._say(word)
        if word.left:
            self._wait(word)
        else:
            self._forget(word)

    def asked_again(self, peer: PeerId, edge: Edge, head: EnvelopeHead) -> None:
        """Say at once, for a question that came twice, which of its answers will not come."""
        hop = head.chain[-1]
        for owed in self._engine.post.answering[edge.name]:
            word = self.open.get((peer, hop.frame, hop.incarnation, owed.id))
            if word is not None:
                self.due(word)

    def clear(self) -> None:
        """Say nothing again."""
        for word in tuple(self.open.values()):
            self._forget(word)

    def numbered(self, number: int | None) -> Word | None:
        """Return the word of a message id, if it is said again."""
        return next((word for word in self.open.values() if word.number == number), None)

    def _say(self, word: Word) -> None:
        word.left -= 1
        word.times += 1
        self._engine.counters["retried"] += 1
        self._engine.post.word(word.peer, word.control, word.number, FLAG_RETRY)

    def _wait(self, word: Word) -> None:
        engine = self._engine
        record = engine.peers.records.get(word.peer)
        wait = word.edge.backoff_ns
        if record is not None:
            wait = record.acks.wait_ns(wait)
        wait <<= word.times
        label = f"unanswered/{word.peer}/{word.number}"
        wait = _health.jittered(engine, label, word.times, min(wait, LONGEST_NS))
        word.alarm_ns = min(engine.now_ns + wait, word.until_ns)
        engine.alarms.set(word.alarm_ns, word)

    def _keep(self, word: Word) -> None:
        if self.open is NOTHING:
            self.open = {}
        self.open[word.key] = word

    def _forget(self, word: Word) -> None:
        word.alarm_ns = -1
        del self.open[word.key]

    # Snapshots

    def state(self) -> list[dict[str, Any]]:
        """Return it as plain data."""
        now = self._engine.now_ns
        return [
            {
                "peer": word.peer,
                "edge": word.edge.name,
                "reason": word.control.reason,
                "frame": word.control.frame,
                "incarnation": word.control.incarnation,
                "grant": word.control.grant,
                "number": word.number,
                "left": word.left,
                "times": word.times,
                "until_ns": word.until_ns - now,
                "alarm_ns": word.alarm_ns - now,
            }
            for word in self.open.values()
        ]

    def read(self, state: Iterable[Mapping[str, Any]], now_ns: int) -> list[Word]:
        """Return what `state` gave, on the clock of an instant; nothing is changed."""
        words: list[Word] = []
        edges = self._engine.artifact.edges
        for row in state:
            edge = edges[row["edge"]]
            control = Failed(
                str(row["reason"]), whole(row["frame"]), whole(row["incarnation"]), edge.id,
                bytes(row["grant"]),
            )  # fmt: skip
            word = Word(
                peer_of(row["peer"]), edge, control, number=whole(row["number"]),
                until_ns=now_ns + int(row["until_ns"]),
            )  # fmt: skip
            word.left, word.times = whole(row["left"]), whole(row["times"])
            word.alarm_ns = now_ns + int(row["alarm_ns"])
            words.append(word)
        return words

    def load(self, words: Iterable[Word]) -> None:
        """Take over what `read` gave; alarms are set by whoever knows their order."""
        self.clear()
        for word in words:
            alarm = word.alarm_ns
            self._keep(word)
            word.alarm_ns = alarm
