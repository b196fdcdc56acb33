"""Ops that only their author knows the meaning of: those of protocols, and of any component.

The author tells a story: calls of the ops in an order that makes sense. It is told again and again,
in ways that must make no difference.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, cast

from pytest import MonkeyPatch  # noqa: PT013  # a class, named where annotations need it

from bb_ir.errors import WireError
from bb_ir.ids import PeerId
from bb_ir.ops import OpSchema, Port
from bb_ir.types import Type
from bb_ir.values import Encoded, decode_value, encode_value
from bb_roles import Component, State
from bb_testing._base import check_state, text_of
from bb_testing._life import LivingSuite
from bb_testing.context import FakeContext

__all__ = ["RoleSuite", "Story", "Tellings"]


class Story:
    """Calls the ops of one component by name: `story("Register", told, sender=peer_id(1))`.

    What a call returns is what would arrive on another Node: several results as a tuple.

    Attributes:
        component: The component whose ops are called.
        now_ns: The time of the last call; the next one has it too, unless it is told another.
        told: Op, inputs and results of every call, as bytes where they can be sent.
    """

    def __init__(self, component: Component) -> None:
        self.component = component
        self.now_ns = 0
        self.told: list[tuple[str, tuple[Encoded | None, ...], tuple[Encoded | None, ...]]] = []
        self._kept: list[tuple[str, Port, object]] = []

    def __call__(
        self,
        op: str,
        *inputs: Any,
        sender: PeerId | None = None,
        now_ns: int | None = None,
        **attributes: Any,
    ) -> Any:
        """Call an op.

        Args:
            op: Its name, as the component declares it.
            inputs: Its inputs, in order.
            sender: The peer whose message opened the frame.
            now_ns: The Node's time from this call on, in nanoseconds.
            attributes: Its attributes; those with a default may be left out.
        """
        schema = self.component.ops.get(op)
        assert schema is not None, f"the story calls {op!r}, an op that is not declared"
        assert len(inputs) == len(schema.inputs), f"the story gives {op} {len(inputs)} inputs"
        later = self.now_ns if now_ns is None else now_ns
        self.before(schema, inputs, moved=later != self.now_ns)
        self.now_ns = later
        ctx = self._context(op, sender)
        given = self._images(schema, schema.inputs, inputs)
        results = self._results(schema, self.call(schema, ctx, inputs, attributes))
        assert self._images(schema, schema.inputs, inputs) == given, (
            f"{op} changed what it was given; what arrives may be read by others, too"
        )
        images = self._images(schema, schema.outputs, results)
        self.told.append((op, given, images))
        self._kept += [(op, p, r) for p, r in zip(schema.outputs, results, strict=True)]
        arrived = [_arrive(*one) for one in zip(schema.outputs, results, images, strict=True)]
        return arrived[0] if len(arrived) == 1 else tuple(arrived) or None

    def before(self, schema: OpSchema, inputs: tuple[Any, ...], *, moved: bool) -> None:
        """Do something before a call; a way to tell the story may override it."""

    def end(self) -> None:
        """Do something when all is told; a way to tell the story may override it."""

    def call(
        self, schema: OpSchema, ctx: FakeContext, inputs: tuple[Any, ...], attributes: Any
    ) -> Any:
        """Carry out a call; a way to tell the story may override it."""
        return getattr(self.component, schema.method)(ctx, *inputs, **attributes)

    def check_kept(self) -> None:
        """Assert that nothing that was returned has changed since."""
        images = [image for _, _, images in self.told for image in images]
        for (op, port, result), image in zip(self._kept, images, strict=True):
            assert _image(port.type, result) == image, (
                f"what {op} returned as {port.name!r} changed afterwards; return a copy"
            )

    def _context(self, op: str, sender: PeerId | None) -> FakeContext:
        label = f"{op}/{len(self.told)}"
        return FakeContext(sender=sender, now_ns=self.now_ns, op=label)

    def _results(self, schema: OpSchema, returned: Any) -> tuple[Any, ...]:
        wanted = len(schema.outputs)
        if wanted == 0:
            assert returned is None, f"{schema} returned {returned!r}, not None"
            return ()
        if wanted == 1:
            return (returned,)
        is_right = issubclass(type(returned), tuple) and len(returned) == wanted
        assert is_right, f"{schema} returned {returned!r}, no tuple of {wanted}"
        return tuple(returned)

    @staticmethod
    def _images(
        schema: OpSchema, ports: tuple[Port, ...], values: tuple[Any, ...]
    ) -> tuple[Encoded | None, ...]:
        images: list[Encoded | None] = []
        for port, value in zip(ports, values, strict=True):
            try:
                images.append(_image(port.type, value))
            except WireError as error:
                raise AssertionError(f"{port.name!r} of {schema} is none: {error}") from error
        return tuple(images)


class _Reloading(Story):
    """Saves before every call and goes on with another component that loads it."""

    def __init__(self, make: Callable[[], Component]) -> None:
        super().__init__(make())
        self.make = make

    def before(self, schema: OpSchema, inputs: tuple[Any, ...], *, moved: bool) -> None:
        # A component may count its durations from its first call: it is not told what time passed
        # while nobody ran it.
        if not moved and self.told:
            self.end()

    def end(self) -> None:
        """Go on with another component."""
        state = self.component.save()
        check_state(state)
        self.component = self.make()
        self.component.load(state)


class _ReadingTwice(Story):
    """Calls everything twice that says it only reads."""

    def call(
        self, schema: OpSchema, ctx: FakeContext, inputs: tuple[Any, ...], attributes: Any
    ) -> Any:
        if schema.effect == "reads":
            again = FakeContext(sender=ctx.sender, now_ns=ctx.now_ns, op=ctx.op)
            super().call(schema, again, inputs, attributes)
        return super().call(schema, ctx, inputs, attributes)


class _Meddling(Story):
    """Tries each call with something else in the place of each input first."""

    def before(self, schema: OpSchema, inputs: tuple[Any, ...], *, moved: bool) -> None:
        for at, (port, value) in enumerate(zip(schema.inputs, inputs, strict=True)):
            for what, wrong in _wrongs(port.type, value):
                self._try(schema, (*inputs[:at], wrong, *inputs[at + 1 :]), f"{port.name} {what}")

    def _try(self, schema: OpSchema, inputs: tuple[Any, ...], what: str) -> None:
        before = _state(self.component.save())
        # Nobody sent it, or somebody did: both are asked, for only one may be right.
        for sender in (None, FakeContext().peer):
            ctx = self._context(schema.name, sender)
            try:
                getattr(self.component, schema.method)(ctx, *inputs)
            except Exception:  # noqa: BLE001  # any refusal will do
                refused = True
            else:
                refused = False
            assert refused, f"{schema.name} took {what}; it must refuse that with an error"
            after = _state(self.component.save())
            assert after == before, f"{schema.name} refused {what}, and had changed by then"


class Tellings:
    """Tells a story in all the ways that must make no difference.

    Args:
        make: Returns a fresh component.
        tell: The author's story.
        ending: What the component does when the story is over, one text for each step: in it shows
            what the story left behind that no op of it gives.
    """

    def __init__(
        self,
        make: Callable[[], Component],
        tell: Callable[[Story], None],
        ending: Callable[[Component], list[str]] = lambda _: [],
    ) -> None:
        self.make = make
        self._tell = tell
        self._ending = ending

    def told(self, story: Story | None = None) -> Story:
        """Return a story that was told, by default plainly."""
        story = story or Story(self.make())
        self._tell(story)
        return story

    def declared_ops_are_methods(self) -> None:
        """Assert that each op names a method that takes what the op is given."""
        made = self.make()
        shared = {name for name in vars(Component) if not name.startswith("_")}
        for name, schema in made.ops.items():
            assert schema.name == name, f"ops[{name!r}] is called {schema.name!r}"
            assert schema.method not in shared, (
                f"{name} is carried out by {schema.method}, which the engine calls for itself"
            )
            method = getattr(made, schema.method, None)
            assert callable(method), f"{name} has no method {schema.method}(ctx, ...)"
            _check_signature(schema, method)

    def story_calls_every_op(self) -> None:
        """Assert that the story leaves no op out."""
        story = self.told()
        missing = sorted(story.component.ops.keys() - {op for op, *_ in story.told})
        assert not missing, (
            f"story() never calls {', '.join(missing)}, and what is not called is not tested: "
            f"write def story(self, story) with story({(missing or [''])[0]!r}, ...)"
        )

    def same_calls_give_the_same_results(self) -> None:
        """Assert that results depend on the calls alone: on no clock, and no chance of its own."""
        with _other_world(1):
            first = self._whole()
        with _other_world(2):
            second = self._whole()
        self._compare(first, second, "at another time, with other global random numbers")

    def reads_change_nothing(self) -> None:
        """Assert that an op whose effect is `reads` leaves no trace."""
        twice = self._whole(_ReadingTwice(self.make()))
        self._compare(self._whole(), twice, "with every op called twice that only reads")

    def state_goes_on_elsewhere(self) -> None:
        """Assert that a component that was saved and loaded goes on as before, at any point."""
        elsewhere = self._whole(_Reloading(self.make))
        self._compare(self._whole(), elsewhere, "with save() and load() before each call")

    def bad_input_is_refused_whole(self) -> None:
        """Assert that what is no value of an op's type is refused, and changes nothing."""
        meddled = self._whole(_Meddling(self.make()))
        self._compare(self._whole(), meddled, "with bad input before each call")

    def _whole(self, story: Story | None = None) -> tuple[list[Any], list[str]]:
        told = self.told(story)
        told.end()
        return told.told, self._ending(told.component)

    @staticmethod
    def _compare(
        first: tuple[list[Any], list[str]], second: tuple[list[Any], list[str]], how: str
    ) -> None:
        _check_same(first[0], second[0], how)
        for at, (one, other) in enumerate(zip(first[1], second[1], strict=False), start=1):
            assert one == other, (
                f"told {how}, the story left the component otherwise: step {at} after its end gave "
                f"{other} instead of {one}"
            )


class RoleSuite(LivingSuite):
    """The base of the suites of the roles that have ops, to which a component may add its own."""

    def story(self, story: Story) -> None:
        """Call every op that the component has beside those of its role; check nothing.

        Each at least once, in an order that makes sense: `story("Observe", 12.5,
        sender=peer_id(1))`. Components without ops of their own leave it as it is.
        """

    def test_ops_of_its_own_keep_to_what_they_declare(self) -> None:
        """Ops beside those of the role give what they declare, and all they keep is saved."""
        if not self.make().ops:
            return
        tellings = Tellings(self._new, self.story, self._after)
        tellings.declared_ops_are_methods()
        tellings.story_calls_every_op()
        tellings.told().check_kept()
        tellings.same_calls_give_the_same_results()
        tellings.reads_change_nothing()
        tellings.state_goes_on_elsewhere()
        tellings.bad_input_is_refused_whole()

    def _after(self, component: Component) -> list[str]:
        return [text_of(step) for step in self._life(component, 0)]


def _check_signature(schema: OpSchema, method: Callable[..., Any]) -> None:
    parameters = list(inspect.signature(method).parameters.values())
    assert parameters and parameters[0].name == "ctx", (  # noqa: PT018  # one rule
        f"{schema.method} takes no ctx as its first argument"
    )
    values = [p.name for p in parameters[1:] if p.kind is not p.KEYWORD_ONLY]
    expected = [port.name for port in schema.inputs]
    assert values == expected, f"{schema.method} takes {values}, and {schema.name} gives {expected}"
    options = {
        p.name: None if p.default is p.empty else p.default
        for p in parameters[1:]
        if p.kind is p.KEYWORD_ONLY
    }
    declared = {attribute.name: attribute.default for attribute in schema.attributes}
    assert options == declared, (
        f"{schema.method} has the keywords {options}, and {schema.name} the attributes {declared}"
    )


def _check_same(first: list[Any], second: list[Any], how: str) -> None:
    for at, (one, other) in enumerate(zip(first, second, strict=False), start=1):
        assert one == other, (
            f"told {how}, call {at} of the story, {one[0]}, gave {other[2]} instead of {one[2]}"
        )
    assert len(first) == len(second), f"told {how}, the story has another length"


def _image(declared: Type, value: object) -> Encoded | None:
    """Return the bytes of a value, `None` where its type has none here."""
    if not declared.sendable or "custom" in str(declared):
        return None
    data, codec, shape = encode_value(value, declared)
    return Encoded(bytes(data), codec, shape)


def _arrive(port: Port, value: object, image: Encoded | None) -> Any:
    if image is None:
        return value
    return decode_value(port.type, image.codec, image.data, image.shape)


def _wrongs(declared: Type, value: object) -> Iterator[tuple[str, object]]:
    """Yield what is no value of a type, with words for it."""
    if declared.kind in ("any", "trigger"):
        return
    yield "as an object of another type", object()
    if declared.kind == "record" and isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        for name, _ in declared.items or ():
            rest = {key: field for key, field in fields.items() if key != name}
            yield f"without {name!r}", rest
            yield f"with an object as {name!r}", {**rest, name: object()}


def _state(state: State) -> tuple[object, object]:
    """Return a state in a form that can be compared."""
    tensors = {
        name: (str(array.dtype), array.shape, array.tobytes())
        for name, array in state.tensors.items()
    }
    return tensors, repr(state.data)


@contextmanager
def _other_world(seed: int) -> Generator[None]:
    """Move all clocks of the process and set its global random generators."""
    import numpy as np

    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002  # is set back
    with MonkeyPatch.context() as patch:
        for name in ("time", "monotonic", "perf_counter"):
            ticks, ticks_ns = count(seed * 1000), count(seed * 10**12)
            patch.setattr(time, name, ticks.__next__)
            patch.setattr(time, f"{name}_ns", ticks_ns.__next__)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # the global one is meant
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)  # noqa: NPY002  # the global one is meant
