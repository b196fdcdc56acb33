"""Programs of federations are recorded and compiled, as users do it."""

import json
from collections.abc import Callable

import pytest

from bb_compiler import Compiler
from bb_dsl import Module
from bb_ir import keys, onnx_tools
from bb_runtime import Artifact, load_artifact
from bb_testing.programs import (
    CountingModel,
    FixedPeers,
    ListSource,
    PlainBackend,
    SumAggregator,
)

PARTS = {
    "aggregator": SumAggregator,
    "backend": PlainBackend,
    "data_source": ListSource,
    "model": CountingModel,
    "peer_selector": FixedPeers,
}


@pytest.fixture(scope="session")
def compiled() -> Callable[..., Artifact]:
    """Compile a Module: every slot gets the part of its role unless a class is given for it."""

    def compile_(module: Module, **parts: type) -> Artifact:
        model = module.build()
        slots = json.loads(onnx_tools.get_meta(model, keys.SLOTS))
        compiler = Compiler()
        for slot, facts in slots.items():
            compiler.bind(slot, parts.pop(slot, PARTS[facts["role"]]))
        for slot, part in parts.items():
            compiler.bind(slot, part)
        return load_artifact(compiler.compile(model).SerializeToString())

    return compile_
