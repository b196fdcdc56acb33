"""Turns what others recorded into traces: Mooncake's files, and what Nodes of our engine emitted.

Both read one line or step after the other and keep a few thousand rows at a time; the trace is
written whole or not at all.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, cast

import polars as pl

from bb_datasource_trace.errors import TraceLineMalformed, TraceRowInvalid
from bb_datasource_trace.traces import LATEST, SCHEMA, reading, scan, write_trace

__all__ = ["EVENT", "MOONCAKE_BLOCK", "Reported", "import_mooncake", "import_steps"]

#: Tokens of a block in Mooncake's traces.
MOONCAKE_BLOCK: Final = 512
#: Name of the output with which a serving program tells of a request.
EVENT: Final = "kv_request"
_CHUNK: Final = 4096
_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64

Row = dict[str, Any]


class Reported(Protocol):
    """What a Node reported at one time, such as a `bb_runtime.replay.Entry`.

    Attributes:
        now_ns: The Node's time.
        steps: What it reported; only those count that have a `name` and a `value`.
    """

    @property
    def now_ns(self) -> int:
        """The Node's time, in nanoseconds."""
        ...

    @property
    def steps(self) -> Sequence[Any]:
        """What the Node reported."""
        ...


def import_mooncake(
    source: str | Path,
    path: str | Path,
    *,
    model: str,
    node: str = "node-0",
    tenant: str = "default",
    start_ns: int = 0,
    slo_ms: int = 0,
) -> int:
    """Write a trace from a file of Mooncake's: JSON lines of requests to one service.

    Each line has `timestamp` (milliseconds), `input_length`, `output_length` (tokens) and
    `hash_ids`, one for each block of 512 tokens of the input, the last of which may be shorter:
    14 for 6955 tokens. Lines come in the order of their times. Empty lines are left out. Source:
    the repository kvcache-ai/Mooncake, the traces of its FAST'25 paper.

    Args:
        source: The file.
        path: The trace to be written.
        model: Digest of the model, as text; the file does not tell.
        node: The node that was asked; likewise.
        tenant: Who asked; likewise.
        start_ns: Added to all times.
        slo_ms: In which time answers begin; 0 for no promise.

    Returns:
        How many requests there are.

    Raises:
        TraceLineMalformed: A line is not such a line; the error names it.
        TraceRowInvalid: What is told beside the file cannot be in a trace.
        TraceUnreadable: The file cannot be read, or the trace not be written.
    """
    told: Row = {"node": node, "tenant": tenant, "model": model, "session": ""}
    for name, text in told.items():
        if not _is_text(text):
            raise TraceRowInvalid(f"{name} is {text!r:.40}", expected="a text")
    for name, number in (("start_ns", start_ns), ("slo_ms", slo_ms * 1_000_000)):
        if not 0 <= number <= LATEST:
            raise TraceRowInvalid(
                f"{name} stands for {number} ns", expected=f"0 to {LATEST} ns, as in a trace"
            )
    rows = _mooncake_rows(Path(source), start_ns, {**told, "slo_ns": slo_ms * 1_000_000})
    return _write(rows, Path(path))


def import_steps(
    nodes: Mapping[str, Iterable[Reported]], path: str | Path, *, output: str = EVENT
) -> int:
    """Write a trace of the requests that Nodes of ours told of.

    A program that serves says so with `g.output("kv_request", request)`, where `request` is a
    record with the fields `tenant`, `model` and `session` (texts), `in_tokens` and `out_tokens`
    (whole numbers), `block_hashes` (a tensor (blocks,) of uint64) and, if there is one, `slo_ns`.
    The time of the row is that of the Node when it told.

    What a Node told can be had while it runs, or from its journal afterwards: a
    `bb_runtime.replay.Replay` is what this function takes for a Node. Rows of several Nodes are
    merged by their times, which must be of one clock.

    Args:
        nodes: What each Node reported, in order, by its name, such as its peer id.
        path: The trace to be written.
        output: Name of the output.

    Returns:
        How many requests there are.

    Raises:
        TraceRowInvalid: A value lacks a field, or holds something else in it; or the time of a
            Node went back.
        TraceUnreadable: The trace cannot be written.
    """
    each = [_step_rows(told, node, output) for node, told in nodes.items()]
    return _write(heapq.merge(*each, key=lambda row: row["ts_ns"]), Path(path))


def _write(rows: Iterable[Row], path: Path) -> int:
    """Write rows chunk by chunk, then all of them as one trace."""
    count, rows = 0, iter(rows)
    with reading(path), TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        chunks: list[Path] = []
        while chunk := list(islice(rows, _CHUNK)):
            count += len(chunk)
            chunks.append(Path(folder, f"{len(chunks)}.arrow"))
            pl.DataFrame(chunk, schema=SCHEMA).write_ipc(chunks[-1])
        parts = [scan(one) for one in chunks]
        write_trace(pl.concat(parts) if parts else pl.DataFrame(schema=SCHEMA), path)
    return count


# Mooncake


def _mooncake_rows(source: Path, start_ns: int, told: Row) -> Iterator[Row]:
    last = 0
    with reading(source), source.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = _mooncake_row(line, f"line {number} of {str(source)!r}")
            if row["ts_ns"] < last:
                raise _malformed(
                    f"line {number} of {str(source)!r}", "is earlier than the line before"
                )
            last = row["ts_ns"]
            yield {**row, **told, "ts_ns": last + start_ns}


def _mooncake_row(line: bytes, where: str) -> Row:
    try:
        found: Any = json.loads(line)
    except ValueError as error:  # also what is no UTF-8, and numbers of thousands of digits
        raise _malformed(where, f"is no JSON: {error}") from error
    except RecursionError:
        raise _malformed(where, "is nested too deeply") from None
    if not isinstance(found, dict):
        raise _malformed(where, f"is a {type(found).__name__}")
    given = cast("dict[str, Any]", found)
    times, tokens_in, tokens_out = (
        _whole(given.get(name), name, where, most)
        for name, most in (
            ("timestamp", 1 << 40), ("input_length", _INT64), ("output_length", _INT64),
        )
    )  # fmt: skip
    ids: Any = given.get("hash_ids")
    if not isinstance(ids, list):
        raise _malformed(where, "has no list hash_ids")
    hashes = [_whole(one, "hash id", where, _UINT64) for one in ids]
    wanted = -(-tokens_in // MOONCAKE_BLOCK)
    if len(hashes) != wanted:
        raise _malformed(
            where,
            f"has {len(hashes)} hash_ids for {tokens_in} tokens, which are {wanted} blocks",
        )
    return {
        "ts_ns": times * 1_000_000,
        "in_tokens": tokens_in,
        "out_tokens": tokens_out,
        "block_hashes": hashes,
    }


def _whole(value: Any, name: str, where: str, most: int) -> int:
    if type(value) is not int or not 0 <= value < most:
        raise _malformed(where, f"has the {name} {value!r:.40}, which is no number from 0 on")
    return value


def _malformed(where: str, why: str) -> TraceLineMalformed:
    return TraceLineMalformed(
        f"{where} {why}",
        expected='such as {"timestamp": 0, "input_length": 600, "output_length": 9, '
        '"hash_ids": [0, 1]}, sorted by timestamp',
        fix="mend the line or leave it out",
        where=(where,),
    )


# Our engine


def _step_rows(told: Iterable[Reported], node: str, output: str) -> Iterator[Row]:
    number = 0
    for entry in told:
        for step in entry.steps:
            if getattr(step, "name", None) != output:
                continue
            where = f"output {number} of {node!r}, at {entry.now_ns} ns"
            if not _is_text(node):
                raise _not_a_request(where, "has a node whose name is no text")
            now_ns = _number(entry.now_ns, "time", where)
            yield {"ts_ns": now_ns, "node": node, **_request(step.value, where)}
            number += 1


def _request(value: Any, where: str) -> Row:
    if not isinstance(value, Mapping):
        raise _not_a_request(where, f"is a {type(value).__name__}")
    given = cast("Mapping[str, Any]", value)
    row: Row = {"slo_ns": _number(given.get("slo_ns", 0), "slo_ns", where)}
    for name in ("tenant", "model", "session"):
        text = given.get(name)
        if not _is_text(text):
            raise _not_a_request(where, f"has the {name} {text!r:.40}")
        row[name] = text
    for name in ("in_tokens", "out_tokens"):
        row[name] = _number(given.get(name), name, where)
    row["block_hashes"] = _hashes(given.get("block_hashes"), where)
    return row


def _is_text(value: object) -> bool:
    """Tell whether a value is a text that a file can hold."""
    return isinstance(value, str) and not any("\ud800" <= one <= "\udfff" for one in value)


def _number(value: Any, name: str, where: str) -> int:
    try:
        number = -1 if getattr(value, "ndim", 0) else int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0 or isinstance(value, str) or number != value or number >= _INT64:
        raise _not_a_request(where, f"has the {name} {value!r:.40}")
    return number


def _hashes(value: Any, where: str) -> list[int]:
    items: Any = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(items, list | tuple):
        raise _not_a_request(where, f"has the block_hashes {value!r:.40}")
    found = list(cast("Sequence[Any]", items))
    for one in found:
        if type(one) is not int or not 0 <= one < _UINT64:
            raise _not_a_request(where, f"has the block hash {one!r:.40}")
    return found


def _not_a_request(where: str, why: str) -> TraceRowInvalid:
    return TraceRowInvalid(
        f"{where} {why}",
        expected="a record of tenant, model, session (texts), in_tokens, out_tokens, slo_ns (whole "
        "numbers from 0 on) and block_hashes (uint64)",
        fix="record these fields where the program tells of a request",
        where=(where,),
    )
