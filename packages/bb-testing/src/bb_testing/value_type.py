"""The contract of types of values that plugins add, as tests.

Values travel as they do between Nodes: encoded and decoded by `bb_ir.values`, alone and within
lists and records. The kit does not know what a value is; it works on samples of it.
"""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.errors import WireError
from bb_ir.types import custom, list_of, record, scalar
from bb_ir.values import Codecs, ValueCodec, decode_value, encode_value
from bb_roles import TypeSpec
from bb_roles.registry import import_named, value_codec
from bb_testing._base import Suite, kit_settings
from bb_testing.strategies import damaged

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TypeSuite"]

#: What decoding may allocate: so much for each byte, and so much besides.
_PER_BYTE = 64
_BESIDES = 1 << 20


class TypeSuite(Suite):
    """Inherit it in a class named `Test...`, write `spec` and `sample`.

    Values are compared with `==`; where that says nothing, as for classes without `__eq__`, write
    `same` too.
    """

    def spec(self) -> TypeSpec:
        """Return the declaration of the type: what its hook `bb_type` returns."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def spec(self)`")

    def sample(self, rng: np.random.Generator) -> Any:
        """Return a value drawn from `rng`; the same draws give equal values."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def sample(self, rng)`")

    def same(self, a: Any, b: Any) -> bool:
        """Return whether two values are equal."""
        return bool(a == b)

    def test_declaration_fits(self) -> None:
        """Name, class and codec are what a Node needs to install it."""
        spec = self.spec()
        assert isinstance(spec, TypeSpec), f"spec() returned a {type(spec).__name__}"
        assert custom(spec.name).of, "TypeSpec.name is empty"
        assert value_codec(spec).max_bytes == spec.max_bytes

    @kit_settings
    @given(seed=st.integers(0, 1 << 16))
    def test_samples_come_back(self, seed: int) -> None:
        """A value is the same after the journey, alone, in a list and in a record."""
        value = self._sample(seed)
        one = custom(self.spec().name)
        assert self._codec().accepts(value), (
            f"sample() gave a {type(value).__name__}, which the type does not take for a value"
        )
        assert self.same(self._there_and_back(value, one), value), "another value came back"
        declared = record({"n": scalar("int64"), "all": list_of(one)})
        back = self._there_and_back({"n": 1, "all": [value, value]}, declared)
        assert all(self.same(found, value) for found in back["all"]), (
            "another value came back from a list"
        )

    @kit_settings
    @given(seed=st.integers(0, 1 << 16))
    def test_same_value_gives_the_same_bytes(self, seed: int) -> None:
        """Neither the object, nor what was encoded before, nor a journey changes the bytes."""
        first, second = self._encode(self._sample(seed)), self._encode(self._sample(seed))
        assert first == second, "equal values gave different bytes"
        back = self._decode(first)
        assert self._encode(back) == first, "a value that came back gave other bytes"

    def test_bytes_do_not_name_the_class(self) -> None:
        """What travels is free of Python: the class may be renamed, and nothing is pickled."""
        spec, data = self.spec(), self._encode(self._sample(0))
        cls = import_named(spec.cls, spec.name)
        for name in (cls.__module__, cls.__qualname__):
            assert name.encode() not in data, (
                f"the bytes hold {name!r}; write what the value is, and never pickle it"
            )

    @pytest.mark.parametrize("other", [None, 0, "text", b"", object()], ids=type)
    def test_any_object_is_taken_or_refused(self, other: object) -> None:
        """Whatever is handed in, the type says whether it is a value, and raises nothing."""
        try:
            self._codec().accepts(other)
        except Exception as error:
            raise AssertionError(
                f"is_instance raised {error!r} for a {type(other).__name__}; return False"
            ) from error

    @kit_settings
    @given(seed=st.integers(0, 1 << 16), data=st.data())
    def test_damaged_bytes_are_a_value_or_raise(self, seed: int, data: st.DataObject) -> None:
        """Bytes from anybody give a value that can be used, or raise, and cost little memory."""
        whole = st.just(self._encode(self._sample(seed)))
        broken = data.draw(damaged(whole, mend=False))[: self.spec().max_bytes]
        tracemalloc.start()
        try:
            found = self._decode(broken)
        except WireError:
            return
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            limit = _PER_BYTE * len(broken) + _BESIDES
            assert peak <= limit, f"decoding {len(broken)} bytes allocated {peak}"
        try:
            self._encode(found)
        except WireError as error:
            raise AssertionError(
                f"decode made a value of {broken[:40]!r}... that cannot be encoded: {error}"
            ) from error

    # Helpers

    def _codec(self) -> ValueCodec:
        return value_codec(self.spec())

    def _codecs(self) -> Codecs:
        return {self.spec().name: self._codec()}

    def _sample(self, seed: int) -> Any:
        import numpy as np

        return self.sample(np.random.default_rng(seed))

    def _encode(self, value: Any) -> bytes:
        return bytes(encode_value(value, custom(self.spec().name), self._codecs()).data)

    def _decode(self, data: bytes) -> Any:
        return decode_value(custom(self.spec().name), 0, data, (), self._codecs())

    def _there_and_back(self, value: Any, declared: Any) -> Any:
        data = bytes(encode_value(value, declared, self._codecs()).data)
        return decode_value(declared, 0, data, (), self._codecs())
