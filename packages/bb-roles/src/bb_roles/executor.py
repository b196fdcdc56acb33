"""The contract of executors: what carries plans of data movements out.

**Provisional**: a minor version may change this module.

An executor is given plans and moves their bytes. Before anything moves it holds a plan against
`bb_ir.plan.check` and against the places that there really are; what it refuses has changed
nothing. Then every op of the plan ends in exactly one state, and a `Report` says which. What a plan
means, such as a new version of a model, is not an executor's business: publishing what arrived is
left to whoever submitted the plan, once its report is `ok`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from bb_roles.contracts import NoConfig
from bb_roles.errors import BadWave, PlanFailed

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from bb_ir.plan import CachePlan, Plan, SwapPlan

__all__ = ["Executor", "OpReport", "OpState", "Progress", "Report", "Ticket", "Wave"]


class OpState(Enum):
    """What has become of an op."""

    #: It is not over; only in reports of plans that are still carried out.
    PENDING = "pending"
    #: Its bytes are where they shall be, and have the digest that the plan says.
    DONE = "done"
    #: It was tried as often as allowed.
    FAILED = "failed"
    #: Its deadline was over before it began, and late ops are dropped.
    LATE = "late"
    #: An op that it waits for is not done.
    BLOCKED = "blocked"
    #: The plan was cancelled, or was given up, before the op was done.
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class OpReport:
    """What has become of one op.

    Attributes:
        index: Its place in the plan.
        op_id: Its id in the plan; empty when it has none.
        state: What has become of it.
        nbytes: How many bytes arrived; 0 unless it is done.
        attempts: How often it was tried.
        source: Where its bytes came from in the last attempt; empty when it was never tried.
        started_ns: When its last attempt began, in nanoseconds of Unix time; 0 when none did.
        ended_ns: When it was over, likewise.
        late: Whether it was over after its deadline.
        error: Why it is not done; empty when it is.
    """

    index: int
    op_id: str = ""
    state: OpState = OpState.PENDING
    nbytes: int = 0
    attempts: int = 0
    source: str = ""
    started_ns: int = 0
    ended_ns: int = 0
    late: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What has become of a plan: every op is in it once, in the plan's order.

    Attributes:
        plan: Content digest of the plan, as text.
        ops: What has become of each op.
        started_ns: When the plan was submitted, in nanoseconds of Unix time.
        ended_ns: When its last op was over; 0 while it is carried out.
        reason: Why it was given up: `cancelled`, `deadline` or `failed`; empty when it was not.
    """

    plan: str
    ops: tuple[OpReport, ...] = ()
    started_ns: int = 0
    ended_ns: int = 0
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether every op is done, and the plan was not given up."""
        return not self.reason and all(op.state is OpState.DONE for op in self.ops)

    @property
    def nbytes(self) -> int:
        """How many bytes arrived."""
        return sum(op.nbytes for op in self.ops)

    @property
    def done(self) -> frozenset[int]:
        """The indices of the ops that are done."""
        return frozenset(op.index for op in self.ops if op.state is OpState.DONE)

    def check(self) -> None:
        """Return when the plan was carried out.

        Raises:
            PlanFailed: It was not.
        """
        if self.ok:
            return
        failed = [op for op in self.ops if op.state is OpState.FAILED]
        left = [op for op in self.ops if op.state is not OpState.DONE]
        why = f"the plan was given up ({self.reason})" if self.reason else "the plan is not done"
        first = failed[0] if failed else left[0] if left else None
        told = f": ops[{first.index}] is {first.state.value}" if first else ""
        cause = f", {first.error}" if first and first.error else ""
        raise PlanFailed(
            f"{why}; {len(left)} of {len(self.ops)} ops are not done{told}{cause}",
            expected="every op done",
            fix="mend the cause and submit the plan again with resume= this report",
            report=self,
        )

    def to_json(self) -> str:
        """Write the report down, so that the plan can be resumed in another process."""
        import msgspec

        return msgspec.json.encode(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            PlanFormatError: It is no report.
        """
        import msgspec

        from bb_ir.plan import PlanFormatError

        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeEncodeError) as error:
            raise PlanFormatError(
                f"the text is no report: {error}", expected="what Report.to_json wrote"
            ) from None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a plan is.

    Attributes:
        ops_over: How many ops are over, done or not.
        ops_done: How many are done.
        ops: How many there are.
        bytes_done: How many bytes have arrived, those of a report that is resumed included.
        nbytes: How many there are.
    """

    ops_over: int
    ops_done: int
    ops: int
    bytes_done: int
    nbytes: int


class Ticket(ABC):
    """A plan that was submitted. All methods may be called from any thread."""

    @abstractmethod
    def poll(self) -> bool:
        """Tell whether all ops are over."""

    @abstractmethod
    def wait(self, timeout_s: float | None = None) -> Report:
        """Return the final report once all ops are over.

        Args:
            timeout_s: How long to wait, in seconds; `None` for as long as it takes.

        Raises:
            NotFinished: The time is over, and the plan is still carried out.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Begin no more ops; those under way still end, and count. Does nothing when all are over.

        `wait` gives the report: ops that had not begun are `CANCELLED`.
        """

    @abstractmethod
    def progress(self) -> Progress:
        """Return how far the plan is."""

    @abstractmethod
    def report(self) -> Report:
        """Return what has become of every op so far; those that are not over are `PENDING`."""


@dataclass(frozen=True, slots=True)
class Wave:
    """A product of two matrices, during which weights may be swapped: C = A B.

    Attributes:
        bm: Rows of A and C.
        bn: Columns of B and C.
        bk: Columns of A, rows of B.
        swap_begin: First token at which weights may be set.
        swap_end: First token after it at which they may not.
    """

    bm: int
    bn: int
    bk: int
    swap_begin: int = 0
    swap_end: int = 0

    def __post_init__(self) -> None:
        if min(self.bm, self.bn, self.bk) < 1:
            raise BadWave(
                f"a wave of {self.bm} x {self.bk} times {self.bk} x {self.bn}",
                expected="sizes from 1 on",
            )
        if not 0 <= self.swap_begin <= self.swap_end:
            raise BadWave(
                f"the swap window of a wave is {self.swap_begin} to {self.swap_end}",
                expected="0 <= swap_begin <= swap_end",
            )


class Executor(ABC):
    """Carries plans out.

    Args:
        config: An instance of the class's `Config`.
        places: What the places of plans stand for here: a `bb_plans.places.Places`, unless the
            executor says otherwise.
    """

    #: A frozen dataclass; its fields are checked and converted before the executor is built.
    Config: ClassVar[type] = NoConfig

    def __init__(self, config: Any, places: Any) -> None:
        self.config = config
        self.places = places

    @abstractmethod
    def submit(self, plan: CachePlan | SwapPlan | Plan, *, resume: Report | None = None) -> Ticket:
        """Begin to carry a plan out, and return at once; called from any thread.

        The plan is checked first, against the places that there are. Ops run when those that they
        wait for are done, ops of a lane in their order, and where an op reads or writes what
        another one writes, in the order of the plan. No op is done before what arrived has the
        digest that the plan says.

        Args:
            plan: The plan.
            resume: What became of the same plan earlier: ops that are done in it, and whose bytes
                are still there, are not done again.

        Raises:
            InvalidPlan: It is not sound here; nothing was moved.
            ExecutorClosed: The executor was closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Cancel what is under way, wait for it, let go of threads and files; may be repeated."""

    def submit_wave(self, wave: Wave, a: Any, b: Any = None) -> Future[Any]:
        """Begin a product of matrices, and return its result to come: float32, bm x bn.

        Args:
            wave: Its sizes and its swap window.
            a: bm x bk float32, row-major.
            b: bk x bn float32, row-major; `None` for the weights that were set last.

        Raises:
            BadWave: The matrices do not fit it, there are none, or the executor has no waves.
        """
        raise BadWave(f"{type(self).__qualname__} has no waves", fix="use another executor")

    def set_weights(self, weights: Any, *, token: int) -> None:
        """Set the weights of later waves, inside the swap window of the wave submitted last.

        Args:
            weights: bk x bn float32, row-major.
            token: Where the wave is.

        Raises:
            OutsideWindow: Not swap_begin <= token < swap_end, or there was no wave.
            BadWave: The weights do not fit the wave, or the executor has no waves.
        """
        raise BadWave(f"{type(self).__qualname__} has no waves", fix="use another executor")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
