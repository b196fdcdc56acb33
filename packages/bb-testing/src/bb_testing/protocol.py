"""The contract of the protocol role, as tests.

What a protocol does is its own business, so its author tells a story: calls of its ops in an order
that makes sense. The suite tells it again and again, in ways that must make no difference.
"""

from __future__ import annotations

from collections.abc import Iterator

from bb_roles import Protocol
from bb_testing._life import LivingSuite
from bb_testing._stories import Story, Tellings

__all__ = ["ProtocolSuite", "Story"]


class ProtocolSuite(LivingSuite):
    """Inherit it in a class named `Test...` and write `make` and `story`."""

    def make(self) -> Protocol:
        """Return a fresh protocol."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def story(self, story: Story) -> None:
        """Call every op at least once, in an order that makes sense; check nothing."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def story(self, story)`")

    def test_is_a_protocol(self) -> None:
        """The component fills the role."""
        made = self.make()
        assert isinstance(made, Protocol), (
            f"make() returned a {type(made).__name__}, which does not inherit bb_roles.Protocol"
        )

    def test_declared_ops_are_methods(self) -> None:
        """Each op names a method that takes what the op is given."""
        made = self.make()
        assert made.ops, f"{type(made).__name__} declares no ops"
        self._tellings().declared_ops_are_methods()

    def test_story_calls_every_op(self) -> None:
        """What is not called is not tested."""
        self._tellings().story_calls_every_op()

    def test_results_stay_as_they_were(self) -> None:
        """What was returned is lent: later calls leave it alone."""
        self._tellings().told().check_kept()

    def test_same_calls_give_the_same_results(self) -> None:
        """Results depend on the calls alone: on no clock, and on no chance but `ctx.rng()`."""
        self._tellings().same_calls_give_the_same_results()

    def test_reads_change_nothing(self) -> None:
        """An op whose effect is `reads` leaves no trace."""
        self._tellings().reads_change_nothing()

    def test_state_goes_on_elsewhere(self) -> None:
        """A protocol that was saved and loaded goes on as before, at any point of the story."""
        self._tellings().state_goes_on_elsewhere()

    def test_bad_input_is_refused_whole(self) -> None:
        """What is no value of the op's type is refused with an error, and changes nothing."""
        self._tellings().bad_input_is_refused_whole()

    # What the tests are made of.

    def _life(self, component: Protocol, seed: int) -> Iterator[object]:
        story = Story(component)
        self.story(story)
        yield [list(call) for call in story.told]

    def _renew(self, component: Protocol) -> None:
        # A story is told from its beginning, so to a component that remembers none of it.
        component.load(self.make().save())

    def _tellings(self) -> Tellings:
        return Tellings(self.make, self.story)
