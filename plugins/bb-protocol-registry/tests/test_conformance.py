import pytest

from bb_protocol_registry import bb_component
from bb_protocol_registry._registry import Registry, RegistryConfig
from bb_testing import ProtocolSuite, environment, peer_id

SECOND = 10**9


class TestRegistry(ProtocolSuite):
    def make(self):
        return Registry(RegistryConfig(labels=("gpu",)), environment("registry"))

    def story(self, story):
        # One component plays both halves: it announces itself to itself, as members 1 to 3.
        for n in (1, 2, 3):
            told = story("Announce", now_ns=n * SECOND)
            lease = story("Register", told, sender=peer_id(n))
            story("Due")
            story("Accept", lease)
            story("Due")
        view = story("View", story("Known"))
        story("Members")
        story("Learn", *view)
        story("Due", now_ns=40 * SECOND)
        story("Register", story("Announce"), sender=peer_id(2))
        story("Remove", story("Leave"), sender=peer_id(2))
        story("Due")
        story("Learn", *story("View", story("Known")))
        story("Members", label="gpu", now_ns=92 * SECOND)  # the lease of member 1 has ended
        story("Members", label="cpu")
        story("Sample", n=1)
        story("Sample", n=9, label="gpu")
        story("Register", {**told, "sequence": 95 * SECOND, "labels": []}, sender=peer_id(3))
        story("Learn", *story("View", story("Known"), label="gpu"))
        story("Members")


def test_declaration_and_class_tell_the_same_ops():
    assert bb_component().ops == Registry.ops


@pytest.mark.parametrize("schema", Registry.ops.values(), ids=lambda schema: schema.name)
def test_slot_has_a_method_for_each_op(schema):
    from bb_protocol_registry.slots import RegistryHandle

    assert hasattr(RegistryHandle, schema.method)
    assert RegistryHandle.ops is Registry.ops
