"""The contract of the peer selector role, as tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from bb_ir.ids import PeerId
from bb_roles import PeerSelector
from bb_testing._base import check_state, refusal
from bb_testing._stories import RoleSuite
from bb_testing.context import FakeContext

__all__ = ["PeerSelectorSuite"]

#: Seeds that are tried where a draw has to come out differently at least once.
_SEEDS = 200


class PeerSelectorSuite(RoleSuite):
    """Inherit it in a class named `Test...` and write `make`: a selector of three peers or more."""

    def make(self) -> PeerSelector:
        """Return a fresh selector that knows at least three peers."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def test_is_a_peer_selector(self) -> None:
        """The component fills the role."""
        made = self.make()
        assert isinstance(made, PeerSelector), (
            f"make() returned a {type(made).__name__}, which does not inherit bb_roles.PeerSelector"
        )

    def test_view_holds_each_peer_once(self) -> None:
        """A view is a sequence of peers without duplicates."""
        view = self.make().current_view(FakeContext())
        _check_peers(view, "current_view()")
        assert len(view) >= 3, f"make() knows {len(view)} peers; the kit needs at least three"

    def test_view_is_in_a_stable_order(self) -> None:
        """The order depends neither on the call nor on the seed nor on what was sampled."""
        selector = self.make()
        first = list(selector.current_view(FakeContext(seed=1)))
        selector.sample(FakeContext(seed=2), n=2)
        again = list(selector.current_view(FakeContext(seed=3)))
        other = list(self.make().current_view(FakeContext(seed=4)))
        assert first == again == other, (
            "current_view() came in another order: keep one, and draw only in sample()"
        )

    @pytest.mark.parametrize("n", [1, 2, "all"])
    def test_sample_has_the_size_asked_for(self, n: int | str) -> None:
        """A sample holds `n` different peers of the view."""
        selector = self.make()
        view = selector.current_view(FakeContext())
        size = len(view) if isinstance(n, str) else n
        for seed in range(20):
            sample = selector.sample(FakeContext(seed=seed), n=size)
            _check_peers(sample, f"sample(n={size})")
            assert len(sample) == size, f"sample(n={size}) of {len(view)} returned {len(sample)}"
            strangers = set(sample) - set(view)
            assert not strangers, f"sample(n={size}) returned peers outside the view: {strangers}"

    def test_sample_of_more_than_there_are_is_all(self) -> None:
        """Who asks for too many gets everybody."""
        selector = self.make()
        view = selector.current_view(FakeContext())
        sample = selector.sample(FakeContext(), n=len(view) + 5)
        _check_peers(sample, "sample()")
        assert set(sample) == set(view), (
            f"sample(n={len(view) + 5}) of {len(view)} peers returned {len(sample)} of them"
        )

    @pytest.mark.parametrize("n", [0, -1])
    def test_sample_of_nobody_is_refused(self, n: int) -> None:
        """A round that asks nobody would wait for nobody: a wrong number is an error."""
        with refusal(f"sample(n={n})"):
            self.make().sample(FakeContext(), n=n)

    def test_views_and_samples_stay_as_they_were(self) -> None:
        """What was returned is a value: whoever changes it, or calls again, changes a copy."""
        selector = self.make()
        view, sample = selector.current_view(FakeContext()), selector.sample(FakeContext(), n=2)
        before = [*view], [*sample]
        for found in (view, sample):
            if isinstance(found, list):
                cast("list[object]", found).clear()
        again = selector.current_view(FakeContext()), selector.sample(FakeContext(), n=2)
        assert ([*again[0]], [*again[1]]) == before, (
            "the selector gave out its own list, and somebody changed it: return a tuple or a copy"
        )

    def test_same_draw_gives_the_same_sample(self) -> None:
        """A sample depends on the context alone, order included; sampling is a read."""
        selector = self.make()
        first = list(selector.sample(FakeContext(seed=5), n=2))
        selector.sample(FakeContext(seed=6), n=2)
        again = list(selector.sample(FakeContext(seed=5), n=2))
        other = list(self.make().sample(FakeContext(seed=5), n=2))
        assert first == again == other, (
            "sample() with the same seed, round and op returned other peers: draw from ctx.rng() "
            "only, and keep nothing between calls"
        )

    def test_every_peer_can_be_drawn(self) -> None:
        """No peer is left out for ever."""
        selector = self.make()
        drawn: set[PeerId] = set()
        for seed in range(_SEEDS):
            drawn.update(selector.sample(FakeContext(seed=seed), n=1))
        never = set(selector.current_view(FakeContext())) - drawn
        assert not never, (
            f"{_SEEDS} samples of one never held {', '.join(map(str, never))}: draw from ctx.rng()"
        )

    def test_state_goes_on_elsewhere(self) -> None:
        """A selector that was saved and loaded samples as before."""
        first, second = self.make(), self.make()
        first.sample(FakeContext(seed=1), n=2)
        state = first.save()
        check_state(state)
        second.load(state)
        one, other = (list(s.sample(FakeContext(seed=2), n=2)) for s in (first, second))
        assert one == other, "after save() and load() the same context gave another sample"

    # What the tests are made of.

    def _life(self, component: PeerSelector, seed: int) -> Iterator[object]:
        context = FakeContext(seed=seed, round=seed)
        yield list(component.current_view(context))
        for n in (1, 2, 3):
            yield list(component.sample(context, n=n))


def _check_peers(peers: Sequence[PeerId], what: str) -> None:
    assert isinstance(peers, Sequence), f"{what} returned a {type(peers).__name__}, no sequence"
    for peer in peers:
        assert isinstance(peer, PeerId), f"{what} holds a {type(peer).__name__}, not a PeerId"
    assert len(set(peers)) == len(peers), f"{what} holds a peer twice"
