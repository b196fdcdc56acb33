"""Rows D of the acceptance table: pipelines of an earlier project, as stored reductions."""

import polars as pl
import pytest

from bb_datasource_trace.errors import TraceMismatch, TraceRowInvalid
from bb_datasource_trace.tables import replay, tables, write_tables
from bb_datasource_trace.totals import Totals

D1 = {"user": ["a", "b", "a", "c"], "tokens": [12, 4, 8, 7]}
D2 = {"user": ["userA", "userB", "userA", "userC"], "bytes": [128, 64, 16, 32]}


@pytest.mark.parametrize(
    ("log", "reduction", "totals", "rows"),
    [
        pytest.param(
            D1,
            Totals(key="user", value="tokens", factor=2),
            {"a": 40, "b": 8, "c": 14},
            [2, 1, 1],
            id="D1",
        ),
        pytest.param(
            D2,
            Totals(key="user", value="bytes"),
            {"userA": 144, "userB": 64, "userC": 32},
            [2, 1, 1],
            id="D2",
        ),
    ],
)
def test_log_is_summed_by_user(tmp_path, log, reduction, totals, rows):
    pl.DataFrame(log).write_parquet(tmp_path / "log.parquet")

    found = tables(tmp_path / "log.parquet", reduction)
    write_tables(found, tmp_path / "out")

    again = replay(tmp_path / "out")
    assert dict(zip(again.names["key"], again["totals"]["total"], strict=True)) == totals
    assert again["totals"]["rows"].tolist() == rows
    assert again["totals"]["rows"].sum() == 4
    assert again["totals"]["total"].sum() == sum(totals.values())
    assert again.record.stages == ("input", "transform", "aggregate")
    assert again.record == found.record.__class__(
        **{**vars(found.record), "source": again.record.source}
    )


@pytest.mark.parametrize(
    ("log", "error", "found"),
    [
        ({"user": ["a"]}, TraceMismatch, "no column 'tokens'"),
        ({"user": [1], "tokens": [1]}, TraceMismatch, "column 'user' .* holds Int64"),
        ({"user": ["a"], "tokens": [0.5]}, TraceMismatch, "column 'tokens' .* holds Float64"),
        ({"user": ["a", None], "tokens": [1, 1]}, TraceRowInvalid, "row 1 .* has no user"),
        ({"user": ["a"], "tokens": [2**63]}, TraceRowInvalid, "row 0 .* has no tokens"),
    ],
)
def test_logs_that_cannot_be_summed_are_refused(tmp_path, log, error, found):
    pl.DataFrame(log).write_parquet(tmp_path / "log.parquet")

    with pytest.raises(error, match=found):
        tables(tmp_path / "log.parquet", Totals(key="user", value="tokens"))


def test_columns_may_have_any_names(tmp_path):
    pl.DataFrame({"value": ["x", "x"], "event": [1, 2]}).write_parquet(tmp_path / "log.parquet")

    found = tables(tmp_path / "log.parquet", Totals(key="value", value="event"))

    assert found.names == {"key": ("x",)}
    assert found["totals"]["total"].tolist() == [3]
