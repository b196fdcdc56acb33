import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb_datasource_trace import tables as module
from bb_datasource_trace.accesses import Accesses
from bb_datasource_trace.cache import CacheReduction, Tenant, Tier
from bb_datasource_trace.errors import ReductionDamaged, TablesDiffer, TraceUnreadable
from bb_datasource_trace.generators import Synthetic, sessions
from bb_datasource_trace.tables import read_tables, replay, synthetic, tables, write_tables
from bb_datasource_trace.totals import Totals
from bb_datasource_trace.traces import write_trace
from bb_roles.data import DataError
from bb_roles.errors import ConfigError

CACHE = {"window_ms": 60_000, "layers": 2}


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.parquet"
    write_trace(sessions(requests=300, seed=3), path)
    return path


@pytest.fixture
def stored(trace, tmp_path):
    write_tables(tables(trace, **CACHE), tmp_path / "tables")
    return tmp_path / "tables"


def same(one, other):
    assert one.names == other.names
    assert one.tables.keys() == other.tables.keys()
    for name, columns in one.tables.items():
        assert [*columns] == [*other[name]]
        for column, values in columns.items():
            np.testing.assert_array_equal(values, other[name][column], strict=True)


def change(stored, **fields):
    path = stored / "reduction.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


# Reducing.


def test_parameters_by_name_are_those_of_a_reduction(trace):
    by_name = tables(trace, **CACHE, tenants=({"name": "tenant-a", "weight": 3},))
    given = tables(trace, CacheReduction(**CACHE, tenants=(Tenant("tenant-a", weight=3),)))

    same(by_name, given)
    assert by_name.record == given.record


def test_reduction_and_parameters_are_not_mixed(trace):
    with pytest.raises(DataError, match="window_ms are given"):
        tables(trace, CacheReduction(), window_ms=3)
    with pytest.raises(DataError, match="seed are given"):
        synthetic(Synthetic(), seed=3)
    with pytest.raises(ConfigError, match="sede"):
        synthetic(sede=3)


@pytest.mark.parametrize("given", [Totals, {"window_ms": 3}, "totals"])
def test_what_is_no_reduction_is_refused(trace, given):
    with pytest.raises(DataError, match="is no reduction"):
        tables(trace, given)


def test_another_process_with_one_thread_finds_the_same(trace, stored):
    code = (
        "import sys; from bb_datasource_trace.tables import replay;"
        "import polars; print(polars.thread_pool_size(), len(replay(sys.argv[1])['requests']))"
    )
    env = {**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONHASHSEED": "7"}

    done = subprocess.run(
        [sys.executable, "-c", code, str(stored)], env=env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip

    assert done.stdout.split() == ["1", "15"]


def test_record_says_how_and_names_no_folder_of_this_machine(trace, stored):
    text = (stored / "reduction.json").read_text()
    record = json.loads(text)

    assert str(trace.parent) not in text
    assert record["source"] == os.path.join("..", "trace.parquet")  # noqa: PTH118 - as written
    assert record["polars"] == pl.__version__
    assert record["parameters"]["now_ns"] > 0
    assert "SCAN [log]" in record["plan"]
    assert set(record["digests"]) == {
        "requests", "heat", "tier_caps", "tenant_caps", "layer_latency", "names",
    }  # fmt: skip


def test_what_is_stored_is_the_same_bytes_each_time(trace, stored, tmp_path):
    write_tables(tables(trace, **CACHE), tmp_path / "again")

    for path in stored.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert not [path for path in stored.iterdir() if path.name.startswith(".")]


def test_request_is_what_a_planner_takes(trace):
    found = tables(trace, **CACHE)

    request = found.request()

    assert request.window_ms == 60_000
    assert request.now_ns == found.record.parameters["now_ns"]
    assert request.tables.names == found.names
    demands = list(request.tables.demands())
    assert len(demands) == len(found["requests"]["req_id"]) > 100
    [first] = {d.dst for d in demands if d.request == demands[0].request}
    assert first.startswith("tier://node-")
    assert all(d.deadline_ns > 0 and d.tenant.startswith("tenant-") for d in demands)


def test_request_of_synthetic_tables():
    found = synthetic(requests=5)

    request = found.request()

    assert (request.now_ns, request.window_ms) == (10**12, 20)
    assert len(list(request.tables.demands())) == 5


def test_totals_are_no_request_of_a_planner(trace):
    with pytest.raises(DataError, match="of the kind 'totals'"):
        tables(trace, Totals()).request()


# Storing and replaying.


@pytest.mark.parametrize(
    "reduction", [CacheReduction(**CACHE), Totals(), Totals(key="node", factor=3), Accesses()]
)
def test_stored_tables_are_read_and_replayed(trace, tmp_path, reduction):
    found = tables(trace, reduction)
    write_tables(found, tmp_path / "deep" / "tables")

    same(read_tables(tmp_path / "deep" / "tables"), found)
    same(replay(tmp_path / "deep" / "tables"), found)


def test_synthetic_tables_are_stored_and_replayed_without_a_trace(tmp_path):
    found = synthetic(requests=50, seed=2)
    write_tables(found, tmp_path)

    same(read_tables(tmp_path), found)
    same(replay(tmp_path), found)


def test_tables_are_written_over_older_ones(trace, stored):
    write_tables(tables(trace, window_ms=5000), stored)

    assert replay(stored).record.parameters["window_ms"] == 5000


def test_folder_and_trace_can_be_moved_together_or_apart(trace, stored, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    shutil.move(stored, there / "tables")
    shutil.move(trace, there / "trace.parquet")

    replay(there / "tables")
    shutil.move(there / "trace.parquet", there / "other.parquet")
    with pytest.raises(TraceUnreadable, match="no such file"):
        replay(there / "tables")
    replay(there / "tables", trace=there / "other.parquet")


def test_a_folder_that_is_a_link_is_replayed(trace, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")

    write_tables(tables(trace, **CACHE), tmp_path / "link")

    replay(tmp_path / "link")
    replay(tmp_path / "far" / "away")


def test_stored_tables_can_be_stored_elsewhere(stored, tmp_path):
    write_tables(read_tables(stored), tmp_path / "deep" / "er")

    same(replay(tmp_path / "deep" / "er"), read_tables(stored))


def test_rates_that_no_window_exhausts_are_no_limit(trace):
    month, rate = 31 * 86_400_000, 1 << 40
    tiers = (Tier(0, rate, 1 << 60), Tier(1, 1, 1 << 60))

    caps = tables(trace, window_ms=12 * month - month // 2, tiers=tiers)["tier_caps"]

    assert caps["bandwidth_caps"].tolist() == [1 << 62, (12 * month - month // 2) // 1000]


def test_another_trace_is_refused(stored, trace):
    write_trace(sessions(requests=300, seed=4), trace)

    with pytest.raises(TraceUnreadable, match="is blake3:") as caught:
        replay(stored)

    assert "the one that was reduced" in caught.value.expected


def test_trace_that_changes_meanwhile_is_refused(trace, monkeypatch):
    def collect_all(*args, **kwargs):
        Path(trace).write_bytes(Path(trace).read_bytes() + b"PAR1")
        return collected(*args, **kwargs)

    collected = pl.collect_all
    opened = CacheReduction.open

    def opening(self, path):
        log = opened(self, path)
        monkeypatch.setattr(pl, "collect_all", collect_all)
        return log

    monkeypatch.setattr(CacheReduction, "open", opening)

    with pytest.raises(TraceUnreadable, match=r"changed while it was read"):
        tables(trace)


def test_tables_that_come_out_otherwise_are_named(stored, monkeypatch):
    plan = CacheReduction.plan

    def other(self, rows):
        made = plan(self, rows)
        made.tables["heat"] = made.tables["heat"].with_columns(decay_hits=pl.lit(7, pl.Int64))
        return made

    monkeypatch.setattr(CacheReduction, "plan", other)

    with pytest.raises(TablesDiffer, match=r"^heat came out other") as caught:
        replay(stored)
    assert "bug" in caught.value.fix
    change(stored, polars="0.1")
    with pytest.raises(TablesDiffer, match=r"then with 0\.1") as caught:
        replay(stored)
    assert caught.value.fix == "use polars 0.1"


@pytest.mark.parametrize("name", ["requests.parquet", "layer_latency.parquet"])
def test_stored_table_that_is_not_what_was_stored_is_refused(stored, name):
    path = stored / name
    frame = pl.read_parquet(path)
    frame.with_columns(pl.nth(0) + 1).write_parquet(path)

    with pytest.raises(ReductionDamaged, match=f"{path.stem} is not what its record says"):
        replay(stored)
    path.write_bytes(b"PAR1")
    with pytest.raises(ReductionDamaged, match=f"'{path.stem}' cannot be read"):
        read_tables(stored)
    path.unlink()
    with pytest.raises(ReductionDamaged, match=f"'{path.stem}' cannot be read"):
        read_tables(stored)


@pytest.mark.parametrize(
    "values", [["a", "b"], [1.0, 2.0], [None, 5], [[1], [2]], np.array([0, 1], np.int32)]
)
def test_stored_table_of_another_kind_is_refused(tmp_path, values):
    found = tables_of(tmp_path)
    pl.DataFrame({"key_id": values, "rows": [1, 1], "total": [5, 7]}).write_parquet(
        tmp_path / "out" / "totals.parquet"
    )

    with pytest.raises(ReductionDamaged, match="totals is not what its record says"):
        read_tables(tmp_path / "out")
    assert found["totals"]["key_id"].tolist() == [0, 1]


def tables_of(folder):
    log = {"tenant": ["a", "b"], "in_tokens": [5, 7]}
    pl.DataFrame(log).write_parquet(folder / "log.parquet")
    found = tables(folder / "log.parquet", Totals())
    write_tables(found, folder / "out")
    return found


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"schema": "bb.trace.reduction/2"}, "of the form 'bb.trace.reduction/2'"),
        ({"kind": "other"}, "of the kind 'other'"),
        ({"digests": {"../x": ""}}, "outside"),
        ({"digests": 3}, "cannot be read"),
        ({"names": 3}, "cannot be read"),
        ({"names": {}}, "names is not what its record says"),
        ({"parameters": {"window_ms": 0}}, "window_ms is 0"),
        ({"parameters": {"windwo_ms": 5}}, "windwo_ms"),
    ],
)
def test_record_that_cannot_be_used_is_refused(stored, fields, why):
    change(stored, **fields)

    with pytest.raises(ReductionDamaged, match=why):
        replay(stored)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff", "[" * 100_000])
def test_record_that_cannot_be_read_is_refused(stored, text):
    (stored / "reduction.json").write_text(text, encoding="latin-1")

    with pytest.raises(ReductionDamaged, match="cannot be read"):
        read_tables(stored)


def test_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(ReductionDamaged, match=r"no reduction\.json"):
        read_tables(tmp_path)


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ReductionDamaged, match="cannot be written"):
        write_tables(synthetic(requests=1), tmp_path / "file")


def test_interrupted_writing_leaves_no_record(stored, trace, monkeypatch):
    put = module._put

    def failing(path, write):
        if path.name == "heat.parquet":
            raise OSError("no room")
        put(path, write)

    monkeypatch.setattr(module, "_put", failing)

    with pytest.raises(ReductionDamaged, match="no room"):
        write_tables(tables(trace), stored)
    with pytest.raises(ReductionDamaged, match=r"no reduction\.json"):
        read_tables(stored)
