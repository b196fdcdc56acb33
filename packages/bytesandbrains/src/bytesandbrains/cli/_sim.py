"""`bb sim`: a federation in virtual time, with links, faults and liars."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import CliError, Exit
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._options import parse_pairs

if TYPE_CHECKING:
    from bb_sim import Result, Round, Scenario, Simulation

__all__ = ["command"]

#: Rounds that the table at the end shows.
_SHOWN = 10
_PLOTS = ("rounds.png", "timeline.png")


class NoProgram(CliError):
    """A scenario does not say what to simulate.

    `bb sim` reads the program from the scenario too. Name it there; `bb sim --example` prints a
    whole one.
    """


def _peers(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, text in parse_pairs(ctx, param, values).items():
        if not text.isdecimal() or int(text) < 1:
            raise click.BadParameter(f"{name}={text}: a number of peers, at least 1, is needed")
        found[name] = int(text)
    return found


def _example(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001  # click's signature
    if asked:
        from bb_sim.scenario import example_scenario

        click.echo(example_scenario(), nl=False)
        ctx.exit()


@_session.command
@click.argument("scenario", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--peers", multiple=True, callback=_peers, metavar="CLASS=N",
              help="How many peers a class has, such as client=1000.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), help="How many rounds to run.")
@click.option("--seed", type=click.IntRange(0), help="Of identities, links, faults and all draws.")
@click.option("--until", metavar="TIME", help="Stop at this virtual time, such as 10m.")
@click.option("--out", type=click.Path(path_type=Path),
              help="Folder for metrics.json and plots; nothing is written without it.")  # fmt: skip
@click.option("--no-plot", is_flag=True, help="Leave the plots out.")
@click.option("--example", is_flag=True, is_eager=True, expose_value=False, callback=_example,
              help="Print a commented scenario and leave.")  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    scenario: Path,
    peers: dict[str, int],
    rounds: int | None,
    seed: int | None,
    until: str | None,
    out: Path | None,
    no_plot: bool,
    as_json: bool,
) -> None:
    """Run a federation in virtual time: links that lose and delay, crashes, partitions, liars.

    SCENARIO is a TOML file that names a program and says what the world is like; `bb sim
    --example` prints one. Options win over what it says. The same scenario and seed give the same
    run, byte for byte. Ctrl-C keeps what was done.
    """
    from bb_sim import read_scenario

    given: dict[str, Any] = {"rounds": rounds, "seed": seed, "until": until}
    chosen = {name: value for name, value in given.items() if value is not None}
    read = read_scenario(scenario)
    read = dataclasses.replace(read, **chosen, peers={**read.peers, **peers})
    run = _Run(read, scenario, out, plots=not no_plot)
    done = run.all(quiet=as_json)
    if as_json:
        print_json(run.metrics)
    ctx.exit(_code(run, done=done))


def _code(run: _Run, *, done: bool) -> Exit:
    if not done:
        return Exit.INTERRUPTED
    return Exit.OK if run.result.rounds else Exit.FAILED


class _Run:
    """One simulation; what was done is kept whenever it is interrupted."""

    def __init__(self, scenario: Scenario, file: Path, out: Path | None, *, plots: bool) -> None:
        from bytesandbrains._files import prepare_folder

        if out is not None:
            prepare_folder(out)
        self._scenario = scenario
        self._file = file
        self._out = out
        self._plots = plots
        self._simulation: Simulation = self._prepared()
        self.result: Result = self._simulation.result()
        self.metrics: dict[str, Any] = {}

    def all(self, *, quiet: bool) -> bool:
        """Run, report and write; return false when a user ended it before."""
        from bytesandbrains.cli._progress import progress

        simulation, done = self._simulation, True
        if not quiet:
            click.echo(self._first_line())
        try:
            with progress(hidden=quiet) as bar:
                bar.begin("rounds", self._scenario.rounds or 1)
                for one in simulation.rounds():
                    bar.step(f"round {one.number}", _figures(one))
        except KeyboardInterrupt:
            done = False
        self.result = simulation.result()
        self.metrics = {**self.result.to_dict(), "interrupted": not done}
        if not quiet:
            self._print(done=done)
        if self._out is not None:
            self._write(self._out, plots=self._plots and done)
        return done

    def _prepared(self) -> Simulation:
        from bb_runtime import load_artifact
        from bb_sim import Simulation
        from bb_sim.simulation import peer_counts
        from bytesandbrains.cli._bindings import How, compile_program
        from bytesandbrains.cli._config import configuration
        from bytesandbrains.cli._program import load_program

        scenario, place = self._scenario, str(self._file)
        if not scenario.program:
            raise NoProgram(
                "the scenario names no program",
                expected='program = "FILE.py:NAME", "package.module:NAME" or "FILE.onnx"',
                fix="`bb sim --example` prints a whole scenario",
                where=place,
            )
        spec = _beside(self._file, scenario.program)
        loaded = load_program(spec, {name: repr(value) for name, value in scenario.args.items()})
        with loaded.blamed():
            artifact = load_artifact(compile_program(loaded, How(scenario.bind)))
        counts = peer_counts(artifact, scenario)
        config = configuration(artifact, scenario.config, counts, scenario.seed, place)
        return Simulation(artifact, scenario, config=config)

    def _first_line(self) -> str:
        counts = self.result.peers
        listed = ", ".join(f"{count:,} {cls}" for cls, count in counts.items())
        return f"{self._simulation.main.short}: {listed}; seed {self._scenario.seed}"

    def _print(self, *, done: bool) -> None:
        from bytesandbrains.cli._screen import Screen, table

        result = self.result
        if result.rounds:
            Screen().print(table(*_table(result.rounds)))
        for line in _summary(result):
            click.echo(line)
        if not done:
            click.echo(f"interrupted after {_ended(result)} rounds", err=True)
        elif not result.complete:
            click.echo("the time was over before all rounds had ended")
        if self._out is not None:
            click.echo(f"wrote {self._out}/")

    def _write(self, out: Path, *, plots: bool) -> None:
        from bytesandbrains._files import write_atomically

        text = json.dumps(self.metrics, indent=2, sort_keys=True, default=str) + "\n"
        write_atomically(out / "metrics.json", text.encode())
        for name in _PLOTS:
            (out / name).unlink(missing_ok=True)
        if not plots or not self.result.rounds:
            return
        from bb_sim.plots import draw_rounds, draw_timeline

        write_atomically(out / "rounds.png", draw_rounds(self.result))
        if self.result.spans:
            write_atomically(out / "timeline.png", draw_timeline(self.result))


def _beside(scenario: Path, program: str) -> str:
    """Return the program as it is found from here, or from beside the scenario."""
    file = program.rpartition(":")[0] or program
    if Path(file).suffix in (".py", ".onnx") and not Path(file).exists():
        beside = scenario.parent / file
        if beside.exists():
            return str(scenario.parent / program)
    return program


def _figures(one: Round) -> dict[str, float]:
    """Return the figures of a round that fit beside a bar: losses and accuracies."""
    wanted = ("loss", "accuracy")
    return {name: value for name, value in one.figures().items() if name.endswith(wanted)}


def _table(rounds: list[Round]) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines for some of the rounds: the first, the last, some between."""
    names = list(dict.fromkeys(name for one in rounds for name in _figures(one)))
    every = max(1, -(-len(rounds) // _SHOWN))
    shown = [one for at, one in enumerate(rounds, 1) if at % every == 0 or at in (1, len(rounds))]
    heads = ["round", "ended", "seconds", "answered", "sent", "lost", "refused", *names]
    return heads, [_line(one, names) for one in shown]


def _line(one: Round, names: list[str]) -> list[str]:
    figures = _figures(one)
    ended = " ".join(f"{how}" if many == 1 else f"{many} {how}" for how, many in one.ended.items())
    return [
        str(one.number),
        ended or "running",
        f"{one.seconds:.2f}",
        f"{one.answered}/{one.asked}" if one.asked else "-",
        _size(sum(one.sent_bytes.values())),
        str(sum(one.lost.values())),
        str(sum(one.refused.values())),
        *(f"{figures[name]:.4f}" if name in figures else "-" for name in names),
    ]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _ended(result: Result) -> int:
    return sum(bool(one.ended) for one in result.rounds)


def _summary(result: Result) -> list[str]:
    peers = f"{result.installed:,} of {sum(result.peers.values()):,} peers were needed"
    time = f"{_ended(result)} rounds in {result.virtual_ns / 1e9:.2f} virtual seconds"
    lines = [f"{time}; {peers}"]
    for title, field in (("lost", "lost"), ("refused", "refused"), ("failed ops", "failures")):
        total: dict[str, int] = {}
        for one in result.rounds:
            counts: Mapping[str, int] = getattr(one, field)
            for reason, many in counts.items():
                total[reason] = total.get(reason, 0) + many
        if total:
            told = ", ".join(f"{many} {reason}" for reason, many in sorted(total.items()))
            lines.append(f"{title}: {told}")
    lines.append(f"digest {result.digest[:16]}")
    return lines
