"""How fast codecs encode and decode an update, and how much smaller it becomes.

Speed is that of the bytes of the update itself, per second of CPU, in both directions. The update
is of normal numbers, which is what gradients and differences of parameters look like: without loss
nothing makes them much smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Effort, Row, Times, interleave, shown_ratio

from bb_ir.params import ParameterSet
from bb_roles.registry import bound_class
from bb_testing import FakeContext, environment

from bench_aggregators import speeds  # isort: skip

_COUNT = 1_000_000
#: By what stands in the table: the plugin, and its configuration.
_CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    "zstd": ("zstd", {}),
    "quantize to int8": ("quantize", {}),
    "quantize to int8 per channel, by chance": (
        "quantize",
        {"per": "channel", "rounding": "stochastic"},
    ),
    "quantize to int4": ("quantize", {"to": "int4"}),
    "quantize to float16": ("quantize", {"to": "float16"}),
    "quantize to bfloat16": ("quantize", {"to": "bfloat16"}),
    "topk, 1 %": ("topk", {"share": 0.01}),
    "topk, 10 %": ("topk", {"share": 0.1}),
    "chain of quantize, zstd": ("chain", {"codecs": ("quantize", "zstd")}),
    "chain of topk, quantize, zstd": ("chain", {"codecs": ("topk", "quantize", "zstd")}),
}
_COMPRESS = "topk, 1 %, with error feedback"


def measure(effort: Effort) -> dict[str, Any]:
    """Measure both directions of each codec, and a copy of the update."""
    count = effort.size(_COUNT, 1810)
    values = np.random.default_rng(0).standard_normal(count, dtype=np.float32)
    update = ParameterSet.from_tensors({"w": values[10:].reshape(-1, 90), "b": values[:10]})
    context, sizes = FakeContext(), {}
    calls: dict[str, Callable[[], object]] = {"copy": update.to_bytes}
    for name, (plugin, config) in _CODECS.items():
        codec = _made(plugin, config)
        encoded = codec.encode(context, update)
        sizes[name] = _bytes_of(encoded)
        calls[f"encode {name}"] = _call(codec.encode, context, update)
        calls[f"decode {name}"] = _call(codec.decode, context, encoded)
    feedback = _made("topk", {"share": 0.01})
    sizes[_COMPRESS] = _bytes_of(feedback.compress(context, update))
    calls[f"encode {_COMPRESS}"] = _call(feedback.compress, context, update)
    seconds = interleave(calls, effort, samples=7)
    return {"count": count, "bytes": update.nbytes, "sizes": sizes, "seconds": seconds}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    copy, count = times["copy"], result["count"]
    found: list[Row] = []
    for name, size in result["sizes"].items():
        for way in ("encode", "decode"):
            if f"{way} {name}" not in times:
                continue
            own = times[f"{way} {name}"]
            smaller = f"; {result['bytes'] / size:.2f} times smaller" if way == "encode" else ""
            found.append(
                Row(
                    "",
                    f"{way} 1 M float32: {name}; against a copy",
                    "",
                    f"{speeds(own, count)}{smaller}",
                    shown_ratio(own, copy),
                )
            )
    return found


def _made(plugin: str, config: dict[str, Any]) -> Any:
    cls = bound_class("codec", plugin)
    return cls(cls.Config(**config), environment("codec"))


def _call(method: Callable[..., object], *given: Any) -> Callable[[], object]:
    return lambda: method(*given)


def _bytes_of(encoded: Any) -> int:
    return len(encoded) if isinstance(encoded, bytes) else int(encoded.nbytes)
