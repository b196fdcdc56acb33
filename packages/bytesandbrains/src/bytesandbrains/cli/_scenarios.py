"""What `bb sim` simulates: a scenario's file or a ready-made one, with options laid over it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bytesandbrains._ready import READY, Ready, laid_over
from bytesandbrains.cli._errors import CliError

if TYPE_CHECKING:
    from bb_runtime import Artifact
    from bb_sim import Scenario
    from bytesandbrains.cli._program import Program

__all__ = ["Asked", "Prepared", "Source", "prepare", "read"]


class NoProgram(CliError):
    """A scenario does not say what to simulate.

    `bb sim` reads the program from the scenario too. Name it there; `bb sim --example` prints a
    whole one.
    """


class NoReadyProgram(CliError):
    """`bb sim` was given a name that is neither a ready-made program nor a file.

    The error lists what there is. A scenario of your own is a TOML file; `bb sim --example` prints
    one to begin with.
    """


class NotOfSlot(CliError):
    """`bb sim --set` was given a name that is not of the form SLOT.FIELD.

    The slot may have a class before it: `client.data.alpha`.
    """


class Asked(NamedTuple):
    """What options say, to be laid over a scenario; what is empty or `None` was not said.

    Attributes:
        peers: How many peers a class has; of the class `""` the one that a ready-made program
            asks.
        plain: Other fields of a scenario.
        bind: Components by slot or role.
        arguments: Arguments of the Module, as texts.
        attack: Fields of the attack.
        config_file: Configuration of components.
        settings: The same, as texts by `slot.field`.
    """

    peers: Mapping[str, int]
    plain: Mapping[str, Any]
    bind: Mapping[str, str]
    arguments: Mapping[str, str]
    attack: Mapping[str, Any]
    config_file: Path | None
    settings: Mapping[str, str]


class Source(NamedTuple):
    """A scenario with all options, and where it comes from.

    Attributes:
        scenario: The scenario.
        place: Its file, or the name of a ready-made one.
        ready: The ready-made one, if it is.
    """

    scenario: Scenario
    place: str
    ready: Ready | None


class Prepared(NamedTuple):
    """What a simulation is made of."""

    artifact: Artifact
    scenario: Scenario
    config: Mapping[str, Any]


def read(text: str, asked: Asked) -> Source:
    """Return the scenario that a command line names, with what its options say.

    Raises:
        NoReadyProgram: It is no name of one, and no file.
        BadScenario: The file, or an option, says what makes no sense.
        BadConfigFile: The configuration cannot be read.
        NoSuchFile: There is no such Python file.
        ProgramRaised: The Python file raised while it was imported.
    """
    from bb_sim import read_scenario

    ready = READY.get(text)
    if ready is not None:
        return Source(_asked_of(ready.begin(), asked, ready), text, ready)
    file, _, name = text.rpartition(":") if ".py:" in text else (text, "", "")
    if file.endswith(".py"):
        return Source(_asked_of(_of_python(Path(file), name), asked, None), file, None)
    path = Path(text)
    if not path.suffix and not path.exists() and len(path.parts) == 1:
        raise _unknown(text)
    return Source(_asked_of(read_scenario(path), asked, None), text, None)


def _of_python(path: Path, name: str) -> Scenario:
    """Return the scenario of a Python file: the one of this name, or the only one."""
    from bb_sim import BadScenario, Scenario
    from bytesandbrains.cli._program import import_file

    module = import_file(path)
    found = {key: one for key, one in vars(module).items() if isinstance(one, Scenario)}
    if name in found:
        return found[name]
    if not name and len(found) == 1:
        return next(iter(found.values()))
    there = f"there are {', '.join(found)}" if found else "it holds none"
    raise BadScenario(
        f"{path} holds no scenario {name!r}" if name else f"{path} holds {len(found)} scenarios",
        expected=f"a bb_sim.Scenario at the top level; {there}",
        fix="name one, such as FILE.py:NAME" if found else "write: world = bb_sim.Scenario(...)",
        where=str(path),
    )


def prepare(source: Source) -> Prepared:
    """Return what a simulation is made of: the program compiled, its parts configured.

    Raises:
        BytesAndBrainsError: The program, a binding or the configuration is wrong.
    """
    from bb_runtime import load_artifact
    from bb_sim.simulation import peer_counts
    from bytesandbrains.cli._bindings import How, compile_program
    from bytesandbrains.cli._config import configuration
    from bytesandbrains.cli._program import load_program

    scenario, ready, place = source.scenario, source.ready, source.place
    if not scenario.program:
        raise NoProgram(
            "the scenario names no program",
            expected='program = "FILE.py:NAME", "package.module:NAME" or "FILE.onnx"',
            fix="`bb sim --example` prints a whole scenario",
            where=place,
        )
    if ready is not None:
        scenario = ready.with_arguments(scenario)
    spec = scenario.program if ready else _beside(Path(place), scenario.program)
    loaded = load_program(spec, {name: repr(value) for name, value in scenario.args.items()})
    coded = ready is not None and bool(ready.with_codec)
    scenario = dataclasses.replace(scenario, bind=_by_slot(scenario.bind, loaded, coded=coded))
    if ready is not None:
        scenario = ready.complete(scenario)
    with loaded.blamed():
        artifact = load_artifact(compile_program(loaded, How(scenario.bind)))
    counts = peer_counts(artifact, scenario)
    config = configuration(artifact, scenario.config, counts, scenario.seed, place)
    return Prepared(artifact, scenario, config)


def _asked_of(scenario: Scenario, asked: Asked, ready: Ready | None) -> Scenario:
    from bytesandbrains.cli._config import read_config
    from bytesandbrains.cli._program import literal

    peers = dict(asked.peers)
    if "" in peers:
        peers[_others(scenario, ready)] = peers.pop("")
    config = laid_over(scenario.config, read_config(asked.config_file))
    for name, text in asked.settings.items():
        config = _with_setting(config, name, text)
    arguments = {name: literal(text) for name, text in asked.arguments.items()}
    scenario = dataclasses.replace(
        scenario, **asked.plain, peers={**scenario.peers, **peers}, config=config,
        bind={**scenario.bind, **asked.bind}, args={**scenario.args, **arguments},
    )  # fmt: skip
    return _attacked(scenario, asked.attack) if asked.attack else scenario


def _attacked(scenario: Scenario, fields: Mapping[str, Any]) -> Scenario:
    """Return the scenario with an attack, or with another size of the one that it has."""
    from bb_sim import BadScenario
    from bb_sim.scenario import scenario_of

    if scenario.attack is None and "kind" not in fields:
        raise BadScenario(
            "it is said how many peers attack, or how hard, and not how",
            expected="--attack KIND beside it, or a scenario with an [attack]",
            fix="add such as --attack sign-flip",
        )
    known = {} if scenario.attack is None else dataclasses.asdict(scenario.attack)
    if fields.get("kind", known.get("kind")) != known.get("kind"):
        known.pop("scale", None)  # means something else there
    if "share" in fields:
        known["count"] = None
    return dataclasses.replace(scenario, attack=scenario_of({"attack": {**known, **fields}}).attack)


def _others(scenario: Scenario, ready: Ready | None) -> str:
    """Return the class whose number of peers is said without its name."""
    from bb_sim import BadScenario

    if ready is not None:
        return ready.others
    if len(scenario.peers) == 1:
        return next(iter(scenario.peers))
    raise BadScenario(
        "--peers says how many, and not of which class",
        expected="CLASS=N where the scenario names none or several",
        fix="write such as --peers client=100",
    )


def _with_setting(config: Mapping[str, Any], name: str, text: str) -> dict[str, Any]:
    """Return a configuration with one field set; what was said of it for one class is gone."""
    from bytesandbrains.cli._program import literal

    place, _, field = name.rpartition(".")
    if not place or not field:
        raise NotOfSlot(
            f"--set {name}={text} names no field of a slot",
            expected="SLOT.FIELD=VALUE, or CLASS.SLOT.FIELD=VALUE",
            fix="write such as --set aggregator.trim=2",
        )
    kept = {key: _without(table, place, field) for key, table in config.items()}
    return laid_over(kept, {place: {field: literal(text)}})


def _without(table: Any, place: str, field: str) -> Any:
    """Return a table of a class without a field of the slot, also where it is for one Node."""
    if not isinstance(table, Mapping):
        return table
    found: dict[str, Any] = {}
    for key, value in cast("Mapping[str, Any]", table).items():
        found[key] = _without(value, place, field)
        if key == place and isinstance(found[key], dict):
            found[key].pop(field, None)
    return found


def _by_slot(bind: Mapping[str, str], program: Program, *, coded: bool) -> dict[str, str]:
    """Return bindings by slot: the name of a role stands for all slots of it.

    Args:
        bind: Components by slot or role.
        program: The program that has the slots.
        coded: Whether it would have a slot `codec`, too, if one were bound to it.

    Raises:
        UnknownSlot: It has none of that name, and a role is meant, or the codec.
    """
    from bb_ir import keys, onnx_tools

    if program.compiled:
        return dict(bind)
    slots: dict[str, dict[str, str]] = json.loads(
        onnx_tools.get_meta(program.model, keys.SLOTS, "{}")
    )
    found: dict[str, str] = {}
    others = {facts["role"] for facts in slots.values()} | ({"codec"} if coded else set[str]())
    for key, component in bind.items():
        if key not in {*slots, *others} and "." not in key:
            _check_slot(key, sorted(slots), sorted(others - slots.keys()))
        mine = [slot for slot, facts in slots.items() if facts["role"] == key]
        names = mine if mine and key not in slots else [key]
        found |= dict.fromkeys(names, component)
    return found


def _check_slot(key: str, slots: list[str], others: list[str]) -> None:
    """Complain about a name that nothing is bound by, if another one than a slot is meant."""
    from bb_compiler.errors import UnknownSlot
    from bb_ir.errors import closest

    meant = closest(key, [*slots, *others])
    if meant in others:
        raise UnknownSlot(
            f"no slot {key!r} is used in this program",
            expected=f"one of {', '.join(slots)}; or, for all slots of a role, {', '.join(others)}",
            fix=f"did you mean {meant!r}?",
        )


def _beside(scenario: Path, program: str) -> str:
    """Return the program as it is found from here, or from beside the scenario."""
    file = program.rpartition(":")[0] or program
    if Path(file).suffix in (".py", ".onnx") and not Path(file).exists():
        beside = scenario.parent / file
        if beside.exists():
            return str(scenario.parent / program)
    return program


def _unknown(text: str) -> NoReadyProgram:
    from bb_ir.errors import did_you_mean

    told = "; ".join(f"{name} ({one.summary})" for name, one in READY.items())
    return NoReadyProgram(
        f"there is no ready-made program {text!r}, and no such file",
        expected=f"{told}; or the TOML file of a scenario",
        fix=did_you_mean(text, READY) or "`bb sim --example` prints a scenario to begin with",
    )
