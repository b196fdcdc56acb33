"""The protocols an address can hold: their codes and how their values are written.

Names and codes are those of the public multicodec table. Each value has a pair of functions, text
to bytes and bytes to text, that refuse all but the canonical form. Their errors have no place in
them: `bb_ir.address`, which knows the offset, adds it. This module knows no order of components.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from bb_ir.errors import AddressError, IdError
from bb_ir.ids import PeerId

__all__ = ["BY_CODE", "BY_NAME", "Protocol", "shown"]

#: What others say about a bad value is cut to this many characters.
_MAX_REASON: Final = 120
_MAX_HOST: Final = 253
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def shown(value: str | bytes) -> str:
    """Return the start of a value for a message: what a stranger sent may be long."""
    limit = 64
    return repr(value) if len(value) <= limit else f"{value[:limit]!r}..."


def _write_ip4(text: str) -> bytes:
    try:
        return IPv4Address(text).packed
    except ValueError as error:
        raise AddressError(
            f"{shown(text)} is not an IPv4 address: {str(error)[:_MAX_REASON]}",
            expected="four numbers from 0 to 255 without leading zeros, such as 127.0.0.1",
            fix="Correct the address, or use ip6 or dns for what it is.",
        ) from error


def _read_ip4(raw: bytes) -> str:
    return str(IPv4Address(raw))


def _write_ip6(text: str) -> bytes:
    try:
        address = IPv6Address(text)
    except ValueError as error:
        raise AddressError(
            f"{shown(text)} is not an IPv6 address: {str(error)[:_MAX_REASON]}",
            expected="an IPv6 address such as ::1, without brackets",
            fix="Correct the address, or use ip4 or dns for what it is.",
        ) from error
    if address.scope_id is not None:
        raise AddressError(
            f"{shown(text)} names a zone",
            expected="an IPv6 address without a zone: zones mean nothing on another machine",
            fix="Leave out the '%' and what follows it.",
        )
    return address.packed


def _read_ip6(raw: bytes) -> str:
    address = IPv6Address(raw)
    # Python writes these in dots only from 3.13 on, and text may not depend on the interpreter.
    mapped = address.ipv4_mapped
    return f"::ffff:{mapped}" if mapped is not None else str(address)


def _write_number(text: str, size: int) -> bytes:
    highest = (1 << (8 * size)) - 1
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(highest))
    number = int(text) if digits else -1
    if not digits or number > highest or str(number) != text:
        raise AddressError(
            f"{shown(text)} is not a whole number in range",
            expected=f"0 to {highest}, in decimal digits without sign or leading zeros",
            fix="Write the number in that form.",
        )
    return number.to_bytes(size, "big")


def _write_port(text: str) -> bytes:
    return _write_number(text, 2)


def _write_memory(text: str) -> bytes:
    return _write_number(text, 8)


def _read_number(raw: bytes) -> str:
    return str(int.from_bytes(raw, "big"))


def _write_host(text: str) -> bytes:
    if len(text) > _MAX_HOST or _HOST.fullmatch(text) is None:
        raise AddressError(
            f"{shown(text)} is not a host name",
            expected="labels of 1 to 63 letters, digits, '-' and '_' between dots, 253 in all",
            fix="Write names in other alphabets in their 'xn--' form; use ip6 for IPv6 addresses.",
        )
    return text.encode("ascii")


def _read_host(raw: bytes) -> str:
    text = raw.decode("ascii", errors="replace")
    _write_host(text)
    return text


def _write_path(text: str) -> bytes:
    if "%" in text:
        raise AddressError(
            f"The path {shown(text)} holds a '%'",
            expected="the path as it is, with plain slashes",
            fix="Write '/unix/tmp/a.sock' for '/unix/%2Ftmp%2Fa.sock', or choose another name.",
        )
    if not text.startswith("/") or "" in text[1:].split("/") or _CONTROL.search(text):
        raise AddressError(
            f"The path {shown(text)} cannot stand in an address",
            expected="an absolute path of non-empty names between single slashes",
            fix="Write the path without doubled or trailing slashes and control characters.",
        )
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AddressError(
            f"The path {shown(text)} has no UTF-8 form: {error.reason}",
            expected="text that UTF-8 can hold",
            fix="Choose a path without undecodable bytes.",
        ) from error


def _read_path(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AddressError(
            f"The path {shown(raw)} is not UTF-8: {error.reason}",
            expected="a path in UTF-8",
            fix="Ask the sender for a path that is text.",
        ) from error
    _write_path(text)
    return text


def _write_peer(text: str) -> bytes:
    try:
        return PeerId.parse(text).raw
    except IdError as error:
        raise AddressError(error.found, expected=error.expected, fix=error.fix) from error


def _read_peer(raw: bytes) -> str:
    try:
        return str(PeerId(raw))
    except IdError as error:
        raise AddressError(error.found, expected=error.expected, fix=error.fix) from error


@dataclass(frozen=True, slots=True)
class Protocol:
    name: str
    code: int
    #: Bytes of the value: None means that its length stands before it.
    size: int | None
    write: Callable[[str], bytes]
    read: Callable[[bytes], str]
    #: Takes all the rest of the text, so nothing can stand after it.
    last: bool = False

    @property
    def is_flag(self) -> bool:
        return self.size == 0


def _flag(name: str, code: int) -> Protocol:
    return Protocol(name, code, 0, lambda _: b"", lambda _: "")


PROTOCOLS: Final = (
    Protocol("ip4", 0x04, 4, _write_ip4, _read_ip4),
    Protocol("tcp", 0x06, 2, _write_port, _read_number),
    Protocol("ip6", 0x29, 16, _write_ip6, _read_ip6),
    Protocol("dns", 0x35, None, _write_host, _read_host),
    Protocol("dns4", 0x36, None, _write_host, _read_host),
    Protocol("dns6", 0x37, None, _write_host, _read_host),
    Protocol("udp", 0x0111, 2, _write_port, _read_number),
    Protocol("unix", 0x0190, None, _write_path, _read_path, last=True),
    Protocol("p2p", 0x01A5, None, _write_peer, _read_peer),
    _flag("tls", 0x01C0),
    _flag("quic-v1", 0x01CD),
    _flag("ws", 0x01DD),
    _flag("wss", 0x01DE),
    Protocol("memory", 0x0309, 8, _write_memory, _read_number),
)
BY_NAME: Final = {protocol.name: protocol for protocol in PROTOCOLS}
BY_CODE: Final = {protocol.code: protocol for protocol in PROTOCOLS}
