from bb_backend_onnxruntime._backend import OnnxRuntimeBackend
from bb_testing import environment
from bb_testing.backend import BackendSuite


class TestOnnxRuntimeBackend(BackendSuite):
    def make(self):
        return OnnxRuntimeBackend(OnnxRuntimeBackend.Config(), environment(slot="backend"))
