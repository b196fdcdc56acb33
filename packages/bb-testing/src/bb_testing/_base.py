"""What all conformance suites share.

A suite is a class of tests. An author inherits it, writes `make`, and runs pytest. Suites call
the component as the engine does and look at what comes back; they never look inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings

from bb_roles import Component, State

__all__ = ["ConformanceSuite", "kit_settings"]

_PACKAGE = __name__.partition(".")[0]

#: Settings of the kit's own properties: one inherited test runs in many classes, and a component
#: may well be slow. The number of examples is left to the profile that is loaded when this module
#: is imported.
kit_settings = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class ConformanceSuite:
    """The base of every suite; a suite counts only when none of its tests is quietly replaced.

    Write `make`. What the component truly cannot do is said where everybody sees it: override the
    test and mark it `@pytest.mark.xfail(reason=...)`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "test_suite_is_whole" in vars(cls):
            raise TypeError(f"{cls.__qualname__} may not override test_suite_is_whole")

    def make(self) -> Component:
        """Return a fresh component, equal to every other that this method returns."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def test_suite_is_whole(self) -> None:
        """An inherited test may be overridden only with xfail and a reason."""
        replaced = [name for name in dir(type(self)) if _is_silently_replaced(type(self), name)]
        assert not replaced, (
            f"{type(self).__qualname__} overrides {', '.join(replaced)}: give the tests other "
            "names, or mark them @pytest.mark.xfail(reason=...) to say what is not conformant"
        )

    def test_make_is_a_factory(self) -> None:
        """The kit may change what `make` returns, so each call gives another object."""
        first, second = self.make(), self.make()
        assert isinstance(first, Component), (
            f"make() returned a {type(first).__name__}; a component inherits a contract of bb_roles"
        )
        assert first is not second, "make() returned one object twice; build a new one each time"

    def test_state_is_tensors_and_plain_data(self) -> None:
        """What a fresh component saves can be written down and be read elsewhere."""
        check_state(self.make().save())


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
