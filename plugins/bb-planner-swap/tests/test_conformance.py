"""The planner keeps the contract, in each of its ways."""

from bb_ir.plan import (
    Digest,
    DigestAlgorithm,
    FileChunk,
    KvPolicy,
    SwapWindow,
    TensorSpan,
    WeightManifest,
)
from bb_planner_swap._swap import MEDIA, Settings, Swap
from bb_roles import ChunkSource, SwapRequest
from bb_testing import PlannerSuite


def digest(name, size):
    return Digest(DigestAlgorithm.BLAKE3, f"{name}/{size}".encode().ljust(32, b"\1"))


def manifest(version, **sizes):
    files = tuple(
        FileChunk(
            name, 0, size, digest=digest(name, size),
            tensor=TensorSpan(f"layer.{name}", "uint8", (size,), 0, size),
        )
        for name, size in sizes.items()
    )  # fmt: skip
    return WeightManifest("demo", version, files)


FIRST = manifest("1", a=6, b=5, c=4, d=3)
SECOND = manifest("2", a=6, b=7, e=20, zero=0)
WINDOW = SwapWindow(1000, 2000)
PATCH = ChunkSource(
    digest("b", 7), "cas://blake3:" + "ab" * 32, 4, "sparse", 3, digest("b", 5)
)  # fmt: skip


class Common(PlannerSuite):
    settings = Settings(bucket_bytes=8)

    def make(self):
        return Swap(self.settings)

    def surroundings(self, request):
        return {"media": MEDIA}

    def requests(self):
        """Requests that it makes plans for."""
        return [
            SwapRequest(FIRST),
            SwapRequest(SECOND, from_=FIRST),
            SwapRequest(SECOND, from_=FIRST, window=WINDOW, sources=(PATCH,)),
            SwapRequest(
                WeightManifest("demo", "3"), from_=FIRST, commit_group="g",
                rollback_to=digest("old", 1), kv_policy=KvPolicy.KV_KEEP,
            ),
        ]  # fmt: skip

    def refused(self):
        """Requests that it does not."""
        twice = WeightManifest("m", "1", FIRST.files * 2)
        return [
            SwapRequest(WeightManifest(files=(FileChunk("a", 0, 1),))),
            SwapRequest(WeightManifest(files=(FileChunk("../a", 0, 1, digest=digest("a", 1)),))),
            SwapRequest(WeightManifest(files=(FileChunk("a", 0, 1, sha256="md5:1"),))),
            SwapRequest(twice),
            SwapRequest(FIRST, window=SwapWindow(2, 1)),
            SwapRequest(FIRST, sources=(ChunkSource(digest("a", 6), "http://a"),)),
            SwapRequest(FIRST, sources=("cas://a",)),
            SwapRequest(FIRST, sources=[]),
            SwapRequest(FIRST, window=3),
            SwapRequest(FIRST, from_=FIRST.files),
            SwapRequest(
                WeightManifest(files=(FileChunk("a", 0, -1, digest=digest("a", 1)),)),
            ),
        ]


class TestIntoMemory(Common):
    pass


class TestIntoDevices(Common):
    settings = Settings(bucket_bytes=8, destination="device")


class TestIntoAStore(Common):
    settings = Settings(bucket_bytes=8, destination="store")


class TestByLayer(Common):
    settings = Settings(bucket_bytes=8, order="layer")
