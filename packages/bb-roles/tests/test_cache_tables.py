"""Tables of a cache request: compared by what is in them, and read row by row."""

import numpy as np
import pytest

from bb_ir.plan import Digest, DigestAlgorithm, KvPageRef, digest_text
from bb_roles import CacheRequest, CacheTables, PageDemand

MODEL = Digest(DigestAlgorithm.BLAKE3, bytes(range(32)))


def tables(**more):
    columns = {
        "page_start": [4, 9], "page_end": [5, 9], "page_bytes": [8, 8], "tier_src": [0, 1],
        "tier_dst": [1, 2], **more,
    }  # fmt: skip
    return CacheTables(
        {name: np.array(one) for name, one in columns.items()},
        names={"node": ("a", "b"), "tenant": ("t",), "model": (digest_text(MODEL),)},
    )


def test_rows_are_demands():
    found = tables(
        req_id=[7, 8], node=[1, 0], src_node=[0, 0], layer=[0, 2], head=[1, 0], model=[-1, 0],
        deadline_ms=[0, 3], tenant=[-1, 0], priority=[0, 5],
    )  # fmt: skip

    assert [*found.demands()] == [
        PageDemand(
            "7", KvPageRef("kv", 4, 1, page_count=2, page_bytes=8), "tier://a/tier0",
            "tier://b/tier1",
        ),
        PageDemand(
            "8", KvPageRef("kv", 9, 0, 2, MODEL, page_count=1, page_bytes=8), "tier://a/tier1",
            "tier://a/tier2", 3_000_000, "t", 5,
        ),
    ]  # fmt: skip


def test_what_is_not_given_has_its_default():
    first, second = tables().demands()

    assert (first.request, second.request) == ("0", "1")
    assert (first.src, first.dst) == ("tier://a/tier0", "tier://a/tier1")
    assert (first.deadline_ns, first.tenant, first.priority) == (0, "", 0)
    assert first.pages == KvPageRef("kv", 4, page_count=2, page_bytes=8)


def test_held_pages_have_their_place():
    held = {"tier": [1], "page_start": [3], "page_end": [6], "page_bytes": [8], "layer": [2]}
    found = CacheTables({}, held={name: np.array(one) for name, one in held.items()})

    assert [*found.held_pages()] == [
        KvPageRef("kv", 3, layer=2, node="0", tier=1, page_count=4, page_bytes=8)
    ]


@pytest.mark.parametrize(
    "other",
    [
        tables(layer=[0, 0]),
        tables(page_end=[5, 10]),
        tables(page_bytes=[8.0, 8.0]),
        CacheTables(tables().requests),
        CacheTables(tables().requests, heat={"layer": np.zeros(1)}, names=tables().names),
        None,
    ],
)
def test_tables_are_equal_when_their_columns_are(other):
    assert tables() == tables()
    assert CacheRequest(1, 2, tables=tables()) == CacheRequest(1, 2, tables=tables())
    assert tables() != other
