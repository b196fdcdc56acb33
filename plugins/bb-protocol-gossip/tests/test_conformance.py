import numpy as np
import pytest

from bb_ir.params import ParameterSet
from bb_protocol_gossip import bb_component
from bb_protocol_gossip._gossip import Gossip, GossipConfig
from bb_roles.registry import component_class
from bb_testing import ProtocolSuite, environment, peer_id

SECOND = 10**9
A, B, C = (peer_id(n) for n in (1, 2, 3))


def params(*values):
    w = np.array(values, np.float32)
    return ParameterSet.from_tensors({"w": w, "half": w.astype(np.float16)})


class TestOfNumbers(ProtocolSuite):
    def make(self):
        return Gossip(GossipConfig(value=3.0), environment("gossip"))

    value = 5.0

    def story(self, story):
        # One component plays all parts: what it sends comes back to it as if from others.
        story("Status")
        story("Estimate")
        story("Put", self.value)
        story("Mix", self.value, sender=A)
        _, *question = story("Ask", (B,), now_ns=SECOND)
        assert story("Ask", (B,))[1] == question[0]
        answer = story("Answer", *question, sender=A)
        story("Put", self.value)
        assert story("Answer", *question, sender=A)[0] == answer[0]
        story("Settle", *answer, sender=B)
        story("Settle", *answer, sender=B)
        for at in (2, 3):
            _, note, value = story("Share", (C,), now_ns=at * SECOND)
            assert story("Share", (C,))[1] == note
            story("Status")
            receipt = story("Receive", note, value, sender=B)
            story("Receive", note, value, sender=B)
            story("Put", self.value)
            story("Estimate")
            story("Confirm", receipt, sender=C)
            story("Confirm", receipt, sender=C)
            story("Status")
            story("Share", (C,))
            story("Reclaim", (C,))


class TestOfParameterSets(ProtocolSuite):
    def make(self):
        return Gossip(GossipConfig(), environment("gossip"))

    def story(self, story):
        story("Put", params(0.25, 1.0, 7.0))
        story("Mix", params(1.0, 2.0, -0.5), sender=A)
        _, *question = story("Ask", (B,), now_ns=SECOND)
        answer = story("Answer", *question, sender=A)
        story("Settle", *answer, sender=B)
        _, *part = story("Share", (C,))
        story("Status")
        story("Confirm", story("Receive", *part, sender=B), sender=C)
        story("Share", (C,))
        story("Reclaim", (A, C))
        story("Estimate")


class TestOfTensors(TestOfNumbers):
    value = np.arange(6, dtype=np.float64).reshape(2, 3)

    def make(self):
        return Gossip(GossipConfig(), environment("gossip"))

    def story(self, story):
        story("Put", np.full((2, 3), 1 / 3))
        super().story(story)


def test_declaration_names_the_class_and_its_ops():
    assert component_class(bb_component()) is Gossip
    assert bb_component().ops == Gossip.ops


@pytest.mark.parametrize("schema", Gossip.ops.values(), ids=lambda schema: schema.name)
def test_slot_has_a_method_for_each_op(schema):
    from bb_protocol_gossip.slots import GossipHandle

    assert hasattr(GossipHandle, schema.method)
    assert GossipHandle.ops is Gossip.ops
