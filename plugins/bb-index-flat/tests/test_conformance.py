from typing import Any, ClassVar

import pytest

from bb_index_flat._flat import Flat, FlatConfig
from bb_testing.context import FakeContext, environment
from bb_testing.index import IndexSuite


class FlatSuite(IndexSuite):
    """What all configurations share: which, a class says."""

    settings: ClassVar[dict[str, Any]] = {}

    def make(self, **more):
        return Flat(FlatConfig(**{"dim": self.dim, **self.settings, **more}), environment("index"))

    def deferred_calls(self):
        index = self.make(defer_above=0)
        ids = index.add(FakeContext(), self._vectors(40))
        index.remove(FakeContext(), ids[::3])
        queries = self._vectors(5, seed=7)
        return {"search": (index, lambda ctx: index.search(ctx, queries, k=4))}


class TestFlat(FlatSuite):
    pass


class TestInnerProduct(FlatSuite):
    settings: ClassVar = {"metric": "ip"}


class TestCosine(FlatSuite):
    settings: ClassVar = {"metric": "cosine"}


class TestLongVectors(FlatSuite):
    dim = 300


class TestDimensionOfTheFirst(FlatSuite):
    settings: ClassVar = {"dim": None}


class TestDeferred(FlatSuite):
    """Every search is done by the executor."""

    settings: ClassVar = {"defer_above": 0}


class TestSmallBlocks(FlatSuite):
    """Blocks of a few pairs, so that every search has many of them."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        for name, size in (("_QUERIES", 2), ("_PAIRS", 7), ("_ELEMENTS", 40)):
            monkeypatch.setattr(f"bb_index_flat._search.{name}", size)
