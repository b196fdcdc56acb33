"""Short texts and bytes that name things: types, addresses, ids of peers, records, keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

from bb_ir.address import Address
from bb_ir.ids import KeyPair, PeerId
from bb_ir.types import accepts, list_of, local, meet, parse_type, senders
from bb_runtime.addresses import AddressBook, sign_addresses
from fuzzing._mutate import change_text
from fuzzing._target import Finding, Target, Tweak
from fuzzing.worlds import VALUES, ids

__all__ = ["ADDRESSES", "TYPES"]


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


# --- types -----------------------------------------------------------------------------------

_WORDS = (
    b"any", b"tensor", b"params", b"bytes", b"trigger", b"peers", b"senders", b"list", b"record",
    b"local", b"custom", b"int64", b"float64", b"bool", b"string", b"float32", b"bfloat16", b"(",
    b")", b"[", b"]", b",", b":", b"?", b"n", b"custom(a.b/1)", b"record(", b"list(", b"tensor[",
)  # fmt: skip


def read_type(data: bytes) -> str:
    """Read a type, and ask all that can be asked about it."""
    found = parse_type(_text(data))
    if parse_type(str(found)) != found:
        raise Finding(f"{found} is not what its text says")
    if not accepts(found, found) or meet(found, found) is None:
        raise Finding(f"{found} does not take itself")
    for other, _ in VALUES.values():
        both = meet(found, other)
        if both != meet(other, found) or (both is not None and not accepts(found, both)):
            raise Finding(f"{found} and {other} meet in {both}")
    hash(found)
    return "" if found.sendable else "local"


@cache
def _types() -> tuple[bytes, ...]:
    found = [type_ for type_, _ in VALUES.values()]
    found += [senders("client"), list_of(list_of(found[0])), local("batches", {"x": found[0]})]
    return tuple(str(one).encode() for one in found)


def change_type(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change a word of a type."""
    return change_text(data, draw, tweak, _WORDS, draw.choice(_types()))


# --- addresses, ids, records, keys -----------------------------------------------------------


def read_address(data: bytes) -> str:
    """Read one of the things that the first byte names."""
    return _READERS[data[0] % len(_READERS)](data[1:]) if data else "empty"


def _read_text(data: bytes) -> str:
    return _same(Address.parse(_text(data)))


def _read_bytes(data: bytes) -> str:
    return _same(Address.from_bytes(data))


def _same(found: Address) -> str:
    if Address.parse(str(found)) != found or Address.from_bytes(found.to_bytes()) != found:
        raise Finding(f"{found!r} is not what it says")
    for name, value in found.components:
        if found.value(name) is None or not isinstance(value, str):
            raise Finding(f"{found!r} lacks {name}")
    if found.peer is not None:
        _read_peer(str(found.peer).encode())
    return ""


def _read_peer(data: bytes) -> str:
    found = PeerId.parse(_text(data))
    if PeerId.parse(str(found)) != found:
        raise Finding(f"{found!r} is not what it says")
    found.public_key()
    return ""


def _read_raw_peer(data: bytes) -> str:
    return _read_peer(str(PeerId(data)).encode())


def _read_record(data: bytes) -> str:
    book = AddressBook()
    peer = book.take(data, 0)
    if len(book.addresses(peer, 0)) > 8:
        raise Finding("more addresses than are allowed")
    return ""


def _read_pem(data: bytes) -> str:
    KeyPair.from_pem(data)
    return ""


_READERS: tuple[Callable[[bytes], str], ...] = (
    _read_text, _read_bytes, _read_peer, _read_raw_peer, _read_record, _read_pem,
)  # fmt: skip
_TEXT, _BYTES, _PEER, _RAW, _RECORD, _PEM = range(6)


@cache
def _keys() -> KeyPair:
    return KeyPair.derive(b"fuzz", 1)


@cache
def _addresses() -> tuple[bytes, ...]:
    peer = ids()[1]
    texts = (
        "/ip4/127.0.0.1/tcp/4001", f"/ip6/::ffff:1.2.3.4/udp/9/quic-v1/p2p/{peer}",
        "/dns4/example.org/tcp/443/tls/ws", f"/p2p/{peer}/unix/tmp/a.sock", "/memory/12345",
        "/dnsaddr/example.org", "/dns/xn--bcher-kva.example/tcp/1/http", "/ip6/fe80::1/tcp/0",
    )  # fmt: skip
    known = [text for text in texts if _is_known(text)]
    found = [bytes((_TEXT,)) + text.encode() for text in known]
    found += [bytes((_BYTES,)) + Address.parse(text).to_bytes() for text in known]
    found += [bytes((_PEER,)) + str(one).encode() for one in ids()[:2]]
    found += [bytes((_RAW,)) + one.raw for one in ids()[:2]]
    record = sign_addresses(_keys(), known[:3:2], sequence=7)
    pem = _keys().to_pem()
    return (*found, bytes((_RECORD,)) + record, bytes((_PEM,)) + pem)


def _is_known(text: str) -> bool:
    return "dnsaddr" not in text and "quic" not in text and "/http" not in text


def change_address(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change an address or the like; what was signed is signed again."""
    kind, body = data[0] % len(_READERS) if data else 0, data[1:]
    if draw.randrange(12) == 0:
        return tweak(data)
    if kind in (_TEXT, _PEER):
        others = draw.choice(_addresses())[1:]
        return bytes((kind,)) + change_text(body, draw, tweak, _PROTOCOLS, others)
    if kind == _RECORD and draw.randrange(6):
        signed = tweak(body[:-64])
        return bytes((kind,)) + signed + _keys().sign(b"bb.addresses.1\0" + signed)
    return bytes((kind,)) + tweak(body)


_PROTOCOLS = (
    b"ip4", b"ip6", b"dns", b"dns4", b"dns6", b"tcp", b"udp", b"unix", b"p2p", b"memory", b"tls",
    b"ws", b"/", b"//", b"%", b"::", b"0", b"65536", b"01", b"xn--",
)  # fmt: skip

TYPES = Target(
    "types", _types, change_type, read_type, longest=8192, taken=frozenset({"", "local"})
)
ADDRESSES = Target("addresses", _addresses, change_address, read_address, longest=8192)
