"""The executor on a CPU: files, stores, peers, digests, retries, clocks and waves."""

import os
import subprocess
import sys
import textwrap
import threading

import ml_dtypes
import numpy as np
import pytest
from blake3 import blake3

from bb_executor_cpu import _executor
from bb_executor_cpu._executor import CpuConfig, CpuExecutor
from bb_executor_cpu._tickets import ThreadedTicket
from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    InvalidPlan,
    KvPageRef,
    SwapPlan,
    SwapWindow,
    TransferKind,
    TransferOp,
    WeightManifest,
    digest_text,
    sealed,
)
from bb_plans.deltas import encode
from bb_plans.errors import PlaceFailed, UnknownPlace
from bb_plans.places import Places
from bb_plans.store import Store
from bb_plans.throttles import Throttle
from bb_roles import OpState, Report, Wave
from bb_roles.errors import (
    BadWave,
    ConfigError,
    ExecutorClosed,
    NotFinished,
    OutsideWindow,
    PlanFailed,
)
from bb_roles.registry import executor_class, executor_spec

OLD = np.random.default_rng(0).integers(0, 256, 3 << 20, np.uint8).tobytes()
NEW = bytes(16) + OLD[16:]


def b3(data):
    return Digest(DigestAlgorithm.BLAKE3, blake3(data).digest())


def cas(data):
    return f"cas://{digest_text(b3(data))}"


def chunk(data, path="layer"):
    return FileChunk(path, 0, len(data), digest=b3(data))


def move(data, src, dst, kind=TransferKind.STORAGE2H, **more):
    return TransferOp(kind, src, dst, len(data), digest=b3(data), **more)


def swap(*ops, to=NEW, from_=None, window=None):
    new = chunk(to)
    old = None if from_ is None else WeightManifest("m", "1", (chunk(from_),))
    return SwapPlan("s", old, WeightManifest("m", "2", (new,)), ops, window, adds=(new,))


def page(number, src, dst, kind, length=4096, **more):
    ref = KvPageRef("kv", number, page_bytes=length)
    at = number * length
    return TransferOp(kind, src, dst, length, at, at, (ref,), **more)


@pytest.fixture
def world(tmp_path):
    """A folder of files, a store, and an arena; `world(fetch)` gives their places."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "layer").write_bytes(OLD)
    opened = []

    def places(fetch=None, **arenas):
        store = Store(tmp_path / "store")
        made = Places(
            files=tmp_path / "files", store=store, fetch=fetch,
            arenas={"mem://staged": bytearray(len(NEW)), **arenas},
        )  # fmt: skip
        opened.extend([made, store])
        made.kept = store
        return made

    yield places
    for one in opened:
        one.close()


def carry(plan, places, *, resume=None, **config):
    with CpuExecutor(CpuConfig(**{"pause": 0, **config}), places) as executor:
        return executor.submit(plan, resume=resume).wait(60)


def test_it_is_found_by_its_name():
    spec = executor_spec("cpu")

    assert executor_class(spec) is CpuExecutor
    assert {kind.name for kind in TransferKind} - {"KIND_UNSPECIFIED"} == {*spec.moves}


# --- ways for bytes to go


def test_a_blob_is_fetched_into_the_store_and_from_there_into_memory(world):
    places = world(lambda _, offset, length: NEW[offset : offset + length])
    plan = swap(
        move(NEW, "net://peer/new", "mem://staged", TransferKind.NET2H),
        move(NEW, "mem://staged", cas(NEW), TransferKind.H2STORAGE),
        move(NEW, cas(NEW), "mem://again"),
    )
    places.allocate(plan, limit=len(NEW))

    report = carry(sealed(plan, producer="test", created_ns=0), places)

    report.check()
    assert bytes(places.kept.view(b3(NEW))) == NEW == bytes(places.arena("mem://again"))
    assert (places.kept.path(b3(NEW))).exists()


def test_a_file_is_copied_inside_the_kernel_and_outlives_the_process(world, tmp_path):
    places = world()
    plan = swap(
        move(OLD, "file://layer", "file://a/b/copy", TransferKind.STORAGE2STORAGE),
        move(OLD, "file://layer", cas(OLD), TransferKind.STORAGE2STORAGE),
        to=OLD,
    )

    carry(plan, places).check()

    assert (tmp_path / "files/a/b/copy").read_bytes() == OLD == bytes(places.kept.view(b3(OLD)))


@pytest.mark.parametrize("error", [(18,), (18, 22), (5,)])
def test_copying_falls_back_where_the_system_cannot(world, tmp_path, monkeypatch, error):
    def refuse(number):
        def call(*_):
            raise OSError(number, os.strerror(number))

        return call

    for name, number in zip(("copy_file_range", "sendfile"), error, strict=False):
        monkeypatch.setattr(os, name, refuse(number))
    plan = swap(move(OLD, "file://layer", "file://copy", TransferKind.STORAGE2STORAGE), to=OLD)

    carry(plan, world()).check()

    assert (tmp_path / "files/copy").read_bytes() == OLD


@pytest.mark.parametrize("codec", ["sparse", "xorz", "raw"])
@pytest.mark.parametrize("base", ["store", "file"])
@pytest.mark.parametrize("sink", ["cas", "mem", "file"])
def test_differences_are_applied(world, codec, base, sink):
    encoded = encode(codec, NEW, OLD)
    places = world(lambda _, offset, length: encoded[offset : offset + length])
    if base == "store":
        places.kept.put(OLD)
    places.kept.put(encoded)
    dst = {"cas": cas(NEW), "mem": "mem://staged", "file": "file://next"}[sink]
    kind = TransferKind.STORAGE2H if sink == "mem" else TransferKind.STORAGE2STORAGE
    op = move(
        NEW, cas(encoded), dst, kind, codec=codec, encoded_length=len(encoded), src_digest=b3(OLD)
    )

    carry(swap(op, from_=OLD), places).check()

    with places.source(dst) as region:
        found = bytearray(len(NEW))
        region.read(0, memoryview(found))
    assert found == NEW


def test_a_damaged_difference_fails(world):
    encoded = bytearray(encode("xorz", NEW, OLD))
    encoded[40] ^= 1
    places = world()
    places.kept.put(encoded)
    op = move(
        NEW, cas(encoded), cas(NEW), TransferKind.STORAGE2STORAGE, codec="xorz",
        encoded_length=len(encoded), src_digest=b3(OLD),
    )  # fmt: skip

    report = carry(swap(op, from_=OLD), places)

    assert report.ops[0].state is OpState.FAILED
    assert not places.kept.has(b3(NEW))


def test_a_blob_is_made_of_several_ops(world):
    places = world()
    half = len(OLD) // 2
    parts = [
        TransferOp(
            TransferKind.STORAGE2STORAGE, "file://layer", cas(OLD), size, at, at,
            digest=b3(OLD[at : at + size]),
        )
        for at, size in ((0, half), (half, len(OLD) - half))
    ]  # fmt: skip

    carry(swap(*parts, to=OLD), places, coalesce=0).check()

    assert bytes(places.kept.view(b3(OLD))) == OLD


def test_pages_are_moved_many_at_once_and_each_is_looked_at(world):
    places = world(**{"device://pages": bytearray(len(OLD))})
    count = len(OLD) // 4096
    ops = tuple(
        page(
            n, "file://layer", "device://pages", TransferKind.STORAGE2H,
            digest=b3(OLD[n * 4096 : n * 4096 + 4096]),
        )
        for n in range(count)
    )  # fmt: skip
    plan = CachePlan("c", tuple(TransferOp(**{**_fields(op), "dst": "mem://staged"}) for op in ops))
    wrong = list(plan.ops)
    wrong[5] = TransferOp(**{**_fields(wrong[5]), "digest": b3(b"other")})

    good, bad = carry(plan, places), carry(CachePlan("c", tuple(wrong)), places)

    good.check()
    assert bytes(places.arena("mem://staged")) == OLD
    assert [one.index for one in bad.ops if one.state is OpState.FAILED] == [5]
    assert len(bad.done) == count - 1


def _fields(op):
    return {name: getattr(op, name) for name in type(op).__dataclass_fields__}


def test_bytes_may_move_to_where_some_of_them_lie(world, tmp_path):
    places = world()
    ref = (KvPageRef("kv", 0, page_bytes=2 << 20),)
    size = 2 << 20
    ops = (
        TransferOp(TransferKind.H2H, "mem://staged", "mem://staged", size, 0, 1 << 20, ref),
        TransferOp(
            TransferKind.STORAGE2STORAGE, "file://layer", "file://layer", size, 0, 4096, ref
        ),
    )
    places.arena("mem://staged")[:] = OLD

    carry(CachePlan("c", ops), places).check()

    assert bytes(places.arena("mem://staged")) == OLD[: 1 << 20] + OLD[:size]
    assert (tmp_path / "files/layer").read_bytes() == OLD[:4096] + OLD[:size] + OLD[4096 + size :]


# --- what is refused


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (move(NEW, "file://layer", "mem://staged", src_offset=1), "ops[0]"),
        (move(NEW, "mem://none", "mem://staged", TransferKind.H2H), "no arena"),
        (move(NEW, "net://peer/x", "mem://staged", TransferKind.NET2H), "function `fetch`"),
        (move(NEW, cas(b"none"), "mem://staged"), "ops[0]"),
        (
            move(NEW, "mem://staged", cas(b"none"), TransferKind.H2STORAGE),
            "another one than that of",
        ),
        (
            move(NEW, "mem://staged", cas(NEW), TransferKind.H2STORAGE, dst_offset=1),
            "nothing writes bytes 0 to 1",
        ),
        (
            move(NEW, "mem://staged", "file://x", TransferKind.H2STORAGE, dst_offset=1 << 63),
            "reach past",
        ),
        (
            move(NEW, "mem://staged", "file://x", TransferKind.H2STORAGE, codec="zip",
                 encoded_length=3),
            "'zip'; there are",
        ),
        (
            move(NEW, "mem://staged", "file://x", TransferKind.H2STORAGE, codec="xorz",
                 encoded_length=3, src_digest=b3(b"none")),
            "are not here",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_here_is_refused_before_anything_moves(world, tmp_path, op, text):
    places = world()
    before = sorted((tmp_path / "files").iterdir())
    with CpuExecutor(CpuConfig(), places) as executor, pytest.raises(InvalidPlan) as caught:
        executor.submit(swap(op))

    assert text in str(caught.value)
    assert sorted((tmp_path / "files").iterdir()) == before
    assert bytes(places.arena("mem://staged")) == bytes(len(NEW))


@pytest.mark.parametrize("way", ["file", "folder", "pipe"])
def test_no_link_leads_out_of_the_root(world, tmp_path, way):
    (tmp_path / "secret").write_bytes(OLD)
    files = tmp_path / "files"
    if way == "file":
        (files / "l").symlink_to(tmp_path / "secret")
    elif way == "folder":
        (files / "d").symlink_to(tmp_path)
    else:
        os.mkfifo(files / "l")
    path = "d/secret" if way == "folder" else "l"
    ops = page(0, f"file://{path}", "mem://staged", TransferKind.STORAGE2H)
    into = page(0, "mem://staged", f"file://{path}", TransferKind.H2STORAGE)
    places = world()

    with CpuExecutor(CpuConfig(pause=0), places) as executor:
        for op in (ops, into):
            with pytest.raises(InvalidPlan, match="cannot be opened"):
                executor.submit(CachePlan("c", (op,)))
    for place in (f"file://{path}", "file://../secret", "file:///etc/passwd"):
        with pytest.raises(PlaceFailed):
            places.source(place)
        with pytest.raises(PlaceFailed):
            places.sink(place, 1)

    assert (tmp_path / "secret").read_bytes() == OLD


# --- damage, other sources, resuming


FLIP = """
import sys, tempfile
from pathlib import Path
from blake3 import blake3
from bb_executor_cpu._executor import CpuConfig, CpuExecutor
from bb_ir.plan import *
from bb_plans.places import Places
from bb_plans.store import Store

data = bytes(range(256)) * 8192
digest = Digest(DigestAlgorithm.BLAKE3, blake3(data).digest())
flipped = bytearray(data)
flipped[1234567] ^= 4
chunk = FileChunk("layer", 0, len(data), digest=digest)
blob = "cas://" + digest_text(digest)
to = WeightManifest("m", "2", (chunk,))
with tempfile.TemporaryDirectory() as name, Store(Path(name, "store")) as store:
    arenas = {"mem://staged": flipped}
    places = Places(store=store, arenas=arenas, fetch=lambda p, o, n: flipped[o : o + n])
    with CpuExecutor(CpuConfig(pause=0), places) as executor:
        for ops in (
            [TransferOp(TransferKind.H2STORAGE, "mem://staged", blob, len(data), digest=digest)],
            [TransferOp(TransferKind.NET2H, "net://p/x", "mem://staged", len(data), digest=digest)],
        ):
            plan = SwapPlan("s", None, to, tuple(ops), adds=(chunk,))
            report = executor.submit(plan).wait()
            print(report.ok, report.reason, report.ops[0].state.value, report.ops[0].error[:14])
    print(store.has(digest), store.current, list(Path(name, "store", "tmp").iterdir()))
"""


@pytest.mark.parametrize("option", ["-O", "-B"])
def test_one_flipped_bit_fails_and_nothing_is_committed(option):
    done = subprocess.run(
        [sys.executable, option, "-c", textwrap.dedent(FLIP)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.splitlines() == [
        "False failed failed BlobMismatch: ",
        "False failed failed DigestMismatch",
        "False None []",
    ], done.stderr


def test_what_one_peer_damages_another_one_has(world):
    asked = []

    def fetch(place, offset, length):
        asked.append(place)
        if place == "net://down/x":
            raise ConnectionError("down")
        data = bytearray(NEW[offset : offset + length])
        data[7] ^= place == "net://liar/x"
        return data

    places = world(fetch)
    op = move(NEW, "net://liar/x", "mem://staged", TransferKind.NET2H)

    report = carry(
        swap(op), places, alternatives={"net://liar/x": ("net://down/x", "net://honest/x")}
    )

    report.check()
    assert asked == ["net://liar/x", "net://down/x", "net://honest/x"]
    assert (report.ops[0].source, report.ops[0].attempts) == ("net://honest/x", 3)


def test_a_peer_that_sends_too_little_is_told(world):
    places = world(lambda *_: b"short")

    report = carry(
        swap(move(NEW, "net://p/x", "mem://staged", TransferKind.NET2H)), places, retries=0
    )

    with pytest.raises(PlanFailed, match="sent 5 bytes instead of"):
        report.check()


def test_a_plan_is_resumed_without_moving_what_is_there(world):
    parts = [NEW[:4096], NEW[4096:9999], NEW[9999:]]
    chunks = tuple(chunk(data, f"p{n}") for n, data in enumerate(parts))
    ops = tuple(
        move(data, f"net://p/{n}", cas(data) if n < 2 else "mem://staged", TransferKind.NET2H)
        for n, data in enumerate(parts)
    )
    ops = tuple(
        move(data, f"net://p/{n}", f"mem://p{n}", TransferKind.NET2H, op_id=f"get{n}")
        for n, data in enumerate(parts)
    ) + tuple(
        move(data, f"mem://p{n}", cas(data), TransferKind.H2STORAGE, deps=(f"get{n}",))
        for n, data in enumerate(parts)
    )
    plan = SwapPlan("s", None, WeightManifest("m", "2", chunks), ops, adds=chunks)
    asked, broken = [], {"net://p/2"}

    def fetch(place, offset, length):
        asked.append(place)
        if place in broken:
            raise OSError("gone")
        return parts[int(place[-1])][offset : offset + length]

    places = world(fetch)
    places.allocate(plan, limit=len(NEW))
    first = carry(plan, places, retries=0, lanes=1)
    broken.clear()
    asked.clear()
    places.arena("mem://p0")[0] ^= 1  # what is not there any more is fetched again

    second = carry(plan, places, resume=Report.from_json(first.to_json()))

    assert first.reason == "failed"
    second.check()
    assert sorted(asked) == ["net://p/0", "net://p/2"]
    assert all(places.kept.has(b3(data)) for data in parts)


def test_a_report_of_another_plan_does_not_resume(world):
    places = world()
    report = carry(CachePlan("c"), places)

    with pytest.raises(InvalidPlan, match="the report is of plan sha256:"):
        carry(swap(move(OLD, "file://layer", "mem://staged"), to=OLD), places, resume=report)


# --- tickets


def test_waiting_ends_and_cancelling_too(world):
    gate, begun = threading.Event(), threading.Event()

    def fetch(_, offset, length):
        begun.set()
        gate.wait(30)
        return OLD[offset : offset + length]

    places = world(fetch)
    ops = tuple(
        page(n, "net://p/x", "mem://staged", TransferKind.NET2H, lane="one") for n in range(3)
    )
    with CpuExecutor(CpuConfig(coalesce=0), places) as executor:
        ticket = executor.submit(CachePlan("c", ops))
        assert begun.wait(30)
        with pytest.raises(NotFinished, match="0 of 3 ops"):
            ticket.wait(0.01)
        assert not ticket.poll()
        assert [one.state for one in ticket.report().ops] == [OpState.PENDING] * 3
        ticket.cancel()
        gate.set()
        report = ticket.wait(30)

    assert [one.state.value for one in report.ops] == ["done", "cancelled", "cancelled"]
    assert ticket.progress().bytes_done == 4096
    assert ticket.poll()


class SlowlyAsked(ThreadedTicket):
    """A ticket that is over by the time that an answer about it is looked at."""

    def poll(self):
        found = super().poll()
        self.wait(60)
        return found


def test_a_plan_that_is_over_at_once_is_not_kept(world, monkeypatch):
    places = world()
    monkeypatch.setattr(_executor, "ThreadedTicket", SlowlyAsked)

    with CpuExecutor(CpuConfig(), places) as executor:
        executor.submit(swap(move(OLD, "file://layer", "mem://staged"), to=OLD))
        assert executor._open == set()


def test_a_closed_executor_takes_nothing(world):
    executor = CpuExecutor(CpuConfig(), world())
    executor.close()
    executor.close()

    with pytest.raises(ExecutorClosed):
        executor.submit(CachePlan("c"))
    with pytest.raises(ExecutorClosed):
        executor.submit_wave(Wave(1, 1, 1), [[1]], [[1]])


def test_configuration_is_checked():
    with pytest.raises(ConfigError, match="lanes"):
        CpuConfig(lanes=0)


# --- a simulated clock


def test_on_a_simulated_clock_a_plan_gives_the_same_report_each_time(world):
    places = world(**{"tier://n/tier1": bytearray(1 << 20), "tier://n/tier2": bytearray(1 << 20)})
    ops = tuple(
        page(
            n, "tier://n/tier1", "tier://n/tier2", TransferKind.H2D, 1000,
            lane="a" if n % 2 else "", deadline_ns=6_000_000, tenant="t",
        )
        for n in range(8)
    )  # fmt: skip
    plan = CachePlan("c", ops, now_ns=1_000_000)
    config = {
        "simulated_rate": 10**6, "lanes": 2, "coalesce": 0,
        "throttles": (Throttle(3000, 10_000_000, tier=2),),
    }  # fmt: skip

    first, second = carry(plan, places, **config), carry(plan, places, **config)

    first.check()
    assert first == second
    assert first.ops[0].started_ns == 1_000_000
    assert first.ops[0].ended_ns == 2_000_000  # 1000 bytes at 1 MB/s
    assert [one.late for one in first.ops] == [one.ended_ns > 6_000_000 for one in first.ops]
    assert max(one.ended_ns for one in first.ops) > 16_000_000  # 5000 bytes had to wait


def test_on_a_simulated_clock_a_window_ends_too(world):
    plan = swap(move(OLD, "file://layer", "mem://staged"), to=OLD, window=SwapWindow(5, 1_000_000))

    report = carry(plan, world(), simulated_rate=10**6)

    assert (report.reason, report.ok, report.ops[0].started_ns) == ("deadline", False, 5)


# --- waves


def test_a_wave_is_a_product_and_weights_are_set_inside_its_window(world):
    a, b = np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]])
    with CpuExecutor(CpuConfig(), world()) as executor:
        with pytest.raises(OutsideWindow):
            executor.set_weights(b, token=0)
        wave = Wave(2, 2, 2, swap_begin=0, swap_end=3)
        found = executor.submit_wave(wave, a, b).result(30)
        executor.set_weights(b * 2, token=2)
        with pytest.raises(OutsideWindow, match="token 3"):
            executor.set_weights(b * 3, token=3)
        later = executor.submit_wave(wave, a).result(30)

    assert found.ravel().tolist() == [19, 22, 43, 50]
    assert found.dtype == np.float32
    assert later.ravel().tolist() == [38, 44, 86, 100]


def test_waves_that_do_not_fit_are_refused(world):
    with CpuExecutor(CpuConfig(), world()) as executor:
        for a, b in (([[1]], [[1]]), ("ab", [[1]]), ([[1, 2]], None)):
            with pytest.raises(BadWave):
                executor.submit_wave(Wave(1, 1, 2), a, b)
    for sizes in ((0, 1, 1), (1, 1, 1, 3, 2), (1, 1, 1, -1, 2)):
        with pytest.raises(BadWave):
            Wave(*sizes)


# --- places


def test_arenas_are_made_for_what_a_plan_writes(world):
    places = world()
    ops = [page(n, "mem://staged", "device://new", TransferKind.H2D) for n in (0, 3)]

    with pytest.raises(UnknownPlace, match="wants 16384 bytes in 1 new arenas"):
        places.allocate(CachePlan("c", tuple(ops)), limit=16383)
    made = places.allocate(CachePlan("c", tuple(ops)), limit=16384)

    assert made == ("device://new",)
    assert bytes(places.arena("device://new")) == bytes(16384)
    assert places.allocate(CachePlan("c", tuple(ops)), limit=0) == ()


@pytest.mark.parametrize(
    ("arenas", "text"),
    [
        ({"file://x": bytearray(3)}, "is no arena"),
        ({"mem://a": "text"}, "is a str"),
        ({"mem://../a": bytearray(3)}, "has a path with"),
        ({"tier://n": bytearray(3)}, "is no place"),
    ],
)
def test_what_is_no_arena_is_refused(arenas, text):
    with pytest.raises(UnknownPlace, match=text):
        Places(arenas=arenas)


@pytest.mark.parametrize("dtype", [">f4", "bfloat16", "float8_e5m2"])
def test_an_arena_may_be_an_array_of_any_elements(dtype):
    array = np.zeros((2, 3), getattr(ml_dtypes, dtype, dtype))

    with Places(arenas={"mem://a": array}) as places:
        places.arena("mem://a")[:] = b"\x01" * array.nbytes

    assert array.tobytes() == b"\x01" * array.nbytes


def test_what_is_written_twice_may_be_read_in_between(world, tmp_path):
    (tmp_path / "files/layer").unlink()
    places = world(**{"mem://new": bytearray(NEW)})
    plan = swap(
        move(NEW, "mem://new", "file://layer", TransferKind.H2STORAGE, op_id="1"),
        move(NEW, "file://layer", "mem://staged", op_id="2", deps=("1",)),
        move(NEW, "mem://new", "file://layer", TransferKind.H2STORAGE, op_id="3", deps=("2",)),
    )

    carry(plan, places).check()

    assert bytes(places.arena("mem://staged")) == NEW == (tmp_path / "files/layer").read_bytes()


def test_arenas_that_are_read_only_are_not_written(world):
    places = world(**{"mem://constant": bytes(8192)})
    op = page(0, "mem://staged", "mem://constant", TransferKind.H2H)

    with (
        CpuExecutor(CpuConfig(), places) as executor,
        pytest.raises(InvalidPlan, match="read-only"),
    ):
        executor.submit(CachePlan("c", (op,)))


def test_a_folder_of_files_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UnknownPlace, match="No such file"):
        Places(files=tmp_path / "none")


def test_a_file_that_is_too_large_for_the_disk_is_refused(world, monkeypatch):
    places = world()
    full = os.statvfs_result((4096, 4096, 9, 1, 1, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)
    kind = TransferKind.H2STORAGE
    fits = page(0, "mem://staged", "file://layer", kind, 8192)  # in the place of other bytes
    grows = page(0, "mem://staged", "file://new", kind, 8192)

    carry(CachePlan("c", (fits,)), places).check()
    with CpuExecutor(CpuConfig(), places) as executor, pytest.raises(InvalidPlan, match="4096 are"):
        executor.submit(CachePlan("c", (grows,)))
