"""The table of role ops is whole and fits the keys."""

import pytest

from bb_ir import keys
from bb_ir.ops import ROLE_OPS, role_op
from bb_ir.types import TRIGGER

OPS = [(role, op) for role, ops in ROLE_OPS.items() for op in ops.values()]


def test_every_role_has_its_ops():
    assert set(ROLE_OPS) == set(keys.ROLES) - {"backend"}


@pytest.mark.parametrize(("role", "op"), OPS, ids=lambda v: getattr(v, "name", v))
def test_op_is_found_by_its_domain(role, op):
    assert role_op(keys.role_domain(role), op.name) is op
    assert role_op(keys.role_domain(role), op.name + "s") is None


@pytest.mark.parametrize(("role", "op"), OPS, ids=lambda v: getattr(v, "name", v))
def test_op_has_results_that_can_be_waited_for(role, op):
    assert op.results
    if not op.outputs:
        assert [port.type for port in op.results] == [TRIGGER]
    names = [port.name for port in (*op.inputs, *op.attributes)]
    assert len(set(names)) == len(names), "inputs and attributes are parameters of one method"
    assert op.effect in ("reads", "writes")


def test_tensor_ops_and_framework_ops_are_no_role_ops():
    assert role_op("", "Add") is None
    assert role_op(keys.ONNX, "Add") is None
    assert role_op(keys.WIRE, keys.SEND) is None


def test_domains_of_roles():
    assert keys.role_of("") == keys.role_of(keys.ONNX) == "backend"
    assert keys.role_of(keys.role_domain("data_source")) == "data_source"
    assert keys.role_of(keys.SYSCALL) == ""


def test_table_cannot_be_changed():
    with pytest.raises(TypeError):
        ROLE_OPS["model"] = {}
    with pytest.raises(TypeError):
        ROLE_OPS["model"]["Forward"] = None
