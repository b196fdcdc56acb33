"""What every suite asks of components that defer fails where one is broken, and only there."""

import pytest

from bb_testing._base import ConformanceSuite
from bb_testing.context import FakeContext

pytest_plugins = ["pytester"]

GOOD = '''
import numpy as np

from bb_roles import Index, State
from bb_testing._base import ConformanceSuite
from bb_testing.context import FakeContext, environment

class Good(Index):
    """Doubles what it is given, and keeps a sum of it."""

    defers = ("add", "search")

    def __init__(self):
        super().__init__(None, environment())
        self.sum = np.zeros(2)

    def add(self, ctx, vectors):
        def commit(found):
            self.sum = self.sum + found.sum(axis=0)
            return np.arange(len(found))
        return ctx.defer(lambda: vectors * 2, commit=commit)

    def search(self, ctx, queries, *, k=10):
        now = self.sum
        return ctx.defer(lambda: (queries + now, now))

    def remove(self, ctx, ids):
        pass

    def save(self):
        return State({"sum": self.sum.copy()}, {"calls": getattr(self, "calls", 0)})

class Suite(ConformanceSuite):
    def make(self):
        return self.component()

    def deferred_calls(self):
        index, vectors = self.make(), np.ones((3, 2))
        return {
            "add": (index, lambda ctx: index.add(ctx, vectors)),
            "search": (index, lambda ctx: index.search(ctx, vectors)),
        }

class TestGood(Suite):
    component = Good
'''

BROKEN = {
    "is no collection of names": (
        "test_methods_that_defer_are_declared",
        'defers = "search"',
    ),
    "declares no method": (
        "test_methods_that_defer_are_declared",
        'defers = ("add", "search", "fly")',
    ),
    "does not declare one": (
        "test_methods_that_defer_are_declared",
        'defers = ("add",)',
    ),
    "does not return what it deferred": (
        "test_methods_that_defer_are_declared",
        """
    def search(self, ctx, queries, *, k=10):
        super().search(ctx, queries)
""",
    ),
    "never defers": (
        "test_methods_that_defer_are_declared",
        """
    def search(self, ctx, queries, *, k=10):
        return queries, self.sum
""",
    ),
    "changes itself in its work": (
        "test_work_changes_nothing_before_its_commit",
        """
    def add(self, ctx, vectors):
        def work():
            self.sum = self.sum + 1
            return vectors
        return ctx.defer(work)
""",
    ),
    "changes itself before its work": (
        "test_work_changes_nothing_before_its_commit",
        """
    def add(self, ctx, vectors):
        self.calls = 1
        return super().add(ctx, vectors)
""",
    ),
    "gives something else in another thread": (
        "test_deferred_work_gives_what_waiting_for_it_gives",
        """
    def search(self, ctx, queries, *, k=10):
        if ctx.keeps:
            return ctx.defer(lambda: (queries, queries))
        return ctx.defer(lambda: (queries * 3, queries))
""",
    ),
    "commits something else": (
        "test_deferred_work_gives_what_waiting_for_it_gives",
        """
    def add(self, ctx, vectors):
        if not ctx.keeps:
            return super().add(ctx, vectors)
        return ctx.defer(lambda: np.arange(len(vectors)))
""",
    ),
}


def test_the_suite_fails_on_broken_components_and_on_no_other(bites, tests_of):
    parts = [GOOD]
    for at, (_, source) in enumerate(BROKEN.values(), 1):
        parts.append(f"class Broken{at}(Good):\n    {source.strip()}\n")
        parts.append(f"class Test{at}(Suite):\n    component = Broken{at}\n")

    bites("\n".join(parts), [(test, why) for why, (test, _) in BROKEN.items()])

    named = {test for test, _ in BROKEN.values()}
    others = {"test_make_is_a_factory", "test_state_is_tensors_and_plain_data"}
    assert named == tests_of(ConformanceSuite) - others


def test_a_fake_context_does_work_at_once_or_keeps_it():
    assert FakeContext().defer(lambda x: x + 1, 1, commit=lambda y: y * 10) == 20

    context = FakeContext(keeps=True)
    work = context.defer(lambda x: x + 1, 1, commit=lambda y: y * 10)
    assert context.works == [work]
    with pytest.raises(AssertionError, match="has not been done"):
        work.result()
    work.run()
    assert work.result() == 20


def test_failures_of_kept_work_are_raised_where_its_result_is_asked_for():
    work = FakeContext(keeps=True).defer(lambda: 1 // 0)
    work.run()
    with pytest.raises(ZeroDivisionError):
        work.result()


def test_a_fake_device_completes_once():
    handle = FakeContext().external(commit=lambda value: -value)
    with pytest.raises(AssertionError, match="a device does this work"):
        handle.run()
    handle.complete(1)
    handle.fail(OSError("too late"))
    handle.complete(2)
    assert handle.result() == -1
