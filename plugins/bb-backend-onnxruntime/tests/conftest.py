"""A backend."""

import pytest

from bb_backend_onnxruntime._backend import OnnxRuntimeBackend
from bb_testing import environment


@pytest.fixture
def make():
    """Make a backend; settings are keywords."""

    def build(**settings):
        return OnnxRuntimeBackend(
            OnnxRuntimeBackend.Config(**settings), environment(slot="backend")
        )

    return build


@pytest.fixture
def backend(make):
    return make()
