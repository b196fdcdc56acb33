"""Places of a plan: where bytes come from and go to, as texts that name nothing outside a root.

A place is a scheme, `://`, and a path that is taken literally: nothing in it is decoded, so that
`%2e%2e` is a name like others. Each scheme has a root that whoever carries out a plan decides.

========== ========= =================================================================
`file`     storage   a file below the store's root
`cas`      storage   a blob of the content-addressed store, by its digest
`mem`      host      a named arena in memory
`device`   device    a named arena on a device
`tier`     by number `tier://<node>/tier<n>`: 0 storage, 1 host, 2 and above devices
`net`      network   what a peer offers: `net://<peer>/<name>`
========== ========= =================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from bb_ir.plan.digests import parse_digest
from bb_ir.plan.errors import PlanFormatError

__all__ = ["SCHEMES", "Medium", "Place", "alike", "parse_place", "unsafe"]


class Medium(Enum):
    """What bytes are on."""

    STORAGE = "storage"
    HOST = "host"
    DEVICE = "device"
    NETWORK = "network"


class Place(NamedTuple):
    """A place, read.

    Attributes:
        scheme: What stands before `://`.
        path: What stands after it.
        medium: What it is on.
        node: Its node, when it is a tier.
        tier: Its number, when it is a tier; else -1.
    """

    scheme: str
    path: str
    medium: Medium
    node: str = ""
    tier: int = -1


#: The schemes there are, and what they are on; that of a tier depends on its number.
SCHEMES: Final[Mapping[str, Medium]] = MappingProxyType({
    "file": Medium.STORAGE,
    "cas": Medium.STORAGE,
    "mem": Medium.HOST,
    "device": Medium.DEVICE,
    "tier": Medium.DEVICE,
    "net": Medium.NETWORK,
})  # fmt: skip

_TIER: Final = re.compile(r"(?P<node>[^/]+)/tier(?P<tier>0|[1-9][0-9]{0,3})", re.ASCII)
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_LONGEST_PATH: Final = 1024
#: Paths that are safe at a glance, as nearly all are.
_NAME: Final = r"[\w+=@-][\w+=@.-]*"
_PLAIN: Final = re.compile(rf"{_NAME}(?:/{_NAME})*", re.ASCII)
_BLOB: Final = re.compile(r"(?:sha256|blake3):[0-9a-f]{64}", re.ASCII)
_ANY_BLOB: Final = f"cas://sha256:{'0' * 64}"


def parse_place(text: str) -> Place:
    """Read a place.

    Raises:
        PlanFormatError: It is none, or its path leaves its root.
    """
    scheme, mark, path = text.partition("://")
    if not mark or scheme not in SCHEMES:
        raise _refused(text, f"one of {', '.join(SCHEMES)}, then :// and a path")
    why = unsafe(path)
    if why:
        raise PlanFormatError(
            f"place {text[:80]!r} {why}", expected="a path that stays below its root"
        )
    if scheme == "cas":
        parse_digest(path)
    if scheme != "tier":
        return Place(scheme, path, SCHEMES[scheme])
    found = _TIER.fullmatch(path)
    if found is None:
        raise _refused(text, "tier://<node>/tier<number>")
    number = int(found["tier"])
    medium = (Medium.STORAGE, Medium.HOST, Medium.DEVICE)[min(number, 2)]
    return Place(scheme, path, medium, found["node"], number)


def alike(text: str) -> str:
    """Return a place that is as sound, and on the same medium; one stands for many others."""
    scheme, mark, path = text.partition("://")
    if not mark or scheme == "tier" or scheme not in SCHEMES or len(path) > _LONGEST_PATH:
        return text
    if scheme == "cas":
        return _ANY_BLOB if _BLOB.fullmatch(path) else text
    return f"{scheme}://any" if _PLAIN.fullmatch(path) else text


def unsafe(path: str) -> str:
    """Return why a path may not be used; an empty text when it may."""
    if _PLAIN.fullmatch(path) and len(path) <= _LONGEST_PATH:
        return ""
    if not path:
        return "has no path"
    if len(path) > _LONGEST_PATH:
        return f"has a path of {len(path)} characters"
    if path.startswith("/") or _DRIVE.match(path):
        return "has a path that begins at a root of the system"
    if "\\" in path or not path.isprintable():
        return "has a character in its path that no path needs"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "has a path with an empty part, `.` or `..`"
    return ""


def _refused(text: str, expected: str) -> PlanFormatError:
    return PlanFormatError(f"{text[:80]!r} is no place", expected=expected)
