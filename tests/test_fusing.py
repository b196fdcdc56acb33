"""Fusing tensor ops changes no bit of what a program computes on the numpy backend."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_compiler import Compiler
from bb_ir import keys
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_runtime import Emitted, install

EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[1] / "docs" / "examples").glob("*.py")
    if "slots.Backend" in path.read_text()
)
#: Runs a script whose compilers leave the stage out.
UNFUSED = """
import runpy, sys
import bb_compiler.compiler as compiler
compiler.CANONICAL_STAGES = tuple(
    stage for stage in compiler.CANONICAL_STAGES if stage.name != "fuse_backend_subgraphs"
)
runpy.run_path(sys.argv[1], run_name="__main__")
"""

BINARY = ("Add", "Sub", "Mul", "Div", "Max")
UNARY = ("Neg", "Abs", "Exp", "Tanh", "Relu", "Sigmoid", "Softmax", "Sqrt", "Identity")
STEPS = st.lists(
    st.tuples(
        st.sampled_from((*BINARY, *UNARY, "MatMul", "ReduceMean", "ReduceSum", "number", "output")),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    min_size=2,
    max_size=20,
)


class Drawn(bb.Module):
    """Tensor ops that read what was made before them, by number; shapes stay (3, 3) or (1, 1)."""

    backend = bb.slots.Backend()

    def __init__(self, steps, dtype):
        super().__init__()
        self.steps, self.dtype = steps, dtype

    def body(self, g):
        w = g.input("w", tensor(self.dtype, (3, 3)))
        known = [g.input("x", tensor(self.dtype, (3, 3))), w]
        for at, (op, one, other) in enumerate(self.steps):
            a, b = known[one % len(known)], known[other % len(known)]
            if op == "output":
                g.output(f"o{at}", a)
            else:
                known.append(self.made(g, op, a, b, w))
        g.output("last", known[-1])

    def made(self, g, op, a, b, w):
        if op == "number":
            return self.backend.op(g, "Mul", a, g.constant(0.37, self.dtype))
        if op == "MatMul":
            return self.backend.op(g, op, a + w, w)
        if op in ("ReduceMean", "ReduceSum"):
            return self.backend.op(g, op, a, keepdims=1)
        return self.backend.op(g, op, *((a, b) if op in BINARY else (a,)))


def compiled(module, *, fused):
    compiler = Compiler().bind_backend("backend", "numpy")
    if not fused:
        compiler.without_stage("fuse_backend_subgraphs")
    return compiler.compile(module.build())


def outputs(artifact, inputs):
    node = install(PeerId.from_seed(0, 0), [], artifact, ["Drawn"])
    node.invoke("Drawn", inputs)
    with np.errstate(all="ignore"):
        steps = node.poll()
    found = [(s.name, s.value) for s in steps if isinstance(s, Emitted)]
    return [(name, y.dtype, y.shape, y.tobytes()) for name, y in found]


@settings(deadline=None, max_examples=60)
@given(STEPS, st.sampled_from(["float32", "float64", "float16"]), st.integers(0, 99))
def test_fused_programs_give_the_same_bits(steps, dtype, seed):
    rng = np.random.default_rng(seed)
    inputs = {name: rng.uniform(-3, 3, (3, 3)).astype(dtype) for name in ("x", "w")}

    fused, apart = (compiled(Drawn(steps, dtype), fused=flag) for flag in (True, False))

    assert not any(function.domain == keys.FUSED for function in apart.functions)
    assert outputs(fused, inputs) == outputs(apart, inputs)


def test_the_program_is_the_same_and_only_its_names_tell():
    fused, apart = (compiled(Drawn([("Neg", 0, 0)] * 3, "float32"), fused=f) for f in (True, False))

    said = [{e.key: e.value for e in artifact.metadata_props} for artifact in (fused, apart)]
    assert said[0][keys.PROGRAM] == said[1][keys.PROGRAM]
    assert said[0][keys.EDGES] == said[1][keys.EDGES]
    assert [f.domain for f in fused.functions] == [keys.MODULE, keys.FUSED]


def printed(*arguments):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_print_the_same_unfused(path):
    assert printed(path) == printed("-c", UNFUSED, path)


def test_there_are_examples_with_tensor_ops():
    assert EXAMPLES
