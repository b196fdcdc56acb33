"""Ops that a component has beside those of its role fail their test where they are broken.

The component is a peer selector that is told how long peers took, and prefers the fastest.
"""

import pytest

GOOD = '''
import math
import time

from bb_ir.ops import Attribute, OpSchema, Port, ops
from bb_ir.types import scalar
from bb_roles import PeerSelector, State
from bb_testing import PeerSelectorSuite, environment, peer_id

SECONDS = Port("seconds", scalar("float64"))
PEERS = tuple(peer_id(n) for n in range(4))


class Good(PeerSelector):
    """Chooses the fastest half of a sample, and the rest by chance."""

    ops = ops(
        OpSchema("Observe", "observe", (SECONDS,)),
        OpSchema("Slowest", "slowest", (), (SECONDS,), effect="reads"),
    )

    def __init__(self):
        super().__init__(None, environment())
        self.seconds = {}

    def current_view(self, ctx):
        return PEERS

    def sample(self, ctx, *, n):
        if n < 1:
            raise ValueError("a sample of nobody")
        known = sorted(PEERS, key=lambda peer: self.seconds.get(str(peer), 99.0))
        best = known[: n // 2]
        rest = [peer for peer in PEERS if peer not in best]
        drawn = ctx.rng().permutation(len(rest))[: n - len(best)]
        return (*best, *(rest[at] for at in drawn))

    def observe(self, ctx, seconds):
        if not math.isfinite(seconds):
            raise ValueError(f"{ctx.sender} took {seconds} seconds")
        self.seconds[str(ctx.sender)] = seconds

    def slowest(self, ctx):
        return max(self.seconds.values(), default=0.0)

    def save(self):
        return State(data={"seconds": dict(self.seconds)})

    def load(self, state):
        self.seconds = dict(state.data["seconds"])


class Suite(PeerSelectorSuite):
    def story(self, story):
        for n in (3, 1, 2):
            story("Observe", 1.0 / n, sender=peer_id(n))
        story("Slowest")
'''

#: What is broken, and what is said about it.
BROKEN = {
    "the story left the component otherwise": """
        class Broken(Good):
            def load(self, state):
                pass
            def slowest(self, ctx):
                return 0.0
        """,
    "told with save() and load() before each call, call 4 of the story, Slowest": """
        class Broken(Good):
            def load(self, state):
                pass
        """,
    "told at another time": """
        class Broken(Good):
            def slowest(self, ctx):
                return time.time()
        """,
    "told with every op called twice that only reads": """
        class Broken(Good):
            def slowest(self, ctx):
                self.seconds["read"] = self.seconds.get("read", 0.0) + 1.0
                return super().slowest(ctx)
        """,
    "Observe took seconds as an object of another type": """
        class Broken(Good):
            def observe(self, ctx, seconds):
                if isinstance(seconds, float):
                    super().observe(ctx, seconds)
        """,
    "observe takes ['ms'], and Observe gives ['seconds']": """
        class Broken(Good):
            def observe(self, ctx, ms):
                super().observe(ctx, ms)
        """,
    "Slowest is carried out by save": """
        class Broken(Good):
            ops = Good.ops | ops(OpSchema("Slowest", "save", (), (SECONDS,), effect="reads"))
        """,
    "story() never calls Fastest": """
        class Broken(Good):
            ops = Good.ops | ops(OpSchema("Fastest", "slowest", (), (SECONDS,), effect="reads"))
        """,
}
NAME = "test_ops_of_its_own_keep_to_what_they_declare"


@pytest.fixture(scope="module")
def outcomes(outcomes_of):
    from textwrap import dedent

    parts = [GOOD, "class TestGood(Suite):\n    def make(self):\n        return Good()\n"]
    for at, source in enumerate(BROKEN.values()):
        parts.append(dedent(source).replace("Broken", f"Broken{at}"))
        parts.append(f"class Test{at}(Suite):\n    def make(self):\n        return Broken{at}()\n")
    untold = "class TestUntold(PeerSelectorSuite):\n    def make(self):\n        return Good()\n"
    return outcomes_of({"test_own.py": "\n\n".join([*parts, untold])}, "-k", f"TestGood or {NAME}")


def test_a_good_component_passes(outcomes):
    assert set(outcomes["TestGood"]) == {"PASSED"}, outcomes["said"]
    assert NAME in outcomes["TestGood"]["PASSED"]


@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_op_fails_and_is_told(outcomes, said):
    at = list(BROKEN).index(said)

    assert outcomes[f"Test{at}"] == {"FAILED": {NAME}}, BROKEN[said]
    assert said in outcomes["said"]


def test_ops_without_a_story_fail(outcomes):
    assert outcomes["TestUntold"] == {"FAILED": {NAME}}
    assert "story() never calls Observe, Slowest" in outcomes["said"]
