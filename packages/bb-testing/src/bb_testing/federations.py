"""Whole federations for tests: what the fixtures `federation` and `local_federation` make.

A program is compiled if it is not yet, its peers are installed, and it runs: in the simulator, with
links and faults that the test says in a few words, or on a local bus. The compiler and the local
bus are looked up when they are needed: the kit itself needs neither.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bb_ir import keys, onnx_tools
from bb_roles import Component
from bb_runtime import Artifact, Node
from bb_sim import Crash, Join, Leave, Liar, Link, Partition, Result, Round, Scenario, Simulation

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["SimulatedFederation", "compile_program", "local_federation", "scenario_of"]

#: What fills a slot: the name of a plugin or a class, or one of these and its configuration.
Bound = str | type[Component] | tuple[str | type[Component], Mapping[str, Any]]
#: Configuration by slot: fields, or a function that gives them for the number of a peer.
Config = Mapping[str, Mapping[str, Any] | Callable[..., Mapping[str, Any]]]

_LINK = frozenset(field.name for field in fields(Link))
_SCENARIO = frozenset(field.name for field in fields(Scenario))
_FAULTS = frozenset({"crash", "join", "leave", "partition", "lie"})


def compile_program(program: Any, bind: Mapping[str, Bound] | None = None) -> Any:
    """Return the artifact of a program, compiled if it is not yet.

    Args:
        program: A `Module`, what its `build` returned, or an artifact: compiled, loaded, its bytes
            or its file.
        bind: What fills each slot of a program that is not compiled: the name of a plugin, a
            class, or a pair of one of these and its configuration.

    Raises:
        ImportError: The compiler is needed and not installed.
        ValueError: Bindings are given for what is compiled already.
    """
    build = getattr(program, "build", None)
    model: Any = build() if callable(build) else program
    if isinstance(model, Artifact | bytes | str | Path) or _is_compiled(model):
        if bind:
            raise ValueError("the program is compiled: its slots are bound already, leave out bind")
        return model
    roles = {name: fact["role"] for name, fact in _slots(model).items()}
    compiler = _needed("bb_compiler").Compiler()
    for slot, bound in (bind or {}).items():
        part, config = bound if isinstance(bound, tuple) else (bound, None)
        role = roles.get(slot, "") if isinstance(part, str) else ""
        compiler.bind(slot, part, role=role, config=config)
    return compiler.compile(model)


def scenario_of(**said: Any) -> Scenario:
    """Return a scenario from keywords.

    Those of `Scenario` and of `Link` mean what they do there: `peers={"client": 5}, rounds=3,
    loss=0.1, latency="20ms"`. Faults are said by who and when: `crash={"client[0]": "2s"}`, and so
    `join` and `leave`; `partition={"client[25%]": ("2s", "6s")}`, where the end may be left out;
    `lie={"client[0:2]": "nan"}` says who spoils what it sends, and how.

    Raises:
        TypeError: There is no such keyword.
    """
    known = _LINK | _SCENARIO | _FAULTS
    odd = sorted(said.keys() - known)
    if odd:
        raise TypeError(
            f"no fault or field is called {odd[0]!r}; there are {', '.join(sorted(known))}"
        )
    faults: list[Any] = list(said.pop("faults", ()))
    for name, kind in (("crash", Crash), ("join", Join), ("leave", Leave)):
        faults += [kind(peers, at) for peers, at in said.pop(name, {}).items()]
    for apart, when in said.pop("partition", {}).items():
        at, *until = (when,) if isinstance(when, str) else when
        faults.append(Partition(apart, at, *until))
    liars = [*said.pop("liars", ()), *(Liar(*one) for one in said.pop("lie", {}).items())]
    link = {name: said.pop(name) for name in _LINK & said.keys()}
    if link:
        said["links"] = Link(**link)
    said.setdefault("rounds", 1)
    return Scenario(**said, faults=tuple(faults), liars=tuple(liars))


class SimulatedFederation:
    """A program with its peers in the simulator.

    Attributes:
        simulation: The `bb_sim.Simulation` that runs it.
        rounds: The rounds that have ended, in order: what was published, lost, refused, failed.
    """

    def __init__(self, artifact: Any, scenario: Scenario, config: Config | None = None) -> None:
        self.simulation = Simulation(artifact, scenario, config=config)
        self.rounds: list[Round] = []
        self._ahead: Iterator[Round] | None = None

    def step(self) -> Round:
        """Run to the end of the next round, and return it.

        Raises:
            AssertionError: No round comes to an end any more.
        """
        self._ahead = self._ahead or self.simulation.rounds()
        for done in self._ahead:
            self.rounds.append(done)
            return done
        raise AssertionError(
            f"after {len(self.rounds)} rounds no other comes to an end: "
            f"{self.simulation.scenario.rounds} were asked for, give rounds=... for more, or look "
            f"at what was lost and refused: {dict(self.lost)}, {dict(self.refused)}"
        )

    def run(self) -> Result:
        """Run all rounds that were asked for, and return what they brought."""
        self._ahead = self._ahead or self.simulation.rounds()
        self.rounds += self._ahead
        return self.simulation.result()

    def outputs(self, name: str) -> list[Any]:
        """Return what was published under a name, one plain value for each round that did.

        Raises:
            KeyError: No round published it.
        """
        found = [one.outputs[name].to_dict() for one in self.rounds if name in one.outputs]
        if not found:
            there = sorted({name for one in self.rounds for name in one.outputs})
            raise KeyError(f"no round published {name!r}; there is {', '.join(there) or 'nothing'}")
        return found

    @property
    def lost(self) -> Counter[str]:
        """Envelopes that did not arrive, by reason, over all rounds."""
        return _sum(one.lost for one in self.rounds)

    @property
    def refused(self) -> Counter[str]:
        """What Nodes refused, by reason, over all rounds."""
        return _sum(one.refused for one in self.rounds)

    @property
    def failures(self) -> Counter[str]:
        """Ops that failed, by code of the error, over all rounds."""
        return _sum(one.failures for one in self.rounds)

    @property
    def nodes(self) -> dict[str, Node]:
        """The Nodes that were needed so far and run, by name, such as `client[3]`."""
        return self.simulation.nodes

    def component(self, peer: str, slot: str) -> Any:
        """Return the component in a slot of a peer, such as `component("client[3]", "model")`."""
        nodes = self.nodes
        if peer not in nodes:
            raise KeyError(f"no Node {peer!r} runs; there are {', '.join(nodes) or 'none'}")
        return nodes[peer].component(slot)

    def close(self) -> None:
        """Close all Nodes."""
        self.simulation.close()


def local_federation(
    program: Any,
    bind: Mapping[str, Bound] | None = None,
    *,
    nodes: Mapping[str, int] | None = None,
    config: Config | None = None,
    seed: int = 0,
) -> Any:
    """Return a `bytesandbrains.LocalFederation` of a program; the arguments are those of both."""
    local = _needed("bytesandbrains.local")
    artifact = compile_program(program, bind)
    return local.LocalFederation(artifact, nodes=nodes, config=config, seed=seed)


def _is_compiled(model: ModelProto) -> bool:
    return bool(onnx_tools.get_meta(model, keys.COMPILED))


def _slots(model: ModelProto) -> Mapping[str, Mapping[str, str]]:
    found = onnx_tools.get_meta(model, keys.SLOTS)
    return cast("Mapping[str, Mapping[str, str]]", json.loads(found) if found else {})


def _needed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{module} is needed to make a federation of a program, and is not installed: "
            'pip install "bytesandbrains[testing]"'
        ) from error


def _sum(counters: Iterator[Counter[str]] | Sequence[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counters:
        total.update(one)
    return total
