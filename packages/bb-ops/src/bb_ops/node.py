"""Framework ops that ask the Node: its clock, its identity, and its random draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bb_ir.ids import PeerId
from bb_roles import Context
from bb_runtime.errors import OpError

__all__ = ["choice", "me", "now", "random"]


def now(ctx: Context) -> int:
    """Return the Node's time, in nanoseconds."""
    return ctx.now_ns


def me(ctx: Context) -> tuple[PeerId, ...]:
    """Return this Node's peer, as a list of one."""
    return (ctx.peer,)


def random(ctx: Context, *, how: str, parameters: Any, name: str = "") -> int | float:  # noqa: ARG001  # the name keys the context's draws
    """Return one draw; its key is that of the op's context."""
    first, second = parameters.tolist()
    rng: Any = ctx.rng()
    if how == "integers":
        return int(rng.integers(first, second))
    return float(rng.normal(first, second) if how == "normal" else rng.uniform(first, second))


def choice(ctx: Context, values: Sequence[Any], *, n: int = -1, name: str = "") -> Sequence[Any]:  # noqa: ARG001  # as above
    """Return some items of a list in random order, each at most once; all without `n`.

    Raises:
        OpError: It is no list.
    """
    if not isinstance(values, (list, tuple)):  # pyright: ignore[reportUnnecessaryIsInstance]  # of a program
        raise OpError(f"choice of a {type(values).__name__}", expected="a list, or peers")
    order = ctx.rng().permutation(len(values))[: None if n < 0 else n]
    chosen = [values[at] for at in order]
    return tuple(chosen) if isinstance(values, tuple) else chosen
