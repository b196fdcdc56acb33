"""The contract of the aggregator role, as tests."""

from __future__ import annotations

import random
import tracemalloc
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bb_ir.params import ParameterSet
from bb_roles import Aggregator
from bb_testing._base import check_released, check_state, kit_settings, refusal
from bb_testing._stories import RoleSuite
from bb_testing._types import check_types
from bb_testing.context import FakeContext, peer_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AggregatorSuite", "Update", "updates"]

#: Tensors of the updates that the kit makes: a scalar and an empty one among them.
_SHAPES: Mapping[str, tuple[int, ...]] = {
    "weight": (3, 2), "scale": (), "none": (0, 4), "bias": (2,)
}  # fmt: skip
_SIZE = 9


class Update(NamedTuple):
    """What one client sends: its values in the order of the tensors, and its metrics."""

    values: tuple[float, ...]
    examples: int = 1
    loss: float = 0.5

    def params(self) -> ParameterSet:
        """Return the values as a set of float32 tensors."""
        return ParameterSet.from_tensors(_tensors(self.values))

    def metrics(self) -> dict[str, Any]:
        """Return the metrics that go with it."""
        return {"examples": self.examples, "loss": self.loss}


def updates(*, least: int = 1, most: int = 6) -> st.SearchStrategy[list[Update]]:
    """Return a strategy for the updates of one round, all of one layout."""
    reals = st.floats(-1000.0, 1000.0, width=32)
    one = st.builds(
        Update,
        values=st.lists(reals, min_size=_SIZE, max_size=_SIZE).map(tuple),
        examples=st.integers(1, 1000),
        loss=st.floats(0.0, 100.0),
    )
    return st.lists(one, min_size=least, max_size=max(least, most))


class AggregatorSuite(RoleSuite):
    """Inherit it in a class named `Test...` and write `make`.

    A rule whose result may depend on the order of arrival says `order_free = False`; one that
    needs more than one update, such as Krum, says `min_updates`; one that folds updates as they
    come and keeps none says `streaming = True`.
    """

    #: Whether the same updates give the same bits in any order of arrival.
    order_free: ClassVar[bool] = True
    #: Fewest updates that the rule can make a result of, at most 17.
    min_updates: ClassVar[int] = 1
    #: Whether the memory of a round is the same for many updates as for few.
    streaming: ClassVar[bool] = False

    def make(self) -> Aggregator:
        """Return a fresh aggregator."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def test_is_an_aggregator(self) -> None:
        """The component fills the role."""
        made = self.make()
        assert isinstance(made, Aggregator), (
            f"make() returned a {type(made).__name__}, which does not inherit bb_roles.Aggregator"
        )

    @kit_settings
    @given(st.data())
    def test_result_has_the_layout_of_the_updates(self, data: st.DataObject) -> None:
        """The result can be loaded wherever an update came from."""
        sent = data.draw(updates(least=self.min_updates))
        result, _ = self._run(sent)
        expected = sent[0].params().layout
        assert result.layout == expected, (
            f"the updates hold {expected.type}, the result {result.layout.type}: names, order, "
            "shapes and dtypes must stay"
        )
        assert all(_is_finite(array) for _, array in result.items()), (
            "finite updates within 1000 gave a result with NaN or infinity"
        )

    @kit_settings
    @given(st.data())
    def test_order_of_arrival_does_not_matter(self, data: st.DataObject) -> None:
        """The same updates give the same bits, whoever is first."""
        self._skip_unless_order_free()
        sent = data.draw(updates(least=max(2, self.min_updates)))
        shuffled = data.draw(st.permutations(sent))
        self._check_orders(sent, shuffled)

    @kit_settings
    @given(small=st.floats(2.0**-60, 2.0**-20, width=32), seed=st.integers(0, 99))
    @example(small=2.0**-47, seed=0)
    @example(small=2.0**-26, seed=0)
    def test_order_does_not_matter_when_large_values_cancel(self, small: float, seed: int) -> None:
        """The hardest case for sums: what is left after cancellation depends on the rounding."""
        self._skip_unless_order_free()
        pairs = [value for n in range(3, 10) for value in (1.0 / n, -1.0 / n)]
        values = [1000.0, small, -1000.0, *pairs]
        sent = [_constant(v) for v in values]
        backwards = sent[:1] + sent[2:] + sent[1:2]
        self._check_orders(sent, backwards)
        self._check_orders(sent, random.Random(seed).sample(sent, len(sent)))  # noqa: S311 - a seeded shuffle, not a secret

    def test_count_and_examples_are_right(self) -> None:
        """The summary says how many updates and examples are in the result."""
        sent = self._some()
        _, summary = self._run(sent)
        for key, expected in {
            "count": len(sent),
            "examples": sum(u.examples for u in sent),
        }.items():
            assert key in summary, f"the summary has no {key!r}, only {sorted(summary)}"
            assert summary[key] == expected, (
                f"the summary says {key}={summary[key]!r} after updates with {expected}"
            )

    def test_update_without_other_metrics_counts_by_its_examples(self) -> None:
        """A program may contribute without metrics: then `examples` is 1, and nothing else is."""
        aggregator, sent = self.make(), self._some()
        for at, update in enumerate(sent):
            aggregator.contribute(FakeContext(sender=peer_id(at)), update.params(), {"examples": 1})

        _, summary = aggregator.aggregate(FakeContext())

        assert summary["examples"] == len(sent), f"each counts as one; the summary says {summary}"

    @pytest.mark.parametrize("loss", [0.5, float("nan")])
    def test_values_are_of_the_types_that_it_tells(self, loss: float) -> None:
        """What `value_types` and `infer_types` say holds also where a metric is not finite."""
        aggregator = self.make()
        sent = [update._replace(loss=loss) for update in self._some()]
        for update in sent:
            given_ = update.params(), update.metrics()
            try:
                done = aggregator.contribute(FakeContext(sender=peer_id(1)), *given_)
            except ValueError:
                pytest.skip(f"the rule takes no update whose loss is {loss}")
            check_types(aggregator, "Contribute", given_, (done,))
        found = aggregator.aggregate(FakeContext())
        check_types(
            aggregator, "Aggregate", (), found, folded=(sent[0].params(), sent[0].metrics())
        )

    def test_rounds_do_not_mix(self) -> None:
        """Two rounds at once give what each of them gives alone."""
        one, other = self._some(1), self._some(2)
        together = self.make()
        for first, second in zip(one, other, strict=True):
            _send(together, first, turn=1)
            _send(together, second, turn=2)
        for turn, sent in ((2, other), (1, one)):
            _same(
                together.aggregate(FakeContext(round=turn)),
                self._run(sent, turn=turn),
                "another round was open at the same time: keep one accumulator per ctx.round",
            )

    @pytest.mark.parametrize("fault", ["nan", "infinity", "names", "shape", "dtype", "examples"])
    @pytest.mark.parametrize("at", ["first", "last"])
    def test_rejected_update_leaves_no_trace(self, fault: str, at: str) -> None:
        """An update that does not fit is refused whole, and the round goes on without it."""
        sent = self._some()
        expected = self._run(sent)
        aggregator = self.make()
        places = {"first": 0, "last": len(sent)}
        for place, update in enumerate([*sent, None]):
            if place == places[at]:
                self._refused(aggregator, fault, opens=at == "first")
            if update is not None:
                _send(aggregator, update)
        _same(
            aggregator.aggregate(FakeContext()),
            expected,
            f"an update refused for its {fault} came {at}: check all of it before folding any",
        )

    @pytest.mark.parametrize("examples", [0, -1, 0.5, float("nan"), "7", None], ids=repr)
    def test_examples_are_a_whole_number_from_one_on(self, examples: object) -> None:
        """Zero and negative weights are refused, and so is what is no number of examples."""
        sent = self._some()
        aggregator = self.make()
        for update in sent:
            _send(aggregator, update)
        self._check_refused(
            aggregator, sent[0].params(), {"examples": examples, "loss": 0.5},
            f"an update with examples={examples!r}",
        )  # fmt: skip
        _same(
            aggregator.aggregate(FakeContext()),
            self._run(sent),
            f"an update with examples={examples!r} was refused: nothing of it may be folded",
        )

    @pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "uint8", "bool"])
    def test_other_dtypes_are_folded_or_refused(self, dtype: str) -> None:
        """Parameters need not be float32: what the rule cannot do it says when it is given it."""
        aggregator = self.make()
        for update in self._some():
            tensors = {name: a.astype(dtype) for name, a in update.params().items()}
            try:
                aggregator.contribute(
                    FakeContext(sender=peer_id(1)),
                    ParameterSet.from_tensors(tensors),
                    update.metrics(),
                )
            except ValueError:
                return
        result, _ = aggregator.aggregate(FakeContext())
        found = {name: array.dtype.name for name, array in result.items()}
        assert found == dict.fromkeys(_SHAPES, dtype), (
            f"updates of {dtype} gave a result of {found}: keep the dtypes, or refuse the updates"
        )

    def test_sets_without_tensors_are_folded_or_refused(self) -> None:
        """A model may have no parameters at all; that must not be an accident."""
        aggregator, nothing = self.make(), ParameterSet.from_tensors({})
        for update in self._some():
            try:
                aggregator.contribute(FakeContext(sender=peer_id(1)), nothing, update.metrics())
            except ValueError:
                return
        result, _ = aggregator.aggregate(FakeContext())
        assert len(result) == 0, f"sets without tensors gave {result.layout.type}"

    def test_too_few_updates_are_an_error_that_says_how_many(self) -> None:
        """A rule that cannot tell attackers from the others says so, and more may come."""
        if self.min_updates == 1:
            pytest.skip("min_updates = 1: one update is enough")
        sent, aggregator = self._some(), self.make()
        for update in sent[: self.min_updates - 1]:
            _send(aggregator, update)
        with refusal(f"aggregate() after {self.min_updates - 1} updates") as caught:
            aggregator.aggregate(FakeContext())
        assert str(self.min_updates) in str(caught[0]), (
            f"min_updates = {self.min_updates}, and the error of a round with one less does not "
            f"name that number: {caught[0]}"
        )
        for update in sent[self.min_updates - 1 :]:
            _send(aggregator, update)
        _same(
            aggregator.aggregate(FakeContext()),
            self._run(sent),
            "aggregate() had been refused for want of updates: the round goes on",
        )

    def test_aggregate_without_contributions_is_an_error(self) -> None:
        """There is no mean of nothing."""
        with refusal("aggregate() without contributions"):
            self.make().aggregate(FakeContext())

    def test_aggregate_ends_the_round(self) -> None:
        """A round is aggregated once; the same round key starts from nothing afterwards."""
        aggregator, sent = self.make(), self._some()
        first = _fold(aggregator, sent)
        with refusal("aggregate() of a round that was aggregated before"):
            aggregator.aggregate(FakeContext())
        _same(_fold(aggregator, sent), first, "the round was aggregated before: forget it then")

    def test_abandon_frees_the_round(self) -> None:
        """What an abandoned round built up is gone, and other rounds are untouched."""
        aggregator, sent = self.make(), self._some()
        before = _held(aggregator)
        aggregator.abandon(FakeContext(round="never opened"))
        for update in sent:
            _send(aggregator, update, turn=1)
        aggregator.abandon(FakeContext(round=1))
        assert _held(aggregator) == before, (
            "save() after abandon() holds more than that of a fresh aggregator"
        )
        with refusal("aggregate() of a round that was abandoned"):
            aggregator.aggregate(FakeContext(round=1))

    def test_abandon_leaves_other_rounds_alone(self) -> None:
        """Only the round of the context is dropped."""
        aggregator, sent = self.make(), self._some()
        for update in sent:
            _send(aggregator, update, turn=1)
            _send(aggregator, update, turn=2)
        aggregator.abandon(FakeContext(round=1))
        _same(
            aggregator.aggregate(FakeContext(round=2)),
            self._run(sent, turn=2),
            "another round was abandoned: abandon(ctx) drops that of ctx.round only",
        )

    def test_result_does_not_alias_the_updates(self) -> None:
        """Buffers of updates are reused as soon as they are free; the result must not change."""
        import numpy as np

        aggregator = self.make()
        buffers: list[NDArray[np.uint8]] = []
        for update in self._some():
            buffer = np.frombuffer(bytearray(update.params().image), np.uint8)
            buffers.append(buffer)
            aggregator.contribute(FakeContext(), ParameterSet.from_image(buffer), update.metrics())
        result, _ = aggregator.aggregate(FakeContext())
        before = result.to_bytes()
        for buffer in buffers:
            buffer[result.layout.data_offset :] = 0xFF
        assert result.to_bytes() == before, (
            "the result changed when the buffers of the updates were filled with NaN: return "
            "memory of your own"
        )

    @pytest.mark.parametrize("end", ["aggregated", "abandoned"])
    def test_updates_are_let_go_with_their_round(self, end: str) -> None:
        """The memory of updates goes back to its pool when their round is over."""
        import numpy as np

        aggregator, refs = self.make(), list[Any]()
        for update in self._some():
            buffer = np.frombuffer(bytearray(update.params().image), np.uint8)
            refs.append(weakref.ref(buffer))
            params = ParameterSet.from_image(buffer)
            aggregator.contribute(FakeContext(sender=peer_id(1)), params, update.metrics())
            del buffer, params
        if end == "aggregated":
            aggregator.aggregate(FakeContext())
        else:
            aggregator.abandon(FakeContext())
        check_released(refs, f"{len(refs)} updates are still kept after their round was {end}")

    def test_memory_does_not_grow_with_the_updates(self) -> None:
        """A rule that folds updates as they come needs no more memory for many of them."""
        if not self.streaming:
            pytest.skip("streaming = False: the rule looks at all updates of a round at once")
        few, many = (self._peak(count) for count in (4, 64))
        assert many <= 2 * few, (
            f"a round of 4 updates took {few} bytes at most and one of 64 {many}: fold each as it "
            "comes, or say streaming = False"
        )

    def test_result_stays_as_it_was(self) -> None:
        """A result is a value; later rounds do not write into it."""
        aggregator = self.make()
        result, _ = _fold(aggregator, self._some(1))
        before = result.to_bytes()
        _fold(aggregator, self._some(2))
        assert result.to_bytes() == before, (
            "the result of one round changed while the next was folded: do not reuse its memory"
        )

    def test_result_cannot_be_written(self) -> None:
        """Every receiver shares the memory of a value, so nobody may write to it."""
        result, _ = self._run(self._some())
        for name, array in result.items():
            with pytest.raises(ValueError):  # noqa: PT011 - numpy's own message
                array.setflags(write=True)
            assert not array.flags.writeable, f"tensor {name!r} of the result can be written"

    @pytest.mark.parametrize("before", ["nothing", "some", "all"])
    def test_state_goes_on_elsewhere(self, before: str) -> None:
        """A round that was saved and loaded in between gives the same result."""
        sent = self._some()
        cut = {"nothing": 0, "some": len(sent) // 2, "all": len(sent)}[before]
        first, second = self.make(), self.make()
        for update in sent[:cut]:
            _send(first, update)
        state = first.save()
        check_state(state)
        second.load(state)
        first.abandon(FakeContext())
        _same(
            _fold(second, sent[cut:]),
            self._run(sent),
            f"the state was saved and loaded after {cut} of {len(sent)} updates",
        )

    # What the tests are made of.

    def _life(self, component: Aggregator, seed: int) -> Iterator[object]:
        key = ("life", seed)
        for at, update in enumerate(self._some(1 + seed % 7)):
            context = FakeContext(round=key, sender=peer_id(at), seed=seed)
            yield component.contribute(context, update.params(), update.metrics())
        yield component.aggregate(FakeContext(round=key, seed=seed))

    def _run(
        self, sent: Sequence[Update], turn: Hashable = 1
    ) -> tuple[ParameterSet, Mapping[str, Any]]:
        return _fold(self.make(), sent, turn)

    def _some(self, start: int = 1) -> list[Update]:
        """Return a few different updates, as many as the rule needs and three at least."""
        count = max(3, self.min_updates)
        return [
            Update(
                tuple(((start + i) * 37 % 11 - 5) / 3 + place / 7 for place in range(_SIZE)),
                examples=start + 2 * i,
                loss=1.0 / (start + i),
            )
            for i in range(count)
        ]

    def _skip_unless_order_free(self) -> None:
        if not self.order_free:
            pytest.skip("order_free = False: the rule says that its result depends on the order")

    def _check_orders(self, sent: Sequence[Update], other: Sequence[Update]) -> None:
        one, another = (self._run(order) for order in (sent, other))
        _same(
            one,
            another,
            "the same updates came in another order: sums of floats depend on it, sums on an "
            "integer grid do not; or say order_free = False",
        )

    def _refused(self, aggregator: Aggregator, fault: str, *, opens: bool) -> None:
        """Send an update that must be refused."""
        fits_alone = fault in ("names", "shape", "dtype")
        if opens and fits_alone:
            # Nothing is there yet that it could differ from, so it is not finite either.
            params, metrics = _FAULTS[fault](float("nan"))
        else:
            params, metrics = _FAULTS[fault](1.0)
        self._check_refused(aggregator, params, metrics, f"an update that is wrong: {fault}")

    def _check_refused(
        self, aggregator: Aggregator, params: ParameterSet, metrics: Mapping[str, Any], what: str
    ) -> None:
        """Assert that an update is refused with an error that names the peer who sent it."""
        sender = peer_id(9)
        with refusal(f"contribute() of {what}") as caught:
            aggregator.contribute(FakeContext(sender=sender), params, metrics)
        said = str(caught[0])
        assert str(sender) in said, (
            f"{what} was refused with {said!r}, which does not say whose it was: name ctx.sender"
        )

    def _peak(self, count: int) -> int:
        """Return the most memory that a round of large updates takes, in bytes."""
        import numpy as np

        aggregator = self.make()
        # One that is there already: nothing of it is allocated while memory is watched.
        params = ParameterSet.from_tensors({"w": np.ones(1 << 15, np.float32)})
        image = params.to_bytes()
        _fold(self.make(), self._some())
        tracemalloc.start()
        try:
            for at in range(count):
                update = ParameterSet.from_image(bytearray(image))
                context = FakeContext(sender=peer_id(at))
                aggregator.contribute(context, update, {"examples": 1})
                del update
            aggregator.aggregate(FakeContext())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


Sent = tuple[ParameterSet, Mapping[str, Any]]


def _with_last(value: float) -> Sent:
    """Return an update whose very last value is special, so that all before it fits."""
    return Update((1.0,) * (_SIZE - 1) + (value,)).params(), {"examples": 1, "loss": 0.5}


def _renamed(value: float) -> Sent:
    tensors = _tensors((value,) * _SIZE)
    return ParameterSet.from_tensors({f"x_{name}": t for name, t in tensors.items()}), {
        "examples": 1, "loss": 0.5
    }  # fmt: skip


def _reshaped(value: float) -> Sent:
    tensors = _tensors((value,) * _SIZE)
    tensors["weight"] = tensors["weight"].reshape(2, 3)
    return ParameterSet.from_tensors(tensors), {"examples": 1, "loss": 0.5}


def _retyped(value: float) -> Sent:
    tensors = {name: t.astype("float64") for name, t in _tensors((value,) * _SIZE).items()}
    return ParameterSet.from_tensors(tensors), {"examples": 1, "loss": 0.5}


_FAULTS: Mapping[str, Callable[[float], Sent]] = {
    "nan": lambda _: _with_last(float("nan")),
    "infinity": lambda _: _with_last(float("-inf")),
    "names": _renamed,
    "shape": _reshaped,
    "dtype": _retyped,
    "examples": lambda _: (_constant(1.0).params(), {"loss": 0.5}),
}


def _tensors(values: Sequence[float]) -> dict[str, NDArray[Any]]:
    import numpy as np

    tensors: dict[str, NDArray[Any]] = {}
    at = 0
    for name, shape in _SHAPES.items():
        size = int(np.prod(shape))
        tensors[name] = np.array(values[at : at + size], np.float32).reshape(shape)
        at += size
    return tensors


def _constant(value: float) -> Update:
    return Update((value,) * _SIZE)


def _send(aggregator: Aggregator, update: Update, turn: Hashable = 1) -> None:
    context = FakeContext(round=turn, sender=peer_id(1))
    aggregator.contribute(context, update.params(), update.metrics())


def _fold(
    aggregator: Aggregator, sent: Sequence[Update], turn: Hashable = 1
) -> tuple[ParameterSet, Mapping[str, Any]]:
    for update in sent:
        _send(aggregator, update, turn)
    return aggregator.aggregate(FakeContext(round=turn))


def _held(aggregator: Aggregator) -> int:
    return sum(tensor.nbytes for tensor in aggregator.save().tensors.values())


def _is_finite(array: NDArray[Any]) -> bool:
    import numpy as np

    return bool(np.isfinite(array).all())


def _same(got: Sent, expected: Sent, why: str) -> None:
    """Assert that two results agree bit for bit, tensors and summary."""
    for name in expected[0].names:
        assert got[0][name].tobytes() == expected[0][name].tobytes(), (
            f"tensor {name!r} is {got[0][name].tolist()} instead of "
            f"{expected[0][name].tolist()}; {why}"
        )
    assert dict(got[1]) == dict(expected[1]), (
        f"the summary is {dict(got[1])} instead of {dict(expected[1])}; {why}"
    )
