"""`bb run`: a whole program in one process."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import CliError, Exit, as_data, as_text, screen_width
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._options import arg_option, bind_option, parse_pairs
from bytesandbrains.cli._paths import NEW_FILE, PATH
from bytesandbrains.cli._program import load_program
from bytesandbrains.cli._turns import Turns, samples

if TYPE_CHECKING:
    from bb_ir.errors import BytesAndBrainsError
    from bb_runtime import FrameEnded, OpFailed
    from bytesandbrains.local import LocalFederation

__all__ = ["command"]

log = logging.getLogger(__name__)


def _counts(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, text in parse_pairs(ctx, param, values).items():
        if not text.isdecimal() or int(text) < 1:
            raise click.BadParameter(f"{name}={text}: a number of Nodes, at least 1, is needed")
        found[name] = int(text)
    return found


#: What the reason begins with for which a Node goes on without its journal.
_JOURNAL_STOPPED = "journal_stopped."


class OpFailure(CliError):
    """An op failed on a Node, or a frame did not end well.

    What `bb run` prints for each failure, with the line of the program, the component and the
    Node. `-v` shows more, `-vv` the traceback.
    """

    code = "OpFailed"


@dataclass
class _Round:
    """What one invocation brought."""

    number: int
    outputs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    failures: list[BytesAndBrainsError] = field(default_factory=list["BytesAndBrainsError"])
    dropped: int = 0
    #: Nodes whose journal ended before they did, with the reason's code.
    unrecorded: dict[str, str] = field(default_factory=dict[str, str])
    short: list[str] = field(default_factory=list[str])
    how: str = "cancelled"

    @property
    def ok(self) -> bool:
        return self.how == "done" and not self.failures


@_session.command
@click.argument("program")
@click.option("--target", default="", help="What to invoke; the Module itself when left out.")
@click.option(
    "--config",
    "config_file",
    type=PATH,
    help="Configuration of the components, TOML or JSON, as shown above.",
)
@click.option(
    "--nodes",
    multiple=True,
    callback=_counts,
    metavar="CLASS=N",
    help="How many Nodes a peer class gets, such as client=10.",
)
@click.option(
    "--peers", type=click.IntRange(1), default=None, show_default="2",
    help="Nodes of each class that --nodes does not name, except the one that starts.",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True,
              help="How often to invoke the target.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of identities and of all draws.")  # fmt: skip
@click.option(
    "--save-model",
    type=NEW_FILE,
    metavar="FILE",
    help="Write the parameters that the model of the class that starts has at the end, as a "
    "safetensors file.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    callback=parse_pairs,
    metavar="NAME=VALUE",
    help="An input of the target: a Python literal, or @file.npy. Inputs that are peers are "
    "filled in.",
)
@click.option(
    "--journal",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a journal of every Node into this folder, for `bb replay`. It holds private data.",
)
@bind_option
@arg_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    program: str,
    target: str,
    config_file: Path | None,
    nodes: dict[str, int],
    peers: int | None,
    rounds: int,
    seed: int,
    save_model: Path | None,
    inputs: dict[str, str],
    journal: Path | None,
    binds: dict[str, str],
    arguments: dict[str, str],
    as_json: bool,
) -> None:
    """Run a whole program in this process: every Node, with envelopes between them.

    PROGRAM is an artifact, or a Module as `bb compile` takes it. One Node runs the class that
    starts the program, others run the other classes.

    The configuration has a table per slot; one of a class, or of one Node of it, wins field by
    field. Texts may hold {index} and {count}, the Node's number in its class and how many there
    are, and {seed}. A peer selector gets its peers by itself.

    \b
    [model]                 all Nodes
    lr = 0.05
    [client.data]           clients only
    partition = "iid"
    clients = "{count}"
    client = "{index}"
    [client.3.data]         one client only
    batch_size = 8
    """  # noqa: D301  # click's mark for lines that stay
    from bb_runtime import load_artifact
    from bytesandbrains._files import write_atomically
    from bytesandbrains.cli._bindings import How, compile_program
    from bytesandbrains.cli._config import configuration, read_config
    from bytesandbrains.cli._inputs import read_inputs
    from bytesandbrains.cli._unsplit import unsplit
    from bytesandbrains.local import LocalFederation, class_counts

    loaded = load_program(program, arguments)
    with loaded.blamed():
        read = load_artifact(compile_program(loaded, How(binds)))
    counts = class_counts(read, nodes, target=target, others=peers)
    config = configuration(read, read_config(config_file), counts, seed, str(config_file))
    with _blaming(config_file):
        federation = LocalFederation(
            read, nodes=counts, config=config, seed=seed, target=target, journals=journal
        )
    if save_model is not None:
        federation.params()  # whether there is one is told before the work, not after it
    given = read_inputs(federation, inputs)
    log.info("installed %s", ", ".join(f"{n} {cls}" for cls, n in counts.items()))
    if not as_json:
        listed = ", ".join(f"{n} {cls}" for cls, n in counts.items())
        what = "run" if Turns(read) else "round"
        click.echo(f"{federation.main.short}: {listed}; {rounds} {what}{'s'[: rounds != 1]}")
        for line in unsplit(read, counts, config):
            click.echo(line, err=True)
    try:
        done = _run_all(federation, given, rounds, quiet=as_json)
        if save_model is not None:
            write_atomically(save_model, federation.params().image)
    finally:
        federation.close()
    if save_model is not None and not as_json:
        click.echo(f"wrote {save_model}")
    if journal is not None and not as_json:
        click.echo(f"wrote {journal}/")
    if as_json:
        print_json(_told(federation, done, seed))
    ctx.exit(Exit.OK if all(one.ok for one in done) else Exit.FAILED)


@contextmanager
def _blaming(config_file: Path | None) -> Generator[None]:
    """Let errors of the configuration name the file that it came from."""
    from bb_runtime.errors import ConfigTypeMismatch, MissingConfig

    try:
        yield
    except (ConfigTypeMismatch, MissingConfig) as error:
        error.where = (*([str(config_file)] if config_file else []), *error.where)
        if config_file is None and isinstance(error, MissingConfig):
            error.fix = "write it to a file, in a table of the slot, and pass it with --config"
        raise


def _run_all(
    federation: LocalFederation, given: Mapping[str, Any], rounds: int, *, quiet: bool
) -> list[_Round]:
    """Run the rounds, up to the first that does not come to its end."""
    done: list[_Round] = []
    told: set[str] = set()
    for number in range(1, rounds + 1):
        head = _Head(number, rounds, has_turns=bool(Turns(federation.artifact)))
        one = _run_one(federation, given, number, None if quiet else head)
        done.append(one)
        if not quiet:
            _print(one, head, federation, told)
        if one.how != "done":
            break
    return done


def _run_one(
    federation: LocalFederation, given: Mapping[str, Any], number: int, head: _Head | None
) -> _Round:
    """Run the program once; print outputs as they come, below a head where one is given."""
    from bb_runtime import Dropped, Emitted, FrameEnded, OpFailed

    one, turns = _Round(number), Turns(federation.artifact)
    failed: list[tuple[OpFailed, str]] = []
    names = _names(federation)
    for event in federation.events(given):
        step = event.step
        log.debug("%s: %s", names[event.peer], step)
        if isinstance(step, Emitted):
            turn = turns.of(step)
            output = {"node": names[event.peer], "name": step.name, "value": step.value}
            one.outputs.append(output if turn is None else {**output, "turn": turn})
            if head is not None:
                click.echo(f"{head(turn)}  {output['node']}  {step.name}: {_text(step.value)}")
        elif isinstance(step, OpFailed):
            failed.append((step, names[event.peer]))
            log.debug("%s", step.trace)
        elif isinstance(step, Dropped) and step.reason == "sample_short":
            one.short += [] if step.edge in one.short else [step.edge]
        elif isinstance(step, Dropped) and step.reason.startswith(_JOURNAL_STOPPED):
            one.unrecorded[names[event.peer]] = step.reason.removeprefix(_JOURNAL_STOPPED)
        elif isinstance(step, Dropped):
            one.dropped += 1
        elif isinstance(step, FrameEnded):
            turns.end(step)
            if not federation.is_run(event):
                continue
            one.how = step.how
            if step.how != "done" and not failed:
                one.failures.append(_ended(step))
    one.failures += _failures(failed)
    return one


class _Head:
    """What stands in front of a line: which round it is of.

    Args:
        number: Which invocation it is.
        rounds: How many there are.
        has_turns: Whether the program has rounds of its own, so that an invocation is a run.
    """

    def __init__(self, number: int, rounds: int, *, has_turns: bool) -> None:
        width = len(str(rounds))
        self._run = f"{'run' if has_turns else 'round'} {number:>{width}}"
        self._many = rounds > 1

    def __call__(self, turn: int | None = None) -> str:
        if turn is None:
            return self._run
        return f"{self._run} round {turn:>2}" if self._many else f"round {turn:>2}"


def _names(federation: LocalFederation) -> dict[Any, str]:
    """Name each Node after its class: `server`, `client[3]`."""
    return {
        node.peer: cls if len(group) == 1 else f"{cls}[{index}]"
        for cls, group in federation.nodes.items()
        for index, node in enumerate(group)
    }


def _failures(failed: list[tuple[OpFailed, str]]) -> list[BytesAndBrainsError]:
    """Return one error for each kind of failure, however many Nodes had it."""
    kinds: dict[tuple[Any, ...], list[tuple[OpFailed, str]]] = {}
    for step, node in failed:
        kind = (step.target, step.op, step.slot, step.source, type(step.error), step.place)
        kinds.setdefault(kind, []).append((step, node))
    errors: list[BytesAndBrainsError] = []
    for alike in kinds.values():
        step, node = alike[0]
        others = len(alike) - 1
        on = f"{node} and {others} other{'s' * (others > 1)}" if others else node
        errors.append(_failure(step, on))
    return errors


def _failure(step: OpFailed, node: str) -> BytesAndBrainsError:
    """Return an error with what only the step knows: Node, slot, component and line."""
    from bb_ir.errors import BytesAndBrainsError
    from bytesandbrains._advice import fix_of

    error = step.error
    slot = f" of slot {step.slot!r} ({step.component})" if step.slot else ""
    failed = f"{step.op}{slot} failed on {node}"
    where = tuple(place for place in (step.place, step.source) if place is not None)
    if not isinstance(error, BytesAndBrainsError):
        told = f"{failed}: {type(error).__name__}: {error}"
        fix = "; ".join(filter(None, (fix_of(error), "-vv shows the whole traceback")))
        return OpFailure(told, fix=fix, where=where)
    told = f"{failed}: {error.code}: {error.found}"
    return OpFailure(told, expected=error.expected, fix=error.fix, where=where)


def _ended(step: FrameEnded) -> BytesAndBrainsError:
    why = f": {step.reason}" if step.reason else ""
    return OpFailure(f"the frame of {step.target} ended {step.how}{why}")


def _print(one: _Round, head: _Head, federation: LocalFederation, told: set[str]) -> None:
    """Print what is known at the end of an invocation, beside its outputs.

    Samples of a slot that fell short are told once; `told` has those that were.
    """
    if not one.outputs:
        click.echo(f"{head()}  {one.how}, no outputs")
    if one.dropped:
        what = "envelopes or frames dropped, such as late replies (-vv says which)"
        click.echo(f"{head()}  {one.dropped} {what}")
    for node, why in one.unrecorded.items():
        click.echo(f"{head()}  the journal of {node} ended early: {why}; is the disk full?")
    for slot in [slot for slot in one.short if slot not in told]:
        told.add(slot)
        asked, cls = samples(federation.artifact, slot)
        click.echo(
            f"{head()}  slot {slot!r} knows fewer than the {asked} peers of its sample; rounds "
            f"go on with those (--nodes {cls}={asked} makes as many)"
        )
    for error in one.failures:
        click.echo(as_text(error, width=screen_width()) + "\n", err=True)


def _text(value: Any) -> str:
    """Return a published value in one line."""
    if isinstance(value, Mapping):
        parts: list[str] = [f"{n}={_text(v)}" for n, v in value.items()]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return " ".join(parts)
    if isinstance(value, float):
        return f"{value:.6g}"
    facts: Any = _data(value)
    if not isinstance(facts, dict):
        return str(value)
    if "sha256" not in facts:
        return f"{facts['dtype']}{facts['shape']}"
    count = len(cast("dict[str, Any]", facts["tensors"]))
    return f"{count} tensors, {facts['elements']:,} elements, sha256 {facts['sha256'][:16]}"


def _data(value: Any) -> Any:
    """Return a published value as JSON can hold it; tensors are described, not printed."""
    from bb_ir.params import ParameterSet

    if isinstance(value, Mapping):
        return {str(n): _data(v) for n, v in value.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_data(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, ParameterSet):
        tensors = {
            name: {"dtype": array.dtype.name, "shape": list(array.shape)}
            for name, array in value.items()
        }
        facts = {"kind": "params", "elements": value.count, "sha256": value.digest()}
        return {**facts, "tensors": tensors}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        if not value.shape:
            return value.item()
        return {"kind": "tensor", "dtype": str(value.dtype), "shape": list(value.shape)}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _told(federation: LocalFederation, done: list[_Round], seed: int) -> dict[str, Any]:
    return {
        "target": federation.main.short,
        "nodes": {cls: len(group) for cls, group in federation.nodes.items()},
        "seed": seed,
        "ok": all(one.ok for one in done),
        "rounds": [
            {
                "round": one.number,
                "ended": one.how,
                "outputs": [{**o, "value": _data(o["value"])} for o in one.outputs],
                "failures": [as_data(error) for error in one.failures],
                "refused": one.dropped,
                **({"short_samples": one.short} if one.short else {}),
                **({"journals_stopped": one.unrecorded} if one.unrecorded else {}),
            }
            for one in done
        ],
    }
