"""Ready-made simulations: whole scenarios for programs of ours, with what suits the digits.

A scenario begins with `begin`, whoever asks lays over it what is to be different, and `complete`
fills in what follows from the parts that were chosen: of a component that is not the usual one it
says only what its configuration has a field for. This module runs nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from bb_ir.errors import BytesAndBrainsError
    from bb_sim import Attack, Scenario

__all__ = ["READY", "Ready"]

#: Peers of the class that is not invoked.
_PEERS: Final = 20
_ROUNDS: Final = 20
#: Fields in which robust rules say how many attackers they tolerate.
_TOLERANCES: Final = ("attackers", "trim")
#: Updates of any weights and values that a fold takes in one word each.
_NARROW: Final = 4096
#: What the digits need of the network; the learning rate is one that suits it.
_MLP: Final = {"layers": [64, 32, 10], "lr": 0.1}
#: An even part of the training examples for each client.
_PART: Final = {
    "split": "train", "partition": "iid", "clients": "{count}", "client": "{index}",
    "seed": "{seed}", "batch_size": 16,
}  # fmt: skip


class Ready(NamedTuple):
    """A ready-made simulation.

    Attributes:
        program: The program, as `bb run` takes it.
        summary: What it is, in a line.
        others: The class of the peers whose number one may choose.
        bind: What fills its slots.
        args: Arguments of the Module, the number of peers that are asked left out.
        asks: The argument that is this number; empty where there is none.
        start: Whether one peer begins, or all.
        with_codec: The program where a codec is chosen; empty where none can be.
    """

    program: str
    summary: str
    others: str
    bind: Mapping[str, str]
    args: Mapping[str, Any]
    asks: str = ""
    start: Literal["one", "all"] = "one"
    with_codec: str = ""

    def begin(self) -> Scenario:
        """Return the scenario to lay choices over."""
        from bb_sim import Scenario

        return Scenario(
            program=self.program, peers={self.others: _PEERS}, rounds=_ROUNDS,
            bind=dict(self.bind), args=dict(self.args), start=self.start,
        )  # fmt: skip

    def with_arguments(self, scenario: Scenario) -> Scenario:
        """Return a scenario with what follows from the peers and parts before it is compiled."""
        asked = {self.asks: scenario.peers[self.others]} if self.asks else {}
        args = {**asked, **scenario.args}
        coded = "codec" in scenario.bind and self.with_codec
        return dataclasses.replace(
            scenario, args=args, program=self.with_codec if coded else self.program
        )

    def complete(self, scenario: Scenario) -> Scenario:
        """Return a scenario with the configuration that follows from its parts.

        Args:
            scenario: With its arguments, and bindings by slot.

        Raises:
            PluginError: A component is not there.
        """
        known: dict[str, dict[str, Any]] = {
            "data": dict(_PART),
            "test": {"split": "test", "seed": "{seed}"},
        }
        if self.asks:
            asked = min(int(scenario.args[self.asks]), scenario.peers[self.others])
            known["aggregator"] = _bounds(scenario, scenario.peers[self.others], asked)
        if scenario.bind["model"] == "mlp":
            known["model"] = {**_MLP, "seed": "{seed}"}
        config = {
            slot: {n: v for n, v in fields.items() if n in _fields_of(slot, scenario)}
            for slot, fields in known.items()
        }
        return dataclasses.replace(scenario, config=laid_over(config, scenario.config))

    def advise(self, error: BytesAndBrainsError, scenario: Scenario) -> None:
        """Say which options to change where data or a rule do not suffice for so many peers.

        Args:
            error: What was raised; it gets another fix if it is about these.
            scenario: As it was asked for.
        """
        from bb_roles.data import TooFewExamples

        there = scenario.peers[self.others]
        short = error.__cause__
        if isinstance(short, TooFewExamples):
            error.found, error.expected = short.found, f"at most {short.most} peers"
            error.fix = f"--peers {short.most}, or fewer; or data with more examples"
            return
        said = laid_over({}, scenario.config)
        own = {**said.get("aggregator", {}), **said.get("server", {}).get("aggregator", {})}
        if "cohort" in error.where and self.asks and "cohort" not in own:
            asked = min(int(scenario.args.get(self.asks, there)), there)
            error.fix = (
                f"{asked} of {there} peers are asked in a round: raise --peers or --arg "
                f"{self.asks}, or choose another --aggregator"
            )
        fields = [name for name in _TOLERANCES if name in error.where and name not in own]
        if scenario.attack is not None and fields:
            error.fix = (
                f"{_attacking(scenario.attack, there)} of {there} peers attack: lower --attackers, "
                f"or choose another --aggregator; with --set aggregator.{fields[0]}=N the rule is "
                "ready for N all the same"
            )


def _attacking(attack: Attack, there: int) -> int:
    """Return how many of the peers that are there attack."""
    drawn = round(attack.share * there) if attack.count is None else attack.count
    return max(drawn, 0)


READY: Final[Mapping[str, Ready]] = {
    "fedavg": Ready(
        "bytesandbrains.programs:FederatedAveraging",
        "federated averaging on handwritten digits: 20 clients, all asked in each round",
        "client",
        {"peers": "static", "model": "mlp", "data": "digits", "test": "digits",
         "aggregator": "fedavg"},
        {"epochs": 2, "evaluate": True},
        asks="cohort",
        with_codec="bytesandbrains.programs:CompressedAveraging",
    ),
    "gossip": Ready(
        "bytesandbrains.programs:GossipLearning",
        "peers without a server that train and average with neighbours, on handwritten digits",
        "peer",
        {"peers": "random", "gossip": "gossip", "model": "mlp", "data": "digits",
         "test": "digits"},
        {"evaluate": True},
        start="all",
    ),
}  # fmt: skip


def laid_over(tables: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with others over them, field by field; `"a.b"` is the table `b` in `a`."""
    found: dict[str, Any] = {}
    for table in (tables, more):
        for key, value in table.items():
            *outer, last = key.split(".")
            place = found
            for part in outer:
                place = place.setdefault(part, {})
            place[last] = _over(place.get(last), value)
    return found


def _over(known: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    above = cast("Mapping[str, Any]", value)
    return laid_over(cast("Mapping[str, Any]", known) if isinstance(known, Mapping) else {}, above)


def _bounds(scenario: Scenario, there: int, asked: int) -> dict[str, Any]:
    """Return what an aggregator is to be ready for: so many updates, so many attackers.

    Where not all peers are asked it is as many attackers as there are among them on average.
    """
    found: dict[str, Any] = {"cohort": asked, "wide": asked > _NARROW}
    attack = scenario.attack
    if attack is not None:
        among = math.ceil(_attacking(attack, there) * asked / there)
        found |= dict.fromkeys(_TOLERANCES, among)
    return found


def _fields_of(slot: str, scenario: Scenario) -> set[str]:
    from bb_roles.registry import bound_class

    role = {"data": "data_source", "test": "data_source"}.get(slot, slot)
    config = bound_class(role, scenario.bind[slot]).Config
    return {field.name for field in dataclasses.fields(config)}
