"""What is checked of an op of a plugin while it is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bb_dsl._source import user_line
from bb_dsl.errors import BadOption
from bb_ir.framework_ops import Unfit
from bb_ir.ops import OpSchema
from bb_ir.plugin_ops import is_plugin_domain, misuse, result_types
from bb_ir.types import Type

if TYPE_CHECKING:
    from bb_dsl._output import Output

__all__ = ["types_of_results"]


def types_of_results(
    domain: str, schema: OpSchema, inputs: Sequence[Output], attributes: Mapping[str, Any]
) -> tuple[Type, ...]:
    """Return the types of an op's results.

    Raises:
        BadOption: The domain is not a plugin's, or the op cannot take what it is given.
    """
    if not is_plugin_domain(domain):
        raise BadOption(
            f"{schema.name} is recorded in domain {domain!r}",
            expected="the domain of a plugin, as its OpsSpec has it",
            where=user_line(),
        )
    wrong = misuse(schema, len(inputs), attributes)
    if wrong:
        raise BadOption(f"{schema.name} with {wrong}", expected=str(schema), where=user_line())
    found = result_types(schema, [value.type for value in inputs], attributes)
    if isinstance(found, Unfit):
        raise BadOption(
            f"{schema.name} is given {inputs[found.at]!r}",
            expected=found.expected,
            where=user_line(),
        )
    return found
