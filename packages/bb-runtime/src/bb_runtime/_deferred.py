"""Work that components hand to the host's executor, and what happens when it comes back.

A method that returns what `ctx.defer(fn, *args)` gave has not answered yet: the host runs `fn` in
whatever thread it likes, and the completion comes in through the inbox. If the frame still waits,
the engine runs the commit on its own thread, stores the results and lets go on what waited; if not,
the completion is dropped and leaves no trace. Until then nobody else uses the component.

Work belongs to the call that made it: a method defers once and returns what it got. Whatever a host
or a device loses comes back as a failure, so no component stays busy for ever.

A snapshot holds the inputs of the ops whose work is under way, and a Node that is given it calls
their methods again: a component changes in a commit only, so the first call has left no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from bb_runtime._frames import NOTHING, Frame
from bb_runtime._quarantine import Quarantine, Unwanted
from bb_runtime._returned import wrong_results
from bb_runtime.errors import OpError
from bb_runtime.inbox import Completion
from bb_runtime.steps import Deferred

if TYPE_CHECKING:
    from bb_runtime._context import OpContext
    from bb_runtime._engine import Engine
    from bb_runtime._program import DeferInfo
    from bb_runtime._slots import Grant, Plan
    from bb_runtime.artifact import Op
    from bb_runtime.inbox import Inbox

__all__ = ["External", "Task", "Work", "Works"]


class Work:
    """One piece of work that has not come back.

    Attributes:
        commit: What makes the op's results of what comes back; the value itself when `None`.
        done: Whether it came back, or is not wanted any more.
        frame: The frame that waits for it; `None` when no method has returned it.
        info: The op that it is of.
        grant: After its frame has ended: what it goes on using.
        given: What the op was given.
        again: Whether the op may be called again in another process.
        number: Tells which work was begun first.
        unwanted: After its frame has ended: since when, and what is told of it.
    """

    __slots__ = ("again", "commit", "done", "frame", "given", "grant", "info", "number", "unwanted")

    def __init__(self, commit: Callable[[Any], Any] | None) -> None:
        self.commit = commit
        self.done = False
        self.frame: Frame | None = None
        self.info: DeferInfo | None = None
        self.grant: Grant | None = None
        self.given: tuple[Any, ...] = ()
        self.again = True
        self.number = 0
        self.unwanted: Unwanted | None = None


class Task(Work):
    """Work for the host: what a method returns that has no answer yet."""

    __slots__ = ("_calls", "_inbox")

    def __init__(
        self, inbox: Inbox, call: Callable[[], Any], commit: Callable[[Any], Any] | None
    ) -> None:
        super().__init__(commit)
        self._inbox = inbox
        #: Popped by who does it, so that it is done once, whoever else tries.
        self._calls = [call]

    def run(self) -> None:
        """Do the work and hand in what came of it; once.

        What is no `Exception` is handed in, too: the Node's `poll` lets it pass.
        """
        try:
            call = self._calls.pop()
        except IndexError:
            return
        value: Any = None
        failure: BaseException | None = None
        if not self.done:
            try:
                value = call()
            except BaseException as error:  # noqa: BLE001  # it is the frame's, or the host's
                failure = error
        # What was worked on may be large, and who is woken may look for it.
        del call
        self._inbox.put(Completion(self, value, failure))

    def __del__(self) -> None:
        # The host lost the step, and the frame has ended: nobody can do it any more.
        if self.frame is not None and self._calls:
            self._calls.clear()
            self._inbox.put(Completion(self, None, None))


class External:
    """A device will call back, from any thread; the first completion counts.

    One that is dropped before it was completed counts as failed.
    """

    __slots__ = ("__weakref__", "_inbox", "_open", "work")

    def __init__(self, work: Work, inbox: Inbox) -> None:
        self.work = work
        self._inbox = inbox
        #: Popped by the first that completes it.
        self._open = [work]

    def complete(self, value: Any) -> None:
        """Hand in the result."""
        self._hand_in(value, None)

    def fail(self, error: Exception) -> None:
        """Hand in a failure.

        Raises:
            OpError: It is no exception.
        """
        if not isinstance(error, Exception):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers err
            raise OpError(
                f"fail({error!r})",
                expected="an Exception, such as OSError('the device is off')",
                fix="raise nothing: hand the exception object in",
            )
        self._hand_in(None, error)

    def __del__(self) -> None:
        if self._open:
            self._hand_in(None, OpError("the device never answered: its handle was dropped"))

    def _hand_in(self, value: Any, error: Exception | None) -> None:
        try:
            work = self._open.pop()
        except IndexError:
            return
        self._inbox.put(Completion(work, value, error))


class Deferring(NamedTuple):
    """An op that may defer its work, as it is called on one Node.

    Attributes:
        info: The op.
        call: Calls its method and takes in what that returns.
        restartable: Whether devices may be asked again for what they have been asked for.
    """

    info: DeferInfo
    call: Callable[..., None]
    restartable: bool


class Works:
    """The deferred work of one Node."""

    __slots__ = ("_begun", "_contexts", "_engine", "_inbox", "_made", "_ops", "open", "quarantine")

    def __init__(self, engine: Engine, inbox: Inbox) -> None:
        self._engine = engine
        self._inbox = inbox
        #: Work that was handed out and has not come back, wanted or not.
        self.open = 0
        #: What the call that runs now has deferred; `None` while none runs that may.
        self._made: list[Work] | None = None
        self.quarantine = Quarantine(engine)
        self._begun = 0
        #: By target and number of event: the ops that may defer, and their contexts.
        self._ops: dict[tuple[str, int], Deferring] = {}
        self._contexts: dict[tuple[str, int], OpContext] = {}

    def defer(self, call: Callable[[], Any], commit: Callable[[Any], Any] | None) -> Task:
        """Return work for the host."""
        made = self._reserve()
        task = Task(self._inbox, call, commit)
        made.append(task)
        return task

    def external(self, commit: Callable[[Any], Any] | None) -> External:
        """Return work that somebody else will complete."""
        made = self._reserve()
        work = Work(commit)
        made.append(work)
        return External(work, self._inbox)

    def _reserve(self) -> list[Work]:
        most, made = self._engine.options.max_deferred, self._made
        if made is None:
            raise OpError(
                "work was deferred after the method that was given the context had returned",
                fix="use a context during its call only",
            )
        if self.open + len(made) >= most:
            raise OpError(
                f"{self.open} pieces of deferred work are under way",
                expected=f"at most {most}",
                fix="raise Options.max_deferred, or ask for less at a time",
            )
        return made

    def caller(
        self, target: str, info: DeferInfo, method: Callable[..., Any], *, restartable: bool
    ) -> Callable[..., None]:
        """Return the callable of an op of a target that may defer its work."""

        def call(frame: Frame, context: OpContext, *values: Any) -> None:
            made = self._made = []
            try:
                result = method(context, *values)
            finally:
                self._made = None
            work = result.work if isinstance(result, External) else result
            if isinstance(work, Work) or made:
                _check_returned(work, made, info)
                work.given = values
                work.again = restartable or isinstance(work, Task)
                self._begin(frame, info, work)
            else:
                self._store(frame, info, result)

        self._ops[target, info.index] = Deferring(info, call, restartable)
        return call

    def has_context(self, target: str, info: DeferInfo, context: OpContext) -> None:
        """Take in what an op that may defer is called with."""
        self._contexts[target, info.index] = context

    def op_of(self, frame: Frame, event: int) -> Op:
        """Return the op whose work is an event of a frame.

        Raises:
            LookupError: There is none.
        """
        program = frame.bound.program
        op = self._ops[program.target.name, event].info.op
        if op.region != program.info.name or event in frame.fired:
            raise LookupError(f"event {event} of a frame of {frame.name!r}")
        return op

    def under_way(self) -> list[Work]:
        """Return the work that frames wait for, in the order in which it was begun."""
        found = [work for f in self._engine.frames.values() for work in f.works.values()]
        return sorted(found, key=lambda work: work.number)

    def call_again(self, frame: Frame, event: int, given: tuple[Any, ...]) -> None:
        """Call an op anew whose work was under way when its Node was written down."""
        engine, key = self._engine, (frame.bound.program.target.name, event)
        one, context = self._ops[key], self._contexts[key]
        # It draws what it drew then, and leaves the count as it was left then.
        drawn, context.state = context.state, (-1, 0)
        context.frame = frame
        try:
            one.call(frame, context, *given)
        except Exception as error:  # noqa: BLE001  # as in any stretch
            engine.fail(frame, one.info.op, error)
        except BaseException:
            engine.broken = True
            raise
        finally:
            context.state = drawn

    def _begin(self, frame: Frame, info: DeferInfo, work: Work) -> None:
        """Have a frame wait for work."""
        self.open += 1
        self._begun += 1
        work.number = self._begun
        work.frame, work.info = frame, info
        if frame.works is NOTHING:
            frame.works = {}
        frame.works[info.index] = work
        if isinstance(work, Task):
            engine = self._engine
            target = frame.bound.program.target.short
            frame_id = engine.id_of(frame)
            engine.steps.append(Deferred(target, info.op.name, info.op.slot, frame_id, work.run))

    def _store(self, frame: Frame, info: DeferInfo, result: Any) -> None:
        """Store the results of an op, and let go on what waited for it."""
        results = (result,) if len(info.outs) == 1 else _several(result, info)
        for position, value in zip(info.outs, results, strict=True):
            if position >= 0:
                frame.values[position] = value
        frame.fired |= {info.index}
        engine = self._engine
        plan = frame.bound.works.get(info.index)
        if plan is not None:
            engine.slots.used(frame, plan)
            engine.grant()
        engine.wake(frame)
        engine.touch(frame)

    def drain(self) -> None:
        """Take in what came back.

        Raises:
            BaseException: What is no `Exception` passes through.
        """
        if not len(self._inbox):
            return
        for work, value, error in self._inbox.drain():
            self._complete(work, value, error)

    def _complete(self, work: Work, value: Any, error: BaseException | None) -> None:
        engine, frame, info = self._engine, work.frame, work.info
        if error is not None and not isinstance(error, Exception):
            engine.broken = True
            raise error
        if frame is None or info is None:
            return  # no method had returned it
        self.open -= 1
        if work.done:
            self._come_late(work, frame, info)
            return
        work.done = True
        del frame.works[info.index]
        failure = error or self._commit(frame, info, work, value)
        if failure is not None:
            engine.fail(frame, info.op, failure)
        engine.tidy()

    def _come_late(self, work: Work, frame: Frame, info: DeferInfo) -> None:
        engine = self._engine
        engine.counters["late_completions"] += 1
        if work.unwanted is not None:
            self.quarantine.came_back(work.unwanted)
        if work.grant is not None:
            engine.slots.release(work.grant, frame.bound.works[info.index].uses)
            engine.grant()

    def _commit(self, frame: Frame, info: DeferInfo, work: Work, value: Any) -> Exception | None:
        commit, work.commit = work.commit, None
        try:
            self._store(frame, info, value if commit is None else commit(value))
        except Exception as error:  # noqa: BLE001  # whatever a component raises ends here
            return error
        except BaseException:
            self._engine.broken = True
            raise
        return None

    def cancel(self, frame: Frame) -> list[tuple[Grant, Plan]]:
        """Forget the work of a frame that ends; returns what it goes on using."""
        unfinished: list[tuple[Grant, Plan]] = []
        for index, work in frame.works.items():
            work.done, work.commit, work.given = True, None, ()
            plan = frame.bound.works.get(index)
            if plan is not None and work.info is not None:
                work.unwanted = self.quarantine.given_up(work.info, frame, plan.uses)
                work.grant = frame.held[plan.group.number]
                unfinished.append((work.grant, plan))
        return unfinished


def _check_returned(work: object, made: list[Work], info: DeferInfo) -> None:
    """Check that a method returned what it deferred, and nothing else."""
    if len(made) == 1 and work is made[0]:
        return
    if not made:
        found = "returned work that another call had deferred"
    elif len(made) > 1:
        found = f"deferred {len(made)} pieces of work"
    else:
        found = f"deferred work and returned {type(work).__name__}"
    raise OpError(
        f"the method of op {info.op.name} {found}",
        expected="one call of ctx.defer or ctx.external, whose result is returned",
        fix="write `return ctx.defer(...)`",
    )


def _several(result: Any, info: DeferInfo) -> tuple[Any, ...]:
    """Return the results of an op that has not exactly one."""
    try:
        results = tuple(result)
    except TypeError:
        raise wrong_results(info.op, type(result).__name__) from None
    if len(results) != len(info.outs):
        raise wrong_results(info.op, len(results))
    return results
