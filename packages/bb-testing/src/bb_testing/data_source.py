"""The contract of the data source role, as tests."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from bb_roles import Batches, DataSource
from bb_testing._base import check_bits, check_released, check_state, refusal
from bb_testing._stories import RoleSuite
from bb_testing._types import check_types
from bb_testing.context import FakeContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Batch = tuple[NDArray[Any], NDArray[Any]]

__all__ = ["DataSourceSuite"]

#: One example as it can be compared: the bytes of its input and of its target.
Example = tuple[bytes, bytes]


class DataSourceSuite(RoleSuite):
    """Inherit it in a class named `Test...` and write `make`: a source of a few batches.

    A source that is told not to shuffle says `shuffles = False`.
    """

    #: Whether `batches` puts each pass into another order.
    shuffles: ClassVar[bool] = True

    def make(self) -> DataSource:
        """Return a fresh source of at least 12 different examples in at least two batches."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def test_is_a_data_source(self) -> None:
        """The component fills the role."""
        made = self.make()
        assert isinstance(made, DataSource), (
            f"make() returned a {type(made).__name__}, which does not inherit bb_roles.DataSource"
        )

    def test_a_pass_has_each_example_once(self) -> None:
        """All passes, in whatever order, hold the same examples, as many as `examples` says."""
        batches = self.make().batches(FakeContext(seed=1))
        assert isinstance(batches, Batches), f"batches() returned a {type(batches).__name__}"
        expected = sorted(_examples(batches))
        assert type(batches.examples) is int, (
            f"Batches.examples is a {type(batches.examples).__name__}; the weight is a plain int"
        )
        assert len(expected) == batches.examples, (
            f"one pass holds {len(expected)} examples, Batches.examples says {batches.examples}"
        )
        for seed in range(2, 6):
            other = sorted(_examples(self.make().batches(FakeContext(seed=seed))))
            assert other == expected, (
                "another pass holds other examples: each pass has every example exactly once, "
                "in the last batch too"
            )

    def test_epochs_are_so_many_passes(self) -> None:
        """Every pass is whole, and the examples are still counted once."""
        batches = self.make().batches(FakeContext(), epochs=3)
        once = self.make().batches(FakeContext())
        assert batches.examples == once.examples, (
            f"Batches.examples is {batches.examples} for 3 epochs and {once.examples} for one; it "
            "counts distinct examples"
        )
        found, per_pass = _examples(batches), once.examples
        assert len(found) == 3 * per_pass, (
            f"batches(epochs=3) gave {len(found)} examples, 3 x {per_pass} were expected"
        )
        for turn in range(3):
            passed = sorted(found[turn * per_pass : (turn + 1) * per_pass])
            assert passed == sorted(_examples(once)), f"pass {turn + 1} of 3 has other examples"

    def test_batches_agree_in_shape_and_dtype(self) -> None:
        """Inputs and targets go together, and every batch looks like the first."""
        source = self.make()
        drawn = [*source.batches(FakeContext()), source.next_batch(FakeContext())]
        assert len(drawn) >= 3, f"make() has {len(drawn) - 1} batch; the kit needs two at least"
        for x, y in drawn:
            assert len(x) == len(y) > 0, f"a batch has {len(x)} inputs and {len(y)} targets"
        for part, name in ((0, "inputs"), (1, "targets")):
            kinds = {(b[part].dtype.str, b[part].shape[1:]) for b in drawn}
            assert len(kinds) == 1, f"the {name} of batches differ in dtype or shape: {kinds}"

    def test_values_are_of_the_types_that_it_tells(self) -> None:
        """What `value_types` and `infer_types` say holds for every batch, the last one too."""
        source = self.make()
        batches = source.batches(FakeContext())
        check_types(source, "Batches", (), (batches,))
        for _ in batches:
            check_types(source, "NextBatch", (), source.next_batch(FakeContext()))

    def test_same_draw_gives_the_same_order(self) -> None:
        """The order depends on the context alone."""
        first = _examples(self.make().batches(FakeContext(seed=3), epochs=2))
        again = _examples(self.make().batches(FakeContext(seed=3), epochs=2))
        assert first == again, (
            "batches() with the same seed, round and op came in another order: draw from "
            "ctx.rng() only"
        )

    def test_passes_are_shuffled(self) -> None:
        """Another seed and another pass give another order."""
        if not self.shuffles:
            pytest.skip("shuffles = False: the source is told to keep the order")
        batches = self.make().batches(FakeContext(seed=1), epochs=2)
        found, size = _examples(batches), batches.examples
        assert found[:size] != found[size:], "two passes have one order: shuffle each anew"
        other = _examples(self.make().batches(FakeContext(seed=2)))
        assert found[:size] != other, "two seeds gave one order: shuffle by ctx.rng()"

    def test_batches_can_be_iterated_again(self) -> None:
        """`draw` returns a fresh iterator over the same batches each time, also interleaved."""
        source = self.make()
        batches = source.batches(FakeContext(), epochs=2)
        first = _examples(batches)
        source.batches(FakeContext(seed=9))
        source.next_batch(FakeContext(seed=9))
        one, other = iter(batches), iter(batches)
        next(one)
        assert _examples(other) == first, (
            "iterating the batches again gave something else: let `draw` make its own generator "
            "from a key that batches() drew"
        )

    def test_batches_can_be_stored(self) -> None:
        """What a recipe holds is enough to give the same batches in another process."""
        source = self.make()
        batches = source.batches(FakeContext(seed=5), epochs=2)
        if batches.recipe is None:
            pytest.skip("batches have no recipe: a Node that holds some cannot be written down")
        assert batches.recipe.maker is source, "Recipe.maker is the source that gave the batches"
        check_state(batches.recipe.state)
        first = _examples(batches)
        changed = self.make()
        changed.next_batch(FakeContext())
        changed.batches(FakeContext(seed=8))
        for other in (self.make(), changed):
            before = other.save()
            again = other.remake(batches.recipe.state)
            assert isinstance(again, Batches), f"remake() returned a {type(again).__name__}"
            assert again.examples == batches.examples, "remade batches tell another weight"
            assert _examples(again) == first, (
                "remake() gave other batches, or in another order: put the key that batches() "
                "drew into the recipe, and let nothing depend on what the source did since"
            )
            assert again.recipe is not None, (
                "remade batches have no recipe: they may be stored again"
            )
            check_bits(again.recipe.state, batches.recipe.state, "the recipe of remade batches")
            check_bits(other.save(), before, "the state of a source that made batches again")

    def test_batches_stay_as_they_were(self) -> None:
        """A batch is a value: drawing the next one does not write into it."""
        source = self.make()
        kept = list(source.batches(FakeContext()))
        before = [_examples([batch]) for batch in kept]
        _examples(source.batches(FakeContext(seed=1), epochs=2))
        assert [_examples([batch]) for batch in kept] == before, (
            "a batch changed while others were drawn: give out a new array each time"
        )

    def test_batches_are_let_go(self) -> None:
        """Who has used a batch has its memory back: a pass holds no more than a batch or two."""
        source = self.make()
        refs: list[weakref.ref[Any]] = []
        drawn = iter(source.batches(FakeContext(), epochs=2))
        while refs_of := [weakref.ref(part) for part in next(drawn, ())]:
            refs += refs_of
        check_released(refs, f"{len(refs)} arrays are still kept after the passes")

    @pytest.mark.parametrize("epochs", [0, -1])
    def test_less_than_one_epoch_is_refused(self, epochs: int) -> None:
        """A wrong configuration must not look like a client without data."""
        with refusal(f"batches(epochs={epochs})"):
            self.make().batches(FakeContext(), epochs=epochs)

    def test_next_batch_goes_round(self) -> None:
        """It reaches every example before it starts over, pass after pass."""
        source = self.make()
        expected = sorted(_examples(source.batches(FakeContext())))
        found: list[Example] = []
        for _ in range(2 * len(expected) + 2):
            if len(found) >= 2 * len(expected):
                break
            found += _examples([source.next_batch(FakeContext())])
        for turn in range(2):
            passed = sorted(found[turn * len(expected) : (turn + 1) * len(expected)])
            assert passed == expected, (
                f"pass {turn + 1} of next_batch() does not hold every example once"
            )

    def test_place_is_part_of_the_state(self) -> None:
        """A source that was saved and loaded goes on where it was."""
        first, second = self.make(), self.make()
        first.next_batch(FakeContext())
        state = first.save()
        check_state(state)
        second.load(state)
        for turn in range(4):
            one, other = (s.next_batch(FakeContext(seed=turn)) for s in (first, second))
            assert _examples([one]) == _examples([other]), (
                f"batch {turn + 2} differs after save() and load() behind batch 1: save the place"
            )

    def test_reset_starts_over(self) -> None:
        """After a reset the first batch comes again."""
        source = self.make()
        first = _examples([source.next_batch(FakeContext())])
        source.next_batch(FakeContext())
        try:
            source.reset(FakeContext())
        except NotImplementedError:
            pytest.skip("the source has no reset")
        again = _examples([source.next_batch(FakeContext())])
        assert again == first, "after reset() next_batch() did not return the first batch"

    # What the tests are made of.

    def _life(self, component: DataSource, seed: int) -> Iterator[object]:
        context = FakeContext(seed=seed, round=seed)
        batches = component.batches(context, epochs=2)
        yield batches.examples
        yield from (list(batch) for batch in batches)
        for _ in range(3):
            yield list(component.next_batch(context))


def _examples(batches: Iterable[Batch]) -> list[Example]:
    return [(a.tobytes(), b.tobytes()) for x, y in batches for a, b in zip(x, y, strict=True)]
