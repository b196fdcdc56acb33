"""A signature vouches for a whole model, and for nothing else."""

import onnx
import pytest
from onnx import TensorProto, helper

from bb_ir import keys, onnx_tools
from bb_ir.external_data import ExternalDataError
from bb_ir.ids import KeyPair, PeerId
from bb_ir.signing import full_hash, sign_model, signatures, verify

ALICE, BOB = KeyPair.derive(0, 1), KeyPair.derive(0, 2)


def model(value: float = 1.0) -> onnx.ModelProto:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], [value, 2.0])
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    onnx_tools.set_meta(node, keys.SLOT, "model")
    function = helper.make_function(
        "d", "F", [], ["y"], [node], [helper.make_opsetid("", 23)], ["epsilon"]
    )
    graph = helper.make_graph([], "main", [], [])
    made = helper.make_model(graph, functions=[function])
    onnx_tools.set_meta(made, keys.BINDING + "F/model", "model|mlp|-1")
    return made


def changed(how) -> onnx.ModelProto:
    other = model()
    how(other)
    return other


def test_signature_holds_for_the_model_that_was_signed():
    signed = model()
    sign_model(signed, ALICE)
    assert signatures(signed).keys() == {ALICE.peer_id}
    content = full_hash(signed)
    assert verify(content, ALICE.peer_id, signatures(signed)[ALICE.peer_id])
    assert not verify(content, BOB.peer_id, signatures(signed)[ALICE.peer_id])


def test_signatures_do_not_change_what_is_signed():
    signed = model()
    for keypair in (ALICE, BOB, ALICE):
        sign_model(signed, keypair)
    assert full_hash(signed) == full_hash(model())
    assert signatures(signed).keys() == {ALICE.peer_id, BOB.peer_id}


def test_hash_is_the_same_after_writing_and_reading():
    data = model().SerializeToString()
    assert full_hash(onnx.ModelProto.FromString(data)) == full_hash(model())


def test_hash_is_fixed():
    # Signatures that were made have to hold: a change of the form needs a new label.
    tiny = onnx.ModelProto(ir_version=11, producer_name="p")
    onnx_tools.set_meta(tiny, "k", "v")
    known = "edad0890b7cc4ac6dc0d4c2c68d7af4983d28bca63c702babde9e085e3a6851a"
    assert full_hash(tiny) == known


@pytest.mark.parametrize(
    "how",
    [
        lambda m: m.functions[0].node[0].ClearField("attribute"),
        lambda m: setattr(m.functions[0].node[0].attribute[0].t, "name", "v"),
        lambda m: m.functions[0].node[0].attribute[0].t.float_data.append(0.0),
        lambda m: setattr(m.functions[0], "name", "G"),
        lambda m: setattr(m.functions[0].node[0], "doc_string", "x"),
        lambda m: onnx_tools.set_meta(m, keys.BINDING + "F/model", "model|evil|-1"),
        lambda m: onnx_tools.set_meta(m, keys.CONFIG + "F/model", "{}"),
        lambda m: onnx_tools.set_meta(m.functions[0].node[0], keys.SIGNATURE + "x", "y"),
        lambda m: onnx_tools.set_meta(m.functions[0].node[0], keys.SLOT, "other"),
        lambda m: m.functions[0].attribute.append("x"),
        lambda m: m.functions.append(m.functions[0]),
        lambda m: setattr(m, "ir_version", 1),
        lambda m: setattr(m.graph, "name", "mai"),
    ],
)
def test_whatever_is_changed_changes_the_hash(how):
    assert full_hash(changed(how)) != full_hash(model())


def test_what_moves_from_one_field_to_the_next_changes_the_hash():
    one, other = onnx.ModelProto(), onnx.ModelProto()
    one.producer_name, one.producer_version = "ab", "c"
    other.producer_name, other.producer_version = "a", "bc"
    assert full_hash(one) != full_hash(other)


@pytest.mark.parametrize(
    ("key", "value"),
    [("nobody", "AAAA"), (str(ALICE.peer_id), "!!"), (str(ALICE.peer_id), "AAA"), ("", "AAAA")],
)
def test_what_is_no_signature_is_left_out(key, value):
    signed = model()
    onnx_tools.set_meta(signed, keys.SIGNATURE + key, value)
    assert signatures(signed) == {}


def test_signature_of_an_id_without_a_key_does_not_hold():
    hashed = PeerId(b"\x12\x20" + bytes(32))
    assert not verify(full_hash(model()), hashed, bytes(64))


def test_signature_of_a_wrong_length_does_not_hold():
    assert not verify(full_hash(model()), ALICE.peer_id, b"short")


def test_model_whose_data_lies_elsewhere_is_not_hashed():
    other = model()
    other.functions[0].node[0].attribute[0].t.data_location = TensorProto.EXTERNAL
    with pytest.raises(ExternalDataError, match="lies in another file"):
        full_hash(other)
