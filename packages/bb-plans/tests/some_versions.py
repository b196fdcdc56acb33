"""Small versions of a model for tests of the store; and a program that is killed while it swaps.

Run with a folder, the program opens a store there in one process after the other, kills each at
some moment, and says what it finds then; it fails when that is not what was acknowledged.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from bb_ir.plan import FileChunk, WeightManifest, chunk_digest
from bb_plans.hashing import digest_of
from bb_plans.store import Store

BLOBS = 6


def chunks(version):
    """Return the bytes of a version: half of them are those of the version before."""
    return [
        f"{index} of version {version if index % 2 else version // 2 * 2}".encode() * 3
        for index in range(BLOBS)
    ]


def manifest(version):
    files = tuple(
        FileChunk(f"layer{index}", 0, len(data), digest=digest_of(data))
        for index, data in enumerate(chunks(version))
    )
    return WeightManifest("demo", str(version), files)


BYTES = {digest_of(data): data for version in range(1, 5) for data in chunks(version)}


def version_of(epoch):
    return epoch % 4 + 1


def swap(store, epoch):
    wanted = manifest(version_of(epoch))
    for chunk in store.missing(wanted):
        store.put(BYTES[chunk_digest(chunk)])
    store.commit(store.stage(wanted), epoch)


def swap_until_killed(root, pipe):
    with Store(root) as store:
        epoch = store.current.epoch if store.current else 0
        while True:
            epoch += 1
            swap(store, epoch)
            os.write(pipe, f"{epoch}\n".encode())
            store.prune()


def acknowledged_until_killed(root, seconds):
    """Return the last epoch that a process acknowledged before it was killed; 0 for none."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        swap_until_killed(root, writer)
    os.close(writer)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as told:
        return max((int(line) for line in told), default=0)


def main(root, times):
    rng = random.Random(20)  # noqa: S311
    last = 0
    for _ in range(times):
        told = max(last, acknowledged_until_killed(root, rng.random() * 0.2))
        with Store(root) as store:
            epoch = store.current.epoch if store.current else 0
            assert epoch in {told, told + 1}, (epoch, told)
            if store.current:
                assert store.current.manifest == manifest(version_of(epoch))
                with store.reading() as version:
                    found = [bytes(version.view(chunk)) for chunk in version.manifest.files]
                assert found == chunks(version_of(epoch))
            assert store.verify(deep=True) == ()
            print(epoch, *store.recovered, sep="; ")  # noqa: T201
        last = epoch


if __name__ == "__main__":
    main(Path(sys.argv[1]), times=20)
