"""The contract of ops that plugins add, as tests.

Functions are called as a Node calls them: inputs in order, attributes as keywords. Programs, and
what a compiler says of them, are left to a plugin's own tests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from bb_ir.errors import BytesAndBrainsError
from bb_ir.framework_ops import Unfit
from bb_ir.ops import OpSchema
from bb_ir.plugin_ops import misuse, result_types
from bb_ir.type_texts import brief
from bb_ir.types import ANY, accepts
from bb_roles import OpsSpec
from bb_roles.registry import check_spec, load
from bb_testing._at_once import THREADS, at_once
from bb_testing._base import Suite, bits_of, read_only, text_of
from bb_testing._elsewhere import check_told_elsewhere
from bb_testing._no_files import arguments_only
from bb_testing._types import type_of

__all__ = ["OpCall", "OpsSuite"]

#: An op, its inputs and its attributes.
OpCall: TypeAlias = tuple[str, Sequence[Any], Mapping[str, Any]]


class OpsSuite(Suite):
    """Inherit it in a class named `Test...` and write `spec`, `calls` and `refused`."""

    def spec(self) -> OpsSpec:
        """Return the declaration of the ops: what their hook `bb_ops` returns."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def spec(self)`")

    def calls(self) -> Sequence[OpCall]:
        """Return calls that make sense, each op at least once: op, inputs, attributes.

        Equal ones each time, in memory of their own: a test may look whether they were changed.
        """
        raise NotImplementedError(f"{type(self).__qualname__} needs `def calls(self)`")

    def refused(self) -> Sequence[OpCall]:
        """Return calls of which the types are right and the values are not; none by default."""
        return []

    def told(self) -> list[str]:
        """Return what each call gives, one text for each."""
        return [text_of(self._result(call)) for call in self.calls()]

    def test_declaration_fits(self) -> None:
        """All that a Node needs is declared, can be imported, and has a schema."""
        spec: object = self.spec()
        assert isinstance(spec, OpsSpec), f"spec() returned a {type(spec).__name__}"
        check_spec(spec)
        load(spec)
        bare = [name for name in spec.ops if name not in spec.schemas]
        assert not bare, (
            f"op {bare[0]} has no schema: the compiler neither checks what it is given nor knows "
            "what it gives; add it to OpsSpec.schemas"
        )

    def test_functions_take_what_their_schemas_say(self) -> None:
        """Each function takes the op's inputs in order, and its attributes as keywords."""
        spec = self.spec()
        for name, function in load(spec).items():
            schema = spec.schemas[name]
            try:
                inspect.signature(function).bind(
                    *schema.inputs, **{one.name: None for one in schema.attributes}
                )
            except TypeError as error:
                told = f"the function of {schema} cannot be called so: {error}"
                raise AssertionError(told) from None

    def test_every_op_is_called(self) -> None:
        """`calls` has each op, with the inputs and attributes of its schema."""
        spec = self.spec()
        left = sorted({*spec.ops} - {op for op, _, _ in self.calls()})
        assert not left, f"calls() needs a call of {', '.join(left)}"
        for op, inputs, attributes in [*self.calls(), *self.refused()]:
            assert op in spec.ops, f"there is a call of {op!r}, which is no op of the plugin"
            wrong = misuse(spec.schemas[op], len(inputs), attributes)
            assert not wrong, f"there is a call of {spec.schemas[op]} with {wrong}"

    def test_results_are_of_the_types_that_are_inferred(self) -> None:
        """What the compiler takes a result for, from the types of the inputs, is what it is."""
        spec = self.spec()
        for call in self.calls():
            op, inputs, _ = call
            schema = spec.schemas[op]
            given = tuple(map(type_of, inputs))
            found = result_types(schema, given, _settings(schema, call))
            texts = ", ".join(map(brief, given)) or "nothing"
            assert not isinstance(found, Unfit), (
                f"{schema} does not take {texts}: expected {found.expected}"
            )
            for port, known, value in zip(schema.outputs, found, self._results(call), strict=True):
                is_so = type_of(value)
                assert is_so == ANY or accepts(known, is_so), (
                    f"{op} of {texts} gives {port.name!r} as {brief(is_so)}; by its schema it is "
                    f"{brief(known)}"
                )

    # Determinism.

    def test_same_call_gives_the_same_bits(self) -> None:
        """A function keeps nothing between calls: a Node may repeat them from its journal."""
        first = self.told()
        again = [text_of(self._result(call)) for call in reversed(self.calls())][::-1]
        for (op, _, _), one, other in zip(self.calls(), first, again, strict=True):
            assert one == other, (
                f"{op} gave another result when it was called again: draw nothing, ask no clock, "
                "and keep nothing between calls; what has a state is a component"
            )

    def test_inputs_are_left_as_they_are(self) -> None:
        """A value may be an input of other ops, too."""
        for call, same in zip(self.calls(), self.calls(), strict=True):
            self._result(call)
            assert bits_of(list(call[1])) == bits_of(list(same[1])), (
                f"{call[0]} changed what it was given: work on a copy"
            )
            op, inputs, attributes = same
            try:
                self._result((op, [read_only(value) for value in inputs], attributes))
            except Exception as error:
                raise AssertionError(
                    f"{op} failed on arrays that can only be read, as a Node gives them, with "
                    f"{type(error).__name__}: {error}; work on a copy"
                ) from error

    def test_needs_no_clock_no_dice_and_no_files(self) -> None:
        """All that decides a result are inputs and attributes."""
        self.told()  # also imports whatever is imported on first use
        calls = self.calls()
        functions: Mapping[str, Any] = load(self.spec())
        packages = sorted({one.__module__.partition(".")[0] for one in functions.values()})
        for package in packages:
            with arguments_only(package, "an op", "an input"):
                for call in calls:
                    self._result(call, functions)

    def test_hash_seed_makes_no_difference(self) -> None:
        """The order of a set differs from process to process; results must not."""
        check_told_elsewhere(self, "results")

    def test_calls_in_several_threads_at_once(self) -> None:
        """Nodes of one process run in threads of their own, and share the functions."""
        expected = self.told()
        for one in at_once(lambda call: text_of(self._result(call)), self.calls()):
            assert one == expected, (
                f"{THREADS} threads at once got other results than one alone: {one!r:.200}; let "
                "functions share nothing that changes"
            )

    # Bad input.

    def test_objections_explain(self) -> None:
        """Values that an op cannot take end in an error with a reason, and do no harm."""
        expected = self.told()
        for number, call in enumerate(self.refused()):
            error = self._objection(call)
            what = f"refused()[{number}], a call of {call[0]}"
            assert error is not None, f"{what}, gives a result"
            assert isinstance(error, BytesAndBrainsError | ValueError | TypeError), (
                f"{what}, ends with {error!r}: check what is given, and raise a ValueError or a "
                "subclass of bb_ir.errors.BytesAndBrainsError"
            )
            assert str(error), f"the {type(error).__name__} of {what}, says nothing"
        assert self.told() == expected, "after calls that were refused others give other results"

    # Helpers

    def _result(self, call: OpCall, functions: Mapping[str, Callable[..., Any]] = {}) -> Any:
        op, inputs, _ = call
        spec = self.spec()
        function = (functions or load(spec))[op]
        return function(*inputs, **_settings(spec.schemas[op], call))

    def _results(self, call: OpCall) -> Sequence[Any]:
        """Return what a call gives, one value for each output of its schema."""
        result, schema = self._result(call), self.spec().schemas[call[0]]
        if len(schema.outputs) == 1:
            return [result]
        assert isinstance(result, tuple), f"{schema} returned a {type(result).__name__}, no tuple"
        values = [*cast("Sequence[Any]", result)]
        assert len(values) == len(schema.outputs), f"{schema} returned {len(values)} values"
        return values

    def _objection(self, call: OpCall) -> Exception | None:
        try:
            self._result(call)
        except Exception as error:  # noqa: BLE001  # which kind it is gets asserted
            return error
        return None


def _settings(schema: OpSchema, call: OpCall) -> dict[str, Any]:
    """Return the attributes of a call, those left out with their defaults."""
    defaults = {one.name: one.default for one in schema.attributes if one.default is not None}
    return {**defaults, **call[2]}
