"""Ways to change inputs: bytes, texts, trees of JSON, protobuf messages, lists.

Everything here draws from the generator that it is given, so an input is changed in the same way
whenever it is changed with the same seed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from fuzzing._target import Tweak

__all__ = [
    "NUMBERS",
    "TEXTS",
    "bytes_of",
    "change_items",
    "change_json",
    "change_message",
    "change_text",
    "change_tree",
    "tweak_with",
]

T = TypeVar("T")

#: Numbers at which lengths, counters and shapes break.
NUMBERS: tuple[int, ...] = (
    0, 1, -1, 2, 7, 8, 63, 64, 65, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536, 10**6,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64,
    10**30, 10**400,
)  # fmt: skip
TEXTS: tuple[str, ...] = (
    "", " ", "0", "-1", "1", "a", "?", "#", "/", "|", ".", "..", "client", "\0", "\u00e9", "\u0661",
    "\U0001f600", "\ud800", "9" * 5000, "a" * 300, "any", "inf", "nan", "1e400",
    "[" * 2000, "{a=" * 1500,
)  # fmt: skip


def tweak_with(draw: Random) -> Tweak:
    """Return what changes bytes as `draw` says; under libFuzzer its own mutator does that."""

    def tweak(data: bytes) -> bytes:
        out = bytearray(data)
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            _tweak_once(out, draw)
        return bytes(out)

    return tweak


def _tweak_once(out: bytearray, draw: Random) -> None:
    at = draw.randrange(len(out) + 1)
    match draw.randrange(6):
        case 0 if at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        case 1 if at < len(out):
            out[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        case 2:
            del out[at : at + draw.choice((1, 1, 4, 16, 64))]
        case 3:
            out[at:at] = draw.randbytes(draw.choice((1, 1, 4, 8)))
        case 4:
            size = draw.choice((2, 4, 8))
            number = draw.choice(NUMBERS) % 256**size
            out[at : at + size] = number.to_bytes(size, "little")
        case _:
            start = draw.randrange(len(out) + 1)
            out[at:at] = out[start : start + draw.choice((1, 8, 64))]


def change_items(items: Sequence[T], draw: Random, change: Callable[[T], T]) -> list[T]:
    """Return a list of which an item is changed, left out, doubled or moved."""
    found = list(items)
    if not found:
        return found
    at = draw.randrange(len(found))
    match draw.randrange(8):
        case 0:
            del found[at]
        case 1:
            found.insert(draw.randrange(len(found) + 1), found[at])
        case 2:
            found.insert(draw.randrange(len(found)), found.pop(at))
        case _:
            found[at] = change(found[at])
    return found


# --- trees -----------------------------------------------------------------------------------


def change_json(text: str | bytes, draw: Random, tweak: Tweak) -> bytes:
    """Return JSON with one place changed; what is none is changed as text."""
    raw = text.encode() if isinstance(text, str) else text
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError):
        return change_text(raw, draw, tweak)
    return _written(change_tree(tree, draw)).encode(errors="surrogatepass")


def _written(tree: Any) -> str:
    return json.dumps(tree, separators=(",", ":"))


def change_tree(tree: Any, draw: Random) -> Any:
    """Return a tree of lists, dictionaries and plain values of which one place is changed."""
    places = list(_places(tree, ()))
    path = draw.choice(places)
    donor = _at(tree, draw.choice(places))
    return _changed(tree, path, lambda old: _other(old, donor, draw))


def _places(tree: Any, path: tuple[Any, ...]) -> Any:
    yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _places(value, (*path, key))
    elif isinstance(tree, list):
        for at, value in enumerate(tree):
            yield from _places(value, (*path, at))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _changed(tree: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(tree)
    key, *rest = path
    if isinstance(tree, dict):
        return {**tree, key: _changed(tree[key], tuple(rest), change)}
    return [_changed(one, tuple(rest), change) if at == key else one for at, one in enumerate(tree)]


def _other(old: Any, donor: Any, draw: Random) -> Any:
    """Return what stands in the place of a value: one like it, one from elsewhere, or any."""
    kind = draw.randrange(6)
    if kind == 0:
        return donor
    if kind == 1:
        return _any(draw)
    if isinstance(old, dict) and old:
        return _other_table(old, donor, draw)
    if isinstance(old, list):
        return change_items(old, draw, lambda one: _other(one, donor, draw)) or [donor]
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return old + draw.choice((-1, 1, 2, 64)) if kind == 2 else draw.choice(NUMBERS)
    if isinstance(old, float):
        return draw.choice((0.0, -0.0, -old, old * 1e300, math.inf, math.nan))
    if isinstance(old, str):
        return _other_text(old, draw)
    return _any(draw)


def _other_table(old: dict[Any, Any], donor: Any, draw: Random) -> dict[Any, Any]:
    key = draw.choice(list(old))
    match draw.randrange(5):
        case 0:
            return {k: v for k, v in old.items() if k != key}
        case 1:
            return {**old, _other_text(str(key), draw): donor}
        case 2:
            return {(_other_text(str(k), draw) if k == key else k): v for k, v in old.items()}
        case 3:
            return {k: old[k] for k in draw.sample(list(old), len(old))}
        case _:
            return {**old, key: _other(old[key], donor, draw)}


def _other_text(old: str, draw: Random) -> str:
    if draw.randrange(3) == 0:
        return draw.choice(TEXTS)
    return tweak_with(draw)(old.encode(errors="replace")).decode(errors="replace")


def _any(draw: Random) -> Any:
    return draw.choice(
        (None, True, False, draw.choice(NUMBERS), 0.5, -1e308, draw.choice(TEXTS), [], {}, [[]],
         [None], {"": None}, [0, 1, 2], {"i": "1"}, {"t": []}, {"d": []}, {"b": ""})
    )  # fmt: skip


# --- texts -----------------------------------------------------------------------------------

_TOKENS = re.compile(rb"\w+|\s+|.", re.DOTALL)


def change_text(
    data: bytes, draw: Random, tweak: Tweak, words: Sequence[bytes] = (), others: bytes = b""
) -> bytes:
    """Return a text of which a word, a mark or a line is changed.

    Args:
        data: The text.
        draw: What decides.
        tweak: Changes bytes in any way.
        words: Words that such texts know.
        others: Another such text, of which parts may be taken over.
    """
    lines = draw.randrange(3) == 0 and b"\n" in data
    found = data.splitlines(keepends=True) if lines else _TOKENS.findall(data)
    given = others.splitlines(keepends=True) if lines else _TOKENS.findall(others)

    def other(old: bytes) -> bytes:
        match draw.randrange(6):
            case 0 if words:
                return draw.choice(words)
            case 1 if given:
                return draw.choice(given)
            case 2 if found:
                return draw.choice(found)
            case 3:
                return draw.choice(TEXTS).encode(errors="surrogatepass")
            case 4:
                return str(draw.choice(NUMBERS)).encode()
            case _:
                return tweak(old)

    changed = b"".join(change_items(found, draw, other))
    return changed if found else other(b"")


# --- messages --------------------------------------------------------------------------------


def change_message(message: Any, draw: Random, tweak: Tweak) -> None:
    """Change one field of a protobuf message, or of a message in it."""
    inside: list[Any] = []
    _collect(message, inside, 0)
    chosen = draw.choice([one for one in inside if one.DESCRIPTOR.fields])
    fields = chosen.DESCRIPTOR.fields
    there = [field for field, _ in chosen.ListFields()]
    field = draw.choice(there if there and draw.randrange(3) else fields)
    try:
        _change_field(chosen, field, draw, tweak)
    except (ValueError, TypeError, UnicodeError):  # a value that the field cannot hold
        chosen.ClearField(field.name)


def _collect(message: Any, inside: list[Any], depth: int) -> None:
    inside.append(message)
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE or depth > 8:
            continue
        for one in value if field.is_repeated else (value,):
            _collect(one, inside, depth + 1)


def _change_field(message: Any, field: Any, draw: Random, tweak: Tweak) -> None:
    if not field.is_repeated:
        _change_one(message, field, draw, tweak)
        return
    values = getattr(message, field.name)
    if field.type == field.TYPE_MESSAGE:
        kept = [type(one).FromString(one.SerializeToString()) for one in values]
        changed = change_items(kept, draw, lambda one: one)
        if not kept or draw.randrange(4) == 0:
            values.add()
        else:
            del values[:]
            values.extend(changed)
        return
    kept = change_items(list(values), draw, lambda one: _scalar(one, field, draw, tweak))
    if not values:
        kept = [_scalar(_empty(field), field, draw, tweak)]
    del values[:]
    values.extend(kept)


def _change_one(message: Any, field: Any, draw: Random, tweak: Tweak) -> None:
    if draw.randrange(6) == 0:
        message.ClearField(field.name)
    elif field.type == field.TYPE_MESSAGE:
        getattr(message, field.name).SetInParent()
    else:
        value = _scalar(getattr(message, field.name), field, draw, tweak)
        setattr(message, field.name, value)


def _empty(field: Any) -> Any:
    return {field.CPPTYPE_STRING: b"" if field.type == field.TYPE_BYTES else ""}.get(
        field.cpp_type, 0
    )


def _scalar(old: Any, field: Any, draw: Random, tweak: Tweak) -> Any:
    if field.type == field.TYPE_BYTES:
        return tweak(old) if draw.randrange(4) else draw.randbytes(draw.choice((0, 1, 16, 64, 65)))
    if field.type == field.TYPE_STRING:
        known = old.decode(errors="replace") if isinstance(old, bytes) else old
        return _other_text(known, draw).encode(errors="replace").decode()
    if field.cpp_type == field.CPPTYPE_BOOL:
        return not old
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return draw.choice((0.0, -1.0, math.inf, math.nan, 1e30))
    bits = 64 if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64) else 32
    number = draw.choice((old + 1, old - 1, *NUMBERS))
    if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return number % (1 << bits)
    return (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def bytes_of(text: str) -> bytes:
    """Return a text as bytes, whatever it holds."""
    return text.encode(errors="surrogatepass")
