"""The contract of the codec role, as tests.

The kit does not know what a codec takes; it works on samples of it. It looks into parameter sets,
arrays, and lists and dictionaries of them, and compares all else with `==`.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.params import ParameterSet
from bb_roles import Codec
from bb_testing._base import check_released, check_state, kit_settings, refusal
from bb_testing._stories import RoleSuite
from bb_testing._types import check_types
from bb_testing.context import FakeContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensor = NDArray[Any]

__all__ = ["CodecSuite"]


class CodecSuite(RoleSuite):
    """Inherit it in a class named `Test...`, write `make` and `sample`, say how exact it is.

    `exact = True` promises the same bits. Else `tolerance` bounds the error of every float, as a
    share of the largest magnitude in its tensor; integers, bools and all else come back as they
    were, in any case. A codec with a grid of its own, the same for all numbers, says `tolerance =
    0`, half of a step as `absolute`, and as `most` the largest number that its grid reaches.
    """

    #: Whether decoding gives back every bit.
    exact: ClassVar[bool] = False
    #: Largest error, as a share of the largest magnitude in the same tensor.
    tolerance: ClassVar[float] = 1e-2
    #: Largest error beside that, in the units of the numbers.
    absolute: ClassVar[float] = 0.0
    #: Largest magnitude that it encodes; what is larger it refuses with `ValueError`.
    most: ClassVar[float] = math.inf

    def make(self) -> Codec:
        """Return a fresh codec."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def sample(self, rng: np.random.Generator) -> Any:
        """Return a value to encode: finite, of a few hundred bytes or more, drawn from `rng`."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def sample(self, rng)`")

    def test_is_a_codec(self) -> None:
        """The component fills the role."""
        made = self.make()
        assert isinstance(made, Codec), (
            f"make() returned a {type(made).__name__}, which does not inherit bb_roles.Codec"
        )

    # There and back.

    @kit_settings
    @given(seed=st.integers(0, 1 << 16))
    def test_decoded_value_looks_like_the_original(self, seed: int) -> None:
        """The kind of value, names, their order, shapes and dtypes come back."""
        value = self._sample(seed)
        _check_alike(self._round_trip(self._trained(), value), value)

    @kit_settings
    @given(seed=st.integers(0, 1 << 16), magnitude=st.sampled_from([1.0, 1e-30, 1e30]))
    def test_error_is_within_the_tolerance(self, seed: int, magnitude: float) -> None:
        """What comes back is as near as the codec promises, for large and small numbers alike."""
        self._check_round_trip(_scaled(self._sample(seed), magnitude))

    @pytest.mark.parametrize("constant", [0.0, 1.0, -3.0])
    def test_constants_come_back(self, constant: float) -> None:
        """A value without any spread is a value; zeros stay zeros."""
        value = _map_floats(lambda array: _filled(array, constant), self._sample())
        self._check_round_trip(value)

    @pytest.mark.parametrize("edge", ["no elements", "one number", "no tensors"])
    def test_small_values_come_back(self, edge: str) -> None:
        """Empty tensors and single numbers are encoded like others, or refused with ValueError."""
        value = _shrunk(self._sample(), edge)
        if value is None:
            pytest.skip(f"sample() holds nothing that could become a value with {edge}")
        codec = self._trained()
        try:
            encoded = codec.encode(FakeContext(), value)
        except ValueError:
            return
        decoded = codec.decode(FakeContext(), encoded)
        _check_alike(decoded, value)
        self._check_near(decoded, value)

    @pytest.mark.parametrize("strange", ["nan", "inf", "-inf"])
    def test_strange_numbers_are_not_hidden(self, strange: str) -> None:
        """NaN and infinity are refused with ValueError, or come back as what they are."""
        import numpy as np

        value = _map_floats(lambda array: _with_last(array, float(strange)), self._sample())
        if not any(_is_float(leaf) and leaf.size for leaf in _leaves(value)):
            pytest.skip("sample() holds no floats")
        codec = self._trained()
        try:
            encoded = codec.encode(FakeContext(), value)
        except ValueError:
            return
        decoded = codec.decode(FakeContext(), encoded)
        for got, given_ in zip(_leaves(decoded), _leaves(value), strict=True):
            if not _is_float(given_):
                continue
            odd = ~np.isfinite(given_)
            assert np.array_equal(got[odd], given_[odd], equal_nan=True), (
                f"{strange} was encoded and came back as {got[odd].tolist()}: a diverged peer must "
                "not look sane; raise ValueError"
            )

    @kit_settings
    @given(seed=st.integers(0, 1 << 16))
    def test_values_are_of_the_types_that_it_tells(self, seed: int) -> None:
        """What `value_types` and `infer_types` say is what programs are checked against."""
        codec, value = self._trained(), self._sample(seed)
        encoded = codec.encode(FakeContext(), value)
        check_types(codec, "Encode", (value,), (encoded,))
        check_types(codec, "Decode", (encoded,), (codec.decode(FakeContext(), encoded),))

    # Elsewhere.

    def test_encoded_value_can_be_sent(self) -> None:
        """What was encoded is decoded on another Node, from a copy of its bytes."""
        first, value = self._trained(), self._sample()
        encoded = first.encode(FakeContext(), value)
        second = self.make()
        second.load(first.save())
        here = first.decode(FakeContext(), encoded)
        there = second.decode(FakeContext(seed=9), _sent(encoded))
        assert _frozen(there) == _frozen(here), (
            "a copy of an encoded value was decoded differently by another codec with the same "
            "state: put all that decoding needs into the encoded value or the state"
        )

    def test_state_goes_on_elsewhere(self) -> None:
        """A codec that was saved and loaded encodes as before."""
        first, second = self._trained(), self.make()
        first.encode(FakeContext(), self._sample(5))
        state = first.save()
        check_state(state)
        second.load(state)
        one, other = (_frozen(c.encode(FakeContext(), self._sample())) for c in (first, second))
        assert one == other, "after save() and load() the same value was encoded differently"

    # Reads.

    def test_same_call_gives_the_same_bits(self) -> None:
        """What is encoded depends on value, context and training, not on earlier calls."""
        codec = self._trained()
        first = _frozen(codec.encode(FakeContext(seed=1), self._sample()))
        codec.decode(FakeContext(), codec.encode(FakeContext(seed=2), self._sample(5)))
        again = _frozen(codec.encode(FakeContext(seed=1), self._sample()))
        other = _frozen(self._trained().encode(FakeContext(seed=1), self._sample()))
        assert first == again == other, (
            "encode() with the same value, seed, round and op gave something else: draw from "
            "ctx.rng() only, and keep nothing between calls"
        )

    def test_coding_changes_no_state(self) -> None:
        """Encode and decode are reads; several frames may be in them."""
        codec = self._trained()
        before = _frozen_state(codec)
        codec.decode(FakeContext(), codec.encode(FakeContext(), self._sample(5)))
        assert _frozen_state(codec) == before, "encode() or decode() changed what save() returns"

    def test_given_values_are_not_changed(self) -> None:
        """Neither encoding nor decoding writes to what it was given."""
        codec, value = self._trained(), self._sample()
        before = _frozen(value)
        encoded = codec.encode(FakeContext(), value)
        assert _frozen(value) == before, "encode() wrote to the value that it was given"
        kept = _frozen(encoded)
        codec.decode(FakeContext(), encoded)
        assert _frozen(encoded) == kept, "decode() wrote to the encoded value that it was given"

    def test_results_stay_as_they_were(self) -> None:
        """What was returned is a value; later calls do not write into it."""
        codec = self._trained()
        encoded = codec.encode(FakeContext(), self._sample())
        kept = _frozen(encoded)
        decoded = codec.decode(FakeContext(), encoded)
        before = _frozen(decoded)
        codec.decode(FakeContext(), codec.encode(FakeContext(), self._sample(5)))
        assert _frozen(encoded) == kept, "an encoded value changed as the next one was encoded"
        assert _frozen(decoded) == before, "a decoded value changed as the next one was decoded"

    def test_values_are_let_go(self) -> None:
        """A codec keeps neither what it was given nor what it gave."""
        codec = self._trained()
        value = _mapped(lambda array: array.copy(), self._sample())
        encoded = codec.encode(FakeContext(), value)
        decoded = codec.decode(FakeContext(), encoded)
        arrays = [leaf for one in (value, encoded, decoded) for leaf in _leaves(one)]
        refs = [weakref.ref(leaf) for leaf in arrays if _is_array(leaf)]
        if not refs:
            pytest.skip("sample() holds no arrays")
        del value, encoded, decoded, arrays
        check_released(refs, f"{len(refs)} arrays are still kept after the value was encoded")

    # What does not fit.

    @pytest.mark.parametrize("method", ["encode", "decode"])
    @pytest.mark.parametrize("foreign", [None, 7, "text", b"", [], {}], ids=repr)
    def test_foreign_values_fail_with_value_error(self, method: str, foreign: Any) -> None:
        """A value of a kind that the codec does not know gives ValueError, not an accident."""
        try:
            getattr(self._trained(), method)(FakeContext(), foreign)
        except ValueError:
            pass
        except Exception as error:  # noqa: BLE001 - any other error is what is looked for
            pytest.fail(
                f"{method}({foreign!r}) raised {type(error).__name__}: {error}; look at the kind "
                "of value first and raise ValueError"
            )

    def test_damaged_values_fail_with_value_error(self) -> None:
        """Encoded values come from other Nodes: damage gives ValueError or another value."""
        codec = self._trained()
        encoded = codec.encode(FakeContext(), self._sample())
        for what, damaged in _damages(encoded):
            try:
                codec.decode(FakeContext(), damaged)
            except ValueError:
                continue
            except Exception as error:  # noqa: BLE001 - any other error is what is looked for
                pytest.fail(
                    f"decode() of an encoded value {what} raised {type(error).__name__}: {error}; "
                    "check what comes from outside and raise ValueError"
                )

    # What the tests are made of.

    def _life(self, component: Codec, seed: int) -> Iterator[object]:
        for turn in range(3):
            value = self._sample(3 * seed + turn)
            encoded = component.encode(FakeContext(seed=seed, round=(seed, turn)), value)
            yield encoded
            yield component.decode(FakeContext(), encoded)
        component.abandon(FakeContext(seed=seed))

    def _new(self) -> Codec:
        return self._trained()

    def _sample(self, seed: int = 0) -> Any:
        return self.sample(FakeContext(seed=seed, op="sample").rng())

    def _trained(self) -> Codec:
        """Return a codec that was trained, whether it needs it or not."""
        codec = self.make()
        codec.train(FakeContext(), [self._sample(seed) for seed in range(100, 108)])
        return codec

    def _round_trip(self, codec: Codec, value: Any) -> Any:
        return codec.decode(FakeContext(), codec.encode(FakeContext(), value))

    def _check_round_trip(self, value: Any) -> None:
        """Assert that a value comes back near enough, or is refused as too large."""
        codec, largest = self._trained(), _largest(value)
        if largest <= self.most:
            self._check_near(self._round_trip(codec, value), value)
            return
        with refusal(f"encode() of {largest}, where most = {self.most},"):
            codec.encode(FakeContext(), value)

    def _check_near(self, decoded: Any, value: Any) -> None:
        import numpy as np

        if self.exact:
            assert _frozen(decoded) == _frozen(value), (
                "exact = True, and other bits came back: a codec that rounds says instead how far "
                "off numbers may be, tolerance = ... or absolute = ..."
            )
            return
        for got, given_ in zip(_leaves(decoded), _leaves(value), strict=True):
            if not _is_float(given_):
                assert _frozen(got) == _frozen(given_), (
                    f"{given_!r} came back as {got!r}: what is not a float stays as it is"
                )
                continue
            exact = given_.astype(np.float64)
            reach = np.abs(exact).max(initial=0.0)
            error = np.abs(got.astype(np.float64) - exact).max(initial=0.0)
            # The last digits of the tensor's own dtype are rounding.
            share = self.tolerance * (1 + 1e-6) + _unit(given_)
            allowed = reach * share + self.absolute * (1 + 1e-6)
            assert error <= allowed, (
                f"a value of a tensor that reaches {reach} came back {error} off; tolerance = "
                f"{self.tolerance} and absolute = {self.absolute} allow {allowed}"
            )


def _is_record(value: object) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, list | tuple)


def _is_array(value: object) -> TypeGuard[Tensor]:
    import numpy as np

    return isinstance(value, np.ndarray)


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the arrays in a value, and what else it is made of."""
    if isinstance(value, ParameterSet):
        yield from (array for _, array in value.items())
    elif _is_record(value):
        for item in value.values():
            yield from _leaves(item)
    elif _is_list(value):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return a value of the same kind whose arrays are changed."""
    if isinstance(value, ParameterSet):
        return ParameterSet.from_tensors(
            {name: change(array) for name, array in value.items()},
            metadata=dict(value.layout.metadata),
        )
    if _is_record(value):
        items = value.items()
        return {key: _mapped(change, item) for key, item in items}
    if _is_list(value):
        found = [_mapped(change, item) for item in value]
        return type(value)(found)
    return change(value) if _is_array(value) else value


def _map_floats(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    return _mapped(lambda array: change(array) if _is_float(array) else array, value)


def _is_float(leaf: Any) -> bool:
    return "float" in getattr(getattr(leaf, "dtype", None), "name", "")


def _largest(value: Any) -> float:
    """Return the largest magnitude of the floats in a value."""
    import numpy as np

    floats = [leaf for leaf in _leaves(value) if _is_float(leaf)]
    return max((float(np.abs(leaf).max(initial=0.0)) for leaf in floats), default=0.0)


def _unit(array: Tensor) -> float:
    """Return the relative error of one rounding to the array's dtype."""
    return {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}.get(
        array.dtype.name, 2.0**-7
    )


def _filled(array: Tensor, constant: float) -> Tensor:
    import numpy as np

    return np.full_like(array, constant)


def _with_last(array: Tensor, number: float) -> Tensor:
    if not array.size:
        return array
    changed = array.copy()
    changed.reshape(-1)[-1] = number
    return changed


def _scaled(value: Any, magnitude: float) -> Any:
    """Scale the floats that have room for it."""

    def scale(array: Tensor) -> Tensor:
        wide = array.dtype.name in ("float32", "float64", "bfloat16")
        return (array * magnitude).astype(array.dtype) if wide else array

    return _map_floats(scale, value)


def _shrunk(value: Any, edge: str) -> Any:
    """Return an unusually small value of the same kind, or `None` when there is none."""
    import numpy as np

    if edge == "no tensors":
        return ParameterSet.from_tensors({}) if isinstance(value, ParameterSet) else None
    if not any(_is_array(leaf) for leaf in _leaves(value)):
        return None
    if edge == "one number":
        return _mapped(lambda array: np.full((), 2, array.dtype), value)
    return _mapped(lambda array: np.empty((3, 0, *array.shape[2:]), array.dtype), value)


def _described(value: Any) -> Any:
    """Return what a value is, apart from its numbers."""
    if isinstance(value, ParameterSet):
        return str(value.layout.type), value.layout.metadata
    if _is_record(value):
        return [(key, _described(item)) for key, item in value.items()]
    if _is_list(value):
        return type(value).__name__, [_described(item) for item in value]
    if _is_array(value):
        return f"{value.dtype.name}{list(value.shape)}"
    return type(value).__name__


def _check_alike(decoded: Any, value: Any) -> None:
    got, expected = _described(decoded), _described(value)
    assert got == expected, (
        f"{expected} was encoded and came back as {got}: kind, names, order, shapes and dtypes stay"
    )


def _frozen(value: Any) -> Any:
    """Return something that compares equal for the same bits."""
    if isinstance(value, ParameterSet):
        return value.to_bytes()
    if _is_record(value):
        return [(key, _frozen(item)) for key, item in value.items()]
    if _is_list(value):
        return [_frozen(item) for item in value]
    if _is_array(value):
        return _described(value), value.tobytes()
    return value


def _frozen_state(codec: Codec) -> Any:
    state = codec.save()
    return _frozen(dict(state.tensors)), repr(state.data)


def _sent(value: Any) -> Any:
    """Return what arrives elsewhere: made from the bytes alone, and read-only."""
    import numpy as np

    if isinstance(value, ParameterSet):
        return ParameterSet.from_image(value.to_bytes())
    if _is_record(value):
        return {key: _sent(item) for key, item in value.items()}
    if _is_list(value):
        return [_sent(item) for item in value]
    if _is_array(value):
        return np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape)
    assert value is None or type(value) in (bool, int, float, str, bytes), (
        f"encode() returned a {type(value).__name__}, which cannot be sent: parameter sets, "
        "tensors, bytes, numbers, texts, lists and records can"
    )
    return value


def _damages(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an encoded value may look like after an accident."""
    import numpy as np

    if isinstance(value, bytes):
        yield "without its second half", value[: len(value) // 2]
        yield "with all bits set", b"\xff" * len(value)
    if _is_array(value):
        yield "without its second half", value.reshape(-1)[: value.size // 2]
    if _is_record(value):
        for key in value:
            yield f"without {key!r}", {k: item for k, item in value.items() if k != key}
    if not isinstance(value, ParameterSet):
        return
    tensors = dict(value.items())
    metadata = dict(value.layout.metadata)
    yield "without its metadata", ParameterSet.from_tensors(tensors)
    yield "without its tensors", ParameterSet.from_tensors({}, metadata=metadata)
    for name, array in tensors.items():
        with np.errstate(invalid="ignore", over="ignore"):
            retyped = array.astype(np.int16)
        for what, other in (
            ("missing", None),
            ("cut", array.reshape(-1)[:-1]),
            ("of another dtype", retyped),
            ("with all bits set", np.full(array.nbytes, 255, np.uint8).view(array.dtype)),
        ):
            changed = {**tensors, name: other}
            left = {key: item for key, item in changed.items() if item is not None}
            yield f"with {name!r} {what}", ParameterSet.from_tensors(left, metadata=metadata)
