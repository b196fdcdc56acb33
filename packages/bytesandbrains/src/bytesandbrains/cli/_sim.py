"""`bb sim`: a federation in virtual time, with links, faults and liars."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._checkpoints import Checkpoints
from bytesandbrains.cli._errors import CliError, Exit
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._options import parse_pairs

if TYPE_CHECKING:
    from bb_sim import Result, Round, Scenario, Simulation
    from bytesandbrains.journal import FileJournal

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
              help="Folder for metrics.json, plots and a checkpoint; nothing is written without "
              "it.")  # fmt: skip
@click.option("--no-plot", is_flag=True, help="Leave the plots out.")
@click.option("--resume", is_flag=True,
              help="Go on from the checkpoint in the --out folder; --rounds may ask for "
              "more.")  # fmt: skip
@click.option("--journal", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write journals of Nodes into this folder, for `bb replay`. They hold private "
              "data.")  # fmt: skip
@click.option("--journal-peers", default="", metavar="PEERS",
              help="Whose Nodes write one, such as server,client[0:3]; the first peer of each "
              "class when left out.")  # fmt: skip
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
    resume: bool,
    journal: Path | None,
    journal_peers: str,
    as_json: bool,
) -> None:
    """Run a federation in virtual time: links that lose and delay, crashes, partitions, liars.

    SCENARIO is a TOML file that names a program and says what the world is like; `bb sim
    --example` prints one. Options win over what it says. The same scenario and seed give the same
    run, byte for byte. Ctrl-C keeps what was done; with --out, --resume goes on from there.
    """
    from bb_sim import read_scenario

    given: dict[str, Any] = {"rounds": rounds, "seed": seed, "until": until}
    chosen = {name: value for name, value in given.items() if value is not None}
    read = read_scenario(scenario)
    read = dataclasses.replace(read, **chosen, peers={**read.peers, **peers})
    if resume and out is None:
        raise click.UsageError("--resume needs --out DIR, the folder with the checkpoint")
    if journal_peers and journal is None:
        raise click.UsageError("--journal-peers needs --journal DIR")
    journals = None if journal is None else _Journals(journal)
    try:
        run = _Run(read, scenario, out, journals, journal_peers, plots=not no_plot, resume=resume)
        done = run.all(quiet=as_json)
    finally:
        if journals is not None:
            journals.close()
    if journals is not None and not as_json:
        click.echo(f"wrote {journals.count} journals to {journal}/")
    if as_json:
        print_json(run.metrics)
    ctx.exit(_code(run, done=done))


def _code(run: _Run, *, done: bool) -> Exit:
    if not done:
        return Exit.INTERRUPTED
    return Exit.OK if run.result.rounds else Exit.FAILED


class _Journals:
    """The journals of a simulation's Nodes, each in a folder of its own.

    A peer that crashed and came back is another Node, with another journal.
    """

    def __init__(self, folder: Path) -> None:
        from bytesandbrains._files import CannotWrite, prepare_folder
        from bytesandbrains._segments import segments_in

        prepare_folder(folder)
        if any(segments_in(inner) for inner in folder.iterdir()):
            raise CannotWrite(
                f"{str(folder)!r} holds journals",
                expected="a folder without any: a journal is written once, by one Node",
                fix="choose another folder, or delete those",
            )
        self._folder = folder
        self._open: dict[str, FileJournal] = {}
        self.count = 0

    def __call__(self, peer: str, life: int) -> FileJournal:
        """Make the journal of a Node: `server`, `client-3`, `client-3-life-2` after a crash."""
        from bytesandbrains.journal import FileJournal

        if peer in self._open:
            self._open[peer].close()  # that Node is gone
        name = peer.replace("[", "-").rstrip("]")
        place = name if life == 1 else f"{name}-life-{life}"
        self._open[peer] = FileJournal(self._folder / place)
        self.count += 1
        return self._open[peer]

    def close(self) -> None:
        """Close them."""
        for one in self._open.values():
            one.close()


class _Run:
    """One simulation; what was done is kept whenever it is interrupted."""

    def __init__(
        self, scenario: Scenario, file: Path, out: Path | None, journals: _Journals | None,
        journal_peers: str, *, plots: bool, resume: bool,
    ) -> None:  # fmt: skip
        from bytesandbrains._files import prepare_folder

        if out is not None:
            prepare_folder(out)
        self._checkpoints = None if out is None else Checkpoints(out)
        self._journals, self._journal_peers = journals, journal_peers
        self._scenario = scenario
        self._file = file
        self._out = out
        self._plots = plots
        self._resume = resume
        self._simulation: Simulation = self._prepared()
        self.result: Result = self._simulation.result()
        self.metrics: dict[str, Any] = {}

    def all(self, *, quiet: bool) -> bool:
        """Run, report and write; return false when a user ended it before."""
        from bytesandbrains.cli._progress import progress

        simulation, checkpoints = self._simulation, self._checkpoints
        before = checkpoints.resume(simulation) if checkpoints and self._resume else 0
        if not quiet:
            click.echo(self._first_line())
        if before and not quiet:
            click.echo(f"going on after round {before}")
        try:
            with _clean_stop(simulation) as stop, progress(hidden=quiet) as bar:
                bar.begin("rounds", max(0, (self._scenario.rounds or 1) - before))
                for one in simulation.rounds():
                    bar.step(f"round {one.number}", _figures(one))
                    if checkpoints is not None:
                        checkpoints.save_sometimes(simulation)
            done = not stop or simulation.done
            if checkpoints is not None:
                checkpoints.save(simulation)
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
        return Simulation(
            artifact, scenario, config=config, journal=self._journals,
            journal_peers=self._journal_peers,
        )  # fmt: skip

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
            kept = self._checkpoints is not None and self._checkpoints.file.exists()
            hint = "; --resume goes on" if kept else ""
            click.echo(f"interrupted after {_ended(result)} rounds{hint}", err=True)
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


@contextmanager
def _clean_stop(simulation: Simulation) -> Generator[list[int]]:
    """Let the first Ctrl-C end a simulation between two events; the next one breaks in.

    What is given is not empty once somebody did that.
    """
    import signal
    import threading

    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        simulation.stop()

    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals are not ours there
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


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
