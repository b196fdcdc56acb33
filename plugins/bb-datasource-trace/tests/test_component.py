import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from bb_datasource_trace import bb_component
from bb_datasource_trace._trace import COLUMNS, Trace, TraceConfig
from bb_datasource_trace.errors import TraceUnreadable
from bb_datasource_trace.generators import sessions
from bb_datasource_trace.tables import tables
from bb_datasource_trace.traces import write_trace
from bb_roles.config import build_config
from bb_roles.data import DataError
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.data_source import DataSourceSuite

REDUCED = {"window_ms": 60_000, "layers": 1}


@pytest.fixture
def path(tmp_path):
    write_trace(sessions(requests=60, seed=1), tmp_path / "t.parquet")
    return str(tmp_path / "t.parquet")


def make(path, **config):
    return Trace(TraceConfig(path=path, **{**REDUCED, **config}), environment("data"))


class TraceSuite(DataSourceSuite):
    config: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _written(self, path):
        self.path = path

    def make(self):
        return make(self.path, **{"batch_size": 8, **self.config})


class TestTrace(TraceSuite):
    pass


class TestInOrder(TraceSuite):
    shuffles = False
    config: ClassVar = {"shuffle": False, "fetch": "all"}


class TestPart(TraceSuite):
    config: ClassVar = {"partition": "iid", "clients": 2, "client": 1, "batch_size": 4}


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Trace


def test_polars_is_imported_when_a_source_is_built():
    code = (
        "import sys, bb_datasource_trace as p; p.bb_component(); print('numpy' in sys.modules);"
        "from bb_datasource_trace._trace import TraceConfig; TraceConfig(path='p');"
        "print('polars' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]


def test_rows_are_those_of_the_table(path):
    source = make(path, batch_size=1000, shuffle=False)

    [(x, y)] = source.batches(FakeContext())

    rows = tables(path, **REDUCED)["requests"]
    assert (x.dtype, y.dtype) == (np.int64, np.int64)
    assert (x == np.stack([rows[name] for name in COLUMNS], axis=1)).all()
    assert (y == rows["req_id"]).all()


def test_all_parameters_of_the_configuration_are_used(path):
    config = {
        "now_ns": 20 * 10**9, "window_ms": 15_000, "layers": 3, "page_bytes": 4096, "slo_ms": 7,
        "fetch": "all", "prefix_blocks": 2, "tier_src": 1, "tier_dst": 2,
    }  # fmt: skip

    reduction = TraceConfig(path=path, **config).reduction()

    assert {name: getattr(reduction, name) for name in config} == config


def test_configuration_is_checked():
    assert build_config(TraceConfig, {"path": "p", "layers": 2}, "data").layers == 2
    for wrong in ({"path": ""}, {"path": "p", "layers": 0}, {"path": "p", "fetch": "some"}):
        with pytest.raises(ConfigError):
            build_config(TraceConfig, wrong, "data")


def test_trace_without_pending_requests_is_refused(path):
    with pytest.raises(DataError, match="asks for no page in the window of 1 ms up to 10 ns"):
        make(path, now_ns=10, window_ms=1)


def test_stored_tables_are_asked_for_as_they_are(path, tmp_path):
    asked = Trace.cache_request(Path(path), REDUCED, keep=tmp_path / "stored")

    again = Trace.cache_request(tmp_path / "stored", {}, keep=tmp_path / "copy")

    assert again == asked == Trace.cache_request(tmp_path / "copy", {})
    with pytest.raises(DataError, match=r"window_ms is told, and .* holds tables"):
        Trace.cache_request(tmp_path / "stored", {"window_ms": 1})


def test_tables_that_cannot_be_kept_are_told(path, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "t.jsonl").write_text("")

    for trace in (Path(path), tmp_path / "t.jsonl"):
        with pytest.raises(DataError, match="File exists"):
            Trace.cache_request(trace, {}, keep=tmp_path / "file")


def test_missing_trace_and_tiers_that_are_one_are_refused(path):
    with pytest.raises(TraceUnreadable):
        make("none.parquet")
    with pytest.raises(DataError, match="both 1"):
        make(path, tier_src=1)
