"""Configuration: typed, checked field by field, with errors that name slot and field."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
import pytest

from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_roles.config import build_config
from bb_roles.contracts import NoConfig
from bb_roles.errors import ConfigError, MissingConfigError

PEERS = [PeerId.from_seed(0, n) for n in range(2)]


class Mode(Enum):
    TRAIN = "train"
    EVAL = "eval"


@dataclass(frozen=True)
class Settings:
    epochs: int
    lr: float = 0.1
    optimizer: Literal["sgd", "adam"] = "sgd"
    sizes: tuple[int, ...] = (64,)
    peers: Sequence[PeerId] = ()
    data: np.ndarray | None = None
    options: dict[str, float] = field(default_factory=dict)
    mode: Mode | None = None
    derived: int = field(init=False, default=7)

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError("epochs must be at least 1")
        if self.lr > 10:
            raise BytesAndBrainsError(f"lr={self.lr:g} explodes", fix="take a smaller one")


def refused(given, *texts, cls=Settings, kind=ConfigError):
    with pytest.raises(kind) as caught:
        build_config(cls, given, "model")
    assert type(caught.value) is kind
    for text in texts:
        assert text in str(caught.value), str(caught.value)
    return caught.value


def test_mapping_becomes_the_config():
    made = build_config(Settings, {"epochs": 3, "lr": 1, "sizes": [1, 2]}, "model")

    assert made == Settings(3, lr=1.0, sizes=(1, 2))
    assert isinstance(made.lr, float)


def test_instance_is_taken_as_it_is():
    given = Settings(3)

    assert build_config(Settings, given, "model") is given


@pytest.mark.parametrize("given", [None, {}])
def test_nothing_is_enough_where_nothing_is_needed(given):
    assert build_config(NoConfig, given, "model") == NoConfig()


def test_peers_are_read_from_text():
    made = build_config(Settings, {"epochs": 1, "peers": [str(PEERS[0]), PEERS[1]]}, "peers")

    assert list(made.peers) == PEERS


def test_arrays_are_taken_as_they_are():
    array = np.arange(3)

    assert build_config(Settings, {"epochs": 1, "data": array}, "model").data is array


def test_unknown_field():
    error = refused({"epochs": 1, "lrr": 0.1}, "slot 'model' has no configuration field 'lrr'")

    assert error.fix == "did you mean 'lr'?"
    assert "epochs: int, lr: float" in error.expected
    assert error.where == ("config['model']['lrr']",)


def test_field_that_is_computed_is_no_field():
    refused({"epochs": 1, "derived": 3}, "no configuration field 'derived'")


def test_field_far_from_all():
    error = refused({"epochs": 1, "learning_rate": 1}, "'learning_rate'")

    assert not error.fix
    assert error.expected.startswith("epochs: int, lr: float = 0.1, optimizer: Literal")
    assert "options: dict[str, float] = {}" in error.expected
    assert "derived" not in error.expected


def test_default_that_must_be_made_is_not_made_for_an_error():
    made = dataclasses.make_dataclass("Made", [("x", int, field(default_factory=lambda: 1 / 0))])

    refused({"zz": 1}, "expected: x: int = ...", cls=made)


@pytest.mark.parametrize("name", ["number_of_epochs", "epoch-count", "EPOCHS"])
def test_field_that_shares_a_word_with_one_field(name):
    error = refused({"epochs": 1, name: 1}, repr(name))

    assert error.fix == "did you mean 'epochs'?"


def test_field_where_there_are_none():
    assert refused({"lr": 1}, cls=NoConfig).fix == "remove it"


def test_key_that_is_no_text():
    refused({"epochs": 1, 3: 4}, "no configuration field 3")


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ({"epochs": "many"}, ["`epochs` of slot 'model' is 'many' (str)", "expected: int"]),
        ({"epochs": 1.5}, ["`epochs` of slot 'model' is 1.5 (float)"]),
        (
            {"epochs": 1, "lr": "fast"},
            ["`lr` of slot 'model' is 'fast' (str)", "expected: float, default 0.1"],
        ),
        (
            {"epochs": 1, "optimizer": "sdg"},
            [
                "`optimizer` of slot 'model' is 'sdg' (str)",
                "expected: one of 'sgd', 'adam', default 'sgd'",
                "fix: did you mean 'sgd'?",
            ],
        ),
        ({"epochs": 1, "mode": "evaluate"}, ["is 'evaluate'", "one of 'train', 'eval'", "'eval'?"]),
        (
            {"epochs": 1, "sizes": [1, "2"]},
            ["`sizes[1]` of slot 'model' is '2' (str)", "expected: tuple[int, ...]"],
        ),
        ({"epochs": 1, "options": {"a": "b"}}, ["`options`", "Expected `float`, got `str`"]),
        ({"epochs": 1, "peers": ["12D3KooWnonsense"]}, ["does not fit"]),
        ({"epochs": 1, "data": [1, 2]}, ["`data` of slot 'model' is [1, 2] (list)", "ndarray"]),
        ({"epochs": 0}, ["does not fit", "epochs must be at least 1"]),
        ({"epochs": 1, "lr": 100.0}, ["does not fit", "lr=100 explodes", "take a smaller one"]),
    ],
)
def test_wrong_value(given, texts):
    error = refused(given, *texts)

    assert str(error.where[0]).startswith("config['model']")
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_missing_field():
    error = refused({"lr": 0.1}, "slot 'model' needs epochs", kind=MissingConfigError)

    assert "Config({'model': {'epochs': ...}})" in error.fix


@pytest.mark.parametrize("given", [3, "lr=1", [("lr", 1)], Settings])
def test_no_mapping(given):
    refused(given, "the configuration of slot 'model' is a", "a mapping of the fields of Settings")


def test_configuration_where_none_is_taken():
    refused({"lr": 1}, "no configuration at all", cls=NoConfig)


def test_config_that_is_no_dataclass():
    class Plain:
        pass

    refused({}, "not a dataclass", "@dataclass(frozen=True)", cls=Plain)


def test_config_whose_types_cannot_be_found():
    made = dataclasses.make_dataclass("Lost", [("x", "NoSuchType", 3)])

    refused({"x": 3}, "NoSuchType", cls=made)
