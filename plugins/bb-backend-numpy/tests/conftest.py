"""A backend, and a short way to run one op on it."""

import pytest

from bb_backend_numpy._backend import NumpyBackend
from bb_ir.ids import PeerId
from bb_roles import Environment
from bb_roles.contracts import NoConfig


@pytest.fixture(scope="session")
def backend():
    return NumpyBackend(NoConfig(), Environment(peer=PeerId.from_seed(0), slot="backend"))


@pytest.fixture(scope="session")
def run(backend):
    """Run one op: `run("Add", a, b)`; attributes are keywords, `outputs` says how many results."""

    def run_op(op_type, *inputs, outputs=1, **attributes):
        return backend.kernel(op_type, attributes, outputs)(*inputs)

    return run_op
