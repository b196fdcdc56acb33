"""What an envelope costs: encoded, built, carried, read and decoded.

Framing is the envelope without its values: prelude, header and the list of segments, on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from do_nothing import parameters
from measure import Effort, Row, Times, interleave, ratio, shown, shown_ratio

from bb_ir.buffers import allocate
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import PARAMS
from bb_ir.values import Encoded, decode_value, encode_value
from bb_ir.wire import (
    DEFAULT_LIMITS,
    PRELUDE_SIZE,
    Built,
    Hop,
    build_envelope,
    fill_data,
    read_header,
    read_prelude,
)

_PROGRAM = bytes(16)
_CHAIN = (Hop(7, 1, PeerId.from_seed(0, 0).raw),)


def measure(effort: Effort) -> dict[str, Any]:
    """Measure 4 MB, its parts without the one copy, and 650 parameters."""
    large, small = parameters(effort.size(1_000_000, 2_000)), parameters(650)
    fill = encode_value(large, PARAMS)
    buffer = allocate(build(fill).payload_length)
    image, other = np.asarray(large.image), allocate(large.nbytes)
    calls: dict[str, Callable[[], object]] = {
        "whole": lambda: _through(large, buffer),
        "memcpy": lambda: np.copyto(other, image),
        "framing": lambda: read(build(fill), buffer),
        "values": lambda: decode_value(PARAMS, 0, encode_value(large, PARAMS).data),
        "small": lambda: _through(small, buffer[:0]),
        "small_out": lambda: build(encode_value(small, PARAMS)),
    }
    return {"bytes": large.nbytes, "seconds": interleave(calls, effort)}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    whole, memcpy, framing, small = (times[n] for n in ("whole", "memcpy", "framing", "small"))
    values = times["values"]
    speed = [result["bytes"] / median(t) / 1e9 for t in (whole, memcpy)]
    copied = [a - b - c for a, b, c in zip(whole, framing, values, strict=True)]
    return [
        Row(
            "G10",
            "a 4 MB envelope: encode, build, copy into the receiver's buffer, read, decode; "
            "against one memcpy",
            "one copy",
            f"{shown(whole, 'us', 1e6)}, {speed[0]:.1f} GB/s; memcpy {speed[1]:.1f} GB/s",
            shown_ratio(whole, memcpy),
            ratio(copied, memcpy) < 1.5,
        ),
        Row(
            "G10",
            "its framing, both sides",
            "at most 10 us",
            shown(framing, "us", 1e6),
            met=median(framing) <= 10e-6,
        ),
        Row(
            "",
            "its value, 4 MB of parameters: encode and decode without any copy",
            "",
            shown(values, "us", 1e6),
        ),
        Row(
            "",
            "650 parameters, which travel in the header: both sides, and the sender's share",
            "",
            f"{shown(small, 'us', 1e6)}; sender {shown(times['small_out'], 'us', 1e6)}",
        ),
    ]


def build(fill: Encoded) -> Built:
    """Do what a sender does."""
    return build_envelope(
        _PROGRAM, 1, 1, 1, remaining_ns=30_000_000_000, chain=_CHAIN, fills=[fill]
    )


def read(built: Built, payload: Any) -> memoryview:
    """Do what a receiver does, once the payload is in its buffer; return the value's bytes."""
    head = memoryview(built.head)
    prelude = read_prelude(head[:PRELUDE_SIZE], DEFAULT_LIMITS)
    header = read_header(prelude, head[PRELUDE_SIZE:], DEFAULT_LIMITS)
    return fill_data(header, memoryview(payload))[0]


def _through(params: ParameterSet, buffer: Any) -> object:
    built = build(encode_value(params, PARAMS))
    built.write_into(memoryview(buffer))
    return decode_value(PARAMS, 0, read(built, buffer))
