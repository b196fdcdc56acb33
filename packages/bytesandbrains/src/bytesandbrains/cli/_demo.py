"""`bb demo`: federated averaging on handwritten digits, from recording to the plot."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._demo_plans import plans
from bytesandbrains.cli._errors import Exit
from bytesandbrains.cli._json import print_json
from bytesandbrains.demo.federation import Settings

if TYPE_CHECKING:
    from bytesandbrains.cli._progress import Progress
    from bytesandbrains.demo.baselines import Baselines
    from bytesandbrains.demo.federation import Federation
    from bytesandbrains.demo.report import Report

__all__ = ["command"]

_DEFAULT = Settings()


def _whole(
    name: str, default: int, text: str, least: int = 1
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    kind = click.IntRange(least)
    return click.option(f"--{name}", type=kind, default=default, show_default=True, help=text)


@_session.group
@_whole("rounds", _DEFAULT.rounds, "Rounds of federated averaging.")
@_whole("clients", _DEFAULT.clients, "Clients, each a Node with its own part of the digits.")
@_whole("cohort", _DEFAULT.cohort, "Clients that are asked in a round.")
@_whole("epochs", _DEFAULT.epochs, "Passes of a client over its data in a round.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULT.alpha,
    show_default=True,
    help="Concentration of the Dirichlet partition: the smaller, the less clients have in common.",
)
@_whole("seed", _DEFAULT.seed, "Decides everything; the same seed gives the same bytes.", least=0)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("bb-out"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--quiet", is_flag=True, help="Print the last line only.")
@click.option("--no-plot", is_flag=True, help="Leave accuracy.png out.")
@click.option("--no-baselines", is_flag=True, help="Leave the two comparisons out.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    rounds: int,
    clients: int,
    cohort: int,
    epochs: int,
    alpha: float,
    seed: int,
    out: Path,
    quiet: bool,
    no_plot: bool,
    no_baselines: bool,
    as_json: bool,
) -> None:
    """Train a small network on handwritten digits over ten clients, and plot how well it did.

    Federated averaging through the real path: record, compile, artifact on disk, one Node for the
    server and one for each client, envelopes between them. Writes metrics.json (the same bytes
    for the same seed), timings.json, artifact.onnx with config.json for `bb run`,
    model.safetensors and accuracy.png. Ctrl-C keeps what was done. `bb demo plans` is another demo.
    """
    from bytesandbrains.demo.environment import need_parts, one_blas_thread

    if ctx.invoked_subcommand is not None:
        return
    if cohort > clients:
        raise click.BadParameter(
            f"a cohort of {cohort} cannot be drawn from {clients} clients", param_hint="--cohort"
        )
    settings = Settings(rounds, clients, cohort, epochs, alpha, seed)
    need_parts(plot=not no_plot)
    with one_blas_thread():
        from bytesandbrains.cli._progress import progress

        run = _Run(settings, out, progress(hidden=quiet or as_json))
        done = run.all(baselines=not no_baselines, plot=not no_plot)
    if as_json:
        print_json({**run.metrics, "out": str(out)})
    elif run.interrupted:
        click.echo(f"{run.last_line()}; wrote {out}/", err=True)
    else:
        click.echo(f"{run.last_line()}; wrote {out}/")
    ctx.exit(Exit.OK if done else Exit.INTERRUPTED)


command.add_command(plans, "plans")


class _Run:
    """One run of the demo; what was done is kept whenever it is interrupted."""

    def __init__(self, settings: Settings, out: Path, progress: Progress) -> None:
        from bytesandbrains._files import prepare_folder
        from bytesandbrains.demo.report import Report

        prepare_folder(out)
        self.settings = settings
        self.progress = progress
        self.report: Report = Report(out)
        self.federation: Federation | None = None
        self.baselines: Baselines | None = None
        self.interrupted = False
        self.metrics: dict[str, Any] = {}
        self.timings: dict[str, Any] = {}

    def all(self, *, baselines: bool, plot: bool) -> bool:
        """Do everything; return false when a user ended it before."""
        try:
            with self.progress:
                self._train()
                if baselines:
                    self._compare()
        except KeyboardInterrupt:
            self.interrupted = True
        self._write(plot=plot and not self.interrupted)
        return not self.interrupted

    def last_line(self) -> str:
        """Say what was reached."""
        rounds = self.federation.rounds if self.federation else []
        asked = self.settings.rounds
        if not rounds:
            return "interrupted before the first round ended: nothing was learned"
        many = f"{len(rounds)} round{'s'[: len(rounds) != 1]}"
        head = f"reached {rounds[-1].accuracy:.3f} test accuracy in {many}"
        if self.interrupted:
            where = f"after round {len(rounds)} of {asked}" if len(rounds) < asked else "afterwards"
            return f"interrupted {where}: {head}"
        if self.baselines is None:
            return head
        told = self.baselines.to_dict()
        whole, alone = told["centralized"]["accuracy"], told["local_only"]["mean"]
        return f"{head} (centralized {whole:.3f}, local-only {alone:.3f} mean)"

    def _train(self) -> None:
        from bytesandbrains.demo.federation import Federation, compile_federation
        from bytesandbrains.demo.report import ARTIFACT

        with self._timed("record_and_compile"):
            self.report.write(ARTIFACT, compile_federation(self.settings))
            self.report.write_config(self.settings.to_run_config())
        with self._timed("install"):
            self.federation = Federation(self.report.path(ARTIFACT), self.settings)
        self.progress.begin("federated", self.settings.rounds)
        seconds: list[float] = []
        begun = time.perf_counter()
        for one in self.federation.run():
            seconds.append(time.perf_counter() - begun)
            if one.round == 1:
                self.timings["cpu_seconds_from_start_to_first_round"] = time.process_time()
            figures = {"loss": one.loss, "accuracy": one.accuracy}
            self.progress.step(f"round {one.round}", figures)
            begun = time.perf_counter()
        self.timings["round_seconds"] = seconds

    def _compare(self) -> None:
        from bytesandbrains.demo.baselines import Baselines, centralized, local_only

        settings = self.settings
        with self._timed("baselines"):
            self.progress.begin("baselines", settings.clients + 1)
            whole = centralized(settings)
            self.progress.step("centralized", {"accuracy": whole[-1]})
            parts: list[list[float]] = []
            for curve in local_only(settings):
                parts.append(curve)
                self.progress.step(f"client {len(parts)} alone", {"accuracy": curve[-1]})
            self.baselines = Baselines(whole, parts)

    def _write(self, *, plot: bool) -> None:
        from bytesandbrains.demo.report import PLOT, metrics_of

        rounds = self.federation.rounds if self.federation else []
        params = self.federation.params if self.federation else None
        self.metrics = metrics_of(
            self.settings, rounds, self.baselines, params, interrupted=self.interrupted
        )
        self.report.write_metrics(self.metrics)
        if params is not None:
            self.report.write_model(params)
        if plot:
            from bytesandbrains.demo.plot import draw

            with self._timed("plot"):
                self.report.write(PLOT, draw(self.settings, rounds, self.baselines))
        self._write_timings()
        self.report.remove_stale()

    def _write_timings(self) -> None:
        from bytesandbrains.fingerprint import fingerprint

        self.timings["cpu_seconds"] = time.process_time()
        self.timings["machine"] = fingerprint().to_dict()
        self.report.write_timings(self.timings)

    @contextmanager
    def _timed(self, name: str) -> Generator[None]:
        begun = time.perf_counter()
        yield
        self.timings[f"{name}_seconds"] = time.perf_counter() - begun
