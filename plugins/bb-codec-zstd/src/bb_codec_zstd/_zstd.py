"""Values as Zstandard frames.

An encoded value is one frame of RFC 8878, with the size of its content and a checksum, and nothing
before or after it: of the image of a parameter set (so `zstd -d` makes a safetensors file of it),
or of bytes as they are. Nothing is put around it, because types tell what is inside.

Frames come from strangers, and a few bytes can claim any size. Before memory is taken, a frame's
header must say how large the content is; that must be within `max_bytes`, and within what so many
bytes can hold at all: a block of at most 128 KiB takes at least 4 bytes. What is taken then is that
size, once.

The same value, level and version of the library give the same frame; another version may compress
otherwise, and either decodes what the other encoded.

Source: Collet and Kucherawy, "Zstandard Compression and the 'application/zstd' Media Type",
RFC 8878, 2021: sections 3.1.1.1 (frame header) and 3.1.1.2 (blocks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

import zstandard

from bb_codec_zstd.errors import FrameDamaged, InvalidSetting, ValueTooLarge, WrongKind
from bb_ir.errors import ParameterSetError
from bb_ir.params import ParameterSet
from bb_roles import Codec, Context, Environment
from bb_roles.limits import Limits, check_limits

__all__ = ["Zstd", "ZstdConfig"]

Kind = Literal["params", "bytes"]

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_LARGEST: Final = 1 << 40
#: A block holds at most 128 KiB, and takes a header of three bytes and one byte of content.
_BLOCK: Final = 128 * 1024
_SMALLEST_BLOCK: Final = 4
#: The frame without content: the library does not look at what follows a header that says so.
_EMPTY: Final = bytes.fromhex("28b52ffd240001000099e9d851")


@dataclass(frozen=True)
class ZstdConfig:
    """What is compressed, and how hard.

    Attributes:
        takes: What the codec encodes, and decodes to: `params` for parameter sets, `bytes`.
        level: 1 (fast) to 22 (small); from 20 on it takes hundreds of megabytes of memory.
        max_bytes: Largest value, before compression; larger ones are neither encoded nor decoded.
    """

    takes: Kind = "params"
    level: Annotated[int, Limits(1, zstandard.MAX_COMPRESSION_LEVEL)] = 3
    max_bytes: Annotated[int, Limits(1, _LARGEST, unit="bytes")] = 1 << 30

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting)


class Zstd(Codec):
    """Parameter sets, or bytes, in fewer bytes and without loss.

    Trained floats shrink little, by a tenth or so: their low bits are noise. What shrinks is what
    repeats: zeros, integers, texts, and what another codec has quantized or thinned out. NaN and
    infinity come back as they were.

    It has no state, and encoding and decoding change nothing.

    Args:
        config: A `ZstdConfig`.
        env: Where it is being built; nothing of it is used.
    """

    Config: ClassVar[type] = ZstdConfig

    def __init__(self, config: ZstdConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._config = config
        self._compressor = zstandard.ZstdCompressor(
            level=config.level, write_checksum=True, write_content_size=True
        )
        self._decompressor = zstandard.ZstdDecompressor()

    @classmethod
    def value_types(cls, config: ZstdConfig) -> Mapping[str, str]:
        """Return what the configuration says of values: they are parameters, or bytes."""
        return {
            "Encode.value": config.takes,
            "Encode.encoded": "bytes",
            "Decode.encoded": "bytes",
            "Decode.value": config.takes,
        }

    def encode(self, ctx: Context, value: Any) -> bytes:
        """Return one frame with the size of its content and a checksum.

        Args:
            ctx: The call's context; nothing of it is used.
            value: A `ParameterSet`, or `bytes`, as `takes` says.

        Raises:
            WrongKind: It is something else.
            ValueTooLarge: It has more than `max_bytes` bytes.
        """
        content = self._content(value)
        if len(content) > self._config.max_bytes:
            raise _too_large(f"the value has {len(content)} bytes", self._config.max_bytes)
        return self._compressor.compress(content)

    def decode(self, ctx: Context, encoded: Any) -> ParameterSet | bytes:
        """Return the value that was encoded, bit for bit.

        Args:
            ctx: The call's context; nothing of it is used.
            encoded: What `encode` returned, at any level.

        Raises:
            WrongKind: It is not `bytes`.
            FrameDamaged: It is not one whole frame, says no size or one that it cannot have, has
                been changed, or holds no parameter set where one is expected.
            ValueTooLarge: Its content has, or claims, more than `max_bytes` bytes.
        """
        if not isinstance(encoded, bytes):
            raise _wrong(encoded, "decoded", "bytes, one Zstandard frame")
        content = self._decompressed(encoded, _claimed(encoded))
        if self._config.takes == "bytes":
            return content
        try:
            return ParameterSet.from_image(content)
        except ParameterSetError as error:
            raise _damaged(f"it holds no parameter set: {error.found:.200}") from error

    def _content(self, value: object) -> bytes | memoryview:
        if self._config.takes == "params" and isinstance(value, ParameterSet):
            return value.image
        if self._config.takes == "bytes" and isinstance(value, bytes):
            return value
        raise _wrong(value, "encoded", _EXPECTED[self._config.takes])

    def _decompressed(self, frame: bytes, size: int) -> bytes:
        if size > self._config.max_bytes:
            raise _too_large(f"a frame says that it holds {size} bytes", self._config.max_bytes)
        most = len(frame) // _SMALLEST_BLOCK * _BLOCK
        if size > most:
            raise _damaged(f"it says that it holds {size} bytes; it can hold at most {most}")
        if size == 0:
            if frame != _EMPTY:
                raise _damaged("it says that it holds nothing, and goes on")
            return b""
        try:
            return self._decompressor.decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise _damaged(f"{error!s:.200}") from error


_EXPECTED: Final[Mapping[Kind, str]] = {"params": "a ParameterSet", "bytes": "bytes"}


def _claimed(frame: bytes) -> int:
    """Return the size that a frame's header says its content has; allocates nothing."""
    if not frame.startswith(_MAGIC):
        raise _damaged(f"it begins with {frame[:4].hex() or 'nothing'}")
    try:
        header = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise _damaged(f"{error!s:.200}") from error
    if header.content_size == zstandard.CONTENTSIZE_UNKNOWN:
        raise _damaged("it does not say how large its content is")
    if header.dict_id:
        raise _damaged(f"it needs the dictionary {header.dict_id}")
    return header.content_size


def _wrong(value: object, what: str, expected: str) -> WrongKind:
    return WrongKind(
        f"a {type(value).__name__} was to be {what}",
        expected=expected,
        fix="set `takes` to the kind of value that the program encodes",
    )


def _too_large(found: str, limit: int) -> ValueTooLarge:
    return ValueTooLarge(
        found,
        expected=f"at most {limit} bytes, as `max_bytes` says",
        fix="raise `max_bytes` on both sides if such values are meant",
    )


def _damaged(found: str) -> FrameDamaged:
    return FrameDamaged(
        f"this frame cannot be decoded: {found}",
        expected="one Zstandard frame with the size of its content, as `encode` returns it",
        fix="decode what `encode` returned, with the same `takes` on both sides",
    )
