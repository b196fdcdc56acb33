"""The passes of the compiler, each in a file of its own: pure functions from model to model."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from bb_compiler.passes.analyze_wire_edges import analyze_wire_edges
from bb_compiler.passes.expand_ops import expand_ops
from bb_compiler.passes.fuse_backend_subgraphs import fuse_backend_subgraphs
from bb_compiler.passes.infer_peer_classes import infer_peer_classes
from bb_compiler.passes.infer_regions import infer_regions
from bb_compiler.passes.inline_for_partition import inline_for_partition
from bb_compiler.passes.partition_by_class import partition_by_class
from bb_compiler.passes.refine_value_types import refine_value_types
from bb_compiler.passes.resolve_dependencies import resolve_dependencies
from bb_compiler.passes.resolve_slots import resolve_slots
from bb_compiler.passes.sequence_effects import sequence_effects
from bb_compiler.passes.solve_types import solve_types
from bb_compiler.passes.stamp_deadlines import stamp_deadlines
from bb_compiler.passes.stamp_passport import stamp_passport
from bb_compiler.passes.stamp_wire_policies import stamp_wire_policies
from bb_compiler.passes.synthesize_receives import synthesize_receives
from bb_compiler.passes.verify_artifact import verify_artifact
from bb_compiler.passes.verify_recording import verify_recording

__all__ = ["CANONICAL", "Pass"]

Pass = Callable[[ModelProto], ModelProto]

#: The passes in order. The numbers in their docstrings are those of the design.
CANONICAL: tuple[Pass, ...] = (
    verify_recording,
    inline_for_partition,
    expand_ops,
    infer_peer_classes,
    infer_regions,
    resolve_slots,
    resolve_dependencies,
    refine_value_types,
    solve_types,
    sequence_effects,
    synthesize_receives,
    partition_by_class,
    analyze_wire_edges,
    stamp_wire_policies,
    stamp_deadlines,
    fuse_backend_subgraphs,
    verify_artifact,
    stamp_passport,
)
