"""What a Node holds, as a component saves it: written down, and read and checked again.

Values are written as vectors of float64, which hold them exactly. Nothing else knows this format.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bb_ir.buffers import BufferPool
from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_protocol_gossip._accounts import Accounts, Open, Seen
from bb_protocol_gossip._values import Form, Vector
from bb_protocol_gossip.errors import StateMismatch
from bb_roles import State

__all__ = ["Held", "read", "written"]

#: Form, sum, weight and accounts.
Held = tuple[Form | None, Vector, float, Accounts]

_OWN = "of this Node"


def written(form: Form | None, held: Vector, weight: float, accounts: Accounts) -> State:
    """Return the state."""
    if form is None:
        return State(data={"form": None, "sequence": 0, "again": False})
    tensors = {"sum": held}
    opened: list[Any] = []
    seen: list[Any] = []
    for peer, one in accounts.opened.items():
        tensors[f"opened.{len(opened)}"] = form.unpack(one.value, _OWN)
        opened.append([str(peer), one.sequence, one.weight])
    for peer, last in accounts.seen.items():
        if last.answer is not None:
            tensors[f"answer.{len(seen)}"] = form.unpack(last.answer, _OWN)
        seen.append([str(peer), last.sequence])
    data = {
        "form": form.to_data(),
        "weight": weight,
        "sequence": accounts.sequence,
        "again": accounts.again,
        "opened": opened,
        "seen": seen,
    }
    return State(tensors=tensors, data=data)


def read(state: State, room: int, pool: BufferPool | None) -> Held:
    """Return what was written.

    Raises:
        StateMismatch: It is damaged, or of another component.
    """
    try:
        return _read(state, room, pool)
    except (BytesAndBrainsError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise StateMismatch(
            f"this is no state of gossip: {type(error).__name__}: {error}",
            expected="what save() returned",
        ) from error


def _read(state: State, room: int, pool: BufferPool | None) -> Held:
    data = state.data
    accounts = Accounts(room, int(data["sequence"]), again=data["again"] is True)
    if data["form"] is None:
        return None, np.zeros(0, np.float64), 0.0, accounts
    form = Form.from_data(data["form"])
    for at, (text, sequence, share) in enumerate(data["opened"]):
        value = form.pack(_vector(state, f"opened.{at}", form), pool)
        accounts.opened[PeerId.parse(text)] = Open(int(sequence), float(share), value)
    for at, (text, sequence) in enumerate(data["seen"]):
        name = f"answer.{at}"
        answer = form.pack(_vector(state, name, form), pool) if name in state.tensors else None
        accounts.seen[PeerId.parse(text)] = Seen(int(sequence), answer)
    weight = float(data["weight"])
    if not 0 < weight < math.inf:
        raise ValueError(f"{weight!r} is no weight")
    return form, _vector(state, "sum", form), weight, accounts


def _vector(state: State, name: str, form: Form) -> Vector:
    found = np.array(state.tensors[name], np.float64)
    if found.shape != (form.size,) or not np.isfinite(found).all():
        raise ValueError(f"{name!r} is not {form.size} finite numbers")
    return found
