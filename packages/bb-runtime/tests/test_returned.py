"""Methods that return another number of values than their op gives."""

import re

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.params import ParameterSet
from bb_runtime.errors import OpError
from bb_testing.programs import Stage, SumAggregator

ONE = ParameterSet.from_tensors({"w": np.zeros(1)})


class Aggregates(bb.Module):
    peer_class = "server"
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        metrics = self.model.fit(g, self.data.batches(g))
        done = self.aggregator.contribute(g, self.model.params(g), metrics)
        averaged, _ = self.aggregator.aggregate(g, after=done)
        g.output("w", averaged)


class Wrong(SumAggregator):
    """Returns something else than the parameters and the summary."""

    returned: object = None

    def aggregate(self, ctx):
        return self.returned


class Raising(SumAggregator):
    """Unpacks too few values itself."""

    def aggregate(self, ctx):
        params, summary = (1,)
        return params, summary


def failure_of(compiled, aggregator):
    stage = Stage(compiled(Aggregates(), aggregator=aggregator))
    stage.run()
    [failure] = stage.wire.failures()
    return failure


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "NoneType"),
        (5, "int"),
        ((ONE,), "1 value"),
        (ONE, "1 value"),  # by the names of its tensors
        ((), "0 values"),
        ((ONE, {}, {}), "(3|more than 2) values"),
        ({"w": 1, "b": 2, "c": 3}, "(3|more than 2) values"),
    ],
)
def test_what_cannot_be_taken_apart_names_the_op_and_what_it_gives(
    compiled, monkeypatch, returned, told
):
    monkeypatch.setattr(Wrong, "returned", returned)

    failure = failure_of(compiled, Wrong)

    assert failure.op == "Aggregate"
    error = failure.error
    assert type(error) is OpError
    assert re.fullmatch(
        rf"Aggregate of slot 'aggregator' \(\S+:Wrong\) returned {told}", error.found
    )
    assert error.expected.startswith("2 values: (params: params, summary: ")
    assert error.fix == "end its method 'aggregate' with `return params, summary`"
    assert "unpack" in failure.trace  # Python's own words are kept there
    assert error.__cause__.__traceback__ is None


def test_a_method_that_unpacks_wrongly_itself_is_told_as_it_is(compiled):
    failure = failure_of(compiled, Raising)

    assert type(failure.error) is ValueError
    assert failure.place.file.endswith("test_returned.py")
