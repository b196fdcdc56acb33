import subprocess
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from sklearn.datasets import load_digits as reference

from bb_datasource_digits import _digits, bb_component
from bb_datasource_digits._digits import Digits, load_digits
from bb_roles.data import DataConfig, DataError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.data_source import DataSourceSuite


def make(**config):
    return Digits(DataConfig(**config), environment("data"))


def rows(source):
    return sorted(
        (y, x.tobytes())
        for xs, ys in source.batches(FakeContext())
        for x, y in zip(xs, ys.tolist(), strict=True)
    )


class TestDigits(DataSourceSuite):
    def make(self):
        return make(split="test")


class TestDigitsOfAClient(DataSourceSuite):
    shuffles = False

    def make(self):
        return make(partition="dirichlet", clients=10, client=3, shuffle=False, batch_size=20)


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Digits


def test_data_is_that_of_scikit_learn():
    images, labels = load_digits()
    expected, expected_labels = reference(return_X_y=True)

    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    assert (images * 16 == expected).all()
    assert (labels == expected_labels).all()


def test_data_is_read_once_and_cannot_be_written():
    images, labels = load_digits()

    assert load_digits()[0] is images
    assert not images.flags.writeable
    assert not labels.flags.writeable


def test_everything_is_the_default():
    assert make().batches(FakeContext()).examples == 1797


def test_train_and_test_are_everything():
    train, test = make(split="train", seed=3), make(split="test", seed=3)

    assert sorted(rows(train) + rows(test)) == rows(make())
    assert test.batches(FakeContext()).examples == 359


def test_clients_together_hold_the_training_set():
    config = {"split": "train", "partition": "dirichlet", "clients": 10, "seed": 1}

    divided = [row for i in range(10) for row in rows(make(client=i, **config))]

    assert sorted(divided) == rows(make(split="train", seed=1))


def test_scikit_learn_is_not_imported():
    code = (
        "import sys; from bb_datasource_digits._digits import load_digits; load_digits();"
        "print('sklearn' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_declaration_does_not_import_numpy():
    code = "import sys, bb_datasource_digits as p; p.bb_component(); print('numpy' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setattr(_digits, "find_spec", lambda _: None)

    with pytest.raises(DataError, match="scikit-learn, which is not installed") as caught:
        load_digits.__wrapped__()

    assert caught.value.fix == "pip install scikit-learn"


def test_scikit_learn_without_the_file_is_named(monkeypatch, tmp_path):
    spec = ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(_digits, "find_spec", lambda _: spec)

    with pytest.raises(DataError, match="does not hold the digits"):
        load_digits.__wrapped__()
