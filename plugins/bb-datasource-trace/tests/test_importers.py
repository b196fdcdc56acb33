import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import bytesandbrains as bb
from bb_datasource_trace import importers
from bb_datasource_trace.errors import TraceLineMalformed, TraceRowInvalid, TraceUnreadable
from bb_datasource_trace.importers import import_mooncake, import_steps
from bb_datasource_trace.tables import tables
from bb_datasource_trace.traces import open_trace
from bb_runtime.replay import Replay
from bytesandbrains.journal import FileJournal, read_journal

MODEL = "sha256:" + "c" * 64


def line(timestamp=0, tokens=600, ids=(0, 1), **fields):
    return json.dumps(
        {
            "timestamp": timestamp, "input_length": tokens, "output_length": 9,
            "hash_ids": list(ids), **fields,
        }
    )  # fmt: skip


def mooncake(tmp_path, *lines, **options):
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    return import_mooncake(
        tmp_path / "in.jsonl", tmp_path / "out.parquet", **{"model": MODEL, **options}
    )


def rows(tmp_path):
    return open_trace(tmp_path / "out.parquet").rows.collect().to_dicts()


# Mooncake.


def test_lines_become_rows(tmp_path):
    options = {"node": "n", "tenant": "t", "start_ns": 5, "slo_ms": 30}

    count = mooncake(tmp_path, line(27, 6955, range(14)), "", line(30, 6472, range(13)), **options)

    assert count == 2
    first, second = rows(tmp_path)
    assert first == {
        "event": 0, "ts_ns": 27_000_005, "node": "n", "tenant": "t", "model": MODEL, "session": "",
        "in_tokens": 6955, "out_tokens": 9, "block_hashes": [*range(14)], "slo_ns": 30_000_000,
    }  # fmt: skip
    assert (second["ts_ns"], len(second["block_hashes"])) == (30_000_005, 13)


def test_file_longer_than_what_is_held_at_a_time_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(importers, "_CHUNK", 3)

    assert mooncake(tmp_path, *(line(at // 2, 1, [at]) for at in range(20))) == 20

    assert [one["block_hashes"] for one in rows(tmp_path)] == [[at] for at in range(20)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.parquet"]


def test_empty_file_is_an_empty_trace(tmp_path):
    assert mooncake(tmp_path) == 0
    assert rows(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "no JSON"),
        ("\udcff", "no JSON"),
        ("[" * 100_000, "no JSON|nested"),
        ('{"timestamp": ' + "9" * 5000 + "}", "no JSON|timestamp"),
        ("3", "is a int"),
        (line(timestamp=None), "the timestamp None"),
        (line(timestamp=1.5), "the timestamp 1.5"),
        (line(timestamp=True), "the timestamp True"),
        (line(timestamp=-1), "the timestamp -1"),
        (line(timestamp=2**60), "the timestamp 1152921504606846976"),
        (line(tokens="600"), "the input_length '600'"),
        (line(output_length=2**63), "the output_length 9223372036854775808"),
        (line(hash_ids=None), "no list hash_ids"),
        (line(ids=[0, -1]), "the hash id -1"),
        (line(ids=[0, 2**64]), "the hash id 18446744073709551616"),
        (line(tokens=6955, ids=range(13)), "13 hash_ids for 6955 tokens, which are 14 blocks"),
        (line(tokens=512, ids=range(2)), "2 hash_ids for 512 tokens, which are 1 blocks"),
        (line(timestamp=4), "earlier than the line before"),
    ],
)
def test_malformed_line_is_named_and_nothing_is_written(tmp_path, bad, why):
    content = "\n".join([line(5), "", bad, line(6)])
    (tmp_path / "in.jsonl").write_bytes(content.encode(errors="surrogateescape"))

    with pytest.raises(TraceLineMalformed, match=rf"line 3 of .*({why})"):
        import_mooncake(tmp_path / "in.jsonl", tmp_path / "out.parquet", model=MODEL)

    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(TraceUnreadable, match=r"in\.jsonl.*no such file"):
        import_mooncake(tmp_path / "in.jsonl", tmp_path / "out.parquet", model=MODEL)
    (tmp_path / "in.jsonl").write_text(line())
    with pytest.raises(TraceUnreadable, match="no such file or folder"):
        import_mooncake(tmp_path / "in.jsonl", tmp_path / "none" / "out", model=MODEL)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"node": "\ud800"}, "node is"),
        ({"tenant": 5}, "tenant is 5"),
        ({"start_ns": 1 << 63}, "start_ns stands for"),
        ({"start_ns": -1}, "start_ns stands for -1 ns"),
        ({"slo_ms": 1 << 60}, "slo_ms stands for"),
    ],
)
def test_what_is_told_beside_the_file_is_checked(tmp_path, told, why):
    with pytest.raises(TraceRowInvalid, match=why):
        mooncake(tmp_path, line(), **told)
    assert not (tmp_path / "out.parquet").exists()


def test_model_that_is_no_digest_is_refused(tmp_path):
    with pytest.raises(TraceRowInvalid, match=r"row 0 .* has a model that is no digest"):
        mooncake(tmp_path, line(), model="llama-3")


# Our engine.


class Serve(bb.Module):
    def body(self, g):
        request = g.input("request", "record")
        g.output("kv_request", request)
        g.output("tokens", request["in_tokens"])


def served(folder, seed, requests):
    """Run a Node that serves requests at given seconds; return its journal."""
    artifact = bb.load_artifact(bb.Compiler().compile(Serve().build()))
    with FileJournal(folder) as journal:
        node = bb.install(bb.PeerId.from_seed(seed), [], artifact, ["Serve"], journal=journal)
        for second, hashes in requests:
            node.advance(second * 10**9)
            request = {"block_hashes": np.array(hashes, np.uint64), "in_tokens": np.int64(40)}
            told = {"tenant": "t", "model": MODEL, "session": "s", "out_tokens": 3}
            node.invoke("Serve", {"request": {**request, **told}})
            node.poll()
    return read_journal(folder)


def test_requests_of_nodes_are_read_from_their_journals(tmp_path):
    one = served(tmp_path / "one", 1, [(0, [1, 2]), (2, [1, 2, 2**64 - 1])])
    other = served(tmp_path / "other", 2, [(1, [1])])

    nodes = {"node-1": Replay(one), "node-2": Replay(other)}
    count = import_steps(nodes, tmp_path / "out.parquet")

    assert count == 3
    found = rows(tmp_path)
    assert [(r["ts_ns"] // 10**9, r["node"]) for r in found] == [
        (0, "node-1"), (1, "node-2"), (2, "node-1"),
    ]  # fmt: skip
    assert found[2] == {
        "event": 2, "ts_ns": 2 * 10**9, "node": "node-1", "tenant": "t", "model": MODEL,
        "session": "s", "in_tokens": 40, "out_tokens": 3, "block_hashes": [1, 2, 2**64 - 1],
        "slo_ns": 0,
    }  # fmt: skip
    asked = tables(tmp_path / "out.parquet", window_ms=1500, layers=1)["requests"]
    assert asked["req_id"].tolist() == [1, 2]


def told(*values, name="kv_request"):
    steps = [SimpleNamespace(name=name, value=value) for value in values]
    return {"n": [SimpleNamespace(now_ns=7, steps=[SimpleNamespace(other=1), *steps])]}


GOOD = {
    "tenant": "t", "model": "", "session": "", "in_tokens": 1, "out_tokens": 2,
    "block_hashes": [3], "slo_ns": np.int32(4),
}  # fmt: skip


def test_promise_and_name_of_the_output_are_taken(tmp_path):
    assert import_steps(told(GOOD, name="asked"), tmp_path / "out.parquet", output="asked") == 1
    assert rows(tmp_path)[0]["slo_ns"] == 4

    assert import_steps(told(GOOD, name="asked"), tmp_path / "out.parquet") == 0
    assert import_steps({}, tmp_path / "out.parquet") == 0


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"tenant": 3}, "the tenant 3"),
        ({"session": None}, "the session None"),
        ({"session": "\ud800"}, "the session"),
        ({"in_tokens": np.array([1, 2])}, "the in_tokens array"),
        ({"in_tokens": -1}, "the in_tokens -1"),
        ({"in_tokens": 1.5}, "the in_tokens 1.5"),
        ({"in_tokens": float("inf")}, "the in_tokens inf"),
        ({"out_tokens": "3"}, "the out_tokens '3'"),
        ({"slo_ns": 2**63}, "the slo_ns 9223372036854775808"),
        ({"block_hashes": None}, "the block_hashes None"),
        ({"block_hashes": np.array(3)}, "the block_hashes array"),
        ({"block_hashes": np.array([1.0])}, "the block hash 1.0"),
        ({"block_hashes": np.array([-1])}, "the block hash -1"),
    ],
)
def test_output_that_is_no_request_is_named(tmp_path, bad, why):
    with pytest.raises(TraceRowInvalid) as caught:
        import_steps(told(GOOD, {**GOOD, **bad}), tmp_path / "out.parquet")

    assert caught.value.found.startswith(f"output 1 of 'n', at 7 ns has {why}")
    assert list(tmp_path.iterdir()) == []


def test_output_that_is_no_record_is_named(tmp_path):
    with pytest.raises(TraceRowInvalid, match="is a int"):
        import_steps(told(3), tmp_path / "out.parquet")


def test_node_and_time_are_those_of_a_trace(tmp_path):
    late = told(GOOD)["n"]
    late[0].now_ns = 1 << 64

    with pytest.raises(TraceRowInvalid, match="has the time 18446744073709551616"):
        import_steps({"n": late}, tmp_path / "out.parquet")
    with pytest.raises(TraceRowInvalid, match="a node whose name is no text"):
        import_steps({"\ud800": told(GOOD)["n"]}, tmp_path / "out.parquet")


def test_clock_that_goes_back_is_refused(tmp_path):
    late, early = told(GOOD)["n"], told(GOOD)["n"]
    early[0].now_ns = 6

    with pytest.raises(TraceRowInvalid, match=r"row 1 .* before that of the row before"):
        import_steps({"n": late + early}, tmp_path / "out.parquet")


def test_rows_are_typed_as_a_trace(tmp_path):
    import_steps({}, tmp_path / "out.parquet")

    assert pl.read_parquet_schema(tmp_path / "out.parquet")["block_hashes"] == pl.List(pl.UInt64)
