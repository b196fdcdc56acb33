import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from bb_datasource_trace.generators import Sessions, Synthetic, sessions
from bb_datasource_trace.tables import synthetic
from bb_datasource_trace.traces import SCHEMA, open_trace, write_trace
from bb_roles.data import DataError
from bb_roles.errors import ConfigError


def test_sessions_are_a_trace(tmp_path):
    drawn = sessions(requests=500, seed=1)

    write_trace(drawn, tmp_path / "t.parquet")

    assert drawn.schema == SCHEMA
    assert open_trace(tmp_path / "t.parquet").requests == 500


def test_seed_decides_all():
    assert sessions(requests=200, seed=1).equals(sessions(Sessions(requests=200, seed=1)))
    assert not sessions(requests=200, seed=1).equals(sessions(requests=200, seed=2))
    first = sessions(requests=50, seed=7)
    assert hashlib.sha256(first.write_json().encode()).hexdigest()[:16] == "bbcd6fab9e7772dd"


def test_no_requests_are_an_empty_trace():
    assert sessions(requests=0).schema == SCHEMA
    assert sessions(requests=0).is_empty()


def test_prompts_of_a_conversation_grow_and_keep_their_beginning():
    drawn = sessions(requests=2000, seed=1, block_tokens=64)
    turns = Counter()
    for _, group in drawn.group_by("session", maintain_order=True):
        assert group["node"].n_unique() == group["tenant"].n_unique() == 1
        rows = group.rows(named=True)
        for one, after in pairwise(rows):
            assert after["in_tokens"] > one["in_tokens"] + one["out_tokens"]
            whole = one["in_tokens"] // 64
            assert one["block_hashes"][:whole] == after["block_hashes"][:whole]
            if one["in_tokens"] % 64:
                assert one["block_hashes"][-1] != after["block_hashes"][whole]
        turns[len(rows)] += 1
    assert 1 < sum(k * v for k, v in turns.items()) / turns.total() < 4.5
    blocks = -(-drawn["in_tokens"] // 64)
    assert (drawn["block_hashes"].list.len() == blocks).all()


def test_conversations_share_system_prompts_by_zipf():
    drawn = sessions(requests=5000, seed=2, turns=1, prefixes=10, zipf=1.0, prefix_blocks=1)
    first = drawn["block_hashes"].list.first()
    counts = sorted(Counter(first.to_list()).values(), reverse=True)

    expected = 5000 / np.arange(1, 11) / (1 / np.arange(1, 11)).sum()
    assert len(counts) == 10
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max())
    second = drawn["block_hashes"].list.get(1, null_on_oob=True).drop_nulls()
    assert second.n_unique() == len(second)  # behind the prompt everybody is alone


def test_conversations_come_at_their_rate():
    drawn = sessions(requests=4000, seed=3, rate=8.0, turns=1)

    assert drawn["ts_ns"][-1] / 1e9 == pytest.approx(500, rel=0.1)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"rate": 0.0}, ConfigError),
        ({"requests": -1}, ConfigError),
        ({"turns": 0.5}, ConfigError),
        ({"zipf": float("nan")}, ConfigError),
        ({"slo_ms": 1 << 60}, ConfigError),
        ({"rate": 1e-15, "requests": 9}, DataError),
        ({"rate": 1e-305, "requests": 9}, DataError),
        ({"think_s": 1e12, "requests": 9}, DataError),
        ({"turns": 1e9, "requests": 9}, DataError),
        ({"turns": 1e300, "requests": 9}, DataError),
        (
            {"block_tokens": 1, "turn_tokens": 1e6, "requests": 9, "seed": 1, "turns": 9.0},
            DataError,
        ),
    ],
)
def test_sessions_that_cannot_be_are_refused(wrong, error):
    with pytest.raises(error):
        sessions(**wrong)


def test_config_and_fields_are_not_mixed():
    with pytest.raises(DataError, match="both a config and fields"):
        sessions(Sessions(), seed=2)


# The synthetic workload: each column has the distribution that is told, and no other value.


def test_synthetic_columns_are_distributed_as_told():
    n = 24_000
    requests = synthetic(requests=n, seed=1, now_ms=10**6)["requests"]
    pages = requests["page_end"] - requests["page_start"] + 1
    drawn = {
        "node": (requests["node"], range(4)),
        "layer": (requests["layer"], range(8)),
        "prefix_id": (requests["prefix_id"], range(40)),
        "page_start": (requests["page_start"], range(1024)),
        "pages": (pages, (1, 2, 4, 8, 16)),
        "page_bytes": (requests["page_bytes"], (128 << 10, 256 << 10, 512 << 10)),
        "deadline": (requests["deadline_ms"] - 10**6, range(50, 601)),
        "tenant": (requests["tenant"], range(3)),
        "fill": (requests["est_fill_ms"], (1, 2, 5, 10, 20)),
        "tier_src": (requests["tier_src"], range(2)),
    }

    for name, (values, choices) in drawn.items():
        counts = Counter(values.tolist())
        assert set(counts) == set(choices), name
        expected = n / len(choices)
        worst = max(abs(count - expected) for count in counts.values())
        assert worst < 5 * np.sqrt(expected), name
    assert (requests["tier_dst"] == requests["tier_src"] + 1).all()
    assert requests["req_id"].tolist() == list(range(n))


def test_synthetic_heat_counts_who_covers_a_page():
    found = synthetic(requests=300, seed=4)
    requests, heat = found["requests"], found["heat"]
    hits, sizes = Counter(), Counter()
    columns = (
        requests[name].tolist() for name in ("layer", "page_start", "page_end", "page_bytes")
    )
    for layer, first, last, size in zip(*columns, strict=True):
        for page in range(first, last + 1):
            hits[layer, page] += 1
            sizes[layer, page] = max(sizes[layer, page], size)

    keys = list(zip(heat["layer"].tolist(), heat["page_id"].tolist(), strict=True))
    assert keys == sorted(hits)
    assert heat["decay_hits"].tolist() == [hits[key] for key in keys]
    assert heat["size_bytes"].tolist() == [sizes[key] for key in keys]


def test_synthetic_caps_and_latencies():
    found = synthetic()

    assert found["tier_caps"]["bandwidth_caps"].tolist() == [64 << 20, 16 << 20]
    assert found["layer_latency"]["lat_ms"].tolist() == [5 + layer / 2 for layer in range(8)]
    assert set(found["tenant_caps"]["bandwidth_caps"].tolist()) == {32 << 20}
    assert len(found["requests"]["node"]) == 200


def test_synthetic_seed_decides_all():
    digests = [synthetic(seed=seed).record.digests["requests"] for seed in (1, 1, 2)]

    assert digests[0] == digests[1] != digests[2]
    assert synthetic(seed=0).record.digests["requests"][:23] == "blake3:43d7850b561f9563"


def test_no_synthetic_requests_are_empty_tables():
    found = synthetic(Synthetic(requests=0))

    assert len(found["requests"]["node"]) == len(found["heat"]["page_id"]) == 0
