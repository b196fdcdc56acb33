"""What the tests of the compiler share: components that are never built, and `--update`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest
from onnx import ModelProto

from bb_compiler import Compiler
from bb_dsl import Module
from bb_ir import keys, onnx_tools
from bb_roles.contracts import (
    Aggregator,
    Backend,
    Codec,
    Component,
    DataSource,
    Index,
    Model,
    PeerSelector,
)


class AnyAggregator(Aggregator):
    """Stands in a binding."""


class AnyBackend(Backend):
    """Stands in a binding."""


class AnyCodec(Codec):
    """Stands in a binding."""


class AnyDataSource(DataSource):
    """Stands in a binding."""


class AnyIndex(Index):
    """Stands in a binding."""


class AnyModel(Model):
    """Stands in a binding."""


class AnyPeerSelector(PeerSelector):
    """Stands in a binding."""


BY_ROLE: dict[str, type[Component]] = {
    "aggregator": AnyAggregator,
    "backend": AnyBackend,
    "codec": AnyCodec,
    "data_source": AnyDataSource,
    "index": AnyIndex,
    "model": AnyModel,
    "peer_selector": AnyPeerSelector,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write what golden tests expect anew")


@pytest.fixture(scope="session")
def bind_all() -> Callable[[ModelProto], Compiler]:
    """Return a compiler that has a component for every slot of a recorded model."""

    def bind(model: ModelProto) -> Compiler:
        compiler = Compiler()
        slots = json.loads(onnx_tools.get_meta(model, keys.SLOTS, "{}"))
        for slot, facts in slots.items():
            compiler.bind(slot, BY_ROLE[facts["role"]])
        return compiler

    return bind


@pytest.fixture(scope="session")
def compiled(bind_all: Callable[[ModelProto], Compiler]) -> Callable[[Module], ModelProto]:
    """Return a function that records a Module and compiles it with stand-ins in all slots."""

    def compile_module(module: Module) -> ModelProto:
        model = module.build()
        return bind_all(model).compile(model)

    return compile_module


@pytest.fixture(scope="session")
def places() -> Callable[[ModelProto], str]:
    """Return a function that lists where the ops of an artifact stand, by target and region."""

    def listed(model: ModelProto) -> str:
        calls = {f.name: f for f in model.functions if f.domain == keys.FUSED}
        lines: list[str] = []
        for function in onnx_tools.targets(model):
            lines.append(function.name.partition("#")[0])
            regions: dict[str, list[str]] = {}
            for node in function.node:
                meta = onnx_tools.metadata(node)
                what = meta.get(keys.SLOT) or meta.get(keys.EDGE)
                inner = calls[node.op_type].node if node.op_type in calls else [node]
                ops = [f"{one.op_type}({what})" if what else one.op_type for one in inner]
                regions.setdefault(f"{meta[keys.CLASS]}/{meta[keys.REGION]}", []).extend(ops)
            for region, ops in regions.items():
                text = f"  {region}: {', '.join(ops)}"
                lines.append(textwrap.fill(text, 90, subsequent_indent=" " * 6))
        return "\n".join(lines)

    return listed
