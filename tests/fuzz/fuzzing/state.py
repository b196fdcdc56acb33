"""What a Node wrote down itself: snapshots, dumps, journals and their files."""

from __future__ import annotations

import atexit
import shutil
import struct
import tempfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from bb_ir.errors import BytesAndBrainsError
from bb_runtime import Node
from bb_runtime.errors import OpError, SnapshotError
from bb_runtime.journal import Chain, Kind, Scan
from bb_runtime.replay import replay
from bb_runtime.steps import OpFailed
from bytesandbrains.journal import read_journal
from fuzzing._mutate import change_items, change_json
from fuzzing._target import Finding, Target, Tweak
from fuzzing.envelopes import change_envelope
from fuzzing.worlds import SECOND, World, federation, ids, installed, world

__all__ = ["JOURNALS", "SNAPSHOTS"]

_DUMP_HEAD = struct.Struct("<4sHHIQ")


# --- snapshots -------------------------------------------------------------------------------


def read_snapshot(data: bytes) -> str:
    """Restore a Node; what is refused changes nothing, and what is taken can go on."""
    number, clean, body = (data[0] // 2, data[0] % 2 == 0, data[1:]) if data else (0, True, b"")
    node = _fresh(world(number), clean=clean)
    before = node.snapshot()
    try:
        node.restore(body, clean=clean)
    except SnapshotError:
        if node.snapshot() != before:
            raise Finding("a snapshot that was refused has changed the Node") from None
        raise
    return _goes_on(node)


def _fresh(this: World, *, clean: bool) -> Node:
    return installed(this.program, this.number, incarnation=1 if clean else 2)


def _goes_on(node: Node) -> str:
    """Let a Node work; whatever it was made, it ends with errors of ours or none."""
    for _ in range(3):
        for _ in range(20):
            steps = node.poll(100)
            for step in steps:
                if isinstance(step, OpFailed) and not isinstance(step.error, _EXPECTED):
                    raise Finding(f"{step.op} failed: {step.error!r}\n{step.trace}")
            if not steps:
                break
        node.snapshot()
        node.advance(node.now_ns + 70 * SECOND)
    return ""


#: What components may raise when they are given other values than their program makes.
_EXPECTED = (OpError, BytesAndBrainsError, ArithmeticError, LookupError, TypeError, ValueError)


@cache
def _snapshots() -> tuple[bytes, ...]:
    found: list[bytes] = []
    for number in range(3):
        node = world(number).node()
        found.append(bytes((2 * number,)) + node.snapshot())
        for one in federation(world(number).program)[:9]:
            if one.to == world(number).number:
                node.receive_bytes(one.data, ids()[one.source])
        found.append(bytes((2 * number,)) + node.snapshot())  # nothing of it was polled
        node.poll(3)
        found.append(bytes((2 * number + 1,)) + node.snapshot())
    return tuple(found)


def change_snapshot(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change what a snapshot says; its checksum fits again."""
    if not data or draw.randrange(30) == 0:
        return tweak(data)
    return data[:1] + change_dump(data[1:], draw, tweak)


def change_dump(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change the outline of a dump, or what it refers to; its checksum fits again."""
    if len(data) < _DUMP_HEAD.size or draw.randrange(20) == 0:
        return tweak(data)
    magic, version, reserved, _, length = _DUMP_HEAD.unpack_from(data)
    end = _DUMP_HEAD.size + length
    outline, segments = data[_DUMP_HEAD.size : end], data[end + -end % 64 :]
    match draw.randrange(8):
        case 0:
            segments = tweak(segments)
        case 1:
            outline = tweak(outline)
        case _:
            outline = _changed_outline(outline, draw, tweak)
    rest = outline + bytes(-(_DUMP_HEAD.size + len(outline)) % 64) + segments
    check = zlib.crc32(rest, zlib.crc32(len(outline).to_bytes(8, "little")))
    return _DUMP_HEAD.pack(magic, version, reserved, check, len(outline)) + rest


def _changed_outline(outline: bytes, draw: Random, tweak: Tweak) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        outline = change_json(outline, draw, tweak)
    return outline


# --- journals --------------------------------------------------------------------------------


def read_journal_bytes(data: bytes) -> str:
    """Read the records of a journal and do again what they say; or read them as a file."""
    if data[:1] == b"F":
        return _read_file(data[1:])
    records = list(Scan(data[1:]))
    made = replay(records)
    if made.interrupted:
        return "interrupted"
    made.node.snapshot()
    return ""


def _read_file(data: bytes) -> str:
    segment = _folder() / "00000001.bbj"
    for old in _folder().iterdir():
        old.unlink()
    segment.write_bytes(data)
    files = read_journal(_folder())
    return "" if list(files) else "nothing"


@cache
def _folder() -> Path:
    found = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    return found


@cache
def _journals() -> tuple[bytes, ...]:
    return (*(b"R" + _recorded(number) for number in range(3)), b"F" + _written())


def _recorded(number: int) -> bytes:
    """Return what a Node wrote down while its peers answered."""
    records: list[bytes] = []
    this = world(number)
    _run(this, this.node(journal=records.append))
    return b"".join(records)


def _run(this: World, node: Node) -> None:
    for one in federation(this.program)[:9]:
        if one.to == this.number:
            node.receive_bytes(one.data, ids()[one.source])
            node.poll(2)
    node.advance(node.now_ns + SECOND)
    node.block_peer(ids()[2])
    node.poll()


def _written() -> bytes:
    from bytesandbrains.journal import FileJournal

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        journal = FileJournal(path)
        _run(world(1), world(1).node(journal=journal))
        journal.close()
        (segment,) = path.iterdir()
        return segment.read_bytes()


def change_journal(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change, leave out, double or move records; they follow each other again."""
    if draw.randrange(20) == 0:
        return tweak(data)
    end = _FILE_HEAD if data[:1] == b"F" else 1
    head, records = data[:end], data[end:]
    try:
        known = [bytes((int(one.kind),)) + bytes(one.body) for one in Scan(records)]
    except BytesAndBrainsError:
        return tweak(data)
    if not known:
        return tweak(data)
    changed = change_items(known, draw, lambda one: _changed_record(one, draw, tweak))
    if head[:1] == b"F" and draw.randrange(4) == 0:
        head = _checked_head(tweak(head))
    return head + _chained(changed, draw)


_FILE_HEAD = 1 + struct.calcsize("<4sHHIQ16sI")


def _checked_head(head: bytes) -> bytes:
    body = head[: _FILE_HEAD - 4]
    return body + zlib.crc32(body[1:]).to_bytes(4, "little")


def _chained(bodies: Sequence[bytes], draw: Random) -> bytes:
    """Return records that follow each other; of a few, an artifact fits the record before it."""
    chain = Chain()
    parts: list[bytes] = []
    for body in bodies:
        kind = body[0] if body else 0
        try:
            known = Kind(kind)
        except ValueError:
            known = Kind(draw.choice(list(Kind)))
        parts.append(chain.add(known, body[1:]))
    return b"".join(parts)


def _changed_record(body: bytes, draw: Random, tweak: Tweak) -> bytes:
    kind, rest = body[:1], body[1:]
    if draw.randrange(12) == 0:
        return bytes((draw.choice(list(Kind)),)) + rest
    match kind[0]:
        case Kind.INSTALL | Kind.CALL | Kind.RAISED | Kind.SNAPSHOT:
            return kind + change_dump(rest, draw, tweak)
        case Kind.DONE:
            return kind + rest[:8] + change_dump(rest[8:], draw, tweak)
        case Kind.OFFER if draw.randrange(3):
            at = 6 + rest[0] + rest[1]
            return kind + rest[:at] + change_envelope(rest[at:], draw, tweak)
        case Kind.ARTIFACT:
            return kind + (rest if draw.randrange(4) else tweak(rest))
        case _:
            return kind + tweak(rest)


SNAPSHOTS = Target("snapshots", _snapshots, change_snapshot, read_snapshot, base=8 << 20)
JOURNALS = Target(
    "journals", _journals, change_journal, read_journal_bytes, base=16 << 20, longest=1 << 17
)
