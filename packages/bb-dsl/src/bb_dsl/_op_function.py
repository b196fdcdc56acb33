"""Marks the functions by which a plugin's ops are recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from bb_dsl._misuse import missing_graph

__all__ = ["op_function"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def op_function(function: _Function) -> _Function:
    """Mark a function that records ops of a plugin, such as `clip(g, x)`.

    Its first argument is the graph. Errors, and the artifact, name the line that calls it and not
    one of its own.
    """

    @wraps(function)
    def function_of_plugin(*args: Any, **kwargs: Any) -> Any:
        from bb_dsl._graph import Graph

        if not isinstance(args[0] if args else kwargs.get("g"), Graph):
            given = tuple(one for one in args if not isinstance(one, Graph))
            raise missing_graph(function.__name__, given, [name for name in kwargs if name != "g"])
        return function(*args, **kwargs)

    return cast("_Function", function_of_plugin)
