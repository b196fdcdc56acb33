"""The contract of the model role, as tests."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from bb_ir.buffers import counts_references
from bb_ir.params import ParameterSet
from bb_roles import Batches, Model, State
from bb_roles.contracts import lacks
from bb_testing._base import check_released, check_state
from bb_testing._stories import RoleSuite
from bb_testing._types import check_types
from bb_testing.context import FakeContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensor = NDArray[Any]

__all__ = ["ModelSuite"]

#: Half the distance of finite differences, and how far they may be off, as a share of the norm.
_STEP = 1e-3
_DIRECTIONS = 5


class ModelSuite(RoleSuite):
    """Inherit it in a class named `Test...`, write `make` and `batch`.

    Say how many passes over the batch it takes to learn from it in `epochs`, and how exact the
    arithmetic is in `tolerance`; `None` leaves out the comparison with finite differences, for
    models whose output jumps.
    """

    #: Passes over `batch` after which the loss must have fallen.
    epochs: ClassVar[int] = 20
    #: How far gradients may be from finite differences, as a share of their norm.
    tolerance: ClassVar[float | None] = 1e-2

    def make(self) -> Model:
        """Return a fresh model; all of them begin with the same parameters."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return inputs and targets that the model can learn: at least four examples."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def batch(self)`")

    def test_is_a_model(self) -> None:
        """The component fills the role."""
        made = self.make()
        assert isinstance(made, Model), (
            f"make() returned a {type(made).__name__}, which does not inherit bb_roles.Model"
        )

    def test_params_is_a_parameter_set(self) -> None:
        """Parameters travel, are averaged and are stored as one `ParameterSet`."""
        _params(self.make())

    # Learning.

    def test_fit_lowers_the_loss(self) -> None:
        """Training helps on the data it saw."""
        model = self.make()
        before = self._loss(model)
        self._fit(model, epochs=self.epochs)
        after = self._loss(model)
        assert after < before, (
            f"the loss was {before} and is {after} after {self.epochs} epochs on the same batch"
        )

    @pytest.mark.parametrize("method", ["fit", "evaluate"])
    def test_metrics_are_reported(self, method: str) -> None:
        """`examples` is the weight of the data and an int, `loss` is a finite float."""
        batches = self._batches(epochs=2)
        metrics: Mapping[str, Any] = getattr(self.make(), method)(FakeContext(), batches)
        for key, kind in (("examples", int), ("loss", float)):
            assert key in metrics, f"{method}() reports no {key!r}, only {sorted(metrics)}"
            assert type(metrics[key]) is kind, (
                f"{key!r} of {method}() is a {type(metrics[key]).__name__}, not a {kind.__name__}"
            )
        assert metrics["examples"] == batches.examples, (
            f"{method}() reports {metrics['examples']} examples, the batches have "
            f"{batches.examples} distinct ones"
        )
        assert math.isfinite(metrics["loss"]), f"the loss of {method}() is {metrics['loss']}"

    def test_evaluate_changes_nothing(self) -> None:
        """Measuring is a read: neither parameters nor state change."""
        model = self.make()
        self._fit(model)
        params, state = _image(model), _frozen(model.save())
        model.evaluate(FakeContext(), self._batches())
        assert _image(model) == params, "evaluate() changed the parameters"
        assert _frozen(model.save()) == state, "evaluate() changed what save() returns"

    def test_same_calls_give_the_same_bits(self) -> None:
        """Two models that are called alike stay alike."""
        one, other = self.make(), self.make()
        assert _image(one) == _image(other), (
            "two fresh models differ: draw the first parameters from env.rng() only"
        )
        metrics = [dict(self._fit(model, epochs=2)) for model in (one, other)]
        assert metrics[0] == metrics[1], "two models trained alike report other metrics"
        assert _image(one) == _image(other), (
            "two models trained alike differ: draw from ctx.rng() only"
        )

    def test_values_are_of_the_types_that_it_tells(self) -> None:
        """What `value_types` and `infer_types` say is what programs are checked against."""
        model, context = self.make(), FakeContext()
        x, y = self.batch()
        batches = self._batches()
        check_types(model, "Params", (), (_params(model),))
        check_types(model, "LoadParams", (_params(model),), (None,))
        check_types(model, "Fit", (batches,), (model.fit(context, batches),))
        check_types(model, "Evaluate", (batches,), (model.evaluate(context, batches),))
        _need(model, "forward", "compute_loss", "backward")
        found = model.forward(context, x)
        check_types(model, "Forward", (x,), (found,))
        check_types(model, "ComputeLoss", (found, y), (model.compute_loss(context, found, y),))
        grad = _direction(found, 0)
        check_types(model, "Backward", (grad,), (model.backward(context, grad),))

    # One batch at a time.

    def test_compute_loss_is_a_float(self) -> None:
        """The loss of predictions is a plain, finite number."""
        model = self.make()
        _need(model, "forward", "compute_loss")
        x, y = self.batch()
        loss: object = model.compute_loss(FakeContext(), model.forward(FakeContext(), x), y)
        assert type(loss) is float, f"compute_loss() returned a {type(loss).__name__}, not a float"
        assert math.isfinite(loss), f"compute_loss() returned {loss}"

    def test_forward_changes_no_parameters(self) -> None:
        """Predicting twice gives the same, and parameters stay."""
        model = self.make()
        _need(model, "forward")
        before = _image(model)
        first, again = (model.forward(FakeContext(), self.batch()[0]) for _ in range(2))
        assert first.tobytes() == again.tobytes(), "forward() of the same inputs differs"
        assert _image(model) == before, "forward() changed the parameters"

    def test_backward_steps_downhill(self) -> None:
        """A step along the gradient of a sum of outputs lowers that sum."""
        model = self.make()
        _need(model, "forward", "backward")
        x, _ = self.batch()
        before = model.forward(FakeContext(), x)
        weights = _direction(before, 0) * 0.01
        grad = model.backward(FakeContext(), weights)
        assert grad.shape == x.shape, (
            f"backward() returned a gradient of shape {grad.shape} for inputs of shape {x.shape}"
        )
        after = model.forward(FakeContext(), x)
        assert _dot(weights, after) < _dot(weights, before), (
            "backward() did not lower what it was given the gradient of: step against it"
        )

    def test_backward_agrees_with_finite_differences(self) -> None:
        """The gradient of the inputs is what small changes of them do to the outputs."""
        x, _ = self.batch()
        if self.tolerance is None or x.dtype.kind != "f":
            pytest.skip("tolerance = None, or inputs that cannot be changed a little")
        model = self.make()
        _need(model, "forward", "backward")
        weights = _direction(model.forward(FakeContext(), x), 0)
        changes = [_direction(x, 1 + i) for i in range(_DIRECTIONS)]
        expected = [
            _dot(weights, self.make().forward(FakeContext(), x + _STEP * d))
            - _dot(weights, self.make().forward(FakeContext(), x - _STEP * d))
            for d in changes
        ]
        grad = model.backward(FakeContext(), weights)
        found = [2.0 * _STEP * _dot(grad, d) for d in changes]
        allowed = self.tolerance * math.hypot(*expected)
        assert math.dist(found, expected) <= allowed, (
            f"small changes of the inputs change the outputs by {expected}, the gradient says "
            f"{found}"
        )

    # Parameters: lent, borrowed, refused.

    def test_params_cannot_be_written(self) -> None:
        """Every receiver shares the memory of a value, so nobody may write to it."""
        model = self.make()
        self._fit(model)
        for name, array in _params(model).items():
            assert not array.flags.writeable, f"tensor {name!r} of params() can be written"

    @pytest.mark.parametrize("change", ["fit", "fit_twice", "backward", "apply_delta", "load"])
    @pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
    def test_lent_params_never_change(self, change: str, *, trained: bool) -> None:
        """What `params` returned stays as it was, whatever the model does next."""
        model = self.make()
        if trained:
            self._fit(model)
        lent = _params(model)
        before = lent.to_bytes()
        self._change(model, change)
        assert lent.to_bytes() == before, (
            f"the parameters that params() had returned changed by {change}: write to fresh "
            "memory while they are lent"
        )
        if change != "load":
            assert _image(model) != before, f"{change} changed nothing"

    def test_params_that_are_not_kept_are_lent_again(self) -> None:
        """A second loan does not see the values of the first."""
        model = self.make()
        first = _image(model)
        self._fit(model)
        second = _params(model)
        before = second.to_bytes()
        self._fit(model)
        assert first != before, "fit() changed nothing"
        assert second.to_bytes() == before, "the second loan changed by training"

    def test_loaded_params_come_back(self) -> None:
        """After `load_params` the parameters are those, byte for byte."""
        model, other = self.make(), self._trained()
        loaded = _params(other)
        model.load_params(FakeContext(), loaded)
        assert _same_tensors(_params(model), loaded), (
            "params() after load_params() differ from what was loaded"
        )
        assert self._loss(model) == self._loss(other), (
            "a model with the same parameters has another loss"
        )

    def test_loaded_params_are_only_borrowed(self) -> None:
        """Training after `load_params` writes elsewhere."""
        image = bytearray(_image(self._trained()))
        before = bytes(image)
        model = self.make()
        model.load_params(FakeContext(), ParameterSet.from_image(memoryview(image)))
        self._change(model, "fit")
        if not _without(model, "forward", "backward"):
            self._change(model, "backward")
        assert bytes(image) == before, (
            "training wrote into parameters that were loaded: they belong to somebody else"
        )

    def test_memory_of_loaded_params_is_used_again(self) -> None:
        """Memory that nobody refers to is filled with other values; the model must not care."""
        import numpy as np

        model = self._trained()
        buffer = np.frombuffer(_image(self.make()), np.uint8).copy()
        model.load_params(FakeContext(), ParameterSet.from_image(buffer))
        self._fit(model)
        before = _image(model)
        # The rule of `bb_ir.buffers`: memory is free when nobody else refers to its owner.
        if counts_references() and sys.getrefcount(buffer) <= 2:
            buffer[:] = 0xFF
        assert _image(model) == before, (
            "the parameters changed with memory that the model does not refer to any more"
        )

    @pytest.mark.parametrize("fault", ["missing", "renamed", "reshaped", "retyped"])
    @pytest.mark.parametrize("method", ["load_params", "apply_delta"])
    def test_params_of_another_model_are_refused(self, method: str, fault: str) -> None:
        """Parameters that do not fit raise ValueError and leave the model as it was."""
        model = self._trained()
        before = _image(model)
        wrong = _FAULTS[fault](dict(_params(model).items()))
        try:
            getattr(model, method)(FakeContext(), ParameterSet.from_tensors(wrong))
        except NotImplementedError:
            pytest.skip(f"the model has no {method}")
        except ValueError:
            assert _image(model) == before, (
                f"{method}() refused {fault} parameters and changed the model all the same: "
                "check all of them first"
            )
            return
        pytest.fail(f"{method}() took parameters with a tensor {fault}; raise ValueError")

    def test_apply_delta_adds(self) -> None:
        """Each parameter is the old one plus the difference."""
        import numpy as np

        model = self.make()
        old = _params(model)
        delta = ParameterSet.from_tensors(
            {name: np.full_like(array, 0.25) for name, array in old.items()}
        )
        try:
            model.apply_delta(FakeContext(), delta)
        except NotImplementedError:
            pytest.skip("the model has no apply_delta")
        for name, array in _params(model).items():
            assert np.allclose(array, old[name] + delta[name]), (
                f"tensor {name!r} after apply_delta() is not the sum"
            )

    # What does not fit.

    @pytest.mark.parametrize("method", ["fit", "evaluate"])
    def test_no_batches_are_refused(self, method: str) -> None:
        """There is no loss of nothing; a client without data says so."""
        model = self._trained()
        before = _image(model)
        try:
            getattr(model, method)(FakeContext(), Batches(0, lambda: iter(())))
        except ValueError:
            assert _image(model) == before, f"{method}() without batches changed the parameters"
            return
        except Exception as error:  # noqa: BLE001 - any other error is what is looked for
            pytest.fail(f"{method}() without batches raised {error!r}; raise ValueError")
        pytest.fail(f"{method}() without batches gave metrics; raise ValueError")

    @pytest.mark.parametrize("method", ["fit", "evaluate"])
    def test_batch_that_does_not_fit_changes_nothing(self, method: str) -> None:
        """Inputs without as many targets are refused before anything is learnt from them."""
        model = self._trained()
        before = _image(model)
        x, y = self.batch()
        odd = Batches(len(x), lambda: iter([(x, y[:-1])]))
        refused = False
        try:
            getattr(model, method)(FakeContext(), odd)
        except Exception:  # noqa: BLE001 - the library inside may have errors of its own
            refused = True
        assert refused, f"{method}() took {len(x)} inputs with {len(x) - 1} targets"
        assert _image(model) == before, f"{method}() refused a batch, and had learnt from it"

    # Memory.

    def test_batches_are_let_go(self) -> None:
        """After training a model keeps no batch that it was given."""
        import numpy as np

        refs: list[weakref.ref[Any]] = []

        def draw() -> Iterator[tuple[Tensor, Tensor]]:
            x, y = (np.array(array) for array in self.batch())
            refs.extend([weakref.ref(x), weakref.ref(y)])
            yield x, y

        model = self.make()
        model.fit(FakeContext(), Batches(len(self.batch()[0]), draw))
        model.evaluate(FakeContext(), Batches(len(self.batch()[0]), draw))
        check_released(refs, f"{len(refs)} arrays of batches are still kept after fit and evaluate")

    # State.

    def test_state_goes_on_elsewhere(self) -> None:
        """A model that was saved and loaded trains on as if it had never stopped."""
        first, second = self.make(), self.make()
        self._fit(first, epochs=2)
        state = first.save()
        check_state(state)
        before = _frozen(state)
        second.load(state)
        assert _image(first) == _image(second), "load() did not bring back the parameters"
        for model in (first, second):
            self._fit(model, epochs=2)
        assert _image(first) == _image(second), (
            "training went on differently after save() and load(): the state of the optimizer "
            "is part of it"
        )
        assert _frozen(state) == before, (
            "the saved state changed while the model trained on: save() returns copies"
        )

    def test_state_holds_what_backward_needs(self) -> None:
        """A Node may be saved between `forward` and `backward`."""
        first, second = self._trained(), self.make()
        _need(first, "forward", "backward")
        outputs = first.forward(FakeContext(), self.batch()[0])
        second.load(first.save())
        weights = _direction(outputs, 0)
        grads = [model.backward(FakeContext(), weights).tobytes() for model in (first, second)]
        assert grads[0] == grads[1], "backward() after save() and load() returned something else"
        assert _image(first) == _image(second), "backward() stepped differently after load()"

    # What the tests are made of.

    def _life(self, component: Model, seed: int) -> Iterator[object]:
        context = FakeContext(seed=seed, round=seed)
        x, y = self.batch()
        yield component.fit(context, self._batches(epochs=1 + seed % 2))
        yield component.params(context).to_bytes()
        yield component.evaluate(context, self._batches())
        if not _without(component, "forward", "compute_loss", "backward"):
            found = component.forward(context, x)
            yield found
            yield component.compute_loss(context, found, y)
            yield component.backward(context, _direction(found, seed) * 0.01)
        loaded = ParameterSet.from_image(component.params(context).to_bytes())
        yield component.load_params(context, loaded)
        yield _params(component).to_bytes()

    def _batches(self, epochs: int = 1) -> Batches:
        """Return the example batch in halves, `epochs` times."""
        x, y = self.batch()
        half = len(x) // 2
        assert half >= 2, f"batch() returned {len(x)} examples; the kit needs four at least"

        def draw() -> Iterator[tuple[Tensor, Tensor]]:
            for _ in range(epochs):
                yield x[:half], y[:half]
                yield x[half:], y[half:]

        return Batches(len(x), draw)

    def _fit(self, model: Model, epochs: int = 1) -> Mapping[str, Any]:
        return model.fit(FakeContext(), self._batches(epochs))

    def _loss(self, model: Model) -> float:
        return float(model.evaluate(FakeContext(), self._batches())["loss"])

    def _trained(self) -> Model:
        model = self.make()
        self._fit(model)
        return model

    def _change(self, model: Model, change: str) -> None:
        context = FakeContext()
        if change.startswith("fit"):
            for _ in range(1 + change.endswith("twice")):
                self._fit(model)
        elif change == "backward":
            _need(model, "forward", "backward")
            outputs = model.forward(context, self.batch()[0])
            model.backward(context, _direction(outputs, 0))
        elif change == "load":
            model.load_params(context, _params(self._trained()))
            self._fit(model)
        else:
            try:
                model.apply_delta(context, _params(model))
            except NotImplementedError:
                pytest.skip("the model has no apply_delta")


Tensors = dict[str, "Tensor"]


def _missing(tensors: Tensors) -> Tensors:
    return dict(list(tensors.items())[:-1])


def _renamed(tensors: Tensors) -> Tensors:
    *others, last = tensors
    return {**{name: tensors[name] for name in others}, f"{last}.other": tensors[last]}


def _reshaped(tensors: Tensors) -> Tensors:
    *_, last = tensors
    return {**tensors, last: tensors[last][None]}


def _retyped(tensors: Tensors) -> Tensors:
    *_, last = tensors
    other = "float64" if tensors[last].dtype.name == "float32" else "float32"
    return {**tensors, last: tensors[last].astype(other)}


_FAULTS: Mapping[str, Callable[[Tensors], Tensors]] = {
    "missing": _missing,
    "renamed": _renamed,
    "reshaped": _reshaped,
    "retyped": _retyped,
}


def _without(model: Model, *methods: str) -> list[str]:
    """Return those of some optional methods that a model does without."""
    return [method for method in methods if lacks(type(model), method)]


def _need(model: Model, *methods: str) -> None:
    """Skip a test that needs optional methods that a model does without."""
    missing = _without(model, *methods)
    if missing:
        pytest.skip(f"the model has no {', '.join(missing)}")


def _params(model: Model) -> ParameterSet:
    """Return the parameters that a model lends, or fail in words that say what to return."""
    found: object = model.params(FakeContext())
    assert isinstance(found, ParameterSet), (
        f"params() returned a {type(found).__name__}; return ParameterSet.from_tensors({{...}})"
    )
    return found


def _image(model: Model) -> bytes:
    """Return a copy of the parameters; keeps no loan."""
    return _params(model).to_bytes()


def _same_tensors(one: ParameterSet, other: ParameterSet) -> bool:
    return {name: array.tobytes() for name, array in one.items()} == {
        name: array.tobytes() for name, array in other.items()
    }


def _frozen(state: State) -> tuple[dict[str, tuple[str, bytes]], str]:
    tensors = {name: (str(t.shape), t.tobytes()) for name, t in state.tensors.items()}
    return tensors, repr(state.data)


def _direction(like: Tensor, seed: int) -> Tensor:
    """Return random numbers in the shape and dtype of an array."""
    rng: np.random.Generator = FakeContext(seed=seed).rng()
    return rng.standard_normal(like.shape).astype(like.dtype)


def _dot(one: Tensor, other: Tensor) -> float:
    return float((one.astype("float64") * other.astype("float64")).sum())
