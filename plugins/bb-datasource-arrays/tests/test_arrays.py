import os
import pickle

import numpy as np
import pytest

from bb_datasource_arrays import bb_component
from bb_datasource_arrays._arrays import Arrays, ArraysConfig
from bb_roles.config import build_config
from bb_roles.data import DataError
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.data_source import DataSourceSuite

X = np.arange(60, dtype=np.float32).reshape(20, 3)
Y = np.tile(np.arange(4), 5)


def make(**config):
    config = build_config(ArraysConfig, {"batch_size": 8, **config}, "data")
    return Arrays(config, environment("data"))


def first(source):
    return source.next_batch(FakeContext())


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=X, y=Y)
    return str(path)


class TestInline(DataSourceSuite):
    def make(self):
        return make(x=X, y=Y)


class TestShard(DataSourceSuite):
    def make(self):
        x = np.arange(240.0).reshape(60, 2, 2)
        return make(x=x, y=np.repeat(np.arange(6), 10), partition="shard", clients=3, client=1)


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Arrays


def test_file_is_read(npz):
    x, y = first(make(path=npz, batch_size=20))

    assert (x.tobytes(), y.tobytes()) == (X.tobytes(), Y.tobytes())


def test_other_names_in_the_file(tmp_path):
    np.savez(tmp_path / "d.npz", images=X, labels=Y, more=X)

    made = make(path=str(tmp_path / "d.npz"), x_key="images", y_key="labels")

    assert first(made)[1].tolist() == Y[:8].tolist()


def test_compressed_file_is_read(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=X, y=Y)

    assert len(first(make(path=str(tmp_path / "d.npz")))[0]) == 8


def test_clients_of_one_process_share_the_file(npz):
    one, other = first(make(path=npz))[0], first(make(path=npz))[0]

    assert np.shares_memory(one, other)


def test_file_written_anew_is_read_anew(npz):
    make(path=npz)
    np.savez(npz, x=X + 1, y=Y)
    os.utime(npz, ns=(1, 1))

    assert (first(make(path=npz))[0] == X[:8] + 1).all()


def test_arrays_of_the_user_are_not_copied_and_stay_writable():
    x = X.copy()

    batch, _ = first(make(x=x, y=Y))

    assert np.shares_memory(batch, x)
    assert x.flags.writeable


def test_clients_together_hold_everything():
    config = {"x": X, "y": Y, "partition": "dirichlet", "clients": 3, "min_examples": 1}

    divided = [make(client=i, **config).batches(FakeContext()) for i in range(3)]

    assert sum(part.examples for part in divided) == 20
    seen = np.concatenate([x[:, 0] for part in divided for x, _ in part])
    assert sorted(seen) == X[:, 0].tolist()


def test_test_set_is_whole_and_apart():
    test = make(x=X, y=Y, split="test").batches(FakeContext())
    train = make(
        x=X, y=Y, split="train", partition="iid", clients=2, client=0
    ).batches(FakeContext())  # fmt: skip

    assert (test.examples, train.examples) == (4, 8)
    held_out = {float(v) for x, _ in test for v in x[:, 0]}
    assert held_out.isdisjoint(float(v) for x, _ in train for v in x[:, 0])


def test_real_targets_are_fine_without_classes():
    made = make(x=X, y=np.linspace(0, 1, 20), partition="iid", clients=2, client=1)

    assert made.batches(FakeContext()).examples == 10


def test_configurations_with_arrays_can_be_compared_and_printed():
    one, other = (ArraysConfig(x=X, y=Y) for _ in range(2))

    assert one == other
    assert "array" not in repr(one)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "neither a file nor arrays"),
        ({"x": X}, "only x is given"),
        ({"path": "d.npz", "y": Y}, "both path and y are given"),
        ({"x": X, "y": Y, "batch_size": 0}, "batch_size is 0"),
    ],
)
def test_wrong_configuration_is_refused(given, found):
    with pytest.raises(DataError, match=found):
        ArraysConfig(**given)
    with pytest.raises(ConfigError, match=found):
        build_config(ArraysConfig, given, "data")


@pytest.mark.parametrize(
    ("x", "y", "found"),
    [
        (X, Y[:5], "20 inputs and 5 targets"),
        (X[:0], Y[:0], "0 inputs and 0 targets"),
        (np.float32(1), Y, "the inputs are a single value"),
        (X, np.array([None] * 20), "the targets are an array of Python objects"),
        (np.where(X == 7, np.nan, X), Y, r"the inputs are not finite at \[2, 1\]"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(x, y, found):
    with pytest.raises(DataError, match=found) as caught:
        make(x=np.asarray(x), y=y)

    assert caught.value.where == ("the configuration",)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz' cannot be read: No such file"):
        make(path=str(tmp_path / "none.npz"))


def test_missing_array_lists_those_there_are(npz):
    with pytest.raises(DataError, match="has no array 'labels'") as caught:
        make(path=npz, y_key="labels")

    assert caught.value.expected == "one of those it has: x, y"


def test_single_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)

    with pytest.raises(DataError, match="has no array 'x'") as caught:
        make(path=str(tmp_path / "x.npy"))

    assert "numpy.savez" in caught.value.fix


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"x,y\n1,2\n", pickle.dumps([1, 2])])
def test_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "d.npz"
    path.write_bytes(content)

    with pytest.raises(DataError, match="cannot be read") as caught:
        make(path=str(path))

    assert "numpy.savez" in caught.value.expected


def test_pickled_objects_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "boom"),))

    np.savez(tmp_path / "d.npz", x=np.array([Bomb()], object), y=Y[:1])

    with pytest.raises(DataError, match="cannot be read"):
        make(path=str(tmp_path / "d.npz"))
    assert not (tmp_path / "boom").exists()
