"""The tensors of a module that are exchanged, in one buffer per dtype.

On the CPU the module's tensors lie in the buffer of a `Draft`: parameters are lent without a copy,
and when somebody still reads them the next change is made to a copy, to which the module's tensors
then point. On a GPU they lie in memory of its own, and are copied when they are asked for, once as
long as they stay as they are.

What is loaded is borrowed: it is kept as it came, for whoever asks for the parameters next, and
copied once the module needs it. So the module never sees memory of somebody else, to which it
could write: PyTorch knows no read-only tensors.

Every method but `params` and `load` is called before the module computes or changes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from bb_ir.buffers import BufferPool
from bb_ir.errors import ParameterSetError
from bb_ir.params import Draft, Layout, ParameterSet
from bb_model_torch._arrays import copied, dtype_name, over
from bb_model_torch._config import Exchange
from bb_model_torch.errors import TorchError

__all__ = ["Memory", "exchanged", "layout_of", "others"]

Tensors = Mapping[str, torch.Tensor]


def exchanged(module: nn.Module, exchange: Exchange) -> dict[str, torch.Tensor]:
    """Return the tensors of a module that are sent and averaged, by name.

    A tensor that the module has under several names is there once, under the first. Buffers of
    whole numbers are counts, of which no average makes sense, and those that PyTorch leaves out of
    a `state_dict` follow from the configuration: both stay where they are.
    """
    found: dict[str, torch.Tensor] = {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad or exchange != "trainable"
    }
    if exchange != "all":
        return found
    stored = module.state_dict(keep_vars=True)
    buffers = dict(module.named_buffers())
    return found | {n: b for n, b in buffers.items() if n in stored and b.is_floating_point()}


def others(module: nn.Module, held: Tensors) -> dict[str, torch.Tensor]:
    """Return all tensors of a module that are not exchanged."""
    found: dict[str, torch.Tensor] = {**dict(module.named_parameters())}
    found |= dict(module.named_buffers())
    return {name: tensor for name, tensor in found.items() if name not in held}


def layout_of(tensors: Tensors) -> Layout:
    """Return how tensors are laid out.

    Raises:
        TorchError: They have a dtype or a name that parameters cannot have.
    """
    lazy = [n for n, t in tensors.items() if nn.parameter.is_lazy(t)]
    if lazy:
        raise TorchError(
            f"the shape of {lazy[0]!r} is not known before the first batch",
            expected="a module that knows the shapes of its parameters when it is built",
            fix="give the sizes: Linear instead of LazyLinear",
        )
    try:
        return Layout.of({n: (dtype_name(t.dtype), tuple(t.shape)) for n, t in tensors.items()})
    except ParameterSetError as error:
        raise TorchError(
            f"the module's tensors cannot be sent: {error.found}",
            expected=error.expected,
            fix="exchange trainable parameters only, or give the tensor another dtype",
        ) from error


class Memory:
    """Owns the memory of the tensors that are exchanged, lends it and fills it.

    Args:
        tensors: They point into it from now on.
        device: Where they are.
        pool: Where buffers on the CPU come from.
    """

    def __init__(self, tensors: Tensors, device: torch.device, pool: BufferPool | None) -> None:
        self.layout = layout_of(tensors)
        self._tensors = tensors
        self._pool = pool
        self._draft: Draft | None = None
        #: A set that is equal to the present values; somebody else may hold it too.
        self._held: ParameterSet | None = None
        #: Whether the module's tensors have yet to get the values of `_held`.
        self._stale = False
        before = {name: tensor.detach() for name, tensor in tensors.items()}
        if device.type == "cpu":
            self._point_to(Draft(self.layout, pool))
        with torch.no_grad():
            for name, tensor in before.items():
                tensors[name].copy_(tensor)

    def params(self) -> ParameterSet:
        """Return the present values; they never change."""
        if self._held is not None:
            return self._held
        if self._draft is not None:
            return self._draft.lend()
        draft = Draft(self.layout, self._pool)
        for name, tensor in self._tensors.items():
            over(draft[name]).copy_(tensor.detach())
        self._held = draft.freeze()
        return self._held

    def load(self, params: ParameterSet) -> None:
        """Borrow values, in this layout; the module gets them when it needs them."""
        self._held, self._stale = params, True

    def read(self) -> None:
        """See to it that the module's tensors have the present values."""
        held = self._held
        if not self._stale or held is None:
            return
        if self._draft is not None:
            self._fill(held)
        else:
            for name, tensor in self._tensors.items():
                tensor.data.copy_(over(held[name].copy()))
        self._stale = False

    def write(self) -> None:
        """See to it that the module's tensors may be changed: nobody else reads their memory."""
        self.read()
        self._held = None
        if self._draft is not None and self._draft.lent:
            self._point_to(self._draft.writable(self._pool, copy=True))

    def add(self, delta: ParameterSet) -> None:
        """Add differences, in this layout."""
        self.write()
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.add_(over(delta[name].copy()).to(tensor.device))

    def fitting(self, params: ParameterSet) -> ParameterSet:
        """Return a set in this layout; one that is only written differently is copied.

        Raises:
            TorchError: Names, shapes or dtypes are not those of the module.
        """
        if params.layout == self.layout:
            return params
        if _entries(params.layout) == _entries(self.layout):
            return ParameterSet.from_tensors({name: params[name] for name in self._tensors})
        raise TorchError(
            f"the parameters are {params.layout.type}",
            expected=str(self.layout.type),
            fix="give both models the same module with the same arguments, the same dtype and "
            "the same exchange",
        )

    def copy(self) -> ParameterSet:
        """Return the present values in memory that nobody else has."""
        if self._held is not None:
            return self._held.writable(copy=True).freeze()
        return ParameterSet.from_tensors({n: copied(t) for n, t in self._tensors.items()})

    def _fill(self, held: ParameterSet) -> None:
        """Copy values into our draft, or into a fresh one where that is lent."""
        if self._draft is None or self._draft.lent:
            self._point_to(Draft(self.layout, self._pool, held.image))
            return
        for dtype in held.dtypes:
            self._draft.flat(dtype)[...] = held.flat(dtype)

    def _point_to(self, draft: Draft) -> None:
        self._draft = draft
        for name, tensor in self._tensors.items():
            # Not `set_`: the optimizer and the module go on with the same tensor objects.
            tensor.data = over(draft[name])


def _entries(layout: Layout) -> dict[str, tuple[str, tuple[int, ...]]]:
    return dict(zip(layout.names, zip(layout.dtypes, layout.shapes, strict=True), strict=True))
