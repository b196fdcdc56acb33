"""Where a peer can be reached: `Address`, a multiaddr.

An address is a row of components, each a protocol and, for most, a value:
`/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...`. This module reads and writes its two forms, text and
bytes. It opens nothing and resolves nothing.

The bytes are the truth: equality, hash and order go by them, and an address has one byte form and
one text form. What stands in either, rule by rule:

* A component is the varint of its code, then its value. The value of dns, dns4, dns6, unix and
  p2p has the varint of its length before it; the others have a fixed length or none.
* ip4 and ip6 are the 4 and 16 bytes of the address; text is as RFC 5952 writes it, IPv4-mapped
  addresses in dots (`::ffff:1.2.3.4`). Zones (`%eth0`) are refused.
* tcp and udp are 2 bytes, memory is 8, the highest first; text is decimal, without leading zeros.
* dns, dns4 and dns6 are ASCII host names of at most 253 characters, capitals as they came. Names
  in other alphabets are written in their `xn--` form.
* unix takes all the rest of the text as an absolute path, so it stands last: `/unix/tmp/a.sock`
  is the socket `/tmp/a.sock`. A peer goes before it: `/p2p/12D3KooW.../unix/tmp/a.sock`. Paths
  with a percent sign are refused: others write `%2Ftmp%2Fa.sock`, which would be taken for a name.
* p2p is the multihash of a `PeerId`; text is its base58btc, a CIDv1 is read too.
* Offsets in errors count from 0, in characters for text and in bytes for bytes.

Source: the multiformats multiaddr specification; codes from the multicodec table.
"""

from __future__ import annotations

from functools import total_ordering
from typing import Final, NamedTuple, final

from bb_ir._multicodec import BY_CODE, BY_NAME, Protocol, shown
from bb_ir._varint import decode_varint, encode_varint
from bb_ir.errors import AddressError
from bb_ir.ids import PeerId

__all__ = ["MAX_ADDRESS_BYTES", "MAX_COMPONENTS", "Address", "Component"]

#: Longest byte form of an address.
MAX_ADDRESS_BYTES: Final = 1024
#: Most components of an address.
MAX_COMPONENTS: Final = 32

#: No address within the limits above has a longer text.
_MAX_TEXT: Final = 4 * MAX_ADDRESS_BYTES


class Component(NamedTuple):
    """One step of an address.

    Attributes:
        name: The protocol, for example `tcp`.
        value: Its value as text, for example `4001`; empty for protocols that have none.
    """

    name: str
    value: str


@final
@total_ordering
class Address:
    """A place where a peer can be reached: an immutable multiaddr.

    `Address.parse` reads text, `str` writes it. Addresses are hashable, and equality and order go
    by their bytes. `/` appends: `Address.parse("/ip4/127.0.0.1") / "tcp/4001"`.

    Args:
        raw: The byte form, 1 to 1024 bytes with at most 32 components.

    Raises:
        AddressError: The bytes are not the byte form of an address.
    """

    __slots__ = ("_components", "_hash", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._components = tuple(_decode(raw))
        self._raw = raw
        self._hash = hash(raw)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address from its text, such as `/ip4/127.0.0.1/tcp/4001`.

        Raises:
            AddressError: The text is no address; the error says where it stops being one.
        """
        return cls(_encode(text))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Address:
        """Read an address from the bytes that `to_bytes` gave.

        Raises:
            AddressError: The bytes are no address; the error says at which byte.
        """
        return cls(raw)

    def to_bytes(self) -> bytes:
        """Return the byte form, at most 1024 bytes."""
        return self._raw

    @property
    def components(self) -> tuple[Component, ...]:
        """The steps of the address, outermost first; at least one."""
        return self._components

    @property
    def peer(self) -> PeerId | None:
        """The peer at the end of this address: its last `p2p` component, or None."""
        values = [value for name, value in self._components if name == "p2p"]
        return PeerId.parse(values[-1]) if values else None

    def value(self, name: str) -> str | None:
        """Return the value of the first component of a protocol, or None if there is none.

        A protocol without values, such as `tls`, gives an empty text when it is there.

        Args:
            name: The protocol, for example `tcp`.

        Raises:
            AddressError: There is no protocol of this name.
        """
        if name not in BY_NAME:
            raise _unknown_name(name)
        return next((value for found, value in self._components if found == name), None)

    def encapsulate(self, inner: Address | str) -> Address:
        """Return the address that has `inner` after this one; `/` does the same.

        Args:
            inner: An address, or its text with or without the first slash.

        Raises:
            AddressError: The text is no address, the whole is too long, or this address ends in
                `unix`, after which nothing can stand.
        """
        if isinstance(inner, str):
            inner = Address.parse(inner if inner.startswith("/") else f"/{inner}")
        return Address(self._raw + inner.to_bytes())

    def __truediv__(self, inner: Address | str) -> Address:
        return self.encapsulate(inner)

    def __str__(self) -> str:
        return "".join(_text_of(component) for component in self._components)

    def __repr__(self) -> str:
        return f"Address.parse({str(self)!r})"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self._raw == other._raw if isinstance(other, Address) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._raw < other._raw if isinstance(other, Address) else NotImplemented

    def __reduce__(self) -> tuple[type[Address], tuple[bytes]]:
        # The cached hash differs from process to process, so only the bytes travel.
        return (Address, (self._raw,))


# --- text to bytes --------------------------------------------------------------------------------


def _encode(text: str) -> bytes:
    _check_text(text)
    out = bytearray()
    start = 0
    count = 0
    while start < len(text):
        name, after = _segment(text, start)
        if name not in BY_NAME:
            raise _unknown_name(name, _in_text(text, start + 1))
        protocol = BY_NAME[name]
        value, end = ("", after) if protocol.is_flag else _value(text, protocol, after)
        out += _component(protocol, value, text, after + 1)
        count += 1
        _check_limits(len(out), count, _in_text(text, start))
        start = end
    return bytes(out)


def _check_text(text: str) -> None:
    if len(text) > _MAX_TEXT:
        raise AddressError(
            f"The address {shown(text)} has {len(text)} characters",
            expected=f"at most {_MAX_TEXT} characters and {MAX_ADDRESS_BYTES} bytes",
            fix="Pass one address, not several.",
        )
    if not text.startswith("/"):
        raise AddressError(
            f"The address {shown(text)} does not start with '/'",
            expected="a multiaddr such as '/ip4/127.0.0.1/tcp/4001'",
            fix="Write 'host:port' as '/dns/host/tcp/port'.",
            where=_in_text(text, 0),
        )


def _segment(text: str, slash: int) -> tuple[str, int]:
    """Return what stands after a slash, and the offset of the next slash or of the end."""
    end = text.find("/", slash + 1)
    end = len(text) if end < 0 else end
    if end == slash + 1:
        raise AddressError(
            f"The address {shown(text)} has an empty component",
            expected="a name or value after every '/'",
            fix="Remove the doubled or trailing '/'.",
            where=_in_text(text, end),
        )
    return text[slash + 1 : end], end


def _value(text: str, protocol: Protocol, slash: int) -> tuple[str, int]:
    if slash == len(text):
        raise AddressError(
            f"The address {shown(text)} ends after {protocol.name!r}, which needs a value",
            expected=f"'/{protocol.name}/' and a value",
            fix="Add the value.",
            where=_in_text(text, slash),
        )
    if protocol.last:
        return text[slash:], len(text)
    return _segment(text, slash)


def _component(protocol: Protocol, value: str, text: str, start: int) -> bytes:
    try:
        payload = protocol.write(value)
    except AddressError as error:
        error.where = (_in_text(text, start),)
        raise
    length = b"" if protocol.size is not None else encode_varint(len(payload))
    return encode_varint(protocol.code) + length + payload


def _text_of(component: Component) -> str:
    protocol = BY_NAME[component.name]
    if protocol.is_flag:
        return f"/{component.name}"
    separator = "" if protocol.last else "/"
    return f"/{component.name}{separator}{component.value}"


# --- bytes to components --------------------------------------------------------------------------


def _decode(raw: bytes) -> list[Component]:
    _check_raw(raw)
    components: list[Component] = []
    start = 0
    while start < len(raw):
        _check_limits(len(raw), len(components) + 1, _in_bytes(raw, start))
        protocol, payload_start, payload_end = _header(raw, start)
        if protocol.last and payload_end != len(raw):
            raise AddressError(
                f"{len(raw) - payload_end} bytes stand after the {protocol.name!r} component",
                expected=f"{protocol.name!r} at the end of the address",
                fix="Put the other components before it, for example '/p2p/.../unix/tmp/a.sock'.",
                where=_in_bytes(raw, payload_end),
            )
        value = _read(protocol, raw, payload_start, payload_end)
        components.append(Component(protocol.name, value))
        start = payload_end
    return components


def _check_raw(raw: bytes) -> None:
    if type(raw) is not bytes:
        raise AddressError(
            f"An address was made from {type(raw).__name__}",
            expected="the bytes of a multiaddr",
            fix="Use `Address.parse(text)` for text, `bytes(view)` for a view.",
        )
    if not raw:
        raise AddressError(
            "An address was made from no bytes",
            expected="at least one component",
            fix="Leave the address out where there is none.",
            where="byte 0 of 0",
        )
    if len(raw) > MAX_ADDRESS_BYTES:
        _check_limits(len(raw), 1, _in_bytes(raw, MAX_ADDRESS_BYTES))


def _header(raw: bytes, start: int) -> tuple[Protocol, int, int]:
    """Return the protocol of a component and where its value starts and ends."""
    code, payload_start = _varint(raw, start)
    if code not in BY_CODE:
        raise AddressError(
            f"The protocol code 0x{code:04x} is unknown",
            expected=f"one of {_known()}",
            fix="Ask the peer for an address over one of these protocols.",
            where=_in_bytes(raw, start),
        )
    protocol = BY_CODE[code]
    size = protocol.size
    if size is None:
        size, payload_start = _varint(raw, payload_start)
    left = len(raw) - payload_start
    if size > left:
        raise AddressError(
            f"The value of {protocol.name!r} should have {size} bytes, and {left} are left",
            expected="the whole value",
            fix="Pass all bytes of the address; these were cut off.",
            where=_in_bytes(raw, payload_start),
        )
    return protocol, payload_start, payload_start + size


def _varint(raw: bytes, start: int) -> tuple[int, int]:
    try:
        return decode_varint(raw, start)
    except ValueError as error:
        raise AddressError(
            f"A code or length cannot be read: {error}",
            expected="a varint in its shortest form, at most 9 bytes",
            fix="Pass the bytes of `Address.to_bytes`, whole and unchanged.",
            where=_in_bytes(raw, start),
        ) from error


def _read(protocol: Protocol, raw: bytes, start: int, end: int) -> str:
    try:
        return protocol.read(raw[start:end])
    except AddressError as error:
        error.where = (_in_bytes(raw, start),)
        raise


# --- shared by both directions --------------------------------------------------------------------


def _check_limits(size: int, count: int, where: str) -> None:
    if size > MAX_ADDRESS_BYTES or count > MAX_COMPONENTS:
        raise AddressError(
            f"An address has {size} bytes and {count} or more components",
            expected=f"at most {MAX_ADDRESS_BYTES} bytes and {MAX_COMPONENTS} components",
            fix="Pass one address; shorten a long path or name.",
            where=where,
        )


def _unknown_name(name: str, where: str | tuple[str, ...] = ()) -> AddressError:
    return AddressError(
        f"The protocol {shown(name)} is unknown",
        expected=f"one of {_known()}",
        fix="Check the spelling, and that the value before it belongs to a protocol with values.",
        where=where,
    )


def _known() -> str:
    return ", ".join(sorted(BY_NAME))


def _in_text(text: str, at: int) -> str:
    return f"character {at} of {shown(text)}"


def _in_bytes(raw: bytes, at: int) -> str:
    return f"byte {at} of {len(raw)}"
