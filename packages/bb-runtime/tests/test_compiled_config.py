"""What a program was compiled with is what its components are built with, unless install says
otherwise; and nothing may be said that contradicts the types it was compiled for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

import bb_dsl as bb
from bb_compiler import Compiler
from bb_ir import keys, onnx_tools
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_roles import Codec
from bb_roles.errors import InputMisfit
from bb_runtime import Config, Node, install, load_artifact
from bb_runtime.errors import (
    ConfigTypeMismatch,
    ConstructionFailed,
    InvalidBindingTable,
    MissingConfig,
)
from bb_testing.programs import CountingModel, FixedPeers

PEER = PeerId.from_seed(b"compiled config", 0)


@dataclass(frozen=True)
class SizedConfig:
    """Its size has no default."""

    size: int
    value: float = 0.0
    fail_in: str = ""


class Sized(CountingModel):
    """Knows its types when it knows its size."""

    Config = SizedConfig

    @classmethod
    def value_types(cls, config):
        held = f"params(w:tensor(float64)[{config.size}])"
        return {"Params.params": held, "LoadParams.params": held}


class Program(bb.Module):
    """Sends the parameters of one class to another."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("weights", self.peers.sample(g, 1), self.model.params(g))
        self.model.load_params(g, got)


def build(*configs: Any, **per_class: Any) -> ModelProto:
    compiler = Compiler().bind_peer_selector("peers", FixedPeers).bind_model("model", Sized)
    for config in configs:
        compiler.bind("model", Sized, config=config, replace=True)
    for cls, config in per_class.items():
        compiler.bind_model("model", Sized, on=cls, config=config)
    return compiler.compile(Program().build())


def set_up(artifact: ModelProto, **config: Any) -> Node:
    return install(PEER, [], artifact, ["Program", "Program.client"], Config(config))


def size_of(node: Node, target: str = "Program") -> int:
    (size,) = node.component("model", target=target).w.shape
    return size


def test_what_was_compiled_in_needs_not_be_said_again():
    node = set_up(build({"size": 3, "value": 2.5}))

    assert node.component("model").w.tolist() == [2.5, 2.5, 2.5]


def test_install_wins_field_by_field():
    node = set_up(build({"size": 3, "value": 2.5}), model={"value": 4.0})

    assert node.component("model").w.tolist() == [4.0, 4.0, 4.0]


def test_an_instance_says_every_field():
    node = set_up(build({"size": 3, "value": 2.5}), model=SizedConfig(3))

    assert node.component("model").w.tolist() == [0.0, 0.0, 0.0]


def test_a_field_that_was_left_out_is_still_needed():
    artifact = build({"value": 2.5})

    with pytest.raises(MissingConfig, match="slot 'model' needs size"):
        set_up(artifact)
    assert set_up(artifact, model={"size": 2}).component("model").w.tolist() == [2.5, 2.5]


def test_classes_with_configurations_of_their_own_have_components_of_their_own():
    server, client = ({"size": 3, "value": value} for value in (1.0, 2.0))
    node = set_up(build(server=server, client=client))

    values = [node.component("model", target=t).w[0] for t in ("Program", "Program.client")]
    assert values == [1.0, 2.0]


def test_the_configuration_of_a_class_lies_over_that_of_its_row():
    node = set_up(build({"size": 3, "value": 1.0}), **{"client.model": {"value": 2.0}})

    values = [node.component("model", target=t).w[0] for t in ("Program", "Program.client")]
    assert values == [1.0, 2.0]
    assert [size_of(node, t) for t in ("Program", "Program.client")] == [3, 3]


def test_types_that_contradict_what_was_compiled_are_an_error():
    with pytest.raises(ConfigTypeMismatch) as caught:
        set_up(build({"size": 3}), model={"size": 4})

    assert "as slot 'model' is configured here, LoadParams.params is" in caught.value.found
    assert "'w' is tensor(float64)[4], not tensor(float64)[3]" in caught.value.found
    assert "for which the program was compiled" in caught.value.expected
    assert '{"size": 3}' in caught.value.fix
    assert caught.value.where == ("config['model']",)


def test_without_a_configuration_in_the_artifact_any_size_will_do():
    assert size_of(set_up(build(), model={"size": 4})) == 4


def test_a_component_that_says_less_than_it_did_contradicts_nothing(monkeypatch):
    artifact = build({"size": 3})
    monkeypatch.setattr(Sized, "value_types", lambda _: {"Params.params": "params"})

    assert size_of(set_up(artifact)) == 3


def test_what_was_compiled_in_may_not_fit_what_is_installed(monkeypatch):
    @dataclass(frozen=True)
    class Other:
        length: int = 3

    artifact = build({"size": 3})
    monkeypatch.setattr(Sized, "Config", Other)

    with pytest.raises(ConfigTypeMismatch) as caught:
        set_up(artifact)

    assert "no configuration field 'size'" in caught.value.found
    assert caught.value.where[-1] == 'the artifact was compiled with {"size": 3}'


def test_types_that_cannot_be_told_are_an_error(monkeypatch):
    artifact = build({"size": 3})

    def value_types(_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(Sized, "value_types", value_types)

    with pytest.raises(ConstructionFailed, match="slot 'model' cannot be compared") as caught:
        set_up(artifact)

    assert "the disk is gone" in caught.value.found
    assert "compile the program again" in caught.value.fix


@pytest.mark.parametrize("key", [keys.CONFIG, keys.VALUE_TYPES, keys.INFERRED])
@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 100_000])
def test_a_table_beside_a_row_that_cannot_be_read_is_an_error(key, text):
    artifact = build({"size": 3})
    place = next(
        entry.key.removeprefix(keys.CONFIG)
        for entry in artifact.metadata_props
        if entry.key.startswith(keys.CONFIG)
    )
    onnx_tools.set_meta(artifact, key + place, text)

    with pytest.raises(InvalidBindingTable, match="compile the program again") as caught:
        load_artifact(artifact)

    assert len(str(caught.value)) < 400


# What is inferred


@dataclass(frozen=True)
class RepeatsConfig:
    """How often."""

    times: int = 2
    label: str = ""


class Repeats(Codec):
    """Says everything several times."""

    Config = RepeatsConfig

    @classmethod
    def infer_types(cls, config, op, inputs):
        if op == "Encode" and inputs[0].shape:
            return {"encoded": tensor("float64", (config.times * inputs[0].shape[0],))}
        return None

    def encode(self, ctx, value):
        return np.tile(value, self.config.times)

    def decode(self, ctx, encoded):
        return encoded[: len(encoded) // self.config.times]


class Encodes(bb.Module):
    """Encodes what it is given."""

    codec = bb.slots.Codec()

    def body(self, g: bb.Graph) -> None:
        g.output("y", self.codec.encode(g, g.input("x", tensor("float64", (3,)))))


def encoding(**config: Any) -> Node:
    artifact = (
        Compiler().bind_codec("codec", Repeats, config={"times": 2}).compile(Encodes().build())
    )
    return install(PEER, [], artifact, ["Encodes"], Config(config))


def test_inferred_types_are_those_of_the_configuration_here():
    assert encoding(codec={"label": "other"}).component("codec").config.times == 2

    with pytest.raises(ConfigTypeMismatch) as caught:
        encoding(codec={"times": 3})

    found = "as slot 'codec' is configured here, Encode.encoded is tensor(float64)[9]"
    assert caught.value.found == found
    assert caught.value.expected.startswith("tensor(float64)[6], for which")


def test_inference_that_says_less_than_it_did_contradicts_nothing(monkeypatch):
    artifact = Compiler().bind_codec("codec", Repeats, config={}).compile(Encodes().build())
    monkeypatch.setattr(Repeats, "infer_types", lambda *_: None)

    install(PEER, [], artifact, ["Encodes"], Config({"codec": {"times": 3}}))


class Both(bb.Module):
    """Encodes on one class and decodes on another."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    codec = bb.slots.Codec()

    def body(self, g: bb.Graph) -> None:
        small = self.codec.encode(g, g.input("x", tensor("float64", (3,))))
        g.output("y", self.codec.decode(g, g.net_out("small", self.peers.sample(g, 1), small)))


def test_what_is_inferred_for_one_class_keeps_no_component_apart():
    compiler = Compiler().bind_codec("codec", Repeats, config={})
    artifact = compiler.bind_peer_selector("peers", FixedPeers).compile(Both().build())
    targets = ["Both", "Both.client"]

    node = install(PEER, [], artifact, targets)

    one, other = (node.component("codec", target=target) for target in targets)
    assert one is other
    with pytest.raises(ConfigTypeMismatch):
        install(PEER, [], artifact, targets[::-1], Config({"codec": {"times": 3}}))


def test_configuration_that_does_not_take_what_the_program_gives(monkeypatch):
    artifact = Compiler().bind_codec("codec", Repeats, config={}).compile(Encodes().build())

    def infer_types(*_):
        raise InputMisfit("3 numbers are given", expected="4 of them", fix="give one more")

    monkeypatch.setattr(Repeats, "infer_types", infer_types)

    with pytest.raises(ConfigTypeMismatch) as caught:
        install(PEER, [], artifact, ["Encodes"], Config({"codec": {"times": 3}}))

    assert caught.value.found == "as slot 'codec' is configured here, 3 numbers are given"
    assert caught.value.fix.endswith("or: give one more")


def test_inference_that_fails_here_is_an_error(monkeypatch):
    artifact = Compiler().bind_codec("codec", Repeats, config={}).compile(Encodes().build())

    def infer_types(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(Repeats, "infer_types", infer_types)

    with pytest.raises(ConstructionFailed, match="the disk is gone"):
        install(PEER, [], artifact, ["Encodes"])


@pytest.mark.parametrize("text", ['{"Encode": 3}', '{"Encode": [[["nothing"], {"encoded": "x"}]]}'])
def test_inferred_types_that_cannot_be_read_are_an_error(text):
    artifact = Compiler().bind_codec("codec", Repeats, config={}).compile(Encodes().build())
    for entry in artifact.metadata_props:
        if entry.key.startswith(keys.INFERRED):
            entry.value = text

    with pytest.raises(ConstructionFailed, match="cannot be compared"):
        install(PEER, [], artifact, ["Encodes"])
