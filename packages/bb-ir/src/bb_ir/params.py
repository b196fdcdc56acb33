"""Parameter sets: named tensors over one contiguous buffer that is a safetensors file.

The same bytes are a model's parameters, an aggregator's operand, the payload of an envelope and a
checkpoint on disk; nothing is copied or encoded between these uses.

The image of a set is, as safetensors defines it, eight bytes with the length of the header (little
endian), the header (JSON), and the data without holes. What is written here keeps two more rules:
spaces pad the header so that the data starts at a multiple of 64 bytes, and tensors of one dtype
lie together, the dtypes with the largest elements first, so that `flat` is one aligned view of all
tensors of a dtype. What is read may break these two rules and no other.

Values are immutable. What a `ParameterSet` hands out is built on a read-only buffer and cannot be
made writable. Writing is done on a `Draft`, and there are two ways:

- `params.writable(pool)` gives a draft in fresh or pooled memory; fill it and call `freeze()`.
- A model that keeps writing its own parameters keeps a draft and lends it out::

      def params(self, ctx):
          return self.draft.lend()  # no copy

      def step(self):
          if self.draft.lent:  # somebody still reads it
              self.draft = self.draft.writable(self.pool, copy=True)
          self.draft.flat("float32")[:] -= ...

This module does no I/O, and it must not import numpy before an array is asked for.

Sources: the safetensors format description (`dtype`, `shape`, `data_offsets`, `__metadata__`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

from bb_ir._layout import MAX_HEADER_BYTES, Layout, bad_header, read_layout
from bb_ir.buffers import allocate, counts_references
from bb_ir.errors import ParameterSetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Buffer

    from bb_ir.buffers import BufferPool

    Image = Buffer | NDArray[np.uint8]

__all__ = ["MAX_HEADER_BYTES", "Draft", "Layout", "ParameterSet"]


@final
class ParameterSet:
    """Named tensors over one contiguous, immutable buffer.

    Make one with `from_tensors` or `from_image`, or by freezing or lending a `Draft`. Sets are
    equal if their images are, byte for byte; they are not hashable, their `digest` is.
    """

    __slots__ = ("_image", "_layout")
    __hash__ = None  # type: ignore[assignment]  # hashing would read the whole data

    def __init__(self, layout: Layout, image: memoryview) -> None:
        # For this module only: the image is read-only and was checked against the layout.
        self._layout = layout
        self._image = image

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, ArrayLike],
        pool: BufferPool | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> ParameterSet:
        """Copy arrays into a new set.

        Tensors are grouped by dtype, those with the largest elements first; within a dtype they
        keep their order.

        Args:
            tensors: Arrays by name; float16, bfloat16, float32, float64, integers or bool.
            pool: Where the memory comes from; `None` allocates it.
            metadata: Free texts to carry in the header.

        Raises:
            ParameterSetError: A name or a dtype cannot stand in a safetensors file, or the tensors
                have no names.
        """
        import numpy as np

        if not hasattr(tensors, "items"):
            raise ParameterSetError(
                f"a {type(tensors).__name__} is given, and tensors need names",
                expected="a mapping of names to arrays",
                fix='such as {"weight": weight, "bias": bias}; all Nodes use the same names',
            )
        arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
        described = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
        draft = Draft(Layout.of(described, metadata=metadata), pool)
        for name, array in arrays.items():
            draft[name][...] = array
        return draft.freeze()

    @classmethod
    def from_image(cls, buffer: Image) -> ParameterSet:
        """Read a set from the bytes of a safetensors file, without copying the data.

        The set refers to the buffer. If that is writable, its owner must not write to it as long
        as the set or a view of it lives.

        Args:
            buffer: `bytes`, a contiguous memoryview, or a numpy array of uint8.

        Raises:
            ParameterSetError: The bytes are not exactly one such file. Nothing is allocated in
                proportion to what a header merely claims.
        """
        image = _as_bytes_view(buffer)
        layout = read_layout(image)
        if layout.nbytes != len(image):
            raise ParameterSetError(
                f"the image has {len(image)} bytes, its header describes {layout.nbytes}",
                expected="data that ends where the last tensor ends",
                fix="pass the whole file and nothing after it",
                where="data",
            )
        if "bool" in layout.runs:
            _check_bools(layout, image)
        return cls(layout, image)

    @property
    def layout(self) -> Layout:
        """Names, dtypes, shapes and places of the tensors."""
        return self._layout

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors, in the order of their data."""
        return self._layout.names

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The different dtypes of the tensors, in the order of their data."""
        return tuple(self._layout.runs)

    @property
    def nbytes(self) -> int:
        """Length of the image."""
        return self._layout.nbytes

    @property
    def count(self) -> int:
        """Number of elements of all tensors."""
        return self._layout.count

    @property
    def image(self) -> memoryview:
        """The whole safetensors file, read-only."""
        return self._image

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a read-only view of one tensor."""
        return self._layout.view(self._image, name)

    def __contains__(self, name: object) -> bool:
        return name in self._layout

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.names)

    def __len__(self) -> int:
        return len(self._layout.names)

    def keys(self) -> tuple[str, ...]:
        """Return the names, in the order of the data; with it `dict(params)` is one of views."""
        return self._layout.names

    def values(self) -> Iterator[NDArray[Any]]:
        """Yield read-only views of the tensors, in the order of the data."""
        return (self[name] for name in self._layout.names)

    def items(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield names and read-only views, in the order of the data."""
        return ((name, self[name]) for name in self._layout.names)

    def flat(self, dtype: str = "float32") -> NDArray[Any]:
        """Return a read-only view of all tensors of a dtype as one vector; empty if there are none.

        Raises:
            ParameterSetError: The image comes from elsewhere, and its tensors of this dtype do
                not lie together.
        """
        return self._layout.flat(self._image, dtype)

    def writable(self, pool: BufferPool | None = None, *, copy: bool = False) -> Draft:
        """Return a draft with the same layout in other memory.

        Args:
            pool: Where the memory comes from; `None` allocates it.
            copy: Whether to begin with these values; else the data is arbitrary.
        """
        return Draft(self._layout, pool, self._image if copy else None)

    def to_bytes(self) -> bytes:
        """Return a copy of the image."""
        return bytes(self._image)

    def digest(self) -> str:
        """Return the SHA-256 of the image as hexadecimal digits."""
        import hashlib

        return hashlib.sha256(self._image).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParameterSet):
            return NotImplemented
        if self._layout != other._layout:
            return False
        import numpy as np

        ours, theirs = np.asarray(self._image), np.asarray(other._image)
        return bool(np.array_equal(ours, theirs))

    def __copy__(self) -> ParameterSet:
        return self

    def __deepcopy__(self, memo: object) -> ParameterSet:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (ParameterSet.from_image, (self.to_bytes(),))

    def __repr__(self) -> str:
        return f"<ParameterSet of {len(self)} tensors, {self.count} elements, {self.nbytes} bytes>"


@final
class Draft:
    """A parameter set that is being written. Make one with `writable`, or from a layout.

    `draft["name"]` and `draft.flat(dtype)` are writable views. `freeze` ends the writing; `lend`
    lets others read while the owner keeps the draft.

    Args:
        layout: The tensors it holds.
        pool: Where the memory comes from; `None` allocates it.
        values: An image of this layout to begin with; else the data is arbitrary.
    """

    __slots__ = ("_buffer", "_frozen", "_idle", "_layout", "_loan", "_views")

    def __init__(
        self,
        layout: Layout,
        pool: BufferPool | None = None,
        values: memoryview | None = None,
    ) -> None:
        import numpy as np

        self._layout = layout
        self._buffer = allocate(layout.nbytes, pool)
        known = layout.header if values is None else values
        self._buffer[: len(known)] = np.frombuffer(known, np.uint8)
        self._views: dict[str, NDArray[Any]] = {}
        self._frozen: ParameterSet | None = None
        # What is lent hangs on an array of its own, so that counting its references tells
        # whether anybody reads; `_idle` is their number when nobody does.
        self._loan: NDArray[np.uint8] | None = None
        self._idle = 0

    @property
    def layout(self) -> Layout:
        """Names, dtypes, shapes and places of the tensors."""
        return self._layout

    @property
    def lent(self) -> bool:
        """Whether somebody may be reading: the owner must not write before this is false.

        It becomes false again when the lent set and all views of it are gone. Where references
        are not counted it stays true after the first loan.
        """
        if self._frozen is not None:
            return True
        if self._loan is None:
            return False
        return not counts_references() or sys.getrefcount(self._loan) > self._idle

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return the view of one tensor."""
        return self._remember(f"tensor {name}", lambda: self._layout.view(self._buffer, name))

    def flat(self, dtype: str = "float32") -> NDArray[Any]:
        """Return the view of all tensors of a dtype as one vector; empty if there are none.

        Raises:
            ParameterSetError: The layout comes from elsewhere, and its tensors of this dtype do
                not lie together.
        """
        return self._remember(f"flat {dtype}", lambda: self._layout.flat(self._buffer, dtype))

    def lend(self) -> ParameterSet:
        """Return the present values, without copying them; see `lent` before writing again."""
        if self._frozen is not None:
            return self._frozen
        if self._loan is None:
            self._loan = self._buffer[:]
            self._idle = sys.getrefcount(self._loan)
        return ParameterSet(self._layout, _read_only(self._loan))

    def freeze(self) -> ParameterSet:
        """Return the set and end the writing: views that this draft gave out become read-only.

        A part that was cut out of such a view before stays writable; whoever cut it must not
        write to it any more.
        """
        if self._frozen is None:
            self._frozen = ParameterSet(self._layout, _read_only(self._buffer))
            for view in self._views.values():
                view.flags.writeable = False
            self._views.clear()
        return self._frozen

    def writable(self, pool: BufferPool | None = None, *, copy: bool = False) -> Draft:
        """Return another draft with the same layout in other memory.

        Args:
            pool: Where the memory comes from; `None` allocates it.
            copy: Whether to begin with these values; else the data is arbitrary.
        """
        return Draft(self._layout, pool, _read_only(self._buffer) if copy else None)

    def __repr__(self) -> str:
        state = "frozen" if self._frozen is not None else "lent" if self.lent else "open"
        return f"<Draft of {len(self._layout.names)} tensors, {state}>"

    def _remember(self, key: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the view that was given out before, so that `freeze` can close it."""
        view = self._views.get(key)
        if view is None:
            view = make()
            if self._frozen is not None:
                view.flags.writeable = False
            else:
                self._views[key] = view
        return view


def _read_only(buffer: Any) -> memoryview:
    return memoryview(buffer).toreadonly()


def _as_bytes_view(buffer: Image) -> memoryview:
    given: Any = buffer  # numpy's stubs declare the buffer protocol from Python 3.12 only
    try:
        view = memoryview(given)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
    except (TypeError, ValueError, BufferError) as error:
        raise ParameterSetError(
            f"an image was given as {type(buffer).__name__}: {error}",
            expected="bytes, a contiguous memoryview, or a numpy array of uint8",
            fix="pass ParameterSet.image, or the bytes of a safetensors file",
        ) from error
    if not view.c_contiguous:
        raise ParameterSetError(
            "the bytes of an image do not lie together in memory",
            expected="a contiguous buffer",
            fix="copy it with bytes(...) first",
        )
    return view.toreadonly()


def _check_bools(layout: Layout, image: memoryview) -> None:
    import numpy as np

    for name, dtype in zip(layout.names, layout.dtypes, strict=True):
        if dtype == "bool" and np.any(layout.view(image, name).view(np.uint8) > 1):
            bad_header("it is of dtype BOOL and holds bytes other than 0 and 1", f"tensor {name!r}")
