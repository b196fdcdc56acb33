import polars as pl
import pytest

from bb_datasource_trace.errors import TraceMismatch, TraceRowInvalid, TraceUnreadable
from bb_datasource_trace.traces import MOST_BLOCKS, SCHEMA, open_trace, write_trace

MODEL = "blake3:" + "a" * 64


def row(ts=0, hashes=(1, 2), **fields):
    return {
        "ts_ns": ts, "node": "n", "tenant": "t", "model": MODEL, "session": "s", "in_tokens": 9,
        "out_tokens": 1, "block_hashes": list(hashes), "slo_ns": 0, **fields,
    }  # fmt: skip


def frame(*rows):
    return pl.DataFrame(list(rows), schema=SCHEMA)


def test_written_trace_is_read_again(tmp_path):
    rows = frame(row(0), row(0, []), row(7, [2**64 - 1], session="", model="", slo_ns=5))

    write_trace(rows, tmp_path / "t.parquet")
    trace = open_trace(tmp_path / "t.parquet")

    assert trace.rows.drop("event").collect().equals(rows)
    assert trace.rows.collect()["event"].to_list() == [0, 1, 2]
    assert (trace.requests, trace.last_ns) == (3, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_trace_without_rows_is_one(tmp_path):
    write_trace(frame(), tmp_path / "t.parquet")

    assert open_trace(tmp_path / "t.parquet")[1:] == (0, 0)


def test_arrow_files_other_widths_and_more_columns_will_do(tmp_path):
    rows = frame(row(1), row(2)).with_columns(
        pl.col("ts_ns").cast(pl.UInt32),
        pl.col("node").cast(pl.Categorical),
        pl.col("block_hashes").cast(pl.List(pl.Int16)),
        more=pl.lit(1.5),
    )
    rows.write_ipc(tmp_path / "t.arrow")

    trace = open_trace(str(tmp_path / "t.arrow"))

    assert trace.rows.collect_schema() == pl.Schema({"event": pl.Int64(), **SCHEMA})
    assert trace.rows.drop("event").collect().equals(frame(row(1), row(2)))


@pytest.mark.parametrize(
    ("rows", "number", "why"),
    [
        ([row(3), row(2)], 1, "ts_ns before that of the row before"),
        ([row(), row(in_tokens=-1)], 1, "negative in_tokens"),
        ([row(out_tokens=-1)], 0, "negative out_tokens"),
        ([row(-1)], 0, "negative ts_ns"),
        ([row(slo_ns=-1)], 0, "negative slo_ns"),
        ([row(slo_ns=2**62)], 0, "slo_ns beyond"),
        ([row(), row(), row(tenant=None)], 2, "no tenant"),
        ([row(block_hashes=None)], 0, "no block_hashes"),
        ([row(hashes=[1, None])], 0, "block hash that is no uint64"),
        ([row(model="llama")], 0, "model that is no digest"),
        ([row(model=MODEL + "0")], 0, "model that is no digest"),
        ([row(model=MODEL + "\n")], 0, "model that is no digest"),
    ],
)
def test_first_row_that_cannot_be_is_named(tmp_path, rows, number, why):
    frame(*rows).write_parquet(tmp_path / "t.parquet")

    with pytest.raises(TraceRowInvalid, match=f"row {number} of .* has .*{why}"):
        open_trace(tmp_path / "t.parquet")
    with pytest.raises(TraceRowInvalid, match=f"row {number} of the rows to be written"):
        write_trace(frame(*rows), tmp_path / "other.parquet")

    assert not (tmp_path / "other.parquet").exists()


def test_negative_hashes_of_signed_columns_are_refused(tmp_path):
    signed = frame(row(), row()).with_columns(block_hashes=pl.Series([[1], [-1]]))
    signed.write_parquet(tmp_path / "t.parquet")

    with pytest.raises(TraceRowInvalid, match=r"row 1 .* block hash"):
        open_trace(tmp_path / "t.parquet")


def test_requests_with_too_many_blocks_are_refused(tmp_path):
    frame(row(), row(0, range(MOST_BLOCKS + 1))).write_parquet(tmp_path / "t.parquet")

    with pytest.raises(TraceRowInvalid, match=r"row 1 .* more than 1048576"):
        open_trace(tmp_path / "t.parquet")


def test_missing_column_is_named_with_those_that_there_are(tmp_path):
    frame(row()).rename({"slo_ns": "slo_n"}).write_parquet(tmp_path / "t.parquet")

    with pytest.raises(TraceMismatch, match="no column 'slo_ns'") as caught:
        open_trace(tmp_path / "t.parquet")

    assert "block_hashes, slo_n" in caught.value.expected
    assert caught.value.fix == "did you mean 'slo_n'?"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ts_ns", [1.5]),
        ("node", [1]),
        ("block_hashes", [1]),
        ("block_hashes", [["a"]]),
        ("in_tokens", [True]),
    ],
)
def test_columns_of_another_kind_are_refused(tmp_path, name, values):
    frame(row()).with_columns(pl.Series(name, values)).write_parquet(tmp_path / "t.parquet")

    with pytest.raises(TraceMismatch, match=f"the column '{name}' of"):
        open_trace(tmp_path / "t.parquet")
    with pytest.raises(TraceMismatch, match=f"the column '{name}' of"):
        write_trace(frame(row()).with_columns(pl.Series(name, values)), tmp_path / "other.parquet")


@pytest.mark.parametrize("content", [b"", b"ts_ns\n1\n", b"PAR1" + bytes(50) + b"PAR1", b"ARROW1"])
def test_files_that_are_no_traces_are_refused(tmp_path, content):
    (tmp_path / "t.parquet").write_bytes(content)

    with pytest.raises(TraceUnreadable, match=r"t\.parquet"):
        open_trace(tmp_path / "t.parquet")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(TraceUnreadable, match="there is no such file") as caught:
        open_trace(tmp_path / "t.parquet")
    with pytest.raises(TraceUnreadable, match="cannot be used"):
        open_trace(tmp_path)
    with pytest.raises(TraceUnreadable, match="there is no such file or folder"):
        write_trace(frame(), tmp_path / "none" / "t.parquet")

    assert "looked up from" in caught.value.fix


def test_trace_that_is_not_written_leaves_the_old_one(tmp_path):
    write_trace(frame(row(5)), tmp_path / "t.parquet")

    with pytest.raises(TraceRowInvalid):
        write_trace(frame(row(5), row(4)), tmp_path / "t.parquet")

    assert open_trace(tmp_path / "t.parquet").last_ns == 5


def test_trace_can_be_written_over_itself(tmp_path):
    write_trace(frame(row(5), row(6)), tmp_path / "t.parquet")

    write_trace(pl.scan_parquet(tmp_path / "t.parquet").head(1), tmp_path / "t.parquet")

    assert open_trace(tmp_path / "t.parquet").requests == 1


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_paths_are_taken_literally(tmp_path, kind):
    getattr(frame(row(1)), f"write_{kind}")(tmp_path / "[t]*")
    getattr(frame(row(2)), f"write_{kind}")(tmp_path / "t2")

    assert open_trace(tmp_path / "[t]*").last_ns == 1
