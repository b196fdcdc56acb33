"""A shorter soak than `nox -s soak`, and a proof that it sees what stays behind."""

import sys
from itertools import count
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from swarming.planting import plant
from swarming.soaking import LOOKS, Soak

from bb_runtime._engine import Engine

pytestmark = pytest.mark.slow
WARM = 30
ROUNDS = WARM + 3 * LOOKS


def test_memory_is_flat():
    # So soon there are tables that grow to their bounds: a list for each peer that ever waited.
    soak = Soak(ROUNDS, warm=WARM, traced=True, most=0.03)

    soak.run()

    assert soak.wrong() == []


def test_frames_that_stay_are_seen(monkeypatch):
    kept = []

    def keeper(end):
        def ends(self, frame, how, reason):
            end(self, frame, how, reason)
            # Enough to be one in a hundred of all that a process with other tests in it holds.
            kept.append([frame, *([] for _ in range(100))])

        return ends

    plant(monkeypatch, Engine, "end", keeper)
    soak = Soak(ROUNDS, warm=WARM)

    soak.run()

    assert any("objects grew by" in one for one in soak.wrong())


def test_models_that_stay_are_seen(monkeypatch):
    kept, numbers = [], count()

    def keeper(receive):
        def receives(self, edge, values, *others, **options):
            if edge.name == "update" and next(numbers) % 10 == 0:
                kept.append(values[0])
            receive(self, edge, values, *others, **options)

        return receives

    plant(monkeypatch, Engine, "receive", keeper)
    soak = Soak(ROUNDS, warm=WARM, traced=True)

    soak.run()

    assert any("traced grew by" in one for one in soak.wrong())


def test_counter_that_does_not_return_is_seen(monkeypatch):
    def leaky(end):
        def ends(self, frame, how, reason):
            frame.payload //= 2
            end(self, frame, how, reason)

        return ends

    plant(monkeypatch, Engine, "end", leaky)
    soak = Soak(ROUNDS, warm=WARM)

    soak.run()

    assert soak.left["server"]["bytes"] > 0
