"""What holds for every aggregator that builds on `bb_roles.collecting`, as tests.

Such a rule keeps the updates of a round until it is aggregated. What it keeps, refuses, saves and
says in its summary is the same for all of them; only what it makes of the updates is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.params import ParameterSet
from bb_ir.types import parse_type
from bb_roles import Component, Context, State
from bb_roles.collecting.errors import InvalidSetting
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.folding.errors import (
    CohortExceeded,
    MetricsError,
    NothingContributed,
    RoundKeyError,
    UpdateMismatch,
    UpdateOutOfRange,
)
from bb_testing._base import kit_settings
from bb_testing.aggregator import AggregatorSuite, Update
from bb_testing.context import FakeContext, peer_id

if TYPE_CHECKING:
    from bb_roles.collecting import RoundsAggregator

__all__ = ["CollectingAggregatorSuite"]

_WHO = 3
_KEYS: st.SearchStrategy[Hashable] = st.recursive(
    st.one_of(st.integers(), st.text(), st.binary(), st.none(), st.booleans()),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
)
#: Two tensors of one dtype, and one of another between them.
_SCATTERED = (
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"b":{"dtype":"I32","shape":[1],"data_offsets":[4,8]},'
    b'"c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}'
)


class _Name(NamedTuple):
    """A round as the engine names it."""

    incarnation: int
    number: int


class CollectingAggregatorSuite(AggregatorSuite):
    """Inherit it in a class named `Test...`, and write `build` instead of `make`.

    A rule that needs more than one update says `min_updates`; one that tells more whole numbers in
    its summary than `count` and `examples` says which in `tells`.
    """

    #: Names of the whole numbers of the summary beside `count` and `examples`, in order.
    tells: ClassVar[tuple[str, ...]] = ()

    def build(self, **config: Any) -> RoundsAggregator:
        """Return a fresh aggregator with these fields in its configuration."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def build(self, **config)`")

    def make(self) -> RoundsAggregator:
        """Return a fresh aggregator."""
        return self.build()

    def deferred_calls(self) -> Mapping[str, tuple[Component, Callable[[Context], Any]]]:
        """Return the call of `aggregate` for a round that is handed to the executor."""
        rule = self.build(defer_above=0)
        for at in range(self.min_updates):
            update = Update(tuple(float(at * place % 7) for place in range(9)), examples=at + 1)
            rule.contribute(FakeContext(), update.params(), update.metrics())
        return {"aggregate": (rule, rule.aggregate)}

    # What is refused, and how it is told.

    @pytest.mark.parametrize("at", [0, 32_767, 32_768, 69_999])
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_value_that_is_not_finite_is_named(self, dtype: str, at: int) -> None:
        """The error says which tensor holds what, wherever in a large one, and who sent it."""
        import numpy as np

        kind: Any = dtype
        if dtype == "bfloat16":
            kind = pytest.importorskip("ml_dtypes").bfloat16
        for bad in (math.nan, math.inf, -math.inf):
            values = np.ones(70_000, kind)
            values[at] = bad
            update = ParameterSet.from_tensors({"fine": np.ones(2, kind), "w": values})
            with pytest.raises(UpdateOutOfRange, match="tensor 'w'") as caught:
                self.build().contribute(_context(), update, {"examples": 1})
            _check_named(caught.value)

    @pytest.mark.parametrize(
        ("shape", "dtype", "said"),
        [((3,), "float32", "float32[3]"), ((2,), "float64", "float64"), (None, "", "no tensor")],
    )
    def test_update_of_another_layout_is_described(
        self, shape: tuple[int, ...] | None, dtype: str, said: str
    ) -> None:
        """The error says what differs, and who sent it."""
        import numpy as np

        other = {} if shape is None else {"w": np.zeros(shape, dtype)}
        error = self._refusal(UpdateMismatch, ParameterSet.from_tensors(other), {"examples": 1})
        assert said in str(error), f"{error} does not say {said!r}"

    def test_image_whose_dtypes_are_scattered_is_refused(self) -> None:
        """A rule works on all floats of an update at once, so they lie together."""
        image = len(_SCATTERED).to_bytes(8, "little") + _SCATTERED + bytes(12)
        with pytest.raises(UpdateMismatch, match="do not lie together") as caught:
            self.build().contribute(_context(), ParameterSet.from_image(image), {"examples": 1})
        _check_named(caught.value)

    @pytest.mark.parametrize("examples", [None, 0, -1, (1 << 40) + 1, 1.0, "3", True], ids=repr)
    def test_number_of_examples_that_is_none_is_named(self, examples: object) -> None:
        """Which number it was, and who sent it."""
        error = self._refusal(MetricsError, _params(1, 1), {"examples": examples})
        assert f"examples={examples!r}" in str(error), f"{error} does not say {examples!r}"

    def test_too_many_metrics_are_refused(self) -> None:
        """Metrics are kept until the round ends: a peer must not fill the memory with them."""
        metrics = {"examples": 1, **{f"m{i}": 1.0 for i in range(64)}}
        error = self._refusal(MetricsError, _params(1, 1), metrics)
        assert "65 metrics" in str(error), f"{error} does not say how many there were"

    def test_more_updates_than_the_cohort_are_refused(self) -> None:
        """So many are kept in memory, as configured, and no more."""
        rule, most = self.build(cohort=self.min_updates), self.min_updates
        self._fill(rule)
        with pytest.raises(CohortExceeded, match=f"{most} updates") as caught:
            rule.contribute(_context(), _params(1, 1), {"examples": 1})
        _check_named(caught.value)
        count = rule.aggregate(_context())[1]["count"]
        assert count == most, f"the round has {count} updates after one that was refused"

    def test_update_of_nobody_is_this_nodes(self) -> None:
        """A Node may contribute what it made itself."""
        with pytest.raises(UpdateOutOfRange, match="this Node"):
            self.build().contribute(FakeContext(), _params(math.nan), {"examples": 1})

    def test_empty_round_has_no_result(self) -> None:
        """The error says what there is to do about it."""
        with pytest.raises(NothingContributed, match="without updates"):
            self.build().aggregate(_context())

    @pytest.mark.parametrize(
        ("name", "value"), [("cohort", 0), ("cohort", (1 << 20) + 1), ("defer_above", -1)]
    )
    def test_setting_out_of_its_range_is_refused(self, name: str, value: int) -> None:
        """A wrong configuration is found before anything is built."""
        with pytest.raises(InvalidSetting, match=name):
            self.build(**{name: value})
        with pytest.raises(ConfigError, match=name):
            build_config(type(self.build()).Config, {name: value}, "aggregator")

    # The summary.

    def test_metrics_are_averaged_in_the_order_of_their_names(self) -> None:
        """Floats are averaged where they are finite; all else is left out."""
        rule = self.build()
        for at in range(max(3, self.min_updates)):
            metrics = {"z": 1.0, "examples": at + 1, "loss": 2.0, "bad": math.inf, "note": "x"}
            rule.contribute(_context(), _params(1.0), {**metrics, "n": 3, "count": 9.0})
        summary = dict(rule.aggregate(_context())[1])
        expected = ["count", "examples", *self.tells, "bad", "loss", "z"]
        assert list(summary) == expected, f"the summary has {list(summary)}, not {expected}"
        assert math.isnan(summary["bad"]), f"the mean of no number is {summary['bad']}"
        for name, mean in {"loss": 2.0, "z": 1.0}.items():
            assert summary[name] == mean, f"the mean of {name!r} is {summary[name]}, not {mean}"

    @kit_settings
    @given(data=st.data())
    def test_summary_does_not_depend_on_the_order(self, data: st.DataObject) -> None:
        """Means of metrics are exact, so that no order changes a bit of them."""
        losses = st.floats(allow_nan=False, allow_infinity=False)
        one = st.tuples(losses, st.integers(1, 1 << 40))
        sent = data.draw(st.lists(one, min_size=self.min_updates, max_size=self.min_updates + 3))
        shuffled = data.draw(st.permutations(sent))
        found = [self._summary(order) for order in (sent, shuffled)]
        assert found[0] == found[1], f"the order changed the summary {found[0]} to {found[1]}"

    @pytest.mark.parametrize(
        ("metrics", "known"),
        [
            ("record(examples:int64,loss:float64)", True),
            ("record", False),
            ("record(examples:int64,loss:any)", False),
            ("any", False),
        ],
    )
    def test_type_of_the_summary_follows_from_that_of_the_metrics(
        self, metrics: str, *, known: bool
    ) -> None:
        """The compiler knows the summary as soon as it knows the metrics."""
        cls, given_ = type(self.build()), (parse_type("params"), parse_type(metrics))
        whole = "".join(f"{name}:int64," for name in ("count", "examples", *self.tells))
        expected = {"summary": parse_type(f"record({whole}loss:float64)")} if known else None
        found = cls.infer_types(self.build().config, "Aggregate", given_)
        assert found == expected, f"infer_types says {found}, {expected} was expected"
        assert cls.infer_types(self.build().config, "Contribute", given_) is None

    # Work that takes long.

    def test_large_round_is_deferred_and_gives_the_same(self) -> None:
        """The Node may be stopped meanwhile, and asks again elsewhere."""
        direct, deferred = self.build(defer_above=None), self.build(defer_above=0)
        for rule in (direct, deferred):
            self._fill(rule, loss=0.5)
        context = FakeContext(sender=peer_id(_WHO), keeps=True)
        deferred.aggregate(context)
        saved, (work,) = deferred.save(), context.works
        work.run()
        assert work.result() == direct.aggregate(_context()), "a deferred round gave another result"
        with pytest.raises(NothingContributed):
            deferred.aggregate(_context())
        other = self.build()
        other.load(saved)
        count = other.aggregate(_context())[1]["count"]
        assert count == self.min_updates, (
            f"a state that was saved while a round was worked on holds {count} of its updates"
        )

    def test_at_the_limit_nothing_is_deferred(self) -> None:
        """`defer_above` is the most that is done at once."""
        rule = self.build(defer_above=2 * self.min_updates)
        self._fill(rule)
        context = FakeContext(sender=peer_id(_WHO), keeps=True)
        rule.aggregate(context)
        assert context.works == [], "a round of as many numbers as defer_above was deferred"

    # What is kept.

    @kit_settings
    @given(key=_KEYS)
    def test_rounds_with_plain_keys_are_saved_and_loaded(self, key: Hashable) -> None:
        """A round is saved under any key of numbers, texts, bytes and tuples of them."""
        first, second, context = self.build(), self.build(), FakeContext(round=key)
        self._fill(first, context, loss=0.1, bad=-math.inf)
        second.load(first.save())
        for rule in (first, second):
            rule.contribute(context, _params(2.5, 1), {"examples": 1, "loss": 0.3})
        (ours, said), (theirs, heard) = first.aggregate(context), second.aggregate(context)
        assert ours == theirs, f"round {key!r} went on differently after save() and load()"
        assert repr(dict(said)) == repr(dict(heard)), f"{heard} instead of {said} after load()"

    def test_round_with_another_key_cannot_be_saved(self) -> None:
        """An object cannot be written down, and is not written as something else."""
        rule = self.build()
        self._fill(rule, FakeContext(round=object()))
        with pytest.raises(RoundKeyError, match="cannot be saved"):
            rule.save()

    def test_round_that_is_named_as_the_engine_names_frames_is_saved(self) -> None:
        """Frames have named tuples for names."""
        context = FakeContext(round=_Name(1, 4))
        rule, other = self.build(), self.build()
        self._fill(rule, context)
        other.load(rule.save())
        assert other.aggregate(context) == rule.aggregate(context), "the round was not found again"

    def test_what_is_loaded_is_not_the_memory_that_was_given(self) -> None:
        """The memory that a state came in is used again for something else."""
        rule, other = self.build(), self.build()
        self._fill(rule)
        state = rule.save()
        tensors = {name: tensor.copy() for name, tensor in state.tensors.items()}
        other.load(State(tensors=tensors, data=state.data))
        for tensor in tensors.values():
            tensor[:] = 0xFF
        assert other.aggregate(_context()) == rule.aggregate(_context()), (
            "the arrays of a loaded state were written to, and the round changed: copy them"
        )

    def test_loading_replaces_what_was_there(self) -> None:
        """A state is the whole state."""
        rule = self.build()
        self._fill(rule)
        rule.load(State())
        with pytest.raises(NothingContributed):
            rule.aggregate(_context())

    def test_closed_aggregator_holds_nothing(self) -> None:
        """What a Node that was closed held is free."""
        rule = self.build()
        self._fill(rule)
        rule.close()
        held = rule.save()
        assert not held.tensors, f"after close() it still holds {sorted(held.tensors)}"

    def test_updates_are_kept_and_not_copied(self) -> None:
        """Updates never change, so a round takes no more memory than they do."""
        import numpy as np

        rule, update = self.build(), _params(1.0, 2.0)
        rule.contribute(_context(), update, {"examples": 1})
        shared = [np.shares_memory(t, update.flat()) for t in rule.save().tensors.values()]
        assert shared == [True], "an update was copied as it was contributed"

    # What the tests are made of.

    def _fill(
        self, rule: RoundsAggregator, context: FakeContext | None = None, **metrics: float
    ) -> None:
        for at in range(self.min_updates):
            given_ = {"examples": at + 1, **metrics}
            rule.contribute(context or _context(), _params(at, -at), given_)

    def _refusal(
        self, kind: type[ValueError], update: ParameterSet, metrics: Mapping[str, Any]
    ) -> ValueError:
        """Assert that an update is refused in full, and return the error."""
        rule, clean = self.build(), self.build()
        self._fill(rule)
        self._fill(clean)
        with pytest.raises(kind) as caught:
            rule.contribute(_context(), update, metrics)
        _check_named(caught.value)
        assert rule.aggregate(_context()) == clean.aggregate(_context()), "it left a trace"
        return caught.value

    def _summary(self, sent: list[tuple[float, int]]) -> tuple[ParameterSet, Mapping[str, Any]]:
        rule = self.build()
        for loss, examples in sent:
            rule.contribute(_context(), _params(1.0), {"examples": examples, "loss": loss})
        return rule.aggregate(_context())


def _context() -> FakeContext:
    return FakeContext(sender=peer_id(_WHO))


def _params(*values: float) -> ParameterSet:
    import numpy as np

    return ParameterSet.from_tensors({"w": np.array(values, np.float32)})


def _check_named(error: ValueError) -> None:
    who = str(peer_id(_WHO))
    assert who in str(error), f"{error} does not say who sent it: name ctx.sender"
