"""An answer that waits for another answer goes to whoever asked first, wherever it is sent from."""

import pytest

import bb_dsl as bb
from bb_compiler import Compiler
from bytesandbrains import LocalFederation


class Relay(bb.Module):
    """The server asks a leaf, which asks a helper and answers when that has answered."""

    peer_class = "server"
    leaves = bb.slots.PeerSelector(of="leaf")
    helpers = bb.slots.PeerSelector(of="helper")
    model = bb.slots.Model()

    def __init__(self, *, inside: bool) -> None:
        super().__init__()
        self.inside = inside

    def body(self, g: bb.Graph) -> None:
        asked = g.net_out("down", self.leaves.sample(g, 1), self.model.params(g))
        needed = g.net_out("help", self.helpers.sample(g, 1), asked)
        answer = g.net_out("up", g.sender(needed), needed)
        if self.inside:
            with g.at(answer):
                address = g.sender(asked)
        else:
            address = g.sender(asked)
        back = g.net_out("back", address, answer)
        done = g.gather(back)
        g.output("answers", done)


@pytest.mark.parametrize("inside", [False, True])
def test_the_sender_of_a_value_is_who_sent_that_value(compiled, inside):
    artifact = compiled(Relay(inside=inside))

    edge = artifact.edges["back"]

    assert (edge.target_class, edge.parent, edge.answers) == ("server", "main", "down")


@pytest.mark.parametrize("inside", [False, True])
def test_a_relayed_answer_reaches_the_round(inside):
    compiler = (
        Compiler()
        .bind_peer_selector("leaves", "static")
        .bind_peer_selector("helpers", "static")
        .bind_model("model", "mlp")
    )
    artifact = compiler.compile(Relay(inside=inside).build())
    federation = LocalFederation(artifact, nodes={"leaf": 1, "helper": 1})

    outputs = federation.run()

    assert outputs == {"answers": 1}
    assert outputs.failed == []
