"""Carrying plans out.

What executors of plans meet, and those who submit plans to them. Why single ops failed stands in a
plan's report; the errors named there are these, too.
"""

import threading
from pathlib import Path

from bb_executor_cpu._executor import CpuConfig, CpuExecutor
from bb_ir.plan import CachePlan, KvPageRef, TransferKind, TransferOp
from bb_plans.places import Places
from bb_roles import Wave


def page(src, kind=TransferKind.H2H):
    """Return a plan that moves one page."""
    ref = KvPageRef("kv", 0, page_bytes=64)
    return CachePlan("demo", (TransferOp(kind, src, "mem://out", 64, kv_refs=(ref,)),))


# %% BadWave: b has shape (2, 2)
with CpuExecutor(CpuConfig(), Places()) as executor:
    executor.submit_wave(Wave(2, 3, 2), [[1, 2], [3, 4]], [[5, 6], [7, 8]])


# %% DigestMismatch: instead of sha256:
import hashlib

from bb_ir.plan import Digest, DigestAlgorithm
from bb_plans.execution import check_arrived

promised = Digest(DigestAlgorithm.SHA256, hashlib.sha256(b"weights").digest())
arrived = Digest(DigestAlgorithm.SHA256, hashlib.sha256(b"weightz").digest())
check_arrived(promised, arrived)


# %% ExecutorClosed: closed
with CpuExecutor(CpuConfig(), Places()) as executor:
    pass

executor.submit(CachePlan("demo"))


# %% NotFinished: 0 of 1 ops
gate = threading.Event()


def slow_peer(place, offset, length):
    """Answer when the gate opens."""
    gate.wait(10)
    return bytes(length)


places = Places(arenas={"mem://out": bytearray(64)}, fetch=slow_peer)
with CpuExecutor(CpuConfig(), places) as executor:
    ticket = executor.submit(page("net://peer/page", TransferKind.NET2H))
    try:
        ticket.wait(0.05)
    finally:
        gate.set()


# %% OutsideWindow: token 3
with CpuExecutor(CpuConfig(), Places()) as executor:
    executor.submit_wave(Wave(1, 1, 1, swap_begin=0, swap_end=3), [[2]], [[3]])
    executor.set_weights([[4]], token=3)


# %% PlaceFailed: file://layer; symbolic link
Path("elsewhere").write_bytes(bytes(64))
Path("files").mkdir()
Path("files/layer").symlink_to("../elsewhere")
Places(files=Path("files")).source("file://layer")


# %% PlanFailed: 1 of 1 ops are not done; sent 3 bytes instead of 64
places = Places(arenas={"mem://out": bytearray(64)}, fetch=lambda *_: b"abc")
with CpuExecutor(CpuConfig(), places) as executor:
    report = executor.submit(page("net://peer/page", TransferKind.NET2H)).wait()
report.check()


# %% UnknownMove: not under way
from bb_plans.execution import Execution

execution = Execution(page("mem://in"), 0)
(move,) = execution.ready(0)
execution.finish(move, 1)
execution.finish(move, 2)


# %% UnknownPlace: no arena 'mem://staged'
Places(arenas={"mem://out": bytearray(64)}).arena("mem://staged")
