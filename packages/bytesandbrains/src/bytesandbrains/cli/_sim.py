"""`bb sim`: a federation in virtual time, with links, faults and liars."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bb_ir.errors import BytesAndBrainsError
from bytesandbrains.cli import _session
from bytesandbrains.cli._checkpoints import Checkpoints
from bytesandbrains.cli._errors import Exit, as_data, show
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._options import arg_option, parse_pairs
from bytesandbrains.cli._paths import PLOT, need_drawing
from bytesandbrains.cli._rounds import (
    LiveTable,
    ended,
    figures,
    nothing_done,
    summary_of,
    table_of,
    unlucky,
)

if TYPE_CHECKING:
    from bb_sim import Result, Simulation
    from bytesandbrains.cli._rounds import NoRoundDone
    from bytesandbrains.cli._scenarios import Source
    from bytesandbrains.journal import FileJournal

__all__ = ["command"]

#: Attackers that are named before it begins.
_NAMED = 10
_PLOTS = ("rounds.png", "timeline.png")


def _peers(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    plain = [value for value in values if "=" not in value]
    named = parse_pairs(ctx, param, tuple(value for value in values if "=" in value))
    for name, text in [*(("", value) for value in plain), *named.items()]:
        if not text.isdecimal() or int(text) < 1:
            told = f"{name}={text}" if name else text
            raise click.BadParameter(f"{told}: a number of peers, at least 1, is needed")
        found[name] = int(text)
    return found


def _attackers(
    _ctx: click.Context, _param: click.Parameter, text: str | None
) -> dict[str, float | int]:
    """Read how many attack: a share below 1, or a number."""
    if text is None:
        return {}
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if 0 <= number < 1:
        return {"share": number}
    if number != int(number) or number < 0:
        raise click.BadParameter(f"{text}: a share below 1, or a whole number, is needed")
    return {"count": int(number)}


def _example(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001  # click's signature
    if asked:
        from bb_sim.scenario import example_scenario

        text = example_scenario()
        if _session.of(ctx).as_json:
            print_json({"scenario": text})
        else:
            click.echo(text, nl=False)
        ctx.exit()


@_session.command
@click.argument("scenario")
@click.option("--peers", multiple=True, callback=_peers, metavar="[CLASS=]N",
              help="How many peers a class has, such as client=1000; the class may be left out of "
              "a ready-made program.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), help="How many rounds to run.")
@click.option("--seed", type=click.IntRange(0), help="Of identities, links, faults and all draws.")
@click.option("--until", metavar="TIME", help="Stop at this virtual time, such as 10m.")
@click.option("--aggregator", metavar="NAME", help="Short for --bind aggregator=NAME.")
@click.option("--bind", "binds", multiple=True, callback=parse_pairs, metavar="SLOT=COMPONENT",
              help="Fill a slot, or all slots of a role, with an installed component or "
              "module:Class.")  # fmt: skip
@arg_option
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path),
              metavar="FILE", help="Configuration of components, as for `bb run`.")  # fmt: skip
@click.option("--set", "settings", multiple=True, callback=parse_pairs,
              metavar="SLOT.FIELD=VALUE", help="One field of it; wins over the file.")  # fmt: skip
@click.option("--attack", metavar="KIND",
              help="Have some peers attack: sign-flip, gaussian, label-flip, scale or "
              "same-value.")  # fmt: skip
@click.option("--attackers", callback=_attackers, metavar="N",
              help="How many: a share below 1, or a number.  [default: 0.2]")  # fmt: skip
@click.option("--attack-scale", type=float, metavar="X",
              help="How hard; see the kinds in the documentation.")  # fmt: skip
@click.option("--plot", type=PLOT, metavar="FILE",
              help="Draw loss, accuracy, bytes and answers by round, as .png.")  # fmt: skip
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
@click.option("--example", is_flag=True, expose_value=False, callback=_example,
              help="Print a commented scenario and leave.")  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    scenario: str,
    peers: dict[str, int],
    rounds: int | None,
    seed: int | None,
    until: str | None,
    aggregator: str | None,
    binds: dict[str, str],
    arguments: dict[str, str],
    config_file: Path | None,
    settings: dict[str, str],
    attack: str | None,
    attackers: dict[str, float | int],
    attack_scale: float | None,
    plot: Path | None,
    out: Path | None,
    no_plot: bool,
    resume: bool,
    journal: Path | None,
    journal_peers: str,
    as_json: bool,
) -> None:
    """Run a federation in virtual time: links that lose and delay, crashes, attackers.

    SCENARIO is a ready-made program (fedavg, gossip), or a file that names one and says what the
    world is like: TOML, of which `bb sim --example` prints one, or Python with a Scenario at its
    top level, FILE.py or FILE.py:NAME. Options win over what it says. The same scenario and seed
    give the same run, byte for byte. Ctrl-C keeps what was done; with --out, --resume goes on from
    there.

    \b
    bb sim fedavg --aggregator krum --attack sign-flip --attackers 0.2 --plot out.png
    """  # noqa: D301  # click's mark for lines that stay
    from bytesandbrains.cli._scenarios import Asked, read

    given: dict[str, Any] = {"rounds": rounds, "seed": seed, "until": until}
    attacking: dict[str, Any] = {"kind": attack, "scale": attack_scale, **attackers}
    bind = {**binds, **({"aggregator": aggregator} if aggregator else {})}
    asked = Asked(
        peers, _said(given), bind, arguments, _said(attacking), config_file, settings
    )  # fmt: skip
    source = read(scenario, asked)
    if resume and out is None:
        raise click.UsageError("--resume needs --out DIR, the folder with the checkpoint")
    if journal_peers and journal is None:
        raise click.UsageError("--journal-peers needs --journal DIR")
    if out is not None and not no_plot:
        need_drawing("--out", instead="--no-plot to leave the plots out")
    journals = None if journal is None else _Journals(journal)
    try:
        run = _Run(source, out, journals, journal_peers, plots=not no_plot, resume=resume)
        done = run.all(quiet=as_json)
        if _session.of(ctx).debug:
            run.show_traces()
    finally:
        if journals is not None:
            journals.close()
    if plot is not None and run.result.rounds:
        run.draw(plot, quiet=as_json)
    if journals is not None and not as_json:
        click.echo(f"wrote {journals.count} journals to {journal}/")
    failed = nothing_done(run.result, source.scenario.until) if done else None
    if as_json:
        errors = {} if failed is None else {"errors": [as_data(failed)]}
        print_json({**run.metrics, **errors})
    elif failed is not None:
        show(failed, as_json=False)
    ctx.exit(_code(failed, done=done))


def _said(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _code(failed: NoRoundDone | None, *, done: bool) -> Exit:
    if not done:
        return Exit.INTERRUPTED
    return Exit.OK if failed is None else Exit.FAILED


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
        self, source: Source, out: Path | None, journals: _Journals | None, journal_peers: str,
        *, plots: bool, resume: bool,
    ) -> None:  # fmt: skip
        from bytesandbrains._files import prepare_folder

        if out is not None:
            prepare_folder(out)
        self._checkpoints = None if out is None else Checkpoints(out)
        self._journals, self._journal_peers = journals, journal_peers
        self._out = out
        self._plots = plots
        self._resume = resume
        self._simulation: Simulation = self._prepared(source)
        self._scenario = self._simulation.scenario
        self.result: Result = self._simulation.result()
        self.metrics: dict[str, Any] = {}

    def all(self, *, quiet: bool) -> bool:
        """Run, report and write; return false when a user ended it before."""
        from bytesandbrains.cli._progress import on_terminal, progress

        simulation, checkpoints = self._simulation, self._checkpoints
        before = checkpoints.resume(simulation) if checkpoints and self._resume else 0
        if not quiet:
            click.echo(self._first_line())
        if checkpoints and not self._resume and checkpoints.file.exists():
            click.echo(
                f"replacing {checkpoints.file} of an earlier run, which --resume would go on from",
                err=True,
            )
        if before and not quiet:
            click.echo(f"going on after round {before}")
        left = max(0, (self._scenario.rounds or 1) - before)
        table = None if quiet or on_terminal() else LiveTable(left)
        try:
            with _clean_stop(simulation) as stop, progress(hidden=quiet or bool(table)) as bar:
                bar.begin("rounds", left)
                for one in simulation.rounds():
                    bar.step(f"round {one.number}{unlucky(one)}", figures(one))
                    if table is not None:
                        table.add(one)
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
            self._print(table, done=done)
        if self._out is not None:
            self._write(self._out, plots=self._plots and done)
        if checkpoints is not None and checkpoints.failed is not None:
            raise checkpoints.failed
        return done

    def show_traces(self) -> None:
        """Print to stderr where the first failure of each code came from."""
        for code, trace in self._simulation.traces.items():
            click.echo(f"first {code}:\n{trace.rstrip()}", err=True)

    def draw(self, plot: Path, *, quiet: bool) -> None:
        """Draw what was done by round."""
        from bb_sim.plots import draw_rounds
        from bytesandbrains._files import write_atomically

        write_atomically(plot, draw_rounds(self.result))
        if not quiet:
            click.echo(f"wrote {plot}")

    def _prepared(self, source: Source) -> Simulation:
        from bb_sim import Simulation
        from bytesandbrains.cli._scenarios import prepare

        made = prepare(source)
        try:
            return Simulation(
                made.artifact, made.scenario, config=made.config, journal=self._journals,
                journal_peers=self._journal_peers,
            )  # fmt: skip
        except BytesAndBrainsError as error:
            if source.ready is not None:
                source.ready.advise(error, source.scenario)
            raise

    def _first_line(self) -> str:
        counts = self.result.peers
        listed = ", ".join(f"{count:,} {cls}" for cls, count in counts.items())
        line = f"{self._simulation.main.short}: {listed}; seed {self._scenario.seed}"
        names, attack = self.result.attackers, self.result.attack
        if not names:
            return line
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"{line}\nattack by {attack}: {', '.join(names[:_NAMED])}{more}"

    def _print(self, live: LiveTable | None, *, done: bool) -> None:
        from bytesandbrains.cli._screen import Screen, table

        result = self.result
        if live is not None:
            live.end(result.rounds)
        elif result.rounds:
            Screen().print(table(*table_of(result.rounds)))
        for line in summary_of(result):
            click.echo(line)
        if not done:
            kept = self._checkpoints is not None and self._checkpoints.file.exists()
            hint = "; --resume goes on" if kept else ""
            click.echo(f"interrupted after {ended(result)} rounds{hint}", err=True)
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
