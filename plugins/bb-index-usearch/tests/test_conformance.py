from typing import Any, ClassVar

from bb_index_usearch._usearch import Usearch, UsearchConfig
from bb_testing.context import environment
from bb_testing.index import IndexSuite


class UsearchSuite(IndexSuite):
    """What all configurations share: which, a class says."""

    settings: ClassVar[dict[str, Any]] = {}

    def make(self):
        return Usearch(UsearchConfig(**{"dim": self.dim, **self.settings}), environment("index"))


class TestUsearch(UsearchSuite):
    """So few vectors are all compared: nothing is missed."""


class TestInnerProduct(UsearchSuite):
    settings: ClassVar = {"metric": "ip"}


class TestCosine(UsearchSuite):
    settings: ClassVar = {"metric": "cosine"}


class TestDimensionOfTheFirst(UsearchSuite):
    settings: ClassVar = {"dim": None}


class TestGraph(UsearchSuite):
    """Nearly all vectors are in the graph."""

    recall = 0.95
    settings: ClassVar = {"batch": 16}


class TestGraphOfInnerProducts(TestGraph):
    settings: ClassVar = {"batch": 16, "metric": "ip"}


class TestGraphOfCosines(TestGraph):
    settings: ClassVar = {"batch": 16, "metric": "cosine", "connectivity": 8}


class TestLongVectors(TestGraph):
    dim = 300
