"""How recording and compiling grow with the program."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from do_nothing import Chain, Same
from measure import Effort, Row, Times, interleave, ratio, shown

from bb_compiler import Compiler

SIZES = [1_250, 2_500, 5_000, 10_000]


def measure(effort: Effort) -> dict[str, Any]:
    """Measure chains of `Add`s, one run per sample; recording at the two smaller sizes."""
    sizes = [4, 8] if effort.smoke else SIZES
    once = Effort(effort.samples, least=0.0, smoke=effort.smoke)
    compiler = Compiler().bind_backend("backend", Same)
    calls: dict[str, Callable[[], object]] = {}
    artifact_bytes: dict[str, int] = {}
    for size in sizes:
        recorded = Chain(size).build()
        artifact_bytes[str(size)] = len(compiler.compile(recorded).SerializeToString())
        calls[f"compile {size}"] = lambda recorded=recorded: compiler.compile(recorded)
    for size in sizes[:2]:
        calls[f"record {size}"] = Chain(size).build
    seconds = interleave(calls, once, samples=5)
    return {"sizes": sizes, "bytes": artifact_bytes, "seconds": seconds}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    sizes = result["sizes"]
    first, last = sizes[0], sizes[-1]
    grown = ratio(times[f"record {sizes[1]}"], times[f"record {first}"])
    found = [
        Row(
            "",
            f"recording {size:,} ops, per op",
            "",
            shown(times[f"record {size}"], "us", 1e6 / size),
            f"{grown:.2f}x in all for twice the ops" if size != first else "",
        )
        for size in sizes[:2]
    ]
    found += [
        Row(
            "G16",
            f"compiling {first:,} ops",
            "1,000 ops in less than 1 s",
            f"{shown(times[f'compile {first}'], 's', 1)}, "
            f"{shown(times[f'compile {first}'], 'us', 1e6 / first)} per op",
            met=min(times[f"compile {first}"]) * 1000 / first < 1,
        ),
    ]
    for small, large in pairwise(sizes):
        bound = 1.3 * 2 * math.log(large) / math.log(small)
        grown = ratio(times[f"compile {large}"], times[f"compile {small}"])
        found.append(
            Row(
                "G16",
                f"compiling {large:,} ops against {small:,}",
                f"at most {bound:.2f}x",
                shown(times[f"compile {large}"], "s", 1),
                f"{grown:.2f}x",
                grown <= bound,
            )
        )
    per_op = {size: result["bytes"][str(size)] / size for size in (first, sizes[1], last)}
    found += [
        Row("", f"artifact of {size:,} ops, per op", "", f"{each:.0f} bytes")
        for size, each in per_op.items()
    ]
    return found
