"""The calls a host makes."""

from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import (
    ANY,
    BYTES,
    PARAMS,
    TRIGGER,
    Type,
    custom,
    list_of,
    params,
    peers,
    record,
    scalar,
    tensor,
)
from bb_ir.values import ValueCodec
from bb_runtime import DeliveryError, install
from bb_runtime._freeze import frozen
from bb_runtime._typecheck import fits
from bb_runtime.errors import InvalidInput
from bb_testing.programs import Stage

PEER = PeerId.from_seed(b"node", 0)
SET = ParameterSet.from_tensors({"w": np.zeros(2, np.float32)})


class Booted(bb.Module):
    """Has a bootstrap, an input and a question for clients."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def bootstrap(self, g: bb.Graph) -> None:
        got = g.net_out("hello", self.peers.sample(g, 2), self.model.params(g))
        self.model.load_params(g, got)
        g.gather(g.net_out("welcome", g.sender(got)))

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float32", (None, 2)))
        g.output("y", self.model.forward(g, x))
        g.net_out("push", self.peers.sample(g, 2), x)


class BootedWithInput(Booted):
    """Its bootstrap needs a value."""

    def bootstrap(self, g: bb.Graph) -> None:
        g.output("z", self.model.forward(g, g.input("x", tensor("float32"))))


X = np.zeros((1, 2), np.float32)


# Invocations


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({}, r"missing \['x'\], unknown none"),
        ({"x": X, "z": 1}, r"missing none, unknown \['z'\]"),
        ({"X": X}, r"unknown \['X'\]\n.*x: tensor\(float32\)"),
        ({"x": [1, 2]}, r"input 'x' of Booted is a list, not an array"),
        ({"x": np.zeros((1, 2))}, r"is an array of float64\n.*tensor\(float32\)\[\?,2\]"),
        ({"x": np.zeros((1, 3), np.float32)}, r"of shape \(1, 3\)"),
        ({"x": np.zeros(2, np.float32)}, r"of shape \(2,\)"),
    ],
)
def test_inputs_are_checked_at_the_call(compiled, inputs, match):
    stage = Stage(compiled(Booted()), clients=2)
    with pytest.raises(InvalidInput, match=match):
        stage.server.invoke("Booted", inputs)
    assert stage.server.live_frames == 0


def test_a_target_of_another_class_cannot_be_invoked(compiled):
    stage = Stage(compiled(Booted()), clients=2)
    with pytest.raises(InvalidInput, match=r"'Booted.client'[\s\S]*when an envelope arrives"):
        stage.clients[0].invoke("Booted.client")


def test_a_target_that_is_almost_named_is_asked_for(compiled):
    stage = Stage(compiled(Booted()), clients=2)
    with pytest.raises(InvalidInput, match=r"'Boted'[\s\S]*did you mean 'Booted'\?"):
        stage.server.invoke("Boted")


def test_a_target_is_invoked_by_its_full_name_too(compiled):
    artifact = compiled(Booted())
    stage = Stage(artifact, clients=2)
    stage.server.invoke(artifact.target("Booted").name, {"x": X})
    stage.wire.poll()
    assert len(stage.wire.outputs("y")) == 1


def test_components_can_be_looked_at(compiled):
    stage = Stage(compiled(Booted()), clients=2)
    model = stage.server.component("model")
    assert stage.server.component("model", target="Booted") is model
    with pytest.raises(InvalidInput, match=r"no slot 'modle' here\n.*model, peers\n.*'model'\?"):
        stage.server.component("modle")
    with pytest.raises(InvalidInput):
        stage.server.component("model", target="Boo")


# Bootstraps


def booted(artifact: Any) -> Stage:
    """Return a stage whose Nodes are about to boot."""
    stage = Stage(artifact, clients=2)
    stage.boots = stage.server.run_bootstrap()
    return stage


def test_frames_wait_until_the_bootstrap_has_ended(compiled):
    stage = booted(compiled(Booted()))
    frame = stage.invoke(x=X)
    assert stage.wire.outputs("y") == []
    stage.wire.run()
    assert len(stage.wire.outputs("y")) == 1
    ends = [end.frame for end in stage.wire.ended(stage.server.peer) if end.region == "main"]
    assert ends == [*stage.boots, frame]


def test_a_bootstrap_whose_answers_do_not_come_says_so_at_its_deadline(compiled):
    stage = booted(compiled(Booted()))
    stage.invoke(x=X)
    stage.wire.flying.clear()
    stage.wire.advance(60 * 10**9)
    assert stage.end_of(stage.boots[0]).how == "expired"


def test_a_bootstrap_blocks_messages_too(compiled):
    stage = booted(compiled(Booted()))
    stage.invoke(x=X)
    for client in stage.clients:
        client.run_bootstrap()
    stage.wire.run()
    assert [node.live_frames for node in stage.wire.nodes.values()] == [0, 0, 0]


def test_a_second_bootstrap_waits_for_the_first(compiled):
    stage = booted(compiled(Booted()))
    again = stage.server.run_bootstrap()
    stage.wire.run()
    ends = [end.frame for end in stage.wire.ended(stage.server.peer) if end.region == "main"]
    assert ends == [*stage.boots, *again]


def test_a_bootstrap_with_inputs_is_started_by_name(compiled):
    node = install(PEER, [], compiled(BootedWithInput()), ["BootedWithInput"])
    with pytest.raises(InvalidInput, match=r"missing \['x'\]"):
        node.run_bootstrap()
    node.invoke("BootedWithInput.bootstrap", {"x": X})
    assert node.poll()


# Delivery


def test_only_a_ship_can_fail_to_be_sent(compiled):
    stage = Stage(compiled(Booted()), clients=2)
    with pytest.raises(DeliveryError, match="not a Ship step"):
        stage.server.send_failed("it")


def test_an_undeliverable_message_that_nobody_answers_is_counted(compiled):
    stage = Stage(compiled(Booted()), clients=2)
    stage.invoke(x=X)
    stage.wire.nodes.clear()
    for packet in stage.wire.flying:
        stage.server.send_failed(packet.ship)
    assert stage.server.counters == {"undeliverable": 2}


def test_an_envelope_may_come_as_any_buffer(compiled):
    stage = Stage(compiled(Booted()), clients=2)
    stage.invoke(x=X)
    data = stage.wire.flying[0].ship.envelope.to_bytes()
    padded = np.frombuffer(data, np.uint8)
    assert stage.clients[0].receive_bytes(memoryview(padded), stage.server.peer) is None


# What is checked against declared types


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (object(), ANY),
        (None, TRIGGER),
        (3, scalar("int64")),
        (np.int64(3), scalar("int64")),
        (3, scalar("float64")),
        (np.float32(2.5), scalar("float64")),
        (True, scalar("bool")),
        (np.bool_(True), scalar("bool")),
        ("x", scalar("string")),
        (np.zeros((2, 3), np.float32), tensor("float32", ("n", 3))),
        (np.zeros(2), tensor()),
        (SET, PARAMS),
        (SET, params({"w": tensor("float32", (2,))})),
        ([PEER], peers("client")),
        ((), peers()),
        (b"x", BYTES),
        (memoryview(b"x"), BYTES),
        ([1, 2], list_of(scalar("int64"))),
        ({"loss": 1.0, "more": 2}, record({"loss": scalar("float64")})),
        ({}, record()),
    ],
)
def test_a_value_that_fits_is_taken(value: Any, declared: Type):
    assert fits(value, declared) == ""


@pytest.mark.parametrize(
    ("value", "declared", "wrong"),
    [
        (True, scalar("int64"), "a bool"),
        (1.5, scalar("int64"), "a float"),
        (np.bool_(True), scalar("float64"), "a bool"),
        (1, scalar("bool"), "a int"),
        (b"x", scalar("string"), "a bytes"),
        (3, tensor(), "a int, not an array"),
        (np.zeros(2), tensor("float32"), "an array of float64"),
        (np.zeros((2, 2)), tensor("float64", (2,)), "an array of shape (2, 2)"),
        ({"w": 1}, PARAMS, "a dict"),
        (SET, params({"v": tensor()}), "a parameter set of type params(w:tensor(float32)[2])"),
        ("peer", peers(), "a str, not a list of PeerId"),
        ([PEER, "peer"], peers(), "a list, not a list of PeerId"),
        ("x", BYTES, "a str"),
        (3, list_of(ANY), "a int, not a list"),
        ([1, "x"], list_of(scalar("int64")), "a list whose item 1 is a str"),
        ([1], record(), "a list, not a mapping"),
        ({}, record({"loss": ANY}), "a record whose field 'loss' is missing"),
        ({"loss": "x"}, record({"loss": scalar("float64")}), "a record whose field 'loss' is a"),
    ],
)
def test_a_value_that_does_not_fit_is_described(value: Any, declared: Type, wrong: str):
    assert fits(value, declared).startswith(wrong)


def test_values_of_plugins_types_are_known_by_their_codecs():
    word = ValueCodec("acme.word/1", lambda v: isinstance(v, str), str.encode, bytes, 9)
    codecs = {word.name: word}
    one = custom("acme.word/1")

    assert fits("a", one, codecs) == ""
    assert fits(["a", "b"], list_of(one), codecs) == ""
    assert fits({"w": ["a"]}, record({"w": list_of(one)}), codecs) == ""
    assert fits(b"a", one, codecs) == "a bytes"
    assert fits(["a", 1], list_of(one), codecs) == "a list whose item 1 is a int"
    assert fits({"w": [1]}, record({"w": list_of(one)}), codecs).startswith("a record whose field")


# Frozen values


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0),
        np.arange(6).reshape(2, 3).T,
        np.array(3.0),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array([1.5], np.float16),
        np.array(["a", "bc"]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array([None, {}], object),
        np.arange(4.0, dtype=">f8"),
    ],
)
def test_a_frozen_array_is_equal_and_read_only(array: Any):
    cold = frozen(array)
    assert cold.dtype == array.dtype
    assert np.array_equal(cold, array)
    assert not cold.flags.writeable
    assert array.flags.writeable
    assert cold.size == 0 or np.shares_memory(cold, array)


def test_a_read_only_array_is_handed_on_as_it_is():
    array = frozen(np.zeros(3))
    assert frozen(array) is array


def test_containers_are_frozen_through():
    cold = frozen({"a": [np.zeros(1)], "b": (np.zeros(1), 3)})
    assert not cold["a"][0].flags.writeable
    assert not cold["b"][0].flags.writeable
    assert cold["b"][1] == 3
