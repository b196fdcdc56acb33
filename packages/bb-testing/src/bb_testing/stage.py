"""The contract of stages of the compiler that plugins add, as tests.

The kit does not import the compiler: the author hands in one, and the kit gives the stage the model
that the compiler gives it, by standing in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from bb_ir import keys, onnx_tools
from bb_ir.errors import BytesAndBrainsError
from bb_roles import StageSpec
from bb_roles.registry import stage_function
from bb_testing._base import Suite

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["StageSuite"]


class StageSuite(Suite):
    """Inherit it in a class named `Test...`, write `spec`, `compiler` and `program`.

    Attributes:
        idempotent: Whether the stage leaves what it made as it is when it runs again. Stages that
            only look are.
    """

    idempotent: ClassVar[bool] = True

    def spec(self) -> StageSpec:
        """Return the declaration of the stage: what its hook `bb_stage` returns."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def spec(self)`")

    def compiler(self) -> Any:
        """Return a fresh `bytesandbrains.Compiler` with all slots bound, without the stage."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def compiler(self)`")

    def program(self) -> ModelProto:
        """Return a recorded program that the stage lets pass: what `Module.build` returns."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def program(self)`")

    def refused(self) -> Iterable[ModelProto]:
        """Return recorded programs that the stage must refuse; none unless this says more."""
        return ()

    def test_declaration_fits(self) -> None:
        """Name, function and place are what a compiler needs to insert it."""
        spec = self.spec()
        assert isinstance(spec, StageSpec), f"spec() returned a {type(spec).__name__}"
        assert bool(spec.before) != bool(spec.after), (
            "a StageSpec says before which stage it runs, or after which, and not both"
        )
        stages = self.compiler().stages
        assert (spec.before or spec.after) in stages, (
            f"the compiler has no stage {spec.before or spec.after!r}; it has {', '.join(stages)}"
        )
        assert spec.name not in stages, f"{spec.name!r} is the name of a stage of the compiler"
        stage_function(spec)

    def test_returns_a_model_that_onnx_accepts(self) -> None:
        """What comes out is a ModelProto that passes ONNX's own checker."""
        import onnx

        model = self._run(self._input())
        try:
            onnx.checker.check_model(model)  # pyright: ignore[reportUnknownMemberType]  # its PathLike
        except onnx.checker.ValidationError as error:
            raise AssertionError(f"ONNX's checker refuses what the stage returned: {error}") from (
                error
            )

    def test_input_is_left_as_it_is(self) -> None:
        """A stage changes a copy: what it was given belongs to somebody else."""
        model = self._input()
        before = _bytes(model)
        self._run(model)
        assert _bytes(model) == before, (
            "the stage changed the model that it was given; copy it first: "
            "result = ModelProto(); result.CopyFrom(model)"
        )

    def test_equal_models_give_equal_models(self) -> None:
        """Neither chance nor what ran before decides what comes out."""
        first, second = self._run(self._input()), self._run(self._input())
        assert _bytes(first) == _bytes(second), "the stage made two models of one"

    def test_running_twice_is_running_once(self) -> None:
        """A stage that is declared idempotent leaves its own result as it is."""
        if not self.idempotent:
            pytest.skip("not declared to be idempotent")
        once = self._run(self._input())
        twice = self._run(_copy(once))
        assert _bytes(twice) == _bytes(once), (
            "running the stage on its own result changed it; say `idempotent = False` if it should"
        )

    def test_program_compiles_with_it(self) -> None:
        """The stages that follow take what it returns."""
        spec = self.spec()
        artifact = self._inserted(stage_function(spec)).compile(self.program())
        assert onnx_tools.get_meta(artifact, keys.COMPILED), "the artifact has no passport"

    def test_objections_are_errors_that_explain(self) -> None:
        """A program that it refuses is told what was found, and what to do or what was expected."""
        for number, program in enumerate(self.refused()):
            error = self._objection(program)
            assert error is not None, f"the stage lets refused()[{number}] pass"
            assert isinstance(error, BytesAndBrainsError), (
                f"the stage raises {error!r} for refused()[{number}]; raise a subclass of "
                "bb_ir.errors.BytesAndBrainsError"
            )
            assert error.expected or error.fix, (
                f"{error.code} of refused()[{number}] says neither what was expected nor a fix"
            )

    # Helpers

    def _inserted(self, function: Any) -> Any:
        spec = self.spec()
        return self.compiler().insert_stage(function, before=spec.before, after=spec.after)

    def _input(self, program: ModelProto | None = None) -> ModelProto:
        """Return what the compiler hands to the stage."""
        seen: list[ModelProto] = []

        def look(model: ModelProto) -> ModelProto:
            seen.append(_copy(model))
            return model

        self._inserted(look).compile(self.program() if program is None else program)
        return seen[0]

    def _objection(self, program: ModelProto) -> Exception | None:
        model = self._input(program)
        try:
            stage_function(self.spec())(model)
        except Exception as error:  # noqa: BLE001  # which kind it is gets asserted
            return error
        return None

    def _run(self, model: ModelProto) -> ModelProto:
        from onnx import ModelProto

        result: object = stage_function(self.spec())(model)
        assert isinstance(result, ModelProto), (
            f"the stage returned a {type(result).__name__}; end it with `return model`"
        )
        return result


def _copy(model: ModelProto) -> ModelProto:
    from onnx import ModelProto

    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _bytes(model: ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)
