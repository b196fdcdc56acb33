"""What holds for components of all roles in use: in any thread, in any process, for a long time.

A role's suite says once how a component of that role is used, step by step, in `_life`. The tests
here lead that life under circumstances that must make no difference: each step in another thread,
several components at once, one between the steps of another, without clocks and dice, in processes
that order sets differently; and again and again, to see whether memory grows.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bb_roles import Component
from bb_testing._at_once import THREADS, in_threads
from bb_testing._base import ConformanceSuite, text_of
from bb_testing._elsewhere import told_elsewhere
from bb_testing._forbidden import no_clock_and_no_chance

__all__ = ["LivingSuite"]

#: Lives in a window, and windows at most. What is kept of each life shows in every window; what is
#: only made once, such as a cache, or taken from a list of free objects, runs out.
_TURNS: Final = 4
_WINDOWS: Final = 16
#: Why a component does not do twice what it does once.
_NEVER_TWICE: Final = (
    "so it does whenever its life is repeated: it asks a clock, draws by itself, or shares what "
    "changes; test_needs_no_clock_and_no_dice names what it calls"
)
#: Bytes per life that are no growth: less than a key and its place in a dictionary.
_NOISE: Final = 64


class LivingSuite(ConformanceSuite):
    """The base of the suites of the roles."""

    def _life(self, component: Any, seed: int) -> Iterator[object]:
        """Use a component as the engine would; yield what each step gave.

        The same component may lead several lives one after the other, each with another seed.
        """
        raise NotImplementedError(f"{type(self).__qualname__} needs `def _life(...)`")

    def _new(self) -> Component:
        """Return a component that is ready to be used."""
        return self.make()

    def _renew(self, component: Any) -> None:
        """Prepare a component that has led a life for another."""

    def told(self, seed: int = 0) -> list[str]:
        """Return what a fresh component tells in its life, one text for each step."""
        return [text_of(step) for step in self._life(self._new(), seed)]

    # Threads.

    def test_steps_may_be_made_in_any_thread(self) -> None:
        """A Node may be polled by one thread now and by another later."""
        life, moved = self._life(self._new(), 0), list[str]()
        for expected in self.told():
            (step,) = in_threads(lambda _: text_of(next(life)), threads=1)
            assert not isinstance(step, BaseException), (
                f"step {len(moved) + 1} failed in another thread than the one before, with "
                f"{type(step).__name__}: {step}; keep nothing that belongs to one thread"
            )
            moved.append(step)
            self._check_step(
                moved, len(moved) - 1, expected, "each step was made in another thread"
            )

    def test_several_work_at_once(self) -> None:
        """Nodes of one process run in threads of their own, each with its component."""
        alone = [self.told(seed) for seed in range(THREADS)]
        for seed, found in enumerate(in_threads(self.told)):
            assert not isinstance(found, BaseException), (
                f"with {THREADS} components in as many threads one failed with "
                f"{type(found).__name__}: {found}; let components share nothing that changes"
            )
            self._check_told(found, alone[seed], f"{THREADS} components were used at once")

    def test_components_share_nothing(self) -> None:
        """What one component is given leaves no trace in another."""
        alone = [self.told(seed) for seed in (0, 1)]
        mixed: list[list[str]] = [[], []]
        lives = [self._life(self._new(), seed) for seed in (0, 1)]
        for _ in range(max(map(len, alone))):
            for life, told in zip(lives, mixed, strict=True):
                told.extend(text_of(step) for step in [*_next(life)])
        for found, expected in zip(mixed, alone, strict=True):
            self._check_told(
                found, expected, "another component was used in between: keep no globals"
            )

    # Determinism.

    def test_needs_no_clock_and_no_dice(self) -> None:
        """Time comes from `ctx.now_ns`, chance from `ctx.rng()`: so a run can be replayed."""
        expected = self.told()  # also imports whatever is imported on first use
        cls = type(self.make())
        with no_clock_and_no_chance(cls.__module__.partition(".")[0]) as misdeeds:
            try:
                found = self.told()
            except Exception:
                assert not misdeeds, _caught(misdeeds)
                raise
        assert not misdeeds, _caught(misdeeds)
        self._check_told(found, expected, "it was used a second time in the same way")

    def test_hash_seed_makes_no_difference(self) -> None:
        """The order of a set differs from process to process; results must not."""
        expected = self.told()
        for found in told_elsewhere(self):
            self._check_told(
                found, expected,
                "it was in a process with another PYTHONHASHSEED: sort what comes out of a set",
            )  # fmt: skip

    # Memory.

    def test_memory_does_not_grow(self) -> None:
        """After a round nothing is left of it: a Node runs for months."""
        component, growth = self._new(), list[int]()
        tracing = tracemalloc.is_tracing()
        if not tracing:
            tracemalloc.start()
        try:
            size = self._size_after(component, 0)
            while len(growth) < _WINDOWS and min(growth, default=1 << 62) > _TURNS * _NOISE:
                later = self._size_after(component, 1 + len(growth))
                growth.append(later - size)
                size = later
        finally:
            if not tracing:
                tracemalloc.stop()
        assert min(growth) <= _TURNS * _NOISE, (
            f"using the component {_TURNS} more times left {growth} bytes behind, time after time: "
            "drop what belongs to a round, an epoch or a search when it is over"
        )

    # What the tests are made of.

    def _check_told(self, found: list[str], expected: list[str], why: str) -> None:
        for at, text in enumerate(expected):
            self._check_step(found, at, text, why)
        assert len(found) == len(expected), f"its life has {len(found)} steps; {why}"

    def _check_step(self, found: list[str], at: int, expected: str, why: str) -> None:
        assert at < len(found), f"its life ended before step {at + 1}; {why}"
        if found[at] == expected:
            return
        # Who gives something else every time gives it here, too: then that is what to look for.
        first, second = self.told(), self.told()
        if first != second:
            why = _NEVER_TWICE
        told = f"step {at + 1} of its life gave {found[at]} instead of {expected}; {why}"
        raise AssertionError(told)

    def _lead(self, component: Any, seed: int) -> None:
        for _ in self._life(component, seed):
            pass

    def _size_after(self, component: Any, turn: int) -> int:
        for seed in range(turn * _TURNS, (turn + 1) * _TURNS):
            # Large numbers, so that none of them is one that Python keeps for itself.
            self._lead(component, 10_000 + seed)
            self._renew(component)
        gc.collect()
        _forget_names()
        return tracemalloc.get_traced_memory()[0]


def _forget_names() -> None:
    """Clear Python's cache of attributes, which keeps the names that were asked for from C."""
    # There is no public way; that of Python 3.13 comes first, where the other warns.
    known: Mapping[str, Any] = vars(sys)
    (known.get("_clear_internal_caches") or known["_clear_type_cache"])()


def _next(life: Iterator[object]) -> Iterator[object]:
    """Yield the next step, if there is one."""
    try:
        yield next(life)
    except StopIteration:
        return


def _caught(misdeeds: list[Any]) -> str:
    return (
        f"it called {', '.join(map(str, dict.fromkeys(misdeeds)))}: take time from ctx.now_ns, "
        "and draw from ctx.rng() or env.rng() only"
    )
