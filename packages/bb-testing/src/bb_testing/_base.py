"""What all conformance suites share.

A suite is a class of tests. An author inherits it, writes `make`, and runs pytest. Suites call
the component as the engine does and look at what comes back; they never look inside it.
"""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings

from bb_ir.params import ParameterSet
from bb_roles import Component, Context, State
from bb_testing.context import FakeContext

__all__ = [
    "ConformanceSuite",
    "Suite",
    "bits_of",
    "check_bits",
    "check_released",
    "check_state",
    "kit_settings",
    "read_only",
    "refusal",
    "text_of",
]

#: Numbers of an array that a text shows.
_SHOWN = 4
_PACKAGE = __name__.partition(".")[0]

#: Settings of the kit's own properties: one inherited test runs in many classes, and a component
#: may well be slow. The number of examples is left to the profile that is loaded when this module
#: is imported.
kit_settings = settings(
    deadline=None,
    # The last phase, which marks what may vary and lists lines that only failing cases run, says
    # more about the kit than about a component, and takes longest.
    phases=[phase for phase in settings().phases if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class Suite:
    """The base of every suite; a suite counts only when none of its tests is quietly replaced.

    What is truly not conformant is said where everybody sees it: override the test and mark it
    `@pytest.mark.xfail(reason=...)`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "test_suite_is_whole" in vars(cls):
            raise TypeError(f"{cls.__qualname__} may not override test_suite_is_whole")

    def test_suite_is_whole(self) -> None:
        """An inherited test may be overridden only with xfail and a reason."""
        replaced = [name for name in dir(type(self)) if _is_silently_replaced(type(self), name)]
        assert not replaced, (
            f"{type(self).__qualname__} overrides {', '.join(replaced)}: give the tests other "
            "names, or mark them @pytest.mark.xfail(reason=...) to say what is not conformant"
        )


class ConformanceSuite(Suite):
    """The base of the suites of components; write `make`."""

    def make(self) -> Component:
        """Return a fresh component, equal to every other that this method returns."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def test_make_is_a_factory(self) -> None:
        """The kit may change what `make` returns, so each call gives another object."""
        first, second = self.make(), self.make()
        assert isinstance(first, Component), (
            f"make() returned a {type(first).__name__}; a component inherits a contract of bb_roles"
        )
        assert first is not second, "make() returned one object twice; build a new one each time"

    def deferred_calls(self) -> Mapping[str, tuple[Component, Callable[[Context], Any]]]:
        """Return a call that defers its work for each method in the component's `defers`.

        Each is a component that is ready for the call, equal every time this is called, and a
        function that makes it: `{"search": (index, lambda ctx: index.search(ctx, queries))}`.
        Components that defer nothing leave it as it is.
        """
        return {}

    def test_methods_that_defer_are_declared(self) -> None:
        """`defers` names methods, and each of them returns the one piece of work that it defers."""
        cls = type(self.make())
        declared: object = cls.defers
        assert not isinstance(declared, str), f"write defers = ({declared!r},): a tuple of names"
        for name in cls.defers:
            assert callable(getattr(cls, name, None)), f"defers names {name!r}, which is no method"
        calls = self.deferred_calls()
        assert set(calls) == set(cls.defers), (
            f"the component declares defers = {tuple(cls.defers)} and deferred_calls() has "
            f"{tuple(calls)}: give a call that defers for each"
        )
        for name, (_, call) in calls.items():
            context = FakeContext(keeps=True)
            result = call(context)
            assert len(context.works) == 1, (
                f"the call of {name}() deferred {len(context.works)} pieces of work instead of one"
            )
            assert result is context.works[0], (
                f"{name}() returned a {type(result).__name__}: return what ctx.defer() gives"
            )

    def test_work_changes_nothing_before_its_commit(self) -> None:
        """Work that is cancelled, before or after it was done, leaves no trace."""
        for name in self.deferred_calls():
            component, call = self.deferred_calls()[name]
            before, context = bits_of(component.save()), FakeContext(keeps=True)
            call(context)
            assert bits_of(component.save()) == before, (
                f"{name}() changed what save() returns before its work was done: change the "
                "component in `commit` only"
            )
            _do(context)
            assert bits_of(component.save()) == before, (
                f"the work of {name}() changed what save() returns: it runs in another thread and "
                "may be unwanted when it is done; change the component in `commit` only"
            )

    def test_deferred_work_gives_what_waiting_for_it_gives(self) -> None:
        """Where and when work is done makes no difference to results and state."""
        for name in self.deferred_calls():
            component, call = self.deferred_calls()[name]
            context = FakeContext(keeps=True)
            call(context)
            call(again := FakeContext(keeps=True))  # as when its Node is stopped, and goes on
            assert len(again.works) == 1, f"{name}() did not defer when it was called a second time"
            _do(context)
            later = context.works[0].result()
            fresh, at_once = self.deferred_calls()[name]
            now = at_once(FakeContext())
            assert bits_of(later) == bits_of(now), (
                f"{name}() gave another result when its work was done later"
            )
            assert bits_of(component.save()) == bits_of(fresh.save()), (
                f"after {name}() the state differs when its work was done later"
            )

    def test_state_is_tensors_and_plain_data(self) -> None:
        """What a fresh component saves can be written down and be read elsewhere."""
        check_state(self.make().save())


def _do(context: FakeContext) -> None:
    """Do the work that a call deferred; what a device would do is left to the suite's author."""
    for work in context.works:
        if not work.done:
            work.run()


def bits_of(value: object) -> object:
    """Return what tells values apart: arrays by their bits, other data by its parts."""
    import numpy as np

    if isinstance(value, State):
        return bits_of(dict(value.tensors)), bits_of(dict(value.data))
    if isinstance(value, ParameterSet):
        return {name: bits_of(value[name]) for name in value}
    if isinstance(value, np.ndarray):
        array = cast("Any", value)
        return str(array.dtype), array.shape, array.tobytes()
    if isinstance(value, Mapping):
        return {k: bits_of(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [bits_of(one) for one in cast("list[object]", value)]
    return value


def read_only(value: Any) -> Any:
    """Return a value whose arrays can only be read, as those that a Node gives to its ops."""
    import numpy as np

    if isinstance(value, np.ndarray):
        view = cast("Any", value).view()
        view.flags.writeable = False
        return view
    if isinstance(value, Mapping):
        return {k: read_only(v) for k, v in cast("Mapping[object, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        items = [read_only(one) for one in cast("list[Any]", value)]
        return items if isinstance(value, list) else tuple(items)
    return value


def text_of(value: object) -> str:
    """Return a text that is the same for the same bits, in any process; short for long values."""
    text = _plain(value)
    if len(text) <= 160:
        return text
    return f"{text[:80]}...#{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _plain(value: object) -> str:
    import numpy as np

    if isinstance(value, State):
        value = [dict(value.tensors), dict(value.data)]
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    if isinstance(value, ParameterSet):
        value = dict(value.items())
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return "{" + ", ".join(f"{_plain(k)}: {_plain(v)}" for k, v in pairs) + "}"
    if isinstance(value, list | tuple):
        items = cast("list[object]", value)
        return f"[{', '.join(map(_plain, items))}]"
    text = repr(value)
    # An object that says nothing of itself but where it lies.
    return type(value).__name__ if f"0x{id(value):x}" in text.lower() else text


def _plain_array(array: Any) -> str:
    """Return what an array is, its first numbers, and the beginning of a digest of its bits."""
    shown = ", ".join(map(str, array.reshape(-1)[:_SHOWN].tolist()))
    more = ", ..." if array.size > _SHOWN else ""
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:12]
    return f"{array.dtype}{[*array.shape]} of {shown}{more} #{digest}"


def check_bits(found: object, expected: object, what: str) -> None:
    """Assert that two values are the same to the last bit."""
    assert bits_of(found) == bits_of(expected), f"{what} is another one"


@contextmanager
def refusal(what: str) -> Generator[list[ValueError]]:
    """Assert that something is refused with a `ValueError`, and give that in a list of one.

    Args:
        what: What is refused, as the beginning of a sentence.
    """
    caught: list[ValueError] = []
    try:
        yield caught
    except ValueError as error:
        caught.append(error)
    except Exception as error:
        raise AssertionError(
            f"{what} ended in {type(error).__name__}: {error}; look at what is given first, and "
            "raise ValueError"
        ) from error
    else:
        raise AssertionError(f"{what} was no error; raise ValueError")


def check_released(refs: Iterable[weakref.ref[Any]], what: str) -> None:
    """Assert that nobody refers any more to what some weak references are of."""
    refs = list(refs)
    if any(ref() is not None for ref in refs):
        gc.collect()
    kept = sum(ref() is not None for ref in refs)
    assert not kept, f"{kept} of {what}: memory that is kept cannot be used for the next ones"


def check_state(state: State) -> None:
    """Assert that a state can be stored: arrays by name, and data of plain types."""
    import numpy as np

    assert isinstance(state, State), f"save() returned a {type(state).__name__}, not a State"
    for name, tensor in state.tensors.items():
        assert isinstance(name, str), f"State.tensors has the key {name!r}; keys are texts"
        assert isinstance(tensor, np.ndarray), f"State.tensors[{name!r}] is not a numpy array"
        assert not tensor.dtype.hasobject, f"State.tensors[{name!r}] holds Python objects"
    _check_plain(state.data, "State.data")


def _check_plain(value: object, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[object, object]", value).items():
            assert isinstance(key, str), f"{where} has the key {key!r}; keys are texts"
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for at, item in enumerate(cast("list[object]", value)):
            _check_plain(item, f"{where}[{at}]")
    else:
        plain = value is None or type(value) in (bool, int, float, str)
        assert plain, (
            f"{where} is a {type(value).__name__}; state holds numbers, texts, lists and "
            "dicts, and arrays go into State.tensors"
        )


def _is_silently_replaced(cls: type, name: str) -> bool:
    if not name.startswith("test_"):
        return False
    owners = [c for c in cls.__mro__ if name in vars(c)]
    ours = [c for c in owners if c.__module__.partition(".")[0] == _PACKAGE]
    if not ours or owners[0] in ours:
        return False
    marks: list[pytest.Mark] = getattr(vars(owners[0])[name], "pytestmark", [])
    return not any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
