"""A store is stopped, or fails, at every one of its system calls, and has the old or the new."""

import errno
import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bb_ir.plan import chunk_digest, content_digest
from bb_plans.errors import NoRoom, StoreError, StoreFailed, StoreReadOnly
from bb_plans.store import Store

HERE = Path(__file__).parent
ROOT = Path("/store")


def load(name):
    """Import a module that stands beside this file; tests are in no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


memory_files, some_versions = load("memory_files"), load("some_versions")
Killed, MemoryFiles = memory_files.Killed, memory_files.MemoryFiles
BYTES, chunks, manifest = some_versions.BYTES, some_versions.chunks, some_versions.manifest


class Driver:
    """Swaps, commits, goes back and prunes; after a crash it goes on where it was.

    What it was told is done is in `told`; `stored` are the blobs that it was told are stored.
    """

    def __init__(self, files):
        self.files = files
        self.step = 0
        self.now = None  # version that was current last
        self.next = None  # version that is being made current
        self.stored = set()
        self.twice = []
        self.store = None

    def run(self):
        steps = [
            lambda: self.swap(1, 1), lambda: self.swap(2, 2), self.back, lambda: self.swap(3, 3),
            lambda: self.swap(4, 4), self.prune, lambda: self.swap(3, 5), self.prune,
        ]  # fmt: skip
        with self.open():
            while self.step < len(steps):
                steps[self.step]()
                self.step += 1
                self.check()

    def open(self):
        self.store = Store(ROOT, files=self.files)
        self.check()
        return self.store

    def attempt(self):
        """Run to the end, or until something happens; return what it was."""
        try:
            self.run()
        except (StoreError, Killed) as told:
            return told
        return None

    def swap(self, version, epoch):
        wanted = manifest(version)
        for chunk in self.store.missing(wanted):
            digest = chunk_digest(chunk)
            if digest in self.stored:
                self.twice.append(digest)
            with self.store.writer(digest, chunk.length) as writer:
                data = BYTES[digest]
                writer.write(10, data[10:])
                writer.write(0, data[:10])
                writer.seal()
            self.stored.add(digest)
        root = self.store.stage(wanted)
        self.next = version
        self.store.commit(root, epoch)
        self.now, self.next = version, None

    def back(self):
        self.next = 1
        if self.store.current.manifest.version != "1":
            self.store.rollback()
        self.now, self.next = 1, None

    def prune(self):
        self.stored = set()
        self.store.prune()

    def check(self):
        """What is served is one version, whole, and it is the old one or the new one."""
        current = self.store.current
        if current is None:
            assert self.now is None
            return
        version = int(current.manifest.version)
        assert version in {self.now, self.next} - {None}
        with self.store.reading() as read:
            found = [bytes(read.view(chunk)) for chunk in read.manifest.files]
        assert found == chunks(version)


def calls():
    files = MemoryFiles()
    Driver(files).run()
    return len(files.calls)


def chance(seed):
    return random.Random(seed)  # noqa: S311


def go_on(driver, k):
    """See that a store is whole after a crash; at every fourth call, that the rest can be done."""
    if k % 4:
        with driver.open() as store:
            damages = store.verify(deep=True)
    else:
        driver.run()
        assert driver.now == 3
        assert {one.manifest.version for one in driver.store.versions()} == {"3", "4"}
        damages = driver.store.verify(deep=True)
    assert damages == (), k


def test_there_are_enough_calls_to_stop_at():
    assert calls() >= 500


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power-cut"])
def test_a_store_that_is_stopped_at_any_call_has_the_old_or_the_new_version(power):
    for k in range(1, calls() + 1):
        driver = Driver(MemoryFiles(stop_at=k))
        assert isinstance(driver.attempt(), Killed)
        driver.files.restart(chance(k) if power else None)
        go_on(driver, k)
        # What `seal` gave its name is durable once it is staged, so a power cut may take it.
        assert driver.twice == [] or power, k


def test_a_process_that_is_killed_and_then_loses_power_does_not_lose_what_it_found():
    """What a process finds after a crash need not be durable; what it builds on it has to be."""
    total = calls()
    for k in (*range(1, 40), *range(40, total, 7)):
        driver = Driver(MemoryFiles(stop_at=k))
        driver.attempt()
        driver.files.restart()
        driver.files.stop_at = 20 + 13 * k % total
        driver.attempt()
        driver.files.restart(chance(k))
        go_on(driver, 0)


def test_a_call_that_fails_changes_nothing():
    tolerated = []
    for k in range(1, calls() + 1):
        driver = Driver(MemoryFiles(fail_at=k, error=(errno.ENOSPC, errno.EIO)[k % 2]))
        told = driver.attempt()
        if told is None:
            tolerated.append(driver.files.calls[k - 1][1])
            continue
        # A folder that is made durable was written before: there the disk fails, full or not.
        assert isinstance(told, StoreFailed if k % 2 else NoRoom | StoreFailed)
        if driver.store is not None:
            driver.check()
        driver.files.fail_at = 0
        go_on(driver, k)
        assert driver.twice == [], k
    # Commits do not fail for the journal, whose end is written when the store is opened.
    assert set(tolerated) <= {f"{ROOT}/journal", ""}


def test_a_disk_that_stays_full_leaves_what_was_served():
    stopped = 0
    for k in range(1, calls() + 1, 5):
        driver = Driver(MemoryFiles(fail_at=k, forever=True))
        told = driver.attempt()
        stopped += isinstance(told, NoRoom)
        if driver.store is not None:
            driver.check()
        driver.files.fail_at = 0
        go_on(driver, k)
    assert stopped > 80


def test_after_a_commit_of_which_nobody_knows_whether_it_is_durable_the_store_is_read_only():
    files = MemoryFiles()
    driver = Driver(files)
    with Store(ROOT, files=files) as store:
        driver.store = store
        driver.swap(1, 1)
        for data in chunks(2):
            store.put(data)
        root = store.stage(manifest(2))
        before = len(files.calls)
        store.commit(root, 2)
        names = [name for name, _ in files.calls[before:]]
        store.rollback()
        files.fail_at, files.error = len(files.calls) + names.index("fsync_folder") + 1, errno.EIO

        with pytest.raises(StoreFailed, match="durable"):
            store.commit(root, 3)

        assert store.current.manifest.version == "1"
        with pytest.raises(StoreReadOnly, match="last commit"):
            store.put(b"more")
    files.restart()
    assert Store(ROOT, files=files).current.epoch in {1, 3}


@pytest.mark.parametrize("seed", range(6))
def test_the_folder_itself_is_durable_before_anything_is_committed(seed):
    root = Path("/srv/models/store")
    for k in range(1, 16):
        files = MemoryFiles(stop_at=k)
        with pytest.raises(Killed):
            Store(root, files=files)
        files.restart()
        with Store(root, files=files) as store:
            for data in chunks(1):
                store.put(data)
            store.commit(store.stage(manifest(1)), 1)
        files.restart(chance(seed))

        assert Store(root, files=files).current.epoch == 1


def test_a_version_that_a_killed_process_staged_is_made_durable_when_it_is_committed():
    found = 0
    for k in range(1, 60):
        driver = Driver(MemoryFiles())
        store = driver.open()
        for chunk in manifest(1).files:
            with store.writer(chunk.digest, chunk.length) as writer:
                writer.write(0, BYTES[chunk.digest])
                writer.seal()
        driver.files.stop_at = len(driver.files.calls) + k
        try:
            root = store.stage(manifest(1))
        except Killed:
            root = content_digest(manifest(1))
        driver.files.restart()
        with Store(ROOT, files=driver.files) as again:
            if not again.staged(root):
                continue
            again.commit(root, 1)
        driver.files.restart(chance(k))
        driver.next = 1
        driver.open()
        assert driver.store.current.epoch == 1
        found += 1
    assert found > 1


def test_files_are_written_back_as_a_whole_or_not_at_all():
    def below(files, path):
        return {name: bytes(node.now) for name, node in files._find(path).now.items()}

    whole = {f"layer{index}": data for index, data in enumerate(chunks(1))}
    finished = 0
    for k in range(1, 200):
        driver = Driver(MemoryFiles())
        driver.store = Store(ROOT, files=driver.files)
        driver.swap(1, 1)
        driver.files.stop_at = len(driver.files.calls) + k
        try:
            driver.store.rebuild(driver.store.current, Path("/out"))
        except Killed:
            driver.files.restart(chance(k))
            there = "out" in driver.files._find("/").now
            assert not there or below(driver.files, "/out") == whole
        else:
            driver.files.restart(chance(k))
            assert below(driver.files, "/out") == whole
            finished += 1
    assert 0 < finished < 150


@pytest.mark.parametrize("commits", [1, 2])
def test_after_a_power_cut_the_journal_knows_every_commit_that_was_acknowledged(commits):
    for seed in range(20):
        driver = Driver(MemoryFiles())
        driver.store = Store(ROOT, files=driver.files)
        for version in range(1, commits + 1):
            driver.swap(version, version)
        driver.files.restart(chance(seed))
        driver.files._find(f"{ROOT}/CURRENT").now[20:40] = bytes(20)

        with driver.open() as store:
            assert store.current.epoch == commits
            assert "from the journal" in store.recovered[-1]


def test_a_process_that_is_killed_at_any_moment_leaves_a_whole_version(tmp_path):
    program = [sys.executable, str(HERE / "some_versions.py"), str(tmp_path / "store")]

    done = subprocess.run(program, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 20
    assert int(lines[-1].partition(";")[0]) >= 5, "hardly a commit was made before the kills"
