"""The page on framework ops is up to date, and every op has an example that runs."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

from bb_ir import keys, onnx_tools
from bb_ir.framework_ops import FRAMEWORK_OPS
from bb_ops.plugin import bb_ops

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/reference/framework-ops.md"


def load(name):
    """Import a module that stands beside this file; tests are in no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


EXAMPLES = load("ops_examples").EXAMPLES
page = load("ops_page")
NAMES = [name for _, name in FRAMEWORK_OPS]


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text() == page.markdown(), (
        "run python tests/framework_ops/ops_page.py > docs/reference/framework-ops.md"
    )


def test_every_op_has_one_example():
    assert list(EXAMPLES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_records_its_op_and_publishes_something(name):
    model = page._compiled(EXAMPLES[name])
    used = {node.op_type for function in onnx_tools.targets(model) for node in function.node}
    assert name in used
    assert page.run(name)
    assert page.run(name) == page.run(name)


def test_every_op_that_needs_no_engine_is_in_the_table():
    ours = {name for domain, name in FRAMEWORK_OPS if domain == keys.SYSCALL}
    assert set(bb_ops().ops) <= ours


def test_the_recorder_writes_no_other_op():
    root = HERE.parents[1] / "packages/bb-dsl/src/bb_dsl"
    constants = {name: value for name, value in vars(keys).items() if isinstance(value, str)}
    written = set()
    for path in root.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="_append"),
                    args=[ast.Attribute(attr="SYSCALL"), ast.Constant(value=name), *_],
                ):
                    written.add(name)
                case ast.Call(
                    func=ast.Attribute(attr="_append"),
                    args=[ast.Attribute(attr="SYSCALL"), ast.Attribute(attr=name), *_],
                ):
                    written.add(constants[name])
                case ast.Call(
                    func=ast.Attribute(attr="append_framework_op" | "_block"),
                    args=[ast.Constant(value=name), *_],
                ):
                    written.add(name)
                case ast.Call(
                    func=ast.Attribute(attr="append_framework_op"),
                    args=[ast.Attribute(attr=name), *_],
                ):
                    written.add(constants[name])
    table = {name for domain, name in FRAMEWORK_OPS if domain == keys.SYSCALL}
    assert written == table
