"""The edge to ONNX Runtime: options, sessions, and its errors as ours.

Every error of ONNX Runtime is mapped here, once. Nothing else may call it.

**Copies.** An input that lies in C order is lent to the session as it is; one that does not, as a
view with gaps, is copied. Outputs are memory of their own, given away with the array, and marked
as not writable.

**Determinism.** Sessions run their nodes in order, with one thread unless configured otherwise,
and ask ONNX Runtime for deterministic kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import onnxruntime as _untyped_ort  # type: ignore[import-untyped]  # it has no types
import onnxruntime.capi.onnxruntime_pybind11_state as _untyped_state  # type: ignore[import-untyped]

from bb_backend_onnxruntime._drafts import NUMBERS, Draft, Signature
from bb_backend_onnxruntime.errors import DtypeUnsupported, InvalidSetting, OpRefused, RunFailed
from bb_roles.contracts import Kernel
from bb_roles.limits import Limits, check_limits

__all__ = ["OnnxRuntimeConfig", "Sessions"]

ort: Any = _untyped_ort
state: Any = _untyped_state
Optimize = Literal["none", "basic", "extended", "all"]

_LEVELS: Final = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
#: ONNX Runtime's errors have no base of their own; its bindings also raise Python's.
_FOREIGN: Final[tuple[type[Exception], ...]] = (
    state.EPFail,
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
    RuntimeError,
    TypeError,
    ValueError,
)
_NO_KERNEL: Final[type[Exception]] = state.NotImplemented
_THREADS: Final = Limits(1, 1024, fix="give the number of cores that one op may use")
#: Only what is fatal is logged: the rest comes as an error.
_FATAL: Final = 4
#: The types of outputs that become arrays, as ONNX Runtime writes them.
_TENSORS: Final = {
    f"tensor({ {'float32': 'float', 'float64': 'double'}.get(dtype.name, dtype.name) })"
    for dtype in NUMBERS
}


@dataclass(frozen=True)
class OnnxRuntimeConfig:
    """How sessions run.

    Attributes:
        threads: Threads within one op. With more than one, the order of sums is up to ONNX Runtime,
            and results may differ between machines in the last place.
        optimize: Which rewritings of ONNX Runtime a graph goes through. Only with `none` are the
            bits of fused ops promised to be those of the ops one by one; the others are faster and
            may join roundings.
    """

    threads: Annotated[int, _THREADS] = 1
    optimize: Optimize = "none"

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting)


class Sessions:
    """Makes functions of drafts, one session for each.

    Args:
        config: How they run.
    """

    def __init__(self, config: OnnxRuntimeConfig) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = config.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = _LEVELS[config.optimize]
        options.use_deterministic_compute = True
        options.log_severity_level = _FATAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options = options
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = _FATAL

    def function(self, draft: Draft, given: Signature) -> Kernel:
        """Return the function of a draft for inputs of these dtypes; it is not given left out ones.

        Raises:
            DtypeUnsupported: ONNX Runtime has no kernel for these dtypes, or no array for a result.
            OpRefused: ONNX Runtime does not load the model.
        """
        session = self._session(draft, given)
        for output in session.get_outputs():
            if output.type not in _TENSORS:
                raise DtypeUnsupported(
                    f"{draft.about} makes a value of type {output.type}",
                    expected=f"one of {', '.join(sorted(_TENSORS))}",
                    fix="cast inside, or bind another backend",
                )
        names = [n for n, kind in zip(draft.inputs, given, strict=True) if kind is not None]
        return _function(session, names, draft, self._run_options)

    def _session(self, draft: Draft, given: Signature) -> Any:
        model = draft.model(given)
        try:
            return ort.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])
        except _NO_KERNEL as error:
            raise DtypeUnsupported(
                f"ONNX Runtime has no kernel of {draft.about} for {_listed(given)}: {error}",
                expected="dtypes that ONNX Runtime implements on the CPU",
                fix="cast before the op, or bind another backend",
            ) from error
        except _FOREIGN as error:
            raise OpRefused(
                f"ONNX Runtime does not load {draft.about} for {_listed(given)}: {error}",
                expected="ops as ONNX opset 23 defines them",
                fix="correct attributes, inputs and dtypes where the op is recorded",
            ) from error


def _function(session: Any, names: Sequence[str], draft: Draft, options: Any) -> Kernel:
    run: Callable[..., list[Any]] = session.run
    outputs = list(draft.outputs)

    def call(*inputs: Any) -> Any:
        try:
            made = run(outputs, dict(zip(names, inputs, strict=True)), options)
        except _FOREIGN as error:
            raise RunFailed(
                f"{draft.about} failed on {_shapes(inputs)}: {str(error).strip()}",
                expected="tensors whose shapes and values the op takes",
                fix="look at the shapes and values that come in",
            ) from error
        for y in made:
            y.flags.writeable = False
        return made[0] if len(made) == 1 else tuple(made)

    return call


def _listed(given: Signature) -> str:
    return ", ".join("nothing" if dtype is None else dtype.name for dtype in given) or "no inputs"


def _shapes(inputs: Sequence[Any]) -> str:
    return ", ".join(f"{x.dtype}{list(x.shape)}" for x in inputs) or "no inputs"
