"""What is simulated: how many peers, over which links, with which faults, for how long.

A scenario is plain data. It can be written in Python or as a TOML file; it does not know the
program, which is handed to `Simulation` as an artifact. Names of peers in it read so:

    client            all peers of a class
    client[3]         one of them, counted from 0
    client[0:10]      some of them
    client[10%]       a tenth of them, drawn by the seed
    client[0], server several, with commas
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

from bb_ir.errors import did_you_mean
from bb_sim._reading import read
from bb_sim.errors import BadScenario

__all__ = [
    "Attack", "AttackKind", "Clock", "Compute", "Crash", "Fault", "Join", "Leave", "Liar", "Lie",
    "Link", "Partition", "Scenario", "example_scenario", "read_scenario",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Link:
    """How envelopes travel; what is left out is as on all links.

    Attributes:
        latency: Shortest delay of an envelope, such as `"20ms"`.
        jitter: What is added: up to so much, or with a heavy tail about so much.
        spread: `"even"` draws the jitter evenly; `"heavy"` makes half of the delays shorter than
            `jitter`, one in ten longer than nine times it.
        bandwidth: What a link carries, such as `"100Mbit/s"`; envelopes on one link take turns.
        loss: Share of envelopes that are lost without a word.
        duplicate: Share of envelopes that arrive twice.
        reorder: Share of envelopes that are held up so that later ones overtake them.
        reorder_by: For how long at most.
    """

    latency: str | None = None
    jitter: str | None = None
    spread: Literal["even", "heavy"] | None = None
    bandwidth: str | None = None
    loss: float | None = None
    duplicate: float | None = None
    reorder: float | None = None
    reorder_by: str | None = None


@dataclass(frozen=True, slots=True)
class Compute:
    """How long peers of a class work on what an envelope or invocation asks of them.

    Attributes:
        time: Shortest time of one piece of work.
        jitter: What is added, drawn evenly for each piece.
        slow: Share of the peers that are slow.
        factor: How many times longer those take.
    """

    time: str = "0"
    jitter: str = "0"
    slow: float = 0.0
    factor: float = 10.0


@dataclass(frozen=True, slots=True)
class Clock:
    """How wrong the clocks of a class are.

    Attributes:
        offset: By how much they are ahead at most; each peer by its own part of it.
        drift: By which share they run too fast or too slow at most, such as `1e-5`.
    """

    offset: str = "0"
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Partition:
    """For some time, some peers and the others do not hear each other.

    Attributes:
        apart: The peers that are cut off from all others.
        at: When it begins.
        until: When it heals; never when empty.
    """

    apart: str
    at: str
    until: str = ""


@dataclass(frozen=True, slots=True)
class Crash:
    """Peers lose all that they hold at an instant.

    Attributes:
        peers: Which.
        at: When.
        back: After how long they start again; never when empty.
        keep: How often they write a snapshot to a disk that the crash leaves alone, such as `"1s"`,
            or `"0"` for after all they do. They start again from the last one, else with fresh
            state. What was in flight then is over.
    """

    peers: str
    at: str
    back: str = ""
    keep: str = ""


@dataclass(frozen=True, slots=True)
class Join:
    """Peers that are not there before an instant."""

    peers: str
    at: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Peers that are gone from an instant on."""

    peers: str
    at: str


Fault = Partition | Crash | Join | Leave
_FAULTS: dict[str, type[Fault]] = {
    "partition": Partition, "crash": Crash, "join": Join, "leave": Leave,
}  # fmt: skip


Lie = Literal[
    "nan", "huge", "flip", "noise", "shape", "truncate", "garbage", "replay", "flood", "silence"
]


@dataclass(frozen=True, slots=True)
class Liar:
    """Peers that do not send what their program says.

    Attributes:
        peers: Which.
        kind: What they do to an envelope: `nan` and `huge` spoil its numbers, `flip` turns their
            signs, `noise` replaces them, `shape` says wrong shapes, `truncate` leaves a part of
            the payload out, `garbage` sends random bytes, `replay` sends the one before again,
            `flood` sends it `times` more under fresh ids, `silence` sends nothing.
        share: Share of their envelopes.
        times: How many more a flood sends.
        scale: By how much `flip` multiplies, and how large `noise` is.
    """

    peers: str
    kind: Lie
    share: float = 1.0
    times: int = 100
    scale: float = 1.0


AttackKind = Literal["sign-flip", "gaussian", "label-flip", "scale", "same-value"]
#: `scale` of each kind, where it is not said.
_SCALES = {
    "sign-flip": 5.0, "gaussian": 10.0, "label-flip": 1.0, "scale": 10.0, "same-value": 1.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attack:
    """Peers that do all that their program says, with falsified updates or poisoned data.

    What they send is in order; only its values are not honest. `g` are the parameters that an
    attacker had before it trained, `w` those after:

    - `sign-flip` gives out `g - scale * (w - g)`, the update turned around (Li et al. 2019, "RSA");
    - `gaussian` gives out `g + n`, each number of `n` from a normal distribution whose standard
      deviation is `scale` (Blanchard et al. 2017, "Machine Learning with Adversaries");
    - `scale` gives out `g + scale * (w - g)`, the update made larger (Bagdasaryan et al. 2020);
    - `same-value` gives out `g + scale`, which is the same for all parameters (Li et al. 2019);
    - `label-flip` trains on class `classes - 1 - c` in the place of `c` (Tolpegin et al. 2020).

    Attributes:
        kind: What they do.
        share: Share of the peers that attack, drawn by the seed; at least one if it is above 0.
        count: How many attack, instead of a share.
        peers: From whom they are drawn; from all that are not invoked and can attack so when empty.
        scale: How much, as said above: 5 by default for `sign-flip`, 10 for `gaussian` and
            `scale`, else 1. With `sign-flip` the mean of all updates vanishes where
            `share * (scale + 1)` is 1.
        classes: How many classes the labels have that `label-flip` turns around.
    """

    kind: AttackKind
    share: float = 0.2
    count: int | None = None
    peers: str = ""
    scale: float | None = None
    classes: int = 10

    @property
    def magnitude(self) -> float:
        """The scale, that of its kind where none is given."""
        return _SCALES[self.kind] if self.scale is None else self.scale


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything about a simulation but the program.

    Attributes:
        peers: How many peers each class has; one where nothing is said.
        rounds: How often the target is invoked, one after the other; of a program with rounds of
            its own, after how many of them to stop. Once, and to their end, when `None`.
        seed: From which identities and all draws derive.
        until: Virtual time at which to stop, such as `"10m"`; not before the end when empty.
        pause: Virtual time between the end of a round and the next invocation.
        start: Whether `"one"` peer of the starting class is invoked, or `"all"`.
        target: What to invoke; the body of the recorded Module when empty.
        inputs: Inputs of the invocations; those that are peers are filled in.
        links: All links.
        between: Single links or those of classes, as `"server -> client"` or
            `"client[3] -> server"`, each over `links`; later ones win.
        compute: By class.
        clocks: By class.
        faults: What happens when.
        liars: Who does not send what it should.
        attack: Who trains or answers dishonestly.
        tell_lost: Whether a sender learns that nobody is at the other end of a link; after a
            partition or a loss it never does.
        program: For `bb sim`: what to simulate, as `bb run` takes it.
        args: For `bb sim`: arguments of the Module.
        bind: For `bb sim`: components by slot.
        config: For `bb sim`: configuration of components, as `bb run --config` takes it.
    """

    peers: dict[str, int] = field(default_factory=dict[str, int])
    rounds: int | None = None
    seed: int = 0
    until: str = ""
    pause: str = "0"
    start: Literal["one", "all"] = "one"
    target: str = ""
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    links: Link = Link()
    between: dict[str, Link] = field(default_factory=dict[str, Link])
    compute: dict[str, Compute] = field(default_factory=dict[str, Compute])
    clocks: dict[str, Clock] = field(default_factory=dict[str, Clock])
    faults: tuple[Fault, ...] = ()
    liars: tuple[Liar, ...] = ()
    attack: Attack | None = None
    tell_lost: bool = True
    program: str = ""
    args: dict[str, Any] = field(default_factory=dict[str, Any])
    bind: dict[str, str] = field(default_factory=dict[str, str])
    config: dict[str, Any] = field(default_factory=dict[str, Any])


def read_scenario(source: str | Path) -> Scenario:
    """Read a scenario from a TOML file.

    Raises:
        BadScenario: It cannot be read, or a name or value in it is wrong.
    """
    path = Path(source)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadScenario(
            f"{str(path)!r} cannot be read: {error.strerror}",
            fix="check the path; `bb sim --example` prints a scenario to begin with",
        ) from error
    except (ValueError, RecursionError) as error:  # the decoder's, and bytes that are no UTF-8
        raise BadScenario(f"{str(path)!r} is no TOML: {error}", fix="correct it") from error
    try:
        return scenario_of(found)
    except BadScenario as error:
        error.where = (str(path), *error.where)
        raise


def scenario_of(found: Mapping[str, Any]) -> Scenario:
    """Return the scenario that tables describe.

    Raises:
        BadScenario: A name or value is wrong.
    """
    ready: dict[str, Any] = {}
    for name, cls in (("compute", Compute), ("clocks", Clock), ("between", Link)):
        if name in found:
            ready[name] = _each(cls, found[name], name)
    if "links" in found:
        ready["links"] = read(Link, found["links"], "links")
    if "faults" in found:
        ready["faults"] = tuple(map(_fault, _list(found["faults"], "faults")))
    if "liars" in found:
        tables = _list(found["liars"], "liars")
        ready["liars"] = tuple(read(Liar, table, "[liars]") for table in tables)
    if "attack" in found:
        ready["attack"] = read(Attack, found["attack"], "attack")
    return read(Scenario, found, "scenario", ready=ready)


def example_scenario() -> str:
    """Return a commented scenario, as TOML."""
    return (files("bb_sim") / "example.toml").read_text(encoding="utf-8")


def _each(cls: type[Any], tables: Any, name: str) -> dict[str, Any]:
    if not _is_table(tables):
        raise BadScenario(f"[{name}] is {tables!r}", expected=f"tables [{name}.<class>]")
    return {str(key): read(cls, table, f"{name}.{key}") for key, table in tables.items()}


def _list(tables: Any, name: str) -> list[Any]:
    if not isinstance(tables, list | tuple):
        raise BadScenario(
            f"[{name}] is one table", expected="a list", fix=f"write [[{name}]], once for each"
        )
    return list(cast("list[Any]", tables))


def _fault(table: Any) -> Fault:
    if isinstance(table, Fault):
        return table
    fields: dict[str, Any] = dict(cast("Mapping[str, Any]", table)) if _is_table(table) else {}
    kind = str(fields.pop("kind", ""))
    if kind not in _FAULTS:
        raise BadScenario(
            f"[[faults]] has the kind {kind!r}",
            expected=f"one of {', '.join(_FAULTS)}",
            fix=did_you_mean(kind, _FAULTS),
        )
    return read(_FAULTS[kind], fields, f"[faults] of kind {kind}")


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)
