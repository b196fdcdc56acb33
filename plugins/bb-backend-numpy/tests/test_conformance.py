from bb_backend_numpy._backend import NumpyBackend
from bb_ir.ids import PeerId
from bb_roles import Environment
from bb_roles.contracts import NoConfig
from bb_testing.backend import BackendSuite


class TestNumpyBackend(BackendSuite):
    def make(self):
        return NumpyBackend(NoConfig(), Environment(peer=PeerId.from_seed(0), slot="backend"))
