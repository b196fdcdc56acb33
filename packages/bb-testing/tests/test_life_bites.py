"""What holds for components of all roles in use fails where a component is broken.

The components are peer selectors, the smallest there are. The good one passes; a broken one fails
the test that is named beside it; and every test is named at least once.
"""

import re
import textwrap

import numpy as np
import pytest

from bb_ir.params import ParameterSet
from bb_testing._base import text_of
from bb_testing._life import LivingSuite

HEAD = '''
import datetime
import random
import threading
import time
import uuid
from time import monotonic

import numpy as np

from bb_roles import PeerSelector
from bb_testing.context import environment, peer_id
from bb_testing.peer_selector import PeerSelectorSuite

SHARED = []
NAMES = {"a", "b", "c", "d", "e", "f", "g", "h"}


class Good(PeerSelector):
    """Draws from five peers."""

    def __init__(self):
        super().__init__(None, environment())
        self.peers = tuple(peer_id(i) for i in range(5))

    def current_view(self, ctx):
        return self.peers

    def sample(self, ctx, *, n):
        if n < 1:
            raise ValueError("a sample of nobody")
        return self.drawn(ctx.rng(), min(n, len(self.peers)))

    def drawn(self, rng, n):
        return [self.peers[i] for i in rng.permutation(len(self.peers))[:n]]


class TestGood(PeerSelectorSuite):
    def make(self):
        return Good()


class TestGivenByAFixture(PeerSelectorSuite):
    """What a fixture has set is there in another process, too."""

    def make(self):
        made = Good()
        made.peers = tuple(peer_id(i) for i in range(self.count))
        return made

    import pytest

    @pytest.fixture(autouse=True)
    def _set(self):
        self.count = 4
'''

BROKEN = {
    "test_steps_may_be_made_in_any_thread": """
        class Broken(Good):
            def __init__(self):
                super().__init__()
                self.mine = threading.local()
                self.mine.peers = self.peers
            def current_view(self, ctx):
                return self.mine.peers
        """,
    "test_steps_may_be_made_in_any_thread ": """
        class Broken(Good):
            def drawn(self, rng, n):
                first = threading.current_thread() is threading.main_thread()
                return super().drawn(rng, n) if first else list(self.peers[:n])
        """,
    "test_several_work_at_once": """
        class Broken(Good):
            def drawn(self, rng, n):
                SHARED.append(n)
                order = rng.permutation(len(self.peers))
                time.sleep(0.001)
                others = len(SHARED) > 1
                SHARED.pop()
                return [] if others else [self.peers[i] for i in order[:n]]
        """,
    "test_components_share_nothing": """
        class Broken(Good):
            last = [None]
            def current_view(self, ctx):
                self.last[0] = ctx.seed
                return self.peers
            def sample(self, ctx, *, n):
                found = super().sample(ctx, n=n)
                return found if self.last[0] == ctx.seed else found[::-1]
        """,
    "test_needs_no_clock_and_no_dice": """
        class Broken(Good):
            def drawn(self, rng, n):
                self.when = time.time()
                return super().drawn(rng, n)
        """,
    "test_needs_no_clock_and_no_dice ": """
        class Broken(Good):
            def drawn(self, rng, n):
                self.when = monotonic()  # imported by name
                return super().drawn(rng, n)
        """,
    "test_needs_no_clock_and_no_dice  ": """
        class Broken(Good):
            def drawn(self, rng, n):
                try:
                    np.random.shuffle([1, 2])
                except AssertionError:
                    pass  # it is caught all the same
                return super().drawn(rng, n)
        """,
    "test_needs_no_clock_and_no_dice   ": """
        class Broken(Good):
            def drawn(self, rng, n):
                self.name = uuid.uuid4()
                return super().drawn(rng, n)
        """,
    "test_needs_no_clock_and_no_dice    ": """
        class Broken(Good):
            def drawn(self, rng, n):
                return super().drawn(np.random.default_rng(), n)  # not seeded
            def sample(self, ctx, *, n):
                return [self.peers[i] for i in np.random.default_rng().permutation(5)[:n]]
        """,
    "test_hash_seed_makes_no_difference": """
        class Broken(Good):
            def drawn(self, rng, n):
                turn = "abcdefgh".index(next(iter(NAMES)))
                return (super().drawn(rng, 5) * 3)[turn : turn + n]
        """,
    "test_memory_does_not_grow": """
        class Broken(Good):
            def __init__(self):
                super().__init__()
                self.log = []
            def drawn(self, rng, n):
                found = super().drawn(rng, n)
                self.log.append(found)
                return found
        """,
    "test_memory_does_not_grow ": """
        class Broken(Good):
            def __init__(self):
                super().__init__()
                self.seen = set()
            def sample(self, ctx, *, n):
                self.seen.add(("round", ctx.round))
                return super().sample(ctx, n=n)
        """,
}


def source():
    parts = [HEAD]
    for at, body in enumerate(BROKEN.values()):
        parts.append(textwrap.dedent(body).replace("Broken", f"Broken{at}"))
        made = f"    def make(self):\n        return Broken{at}()\n"
        parts.append(f"class Test{at}(PeerSelectorSuite):\n{made}")
    return "\n\n".join(parts)


@pytest.fixture(scope="module")
def outcomes(outcomes_of):
    names = [name for name in vars(LivingSuite) if name.startswith("test_")]
    return outcomes_of({"test_life.py": source()}, "-k", " or ".join(names))


def test_every_test_bites(tests_of):
    assert {name.strip() for name in BROKEN} == tests_of(LivingSuite)


@pytest.mark.parametrize("suite", ["TestGood", "TestGivenByAFixture"])
def test_a_good_component_passes(outcomes, suite):
    assert set(outcomes[suite]) == {"PASSED"}, outcomes["said"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_component_fails(outcomes, name):
    at = list(BROKEN).index(name)

    assert name.strip() in outcomes[f"Test{at}"].get("FAILED", set()), BROKEN[name]


def test_what_was_called_is_named_with_its_place(outcomes):
    assert re.search(r"it called time\.time\(\) at \S+test_life\.py:\d+", outcomes["said"])


def test_who_draws_by_itself_is_told_so_and_not_to_look_at_threads(outcomes_of):
    body = """
        class Broken(Good):
            def drawn(self, rng, n):
                return super().drawn(np.random.default_rng(), n)
        """
    made = "class TestDrawing(PeerSelectorSuite):\n    def make(self):\n        return Broken()\n"
    name = "test_steps_may_be_made_in_any_thread"
    source = "\n\n".join([HEAD, textwrap.dedent(body), made])

    outcome = outcomes_of({"test_drawing.py": source}, "-k", f"TestDrawing and {name}")

    assert outcome["TestDrawing"] == {"FAILED": {name}}
    assert "whenever its life is repeated: it asks a clock, draws by itself" in outcome["said"]
    assert "each step was made in another thread" not in outcome["said"].partition("\nE ")[2]


def test_arrays_are_told_by_their_first_numbers_and_a_digest():
    text = text_of(ParameterSet.from_tensors({"w": np.arange(6, dtype=np.float32)}))

    assert text.startswith("{'w': float32[6] of 0.0, 1.0, 2.0, 3.0, ... #")
    other = np.arange(6, dtype=np.float32)
    other[5] = 7.0
    assert text_of({"w": other}) != text
    assert text_of({"w": np.arange(6, dtype=np.float32)}) == text
