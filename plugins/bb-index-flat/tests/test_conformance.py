import pytest

from bb_index_flat._flat import Flat, FlatConfig
from bb_testing.context import environment
from bb_testing.index import IndexSuite


class TestFlat(IndexSuite):
    def make(self):
        return Flat(FlatConfig(dim=self.dim), environment("index"))


class TestInnerProduct(IndexSuite):
    def make(self):
        return Flat(FlatConfig(dim=self.dim, metric="ip"), environment("index"))


class TestCosine(IndexSuite):
    def make(self):
        return Flat(FlatConfig(dim=self.dim, metric="cosine"), environment("index"))


class TestLongVectors(IndexSuite):
    dim = 300

    def make(self):
        return Flat(FlatConfig(dim=self.dim), environment("index"))


class TestDimensionOfTheFirst(IndexSuite):
    def make(self):
        return Flat(FlatConfig(), environment("index"))


class TestSmallBlocks(IndexSuite):
    """Blocks of a few pairs, so that every search has many of them."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        for name, size in (("_QUERIES", 2), ("_PAIRS", 7), ("_ELEMENTS", 40)):
            monkeypatch.setattr(f"bb_index_flat._search.{name}", size)

    def make(self):
        return Flat(FlatConfig(dim=self.dim), environment("index"))
