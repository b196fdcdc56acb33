"""Contracts and the table of ops say the same; what all components share does nothing by itself."""

import inspect

import numpy as np
import pytest

from bb_ir import keys
from bb_ir.ids import PeerId
from bb_ir.ops import ROLE_OPS
from bb_roles.contracts import (
    CONTRACTS,
    Batches,
    Component,
    Environment,
    Model,
    NoConfig,
    PeerSelector,
    State,
)

OPS = [(role, op) for role, ops in ROLE_OPS.items() for op in ops.values()]
ENVIRONMENT = Environment(PeerId.from_seed(0, 0), "slot")


def test_every_role_has_a_contract():
    assert set(CONTRACTS) == set(keys.ROLES)
    assert not ROLE_OPS["protocol"]


@pytest.mark.parametrize(("role", "op"), OPS, ids=lambda v: getattr(v, "name", v))
def test_op_is_a_method_of_its_contract(role, op):
    method = getattr(CONTRACTS[role], op.method)

    context, *parameters = list(inspect.signature(method).parameters.values())[1:]

    assert context.name == "ctx"
    values = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert values == [port.name for port in op.inputs]
    assert set(options) == {attribute.name for attribute in op.attributes}
    for attribute in op.attributes:
        default = (
            None if options[attribute.name] is inspect.Parameter.empty else options[attribute.name]
        )
        assert default == attribute.default


@pytest.mark.parametrize("role", CONTRACTS)
def test_every_method_of_a_contract_is_an_op(role):
    shared = {name for name in vars(Component) if not name.startswith("_")}
    own = {
        name
        for cls in CONTRACTS[role].__mro__[:-1]
        for name, value in vars(cls).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }

    methods = own - shared
    assert methods == (
        {"kernel", "compile"}
        if role == "backend"
        else {op.method for op in ROLE_OPS[role].values()}
    )


@pytest.mark.parametrize(("role", "op"), OPS, ids=lambda v: getattr(v, "name", v))
def test_op_without_results_is_a_method_that_returns_nothing(role, op):
    returns = inspect.signature(getattr(CONTRACTS[role], op.method)).return_annotation

    assert (returns == "None") == (not op.outputs)
    assert returns.startswith("tuple[") == (len(op.outputs) > 1)


class Choosy(PeerSelector):
    def current_view(self, ctx):
        return ()

    def sample(self, ctx, *, n):
        return ()


def test_component_needs_no_more_than_its_contract():
    component = Choosy(NoConfig(), ENVIRONMENT)

    assert component.save() == State()
    component.load(State())
    component.abandon(None)
    component.close()
    assert (component.config, component.env) == (NoConfig(), ENVIRONMENT)
    assert (Choosy.Config, dict(Choosy.depends)) == (NoConfig, {})


def test_contract_cannot_be_built_without_its_methods():
    with pytest.raises(TypeError, match="abstract"):
        PeerSelector(NoConfig(), ENVIRONMENT)


@pytest.mark.parametrize(("cls", "method"), [(Model, "apply_delta")])
def test_methods_that_may_be_left_out_say_who_left_them_out(cls, method):
    made = type("Small", (cls,), dict.fromkeys(cls.__abstractmethods__))(NoConfig(), ENVIRONMENT)

    with pytest.raises(NotImplementedError, match="Small has no apply_delta"):
        getattr(made, method)(None, None)


def test_build_generator_depends_on_seed_slot_and_label_alone():
    def draw(env, label=""):
        return env.rng(label).integers(2**62)

    peer, other = PeerId.from_seed(0, 0), PeerId.from_seed(0, 1)
    first = draw(Environment(peer, "model", seed=1))

    assert first == draw(Environment(other, "model", seed=1))
    assert first != draw(Environment(peer, "model", seed=2))
    assert first != draw(Environment(peer, "other", seed=1))
    assert first != draw(Environment(peer, "model", seed=1), "weights")


def test_batches_are_drawn_anew_each_time():
    batches = Batches(2, lambda: iter([(np.zeros(1), np.ones(1))]))

    assert len(list(batches)) == len(list(batches)) == 1
    assert batches.examples == 2
