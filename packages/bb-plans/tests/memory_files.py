"""A file system in memory that counts its calls, fails or stops at one, and forgets.

What a process wrote is seen by the next process, but only what was made durable survives a power
cut; of the rest some is lost, some is torn and some is there, as chance has it. That is more than
any file system takes from us, so what holds here holds there.
"""

import errno
import os
import random

from bb_plans.files import FileFacts, Files


class Killed(BaseException):
    """The process is no more; nothing of it runs after this."""


def _split(path):
    folder, _, name = str(path).rpartition("/")
    return folder, name


class _Node:
    """A file, with its bytes, or a folder, with its names; and what of it is durable."""

    count = 0

    def __init__(self, folder):
        _Node.count += 1
        self.inode = _Node.count
        self.folder = folder
        self.now = {} if folder else bytearray()
        self.durable = {} if folder else b""
        self.pending = []  # of a folder: names that changed since it was durable, in order
        self.dirty = False
        self.locks = {}
        self.stamp = 0


class MemoryFiles(Files):
    """See the module. Calls are counted from 1.

    Args:
        stop_at: The call at which the process is killed.
        fail_at: The first call that fails.
        error: How it fails.
        forever: Whether all calls that need room fail from then on.
    """

    WRITING = frozenset({"allocate", "pwrite", "mkdir", "rename", "create"})

    def __init__(self, stop_at=0, fail_at=0, error=errno.ENOSPC, forever=False):
        self.top = _Node(folder=True)
        self.calls = []
        self.stop_at, self.fail_at = stop_at, fail_at
        self.error, self.forever = error, forever
        self.dead = False
        self.fds = {}
        self.next_fd = 100
        self.room = 1 << 40

    # --- faults

    def _call(self, name, path=""):
        if self.dead:
            raise Killed
        self.calls.append((name, str(path)))
        if len(self.calls) == self.stop_at:
            self.dead = True
            raise Killed
        after = self.fail_at and len(self.calls) >= self.fail_at
        if len(self.calls) == self.fail_at or (after and self.forever and name in self.WRITING):
            raise OSError(self.error, os.strerror(self.error), str(path))

    def restart(self, rng=None):
        """Begin a new process; with a generator of chance, after a power cut."""
        self.fds, self.calls, self.dead = {}, [], False
        self.stop_at = self.fail_at = 0
        self._forget(self.top, rng)

    def _forget(self, node, rng):
        node.locks = {}
        if node.folder:
            if rng is not None:
                node.now = dict(node.durable)
                for name, what in node.pending:
                    if rng.random() < 0.5:
                        node.now[name] = what
                node.now = {name: what for name, what in node.now.items() if what is not None}
                node.durable, node.pending = dict(node.now), []
            for one in node.now.values():
                self._forget(one, rng)
            return
        if rng is not None and node.dirty:
            old = bytes(node.durable)
            cut = rng.randint(0, len(node.now))
            torn = node.now[:cut] + old[cut:] if rng.random() < 0.5 else node.now[:cut]
            node.now = bytearray(rng.choice([old, bytes(node.now), bytes(torn)]))
            node.durable, node.dirty = bytes(node.now), False

    # --- paths

    def _find(self, path):
        node = self.top
        for part in filter(None, str(path).split("/")):
            if not node.folder:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(path))
            node = node.now.get(part)
            if node is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return node

    def _name(self, path, what):
        folder = self._find(_split(path)[0])
        name = _split(path)[1]
        if what is None:
            folder.now.pop(name, None)
        else:
            folder.now[name] = what
        folder.pending.append((name, what))

    # --- calls

    def open(self, path, flags, mode=0o644):
        self._call("open", path)
        try:
            node = self._find(path)
            if flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, "exists", str(path))
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            self._call("create", path)
            node = _Node(folder=False)
            self._name(path, node)
        self.next_fd += 1
        self.fds[self.next_fd] = node
        return self.next_fd

    def open_below(self, folder, path):
        return self.open(folder / path, os.O_RDONLY)

    def close(self, fd):
        if self.dead:
            raise Killed
        self.fds.pop(fd).locks.pop(fd, None)

    def pread(self, fd, length, offset):
        self._call("pread")
        return bytes(self.fds[fd].now[offset : offset + length])

    def pwrite(self, fd, data, offset):
        node = self.fds[fd]
        half = data[: len(data) // 2]
        try:
            self._call("pwrite")
        except (Killed, OSError):
            self._put(node, half, offset)
            raise
        self._put(node, data, offset)
        return len(data)

    @staticmethod
    def _put(node, data, offset):
        node.now.extend(bytes(max(0, offset - len(node.now))))
        node.now[offset : offset + len(data)] = data
        node.dirty = True

    def allocate(self, fd, length):
        self._call("allocate")
        node = self.fds[fd]
        node.now.extend(bytes(max(0, length - len(node.now))))
        node.dirty = True

    def truncate(self, fd, length):
        self._call("truncate")
        node = self.fds[fd]
        del node.now[length:]
        node.dirty = True

    def fsync(self, fd):
        self._call("fsync")
        node = self.fds[fd]
        node.durable, node.dirty = bytes(node.now), False

    def facts(self, fd):
        self._call("facts")
        return self._facts(self.fds[fd])

    @staticmethod
    def _facts(node):
        return FileFacts(len(node.now), node.inode, node.stamp, node.folder)

    def map(self, fd, length):
        self._call("map")
        return memoryview(bytes(self.fds[fd].now[:length]))

    def copy_file_range(self, src, dst, length, src_offset, dst_offset):
        self._call("copy_file_range")
        piece = bytes(self.fds[src].now[src_offset : src_offset + length])
        self._put(self.fds[dst], piece, dst_offset)
        return len(piece)

    def lock(self, fd, *, shared):
        self._call("lock")
        locks = self.fds[fd].locks
        if any(not (shared and kind) for other, kind in locks.items() if other != fd):
            return False
        locks[fd] = shared
        return True

    def stat(self, path):
        self._call("stat", path)
        try:
            return self._facts(self._find(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def listdir(self, path):
        self._call("listdir", path)
        try:
            return sorted(self._find(path).now)
        except FileNotFoundError:
            return []

    def mkdir(self, path):
        self._call("mkdir", path)
        if _split(path)[1] in self._find(_split(path)[0]).now:
            return False
        self._name(path, _Node(folder=True))
        return True

    def rename(self, old, new):
        self._call("rename", new)
        node = self._find(old)
        self._name(new, node)
        self._name(old, None)

    def unlink(self, path):
        self._call("unlink", path)
        if _split(path)[1] in self._find(_split(path)[0]).now:
            self._name(path, None)

    def rmdir(self, path):
        self._call("rmdir", path)
        try:
            node = self._find(path)
        except FileNotFoundError:
            return False
        if node.now:
            return False
        self._name(path, None)
        return True

    def fsync_folder(self, path):
        self._call("fsync_folder", path)
        node = self._find(path)
        node.durable, node.pending = dict(node.now), []

    def fsync_folders(self, paths):
        # In any order, which is the same in each run: they are waited for at once.
        order = random.Random(len(self.calls))  # noqa: S311  # an order, no secret
        for path in order.sample(paths, len(paths)):
            self.fsync_folder(path)

    def free(self, path):
        self._call("free", path)
        return self.room
