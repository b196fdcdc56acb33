"""What the engine adds to each op: a frame of a Node against a plain loop over the same kernels."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from do_nothing import Chain, Echo, Forwards, Later, Same, same
from measure import Effort, Row, Times, interleave, ratio, shown, shown_ratio
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import bb_runtime as rt
from bb_compiler import Compiler
from bb_ir.ids import PeerId

LENGTH = 200
_X = np.ones(8, np.float32)
_STEP = np.full(8, 0.5, np.float32)
_NOTE = (
    "Most of it is the frame; the line of an op costs next to nothing, as the first rows show. Run "
    "one by one, each numpy call stands in a function that makes results of rank zero arrays "
    "again; fused, only what leaves the chain does."
)


def measure(effort: Effort) -> dict[str, Any]:
    """Measure chains of `LENGTH` ops and of one."""
    length = effort.size(LENGTH, 3)
    same_ops = {"x": _X}
    adds = {"x": _X, "step": _STEP}
    calls = {
        "same_chain": _frame(Chain(length, "Identity"), Same, same_ops),
        "same_one": _frame(Chain(1, "Identity"), Same, same_ops),
        "no_op": _frame(Forwards(0), Echo, same_ops),
        "model_later": _deferring(same_ops),
        "same_loop": _loop([same] * length),
        "model_chain": _frame(Forwards(length), Echo, same_ops),
        "model_one": _frame(Forwards(1), Echo, same_ops),
        "add_chain": _frame(Chain(length), "numpy", adds),
        "add_apart": _frame(Chain(length), "numpy", adds, fused=False),
        "add_one": _frame(Chain(1), "numpy", adds),
        "add_loop": _numpy_loop(length),
        "add_reference": _reference(length),
    }
    return {"length": length, "seconds": interleave(calls, effort, samples=41)}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    length = result["length"]
    each = 1e6 / length
    bare, plain, reference = (times[n] for n in ("same_loop", "add_loop", "add_reference"))
    found = [
        Row(
            "",
            "a frame: `invoke`, one op that does nothing, one output, `poll`",
            "",
            shown(times["same_one"], "us", 1e6),
        ),
        Row(
            "",
            "a frame without any op: `invoke`, one output, `poll`",
            "",
            shown(times["no_op"], "us", 1e6),
        ),
        _later(times),
    ]
    for name, what in (("same", "tensor ops"), ("model", "calls of a component with a context")):
        found.append(_per_op(times, name, f"{what} that do nothing", bare, length))
    found.append(_per_op(times, "add", "`Add`s of 8 numbers", plain, length))
    whole = times["add_chain"]
    measured = f"{shown(whole, 'us', each)} per op; numpy {shown(plain, 'us', each)}"
    for goal, bound in (("G1", 2.1), ("G2", 1.2)):
        found.append(
            Row(
                goal,
                f"{LENGTH} `Add`s of 8 numbers, whole frame, against a numpy loop",
                f"at most {bound}x",
                measured,
                shown_ratio(whole, plain),
                ratio(whole, plain) <= bound,
                _NOTE,
            )
        )
    apart = times["add_apart"]
    found.append(
        Row(
            "",
            f"{LENGTH} `Add`s of 8 numbers, fused against one by one",
            "",
            f"{shown(whole, 'us', each)} per op; one by one {shown(apart, 'us', each)}",
            shown_ratio(whole, apart),
        )
    )
    share = ratio(whole, reference)
    found.append(
        Row(
            "G1",
            f"{LENGTH} `Add`s of 8 numbers against onnx.reference",
            "at most 1/12",
            f"reference {shown(reference, 'us', each)} per op",
            f"1/{1 / share:.0f} (1/{min(reference) / min(whole):.0f})",
            share <= 1 / 12,
        )
    )
    return found


def _per_op(times: dict[str, Times], name: str, what: str, loop: Times, length: int) -> Row:
    """Compare what each op after the first one adds with a pass of a loop."""
    pairs = list(zip(times[f"{name}_chain"], times[f"{name}_one"], strict=True))
    more = length / (length - 1)
    own = [(many - one) * more for many, one in pairs]
    least = (min(many for many, _ in pairs) - min(one for _, one in pairs)) * more
    each = 1e9 / length
    return Row(
        "",
        f"{LENGTH} {what}, frame taken off, against a plain loop",
        "",
        f"{median(own) * each:.0f} ns per op (min {least * each:.0f}); "
        f"loop {median(loop) * each:.0f} ns (min {min(loop) * each:.0f})",
        f"{ratio(own, loop):.2f}x ({least / min(loop):.2f}x)",
    )


def _later(times: dict[str, Times]) -> Row:
    """Compare a frame whose op defers its work with one whose op answers at once."""
    later, at_once = times["model_later"], times["model_one"]
    more = median(a - b for a, b in zip(later, at_once, strict=True))
    return Row(
        "",
        "a frame with one op of a component that defers, the work done at once by the host, "
        "against one that answers itself",
        "",
        f"{shown(later, 'us', 1e6)}; itself {shown(at_once, 'us', 1e6)}; {more * 1e6:.3g} us more",
        shown_ratio(later, at_once),
    )


def _frame(
    module: Any, component: Any, given: dict[str, Any], *, fused: bool = True
) -> Callable[[], object]:
    if isinstance(module, Forwards):
        bound = Compiler().bind_model("model", component)
    else:
        bound = Compiler().bind_backend("backend", component)
    if not fused:
        bound.without_stage("fuse_backend_subgraphs")
    name = type(module).__name__
    node = rt.install(PeerId.from_seed(0, 0), [], bound.compile(module.build()), [name])

    def run() -> None:
        node.invoke(name, given)
        steps = node.poll()
        assert isinstance(steps[0], rt.Emitted), steps

    return run


def _deferring(given: dict[str, Any]) -> Callable[[], object]:
    """Return a frame with work for the host, which does it at once, and takes it in again."""
    artifact = Compiler().bind_model("model", Later).compile(Forwards(1).build())
    node = rt.install(PeerId.from_seed(0, 0), [], artifact, ["Forwards"])

    def run() -> None:
        node.invoke("Forwards", given)
        [work] = node.poll()
        assert isinstance(work, rt.Deferred), work
        work.run()
        steps = node.poll()
        assert isinstance(steps[0], rt.Emitted), steps

    return run


def _loop(kernels: list[Callable[[Any], Any]]) -> Callable[[], object]:
    def run() -> Any:
        x = _X
        for kernel in kernels:
            x = kernel(x)
        return x

    return run


def _numpy_loop(length: int) -> Callable[[], object]:
    def run() -> Any:
        x, step, add = _X, _STEP, np.add
        for _ in range(length):
            x = add(x, step)
        return x

    return run


def _reference(length: int) -> Callable[[], object]:
    nodes = [helper.make_node("Add", [f"x{i}", "step"], [f"x{i + 1}"]) for i in range(length)]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [8])
        for name in ("x0", "step", f"x{length}")
    ]
    graph = helper.make_graph(nodes, "chain", ports[:2], ports[2:])
    session = ReferenceEvaluator(helper.make_model(graph))
    return lambda: session.run(None, {"x0": _X, "step": _STEP})
