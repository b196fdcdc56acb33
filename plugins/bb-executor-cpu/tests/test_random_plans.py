"""Plans of all kinds: what is accepted gives the right bytes, what is refused changes nothing."""

import os
import random
import tempfile
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import event, given, settings
from hypothesis import strategies as st

from bb_executor_cpu._executor import CpuConfig, CpuExecutor
from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    InvalidPlan,
    KvPageRef,
    TransferKind,
    TransferOp,
    digest_text,
    parse_place,
)
from bb_plans._order import order_of
from bb_plans.places import Places
from bb_plans.store import Store

KINDS = {
    ("host", "device"): TransferKind.H2D,
    ("device", "host"): TransferKind.D2H,
    ("device", "device"): TransferKind.P2P,
    ("storage", "host"): TransferKind.STORAGE2H,
    ("host", "storage"): TransferKind.H2STORAGE,
    ("host", "host"): TransferKind.H2H,
    ("network", "host"): TransferKind.NET2H,
    ("storage", "storage"): TransferKind.STORAGE2STORAGE,
}
ARENAS = ("mem://a", "mem://b", "device://c", "tier://n/tier1")
BLOB = random.Random(1).randbytes(40)  # noqa: S311
CAS = "cas://" + digest_text(Digest(DigestAlgorithm.BLAKE3, blake3(BLOB).digest()))
SOURCES = (
    *ARENAS,
    "tier://n/tier0",
    "file://f",
    "file://new/g",
    CAS,
    "net://peer/x",
    "file://gone",
)
SINKS = (*ARENAS, "tier://n/tier0", "file://f", "file://new/g")


class World:
    """All places that there are, filled with bytes of their own."""

    def __init__(self, folder):
        fill = random.Random(7).randbytes  # noqa: S311
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir()
        (self.files / "f").write_bytes(fill(64))
        (folder / "tier").write_bytes(fill(64))
        self.store = Store(folder / "store")
        self.store.put(BLOB)
        self.arenas = {name: bytearray(fill(64)) for name in ARENAS}
        self.peer = fill(256)
        self.places = Places(
            files=self.files,
            store=self.store,
            arenas={**self.arenas, "tier://n/tier0": folder / "tier"},
            fetch=lambda _, offset, length: self.peer[offset : offset + length],
        )

    def close(self):
        self.places.close()
        self.store.close()

    def bytes(self):
        """Return what is in each place that can be written; what is not there is left out."""
        found = {name: bytes(held) for name, held in self.arenas.items()}
        paths = {"tier://n/tier0": self.folder / "tier"}
        paths |= {f"file://{name}": self.files / name for name in ("f", "new/g")}
        found |= {place: path.read_bytes() for place, path in paths.items() if path.exists()}
        return found


def carried_out(plan, world):
    """Return what is in each place when ops are done one after the other."""
    held = {**world.bytes(), CAS: BLOB, "net://peer/x": world.peer}
    turns = order_of(plan.ops, {}).turns
    for index in sorted(range(len(plan.ops)), key=turns.__getitem__):
        op = plan.ops[index]
        data = held.get(op.src, b"")[op.src_offset : op.src_offset + op.length]
        before = held.get(op.dst, b"").ljust(op.dst_offset, b"\0") if op.length else b""
        after = held.get(op.dst, b"")[op.dst_offset + op.length :]
        held[op.dst] = (
            before[: op.dst_offset] + data + after if op.length else held.get(op.dst, b"")
        )
    return {place: data for place, data in held.items() if place in SINKS}


@st.composite
def plans(draw):
    ops = []
    count = draw(st.integers(1, 6))
    steps = st.integers(0, 8).map(lambda n: n * 8)
    for number in range(count):
        src, dst = draw(st.sampled_from(SOURCES)), draw(st.sampled_from(SINKS))
        media = parse_place(src).medium.value, parse_place(dst).medium.value
        length = draw(st.sampled_from([0, 1, 8, 8, 16]))
        wild = draw(st.integers(0, 19)) == 7
        deps = (
            draw(st.sets(st.integers(0, count - 1 if wild else number - 1), max_size=1))
            if (wild or number)
            else set()
        )
        if not wild and media not in KINDS:
            dst, media = "mem://a", (media[0], "host")
        ops.append(
            TransferOp(
                KINDS.get(media, TransferKind.H2H), src, dst, length, draw(steps), draw(steps),
                (KvPageRef("kv", number, page_bytes=length),), op_id=f"op{number}",
                deps=tuple(f"op{one}" for one in deps), lane=draw(st.sampled_from(["", "", "l"])),
                priority=draw(st.integers(0, 1)),
            )
        )  # fmt: skip
    return CachePlan("plan", tuple(ops))


@pytest.mark.parametrize("coalesce", [0, 1 << 20])
@settings(deadline=None, max_examples=60)
@given(plans())
def test_accepted_plans_give_the_right_bytes_and_refused_ones_change_nothing(coalesce, plan):
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        world = World(Path(name))
        with CpuExecutor(
            CpuConfig(threads=3, coalesce=coalesce, pause=0), world.places
        ) as executor:
            before, expected = world.bytes(), carried_out(plan, world)
            try:
                ticket = executor.submit(plan)
            except InvalidPlan as refused:
                event(f"refused ({refused.problems[0].rule})")
                assert world.bytes() == before
                assert not (world.files / "new").exists()
            else:
                event("accepted")
                ticket.wait(20).check()
                assert {k: v for k, v in world.bytes().items() if v} == {
                    k: v for k, v in expected.items() if v
                }
        world.close()
