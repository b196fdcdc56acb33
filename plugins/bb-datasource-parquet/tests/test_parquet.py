import gc
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_datasource_parquet import _file, bb_component
from bb_datasource_parquet._parquet import Parquet, ParquetConfig
from bb_datasource_parquet.errors import ColumnMismatch, FileUnreadable, UnusableValue
from bb_ir.ops import ROLE_OPS
from bb_ir.types import parse_type
from bb_roles import State
from bb_roles.config import build_config
from bb_roles.data import DataError
from bb_roles.errors import ConfigError, MissingConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.data_source import DataSourceSuite

CTX = FakeContext()


def write(path, rows=50, group=12, **columns):
    """Write rows that tell their number: `a` is the row, `b` its half, `y` the row modulo 3."""
    number = np.arange(rows)
    table = {"a": number.astype("float64"), "b": number / 2, "y": number % 3, **columns}
    pq.write_table(pa.table(table), path, row_group_size=group)
    return str(path)


def make(path, **config):
    return Parquet(ParquetConfig(path=path, **{"label": "y", **config}), environment("data"))


def numbers(batches):
    """Return the numbers of the rows, in order, and see that the columns are still together."""
    found = []
    for x, y in batches:
        assert (x[:, 1] == x[:, 0] / 2).all()
        assert (y == x[:, 0] % 3).all()
        found += x[:, 0].astype(int).tolist()
    return found


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "rows.parquet")


class ParquetSuite(DataSourceSuite):
    config: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _written(self, tmp_path):
        self.path = write(tmp_path / "rows.parquet")

    def make(self):
        return make(self.path, **{"batch_size": 8, **self.config})


class TestParquet(ParquetSuite):
    pass


class TestInOrder(ParquetSuite):
    shuffles = False
    config: ClassVar = {"shuffle": False, "features": ("b", "a"), "label_dtype": "float32"}


class TestPartOfEachRowGroup(ParquetSuite):
    config: ClassVar = {"partition": "iid", "clients": 3, "client": 1, "shuffle_buffer": 5}


class TestRowGroupsOfAClient(ParquetSuite):
    config: ClassVar = {"partition": "row_group", "clients": 2, "client": 0, "dtype": "float64"}


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Parquet


def test_declaration_imports_neither_numpy_nor_pyarrow():
    code = (
        "import sys, bb_datasource_parquet as p; p.bb_component();"
        "print('numpy' in sys.modules, 'pyarrow' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False False"


def test_pyarrow_is_imported_when_a_source_is_built():
    code = "import sys, bb_datasource_parquet._parquet; print('pyarrow' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


# What is read.


def test_columns_come_by_name_and_in_the_order_that_is_asked_for(path):
    [(x, y)] = make(path, features=("b", "a"), batch_size=50, shuffle=False).batches(CTX)

    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    assert (x == np.stack([np.arange(50) / 2, np.arange(50)], axis=1)).all()
    assert (y == np.arange(50) % 3).all()


def test_features_are_all_columns_but_the_label_unless_they_are_named(path):
    x, y = make(path, label="b", label_dtype="float64", batch_size=4).next_batch(CTX)

    assert x.tolist() == [[0, 0], [1, 1], [2, 2], [3, 0]]
    assert y.tolist() == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize("kind", ["int8", "uint64", "int64", "float16", "float32", "bool"])
def test_columns_of_numbers_and_truth_values_are_read(tmp_path, kind):
    column = pa.array(np.array([0, 1, 1, 0], kind))
    path = write(tmp_path / "p", rows=4, b=column)

    x, _ = make(path, features=("b",)).next_batch(CTX)

    assert x.dtype == np.float32
    assert x[:, 0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("piece", [1, 5, 7, 4096])
def test_what_is_decoded_at_a_time_changes_nothing(path, piece, monkeypatch):
    def all_of(**config):
        source = make(path, batch_size=8, shuffle_buffer=16, **config)
        drawn = source.batches(FakeContext(), epochs=2)
        return numbers(drawn), numbers([source.next_batch(CTX)])

    divided = {"partition": "iid", "clients": 2, "client": 1, "shuffle": False}
    expected = all_of(), all_of(**divided)

    monkeypatch.setattr(_file, "PIECE", piece)

    assert (all_of(), all_of(**divided)) == expected


def test_no_more_is_read_than_the_buffer_needs(tmp_path, monkeypatch):
    path = write(tmp_path / "p", rows=1000, group=100)
    monkeypatch.setattr(_file, "PIECE", 10)
    source, read = make(path, shuffle_buffer=40, batch_size=8), []
    whole = source._table.pieces

    def counted(order):
        for piece in whole(order):
            read.append(len(piece[3]))
            yield piece

    monkeypatch.setattr(source._table, "pieces", counted)

    next(iter(source.batches(CTX)))

    assert set(read) == {10}
    assert sum(read) == 40


def test_kept_batches_do_not_keep_what_was_read_with_them(path):
    x, y = make(path, batch_size=4).next_batch(CTX)

    assert x.base is None
    assert y.base is None


def test_all_row_groups_mix_and_each_buffer_is_shuffled(path):
    found = numbers(make(path, shuffle_buffer=12).batches(FakeContext(seed=1)))

    groups = [number // 12 for number in found]
    assert groups != sorted(groups)
    assert any(found[at] > found[at + 1] + 1 for at in range(11))


def test_buffer_as_large_as_the_part_shuffles_it_wholly(tmp_path):
    path = write(tmp_path / "p", rows=400, group=400)

    found = numbers(make(path, shuffle_buffer=400).batches(CTX))

    assert sorted(found) == list(range(400))
    assert len({number // 100 for number in found[:20]}) == 4


def test_equal_rows_are_all_given(tmp_path):
    path = write(tmp_path / "p", rows=9, a=np.zeros(9), b=np.zeros(9), y=np.zeros(9, int))

    batches = make(path, batch_size=4).batches(CTX)

    assert [len(y) for _, y in batches] == [4, 4, 1]
    assert batches.examples == 9


def test_place_in_the_middle_of_a_row_group_is_found_again(path):
    config = {"batch_size": 5, "partition": "iid", "clients": 2, "client": 0}
    source = make(path, **config)
    whole = numbers(source.next_batch(CTX) for _ in range(5))

    for before in range(6):
        first, second = make(path, **config), make(path, **config)
        for _ in range(before):
            first.next_batch(CTX)
        second.load(first.save())
        assert numbers([second.next_batch(CTX)]) == whole[5 * (before % 5) : 5 * (before % 5) + 5]


# How rows are divided.


@settings(deadline=None)  # files are written
@given(
    rows=st.integers(1, 60),
    group=st.integers(1, 20),
    clients=st.integers(1, 7),
    seed=st.integers(0, 3),
)
def test_clients_together_hold_every_row_once_and_equally_many(rows, group, clients, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "p"), rows=rows, group=group)
        parts = []
        for client in range(min(clients, rows)):
            source = make(
                path, partition="iid", clients=min(clients, rows), client=client, seed=seed
            )
            batches = source.batches(CTX)
            parts.append(numbers(batches))
            assert batches.examples == len(parts[-1])

    assert sorted(row for part in parts for row in part) == list(range(rows))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_one_client_has_everything(path):
    for partition in ("iid", "row_group"):
        source = make(path, partition=partition, clients=1, client=0)
        assert sorted(numbers(source.batches(CTX))) == list(range(50))


def test_seed_decides_who_gets_which_rows(path):
    def part(seed):
        config = {"partition": "iid", "clients": 2, "client": 0, "shuffle": False}
        return numbers(make(path, seed=seed, **config).batches(CTX))

    assert part(1) == part(1) != part(2)


def test_row_groups_are_dealt_in_turn(path):
    parts = [
        numbers(make(path, partition="row_group", clients=2, client=i, shuffle=False).batches(CTX))
        for i in range(2)
    ]

    assert {row // 12 for row in parts[0]} == {0, 2, 4}
    assert {row // 12 for row in parts[1]} == {1, 3}


@pytest.mark.parametrize("config", [
    {"partition": "row_group", "clients": 6, "client": 5},
    {"partition": "iid", "clients": 51, "client": 50},
])  # fmt: skip
def test_client_without_rows_is_refused(path, config):
    with pytest.raises(DataError, match="gets no row of") as caught:
        make(path, **config)

    assert "has 50 in 5 row groups" in caught.value.found


def test_file_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="which has 0 in"):
        make(write(tmp_path / "p", rows=0))


# Snapshots.


def test_batches_are_made_again_with_the_sizes_that_they_were_drawn_with(path):
    batches = make(path, batch_size=8, shuffle_buffer=16).batches(CTX, epochs=2)

    again = make(path, batch_size=5, shuffle_buffer=50).remake(batches.recipe.state)

    assert [x.tolist() for x, _ in again] == [x.tolist() for x, _ in batches]


def test_batches_and_places_of_another_file_are_refused(path, tmp_path):
    source = make(path)
    other = make(write(tmp_path / "other", a=np.arange(50)[::-1].astype("float64")))

    with pytest.raises(FileUnreadable, match="batches were drawn from 50 examples of another"):
        other.remake(source.batches(CTX).recipe.state)
    with pytest.raises(FileUnreadable, match="the place was saved from 50 examples"):
        other.load(source.save())
    with pytest.raises(FileUnreadable, match="the place was saved"):
        source.load(State())


def test_recipe_is_small(path):
    state = make(path).batches(CTX).recipe.state

    assert sum(tensor.nbytes for tensor in state.tensors.values()) == 16


# What follows for types.


def test_types_that_follow_from_a_configuration():
    known = Parquet.value_types(ParquetConfig(path="p", label="y", features=("a", "b")))
    open_width = Parquet.value_types(ParquetConfig(path="p", label="y", label_dtype="float32"))

    assert known["NextBatch.batch"] == "tensor(float32)[batch,2]"
    assert known["NextBatch.labels"] == "tensor(int64)[batch]"
    assert open_width["NextBatch.batch"] == "tensor(float32)[batch,?]"
    assert open_width["NextBatch.labels"] == "tensor(float32)[batch]"
    ports = {f"{s.name}.{p.name}" for s in ROLE_OPS["data_source"].values() for p in s.outputs}
    assert known.keys() == ports
    assert all(parse_type(text) for text in known.values())


# What is refused.


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"path": ""}, "path is empty"),
        ({"label": ""}, "label is empty"),
        ({"dtype": "int64"}, "dtype is 'int64'"),
        ({"label_dtype": "int32"}, "label_dtype is 'int32'"),
        ({"partition": "shard"}, "partition is 'shard'"),
        ({"partition": "iid"}, "partition 'iid' has client None of None"),
        ({"partition": "iid", "clients": 0, "client": 0}, "clients is 0"),
        ({"partition": "iid", "clients": 2, "client": 2}, "client is 2"),
        ({"clients": 2, "client": 1}, "client 1 of 2 is chosen"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"shuffle_buffer": 1}, "shuffle_buffer is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"features": ("a", "a")}, "features has .'a'. twice"),
        ({"features": ("a", "y")}, "the label 'y' is one of the features"),
    ],
)
def test_wrong_configuration_is_refused(wrong, found):
    given = {"path": "p", "label": "y", **wrong}

    with pytest.raises(DataError, match=found) as caught:
        ParquetConfig(**given)

    assert caught.value.expected
    with pytest.raises(ConfigError):
        build_config(ParquetConfig, given, "data")


def test_path_and_label_are_needed():
    with pytest.raises(MissingConfigError, match="path, label"):
        build_config(ParquetConfig, {}, "data")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileUnreadable, match="there is no such file") as caught:
        make(str(tmp_path / "none.parquet"))

    assert "looked up from" in caught.value.fix


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n" * 10, b"PAR1" + bytes(100) + b"PAR1"])
def test_file_that_is_no_parquet_file_is_refused(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)

    with pytest.raises(FileUnreadable, match=r"rows\.csv"):
        make(str(path))


def test_folder_is_refused(tmp_path):
    with pytest.raises(FileUnreadable, match="cannot be read"):
        make(str(tmp_path))


def test_file_that_is_damaged_further_in_is_refused_when_it_is_read(path):
    content = bytearray(Path(path).read_bytes())
    content[4:200] = bytes(196)
    Path(path).write_bytes(content)

    with pytest.raises(FileUnreadable, match="cannot be read"):
        list(make(path, shuffle=False).batches(CTX))


def test_file_that_was_replaced_meanwhile_is_refused(path):
    source = make(path)
    batches = source.batches(CTX)
    write(path, rows=40)

    with pytest.raises(FileUnreadable, match="was replaced while it was in use"):
        list(batches)
    with pytest.raises(FileUnreadable, match="was replaced while it was in use"):
        source.next_batch(CTX)


@pytest.mark.parametrize("config", [{"label": "z"}, {"features": ("a", "z")}])
def test_missing_column_is_named_with_those_that_there_are(path, config):
    with pytest.raises(ColumnMismatch, match="has no columns 'z'") as caught:
        make(path, **config)

    assert "a, b, y" in caught.value.expected


def test_column_that_is_almost_there_is_asked_for(tmp_path):
    path = write(tmp_path / "p", width=np.zeros(50))

    with pytest.raises(ColumnMismatch) as caught:
        make(path, features=("widht",))

    assert caught.value.fix == "did you mean 'width'?"


def test_column_that_is_there_twice_is_refused(tmp_path):
    table = pa.table([[1, 2], [3, 4], [5, 6]], names=["a", "a", "y"])
    pq.write_table(table, tmp_path / "p")

    with pytest.raises(ColumnMismatch, match="has 2 columns 'a'"):
        make(str(tmp_path / "p"))


def test_file_with_a_label_alone_is_refused(tmp_path):
    pq.write_table(pa.table({"y": [1, 2]}), tmp_path / "p")

    with pytest.raises(ColumnMismatch, match="no column but 'y'"):
        make(str(tmp_path / "p"))


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array(["x"] * 50), "string"),
        (pa.array([[1.0]] * 50), "list"),
        (pa.array([{"u": 1}] * 50), "struct"),
        (pa.array([None] * 50), "null"),
        (pa.array([0] * 50).cast(pa.timestamp("us")), "timestamp"),
    ],
)
def test_columns_that_hold_no_numbers_are_refused(tmp_path, column, kind):
    path = write(tmp_path / "p", b=column)

    with pytest.raises(ColumnMismatch, match="the column 'b' of") as caught:
        make(path)

    assert f"holds {kind}" in caught.value.found
    assert make(path, features=("a",)).batches(CTX).examples == 50


def test_label_of_real_numbers_is_no_class(path):
    with pytest.raises(ColumnMismatch, match=r"the column 'b' of .* holds double"):
        make(path, label="b")


@pytest.mark.parametrize("column", ["a", "y"])
@pytest.mark.parametrize("counted", [True, False])
def test_nulls_are_refused_when_the_file_tells_of_them_and_else_when_they_are_read(
    tmp_path, column, counted
):
    values = pa.array([*range(30), None, *range(31, 50)])
    table = pa.table({"a": range(50), "b": range(50), "y": range(50), column: values})
    pq.write_table(table, tmp_path / "p", row_group_size=12, write_statistics=counted)

    with pytest.raises(UnusableValue, match=f"the column '{column}' holds 1 nulls") as caught:
        list(make(str(tmp_path / "p")).batches(CTX))

    assert "row group 2" in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(tmp_path, bad):
    values = np.arange(50.0)
    values[40] = bad

    with pytest.raises(UnusableValue, match="the column 'a' holds") as caught:
        list(make(write(tmp_path / "p", a=values)).batches(CTX))

    assert "row group 3" in str(caught.value)


def test_class_beyond_int64_is_refused(tmp_path):
    path = write(tmp_path / "p", rows=2, y=np.array([1, 2**64 - 1], np.uint64))

    with pytest.raises(UnusableValue, match="holds 18446744073709551615"):
        make(path).next_batch(CTX)


def test_next_batch_fails_again_and_keeps_its_place(tmp_path):
    values = np.arange(50.0)
    values[40] = math.nan
    source = make(write(tmp_path / "p", a=values), batch_size=20)

    source.next_batch(CTX)
    for _ in range(2):
        with pytest.raises(UnusableValue):
            source.next_batch(CTX)

    assert source.save().data["position"] == 20


@pytest.mark.parametrize("epochs", [0, -1])
def test_passes_are_at_least_one(path, epochs):
    with pytest.raises(DataError, match=f"epochs is {epochs}"):
        make(path).batches(CTX, epochs=epochs)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted there")
def test_no_file_stays_open(path):
    def opened():
        gc.collect()
        return sum(1 for fd in Path("/proc/self/fd").iterdir() if fd.exists() and fd.samefile(path))

    source = make(path, batch_size=4, shuffle_buffer=4)
    assert opened() == 0
    source.next_batch(CTX)
    iterator = iter(source.batches(CTX))
    next(iterator)
    assert opened() == 2

    del iterator
    source.close()

    assert opened() == 0
