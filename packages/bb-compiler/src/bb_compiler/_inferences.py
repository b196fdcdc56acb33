"""What configured components say of their values once the types of what they are given are known.

Classes are imported and asked, never built; and only those that a program binds with `config=`.
What they answer is noted, so that `install` can ask again with the configuration of its Node.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any, cast

from onnx import NodeProto

from bb_compiler._placement_errors import lines_of
from bb_compiler._values import Row, Rows
from bb_compiler.errors import ComponentTypeMisfit, Findings
from bb_ir import keys, onnx_tools
from bb_ir.ops import OpSchema
from bb_ir.type_texts import brief
from bb_ir.types import Type
from bb_roles.config import build_config
from bb_roles.errors import InputMisfit
from bb_roles.registry import component_spec, import_named

__all__ = ["Inferences", "misfit"]

#: Class and slot.
Place = tuple[str, str]


class Inferences:
    """Asks the components of one model.

    Args:
        rows: Its bindings.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._asked: dict[Place, tuple[Any, object] | None] = {}
        self._told: dict[Place, dict[str, dict[tuple[str, ...], dict[str, str]]]] = {}

    def forget(self) -> None:
        """Drop what was noted: all ops are asked again."""
        self._told.clear()

    def noted(self, cls: str, slot: str) -> dict[str, list[Any]]:
        """Return what is known of a slot: by op, pairs of types of inputs and those of outputs."""
        told = self._told.get((cls, slot), {})
        return {
            op: [[list(inputs), answer] for inputs, answer in sorted(answers.items())]
            for op, answers in sorted(told.items())
        }

    def results(
        self, node: NodeProto, schema: OpSchema, inputs: tuple[Type, ...], findings: Findings
    ) -> Mapping[str, Type]:
        """Return the types of an op's results as far as its component infers them, by port.

        Raises:
            InputMisfit: The component takes no such inputs.
        """
        row = self._rows.of(node)
        place = onnx_tools.get_meta(node, keys.CLASS), onnx_tools.get_meta(node, keys.SLOT)
        if place not in self._asked:
            self._asked[place] = _configured(row)
        asked = self._asked[place]
        if asked is None:
            return {}
        cls, config = asked
        label = f"infer_types of {row['component']!r}"
        try:
            found: object = cls.infer_types(config, schema.name, inputs)
        except InputMisfit:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the component is to be repaired
            told = f"{label} raises {type(error).__name__} for {schema.name}: {error}"
            findings.add(_misfit(node, told, "a pure function of configuration, op and types"))
            return {}
        if found is None:
            return {}
        ports = [port.name for port in schema.results]
        if not _are_types(found, ports):
            told = f"{label} returns {reprlib.repr(found)} for {schema.name}"
            wanted = f"None, or types by port: {', '.join(ports)}"
            findings.add(_misfit(node, told, wanted))
            return {}
        known = cast("Mapping[str, Type]", found)
        answers = self._told.setdefault(place, {}).setdefault(schema.name, {})
        answers[tuple(map(str, inputs))] = {port: str(known[port]) for port in sorted(known)}
        return known


def misfit(
    node: NodeProto, row: Row, port: str, inferred: Type, known: Type
) -> ComponentTypeMisfit:
    """Complain about a component that infers what its role, or it itself, rules out."""
    told = f"infer_types of {row['component']!r} gives {node.op_type}.{port} as {brief(inferred)}"
    return _misfit(node, told, f"a type within {brief(known)}, which is known without it")


def _configured(row: Row) -> tuple[Any, object] | None:
    """Return class and configuration of a component, if the latter is known as a whole."""
    if not row.get("infers"):
        return None
    name: str = row["component"]
    path = name if ":" in name else component_spec(row["role"], name).cls
    cls: Any = import_named(path, f"{row['role']}.{name}")
    return cls, build_config(cls.Config, json.loads(row["config"]), row["slot"])


def _are_types(found: Any, ports: list[str]) -> bool:
    if not isinstance(found, Mapping):
        return False
    pairs = cast("Mapping[object, object]", found).items()
    return all(port in ports and isinstance(known, Type) for port, known in pairs)


def _misfit(node: NodeProto, found: str, expected: str) -> ComponentTypeMisfit:
    fix = "repair the component"
    return ComponentTypeMisfit(found, expected=expected, fix=fix, where=lines_of(node))
