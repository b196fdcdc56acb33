import gc
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bb_ir.buffers import ALIGNMENT, BufferPool, allocate, counts_references

counted = pytest.mark.skipif(not counts_references(), reason="references are not counted here")
BIG = 100_000


def address(array):
    return array.ctypes.data


@given(st.integers(1, 50_000))
def test_buffers_are_exact_aligned_and_writable(nbytes):
    for buffer in (allocate(nbytes), allocate(nbytes, BufferPool())):
        assert buffer.dtype == np.uint8
        assert buffer.shape == (nbytes,)
        assert address(buffer) % ALIGNMENT == 0
        buffer[:] = 7


@counted
def test_memory_is_used_again_once_the_buffer_is_gone():
    pool = BufferPool()
    first = pool.take(BIG)
    place = address(first)
    del first
    assert address(pool.take(BIG)) == place
    assert (pool.fresh, pool.reused) == (1, 1)


@pytest.mark.parametrize(
    "hold",
    [
        lambda b: b,
        lambda b: b[10:20],
        lambda b: b[16:].view(np.float32)[1:3].reshape(2, 1),
        memoryview,
        lambda b: memoryview(b)[3:5].toreadonly(),
        lambda b: np.frombuffer(memoryview(b).toreadonly(), np.uint8),
        lambda b: [iter(b)],
    ],
    ids=["itself", "slice", "view", "memoryview", "part", "frombuffer", "iterator"],
)
def test_memory_is_not_used_again_while_anything_refers_to_it(hold):
    pool = BufferPool()
    buffer = pool.take(BIG)
    place = address(buffer)
    held = hold(buffer)
    del buffer
    other = pool.take(BIG)
    assert address(other) != place
    del held, other


def test_two_buffers_at_once_do_not_overlap():
    pool = BufferPool()
    buffers = [pool.take(BIG) for _ in range(5)]
    for value, buffer in enumerate(buffers):
        buffer[:] = value
    assert [set(buffer.tolist()) for buffer in buffers] == [{0}, {1}, {2}, {3}, {4}]


@counted
def test_sizes_that_round_to_the_same_share_memory():
    pool = BufferPool()
    pool.take(ALIGNMENT * 100)
    assert pool.take(ALIGNMENT * 100 - 5).nbytes == ALIGNMENT * 100 - 5
    assert pool.reused == 1


def test_small_buffers_are_not_pooled():
    pool = BufferPool()
    pool.take(100)
    assert (pool.fresh, pool.reused, pool.held_bytes) == (0, 0, 0)


def test_the_sizes_asked_for_longest_ago_are_forgotten_first():
    pool = BufferPool(limit=250_000)
    pool.take(100_000)
    pool.take(110_000)
    pool.take(100_000)
    pool.take(120_000)
    reused = pool.reused
    pool.take(100_000)
    assert pool.held_bytes <= 250_000
    assert pool.reused == reused + counts_references()


def test_what_exceeds_the_limit_is_handed_out_and_not_kept():
    pool = BufferPool(limit=BIG)
    assert pool.take(10 * BIG).nbytes == 10 * BIG
    assert pool.held_bytes == 0


def test_a_pool_can_be_emptied():
    pool = BufferPool()
    held = pool.take(BIG)
    pool.clear()
    held[:] = 1
    assert pool.held_bytes == 0


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="limit=0"):
        BufferPool(limit=-1)


def test_nothing_is_used_again_where_references_are_not_counted(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    pool = BufferPool()
    pool.take(BIG)
    pool.take(BIG)
    assert (pool.fresh, pool.reused, pool.held_bytes) == (2, 0, 0)


def test_many_long_loans_do_not_keep_short_ones_from_being_used_again():
    pool = BufferPool()
    kept = [pool.take(BIG) for _ in range(200)]
    for _ in range(2000):
        pool.take(BIG)
    assert len(kept) == 200
    if counts_references():
        assert pool.fresh < 300


def test_threads_never_get_the_same_buffer():
    pool = BufferPool()
    failures = []

    def work(value):
        for _ in range(300):
            buffer = pool.take(8192)
            buffer[:] = value
            if not (buffer == value).all():
                failures.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


class PoolMachine(RuleBasedStateMachine):
    """Buffers that are held keep their contents, whatever is taken and freed in between."""

    def __init__(self):
        super().__init__()
        self.pool = BufferPool(limit=60_000)
        self.held = []
        self.number = 0

    @rule(nbytes=st.sampled_from([10, 4096, 4100, 8192, 20_000, 100_000]))
    def take(self, nbytes):
        buffer = self.pool.take(nbytes)
        self.number = (self.number + 1) % 256
        buffer[:] = self.number
        self.held.append((buffer[1:], self.number))

    @rule(at=st.integers(0, 20))
    def free(self, at):
        if at < len(self.held):
            self.held.pop(at)

    @invariant()
    def contents_stay(self):
        assert all((buffer == value).all() for buffer, value in self.held)

    @invariant()
    def the_limit_holds(self):
        kept = sum(owner.nbytes for owners in self.pool._owners.values() for owner in owners)
        assert self.pool.held_bytes == kept <= 60_000


TestPool = PoolMachine.TestCase


def test_importing_needs_no_numpy():
    code = "import sys, bb_ir.buffers, bb_ir.params; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@counted
def test_a_cycle_is_freed_by_the_collector_only():
    pool = BufferPool()
    cycle = [pool.take(BIG)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    pool.take(BIG)
    assert pool.reused == 1
