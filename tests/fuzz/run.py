"""Fuzzes everything that reads bytes from outside, for as long as one likes.

nox -s fuzz                              every target for 60 seconds
nox -s fuzz -- --seconds 600 snapshots   one of them, longer
nox -s fuzz -- --replay FILE             one input again; what it belongs to stands in its path

A target is fuzzed in a process of its own, by atheris, which changes inputs so that they reach more
of the code. What it learned is kept in a folder for the next time. An input that lets an error out
that is none of ours, or for which far too much is allocated, is a finding: it is written down, once
for each place that raises, and the search goes on. One that takes too long, or too much memory in
all, ends its target. With a finding the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

__all__ = ["Row", "main", "row_of", "table"]

HERE = Path(__file__).parent
#: Distributions whose code counts for what was reached.
PACKAGES = (
    "bb_ir", "bb_roles", "bb_runtime", "bb_ops", "bb_sim", "bytesandbrains", "bb_codec_quantize",
)  # fmt: skip
#: One input in so many is measured: how much is allocated for it.
MEASURED = 16
#: What a target may need in all, in MiB, and for one input, in seconds.
MEGABYTES, SECONDS = 2048, 20


class Row(NamedTuple):
    """What came of a target: a line of the table."""

    target: str
    runs: int
    per_second: int
    features: int
    seconds: int
    findings: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    sys.path.insert(0, str(HERE))
    parser = argparse.ArgumentParser(
        prog="nox -s fuzz --", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="target", help="all when left out")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="hand one input in again")
    parser.add_argument("--seed", type=int, default=0, help="0: another one every time")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "bb-fuzz",
        help="where inputs and findings are kept",
    )  # fmt: skip
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.inside:
        return _inside(asked.inside, asked.folder, asked.seconds, asked.seed)
    if asked.replay:
        return _replay(asked.replay)
    names = asked.targets or list(_targets())
    if unknown := [name for name in names if name not in _targets()]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(_targets())}")
    rows = [_fuzz(name, asked.folder, asked.seconds, asked.seed) for name in names]
    print(table(rows))
    for finding in _findings(asked.folder, names):
        print(f"\n{_told(finding)}\nnox -s fuzz -- --replay {finding}")
    return int(any(row.findings for row in rows))


def _targets() -> dict[str, Any]:
    from fuzzing import TARGETS

    return TARGETS


# --- the table -------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """Return what came of all targets, as text."""
    head = ("target", "executions", "exec/s", "features", "seconds", "findings")
    lines = [head, *(tuple(f"{one:,}" if isinstance(one, int) else one for one in r) for r in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def row_of(target: str, log: str, seconds: float, findings: int) -> Row:
    """Return the line of a target, from what libFuzzer printed."""
    runs = [int(one) for one in re.findall(r"^#(\d+)\s", log, re.MULTILINE)]
    features = [int(one) for one in re.findall(r"\bft: (\d+)", log)]
    most = max(runs, default=0)
    speed = round(most / seconds) if seconds else 0
    return Row(target, most, speed, max(features, default=0), round(seconds), findings)


# --- around a target -------------------------------------------------------------------------


def _fuzz(name: str, folder: Path, seconds: int, seed: int) -> Row:
    """Fuzz a target in a process of its own."""
    for old in _findings(folder, [name]):
        old.rename(old.with_name(f"old-{old.name}"))
    command = [sys.executable, "-W", "error", __file__, "--inside", name, "--folder", str(folder)]
    command += ["--seconds", str(seconds), "--seed", str(seed)]
    begun = time.monotonic()
    print(f"{name}: {seconds} s ...", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    spent = time.monotonic() - begun
    found = _findings(folder, [name])
    for one in found:  # those of libFuzzer itself say nothing of their own
        told = one.with_name(f"{one.name}.txt")
        if not told.exists():
            told.write_text(done.stderr[-20_000:])
    if done.returncode and not found:
        raise SystemExit(f"{name} could not be fuzzed:\n{done.stderr[-4000:]}")
    return row_of(name, done.stderr, spent, len(found))


def _findings(folder: Path, names: Sequence[str]) -> list[Path]:
    patterns = ("crash-*", "timeout-*", "oom-*", "leak-*")
    places = [folder / name / "findings" for name in names]
    found = [one for place in places for pattern in patterns for one in place.glob(pattern)]
    return sorted(one for one in found if one.suffix != ".txt")


def _told(finding: Path) -> str:
    text = finding.with_name(f"{finding.name}.txt")
    last = text.read_text().strip().splitlines()[-1] if text.exists() else ""
    return f"{finding.parent.parent.name}: {last[:300] or finding.name.partition('-')[0]}"


def _replay(path: Path) -> int:
    """Hand an input in once; what comes of it is printed, or raised."""
    name = path.resolve().parent.parent.name
    if name not in _targets():
        raise SystemExit(f"{path} does not lie in the folder of a target: TARGET/findings/FILE")
    data = path.read_bytes()
    print(f"{name}, {len(data):,} bytes: {data[:200]!r}")
    told = _targets()[name].check(data)
    print(f"{'refused: ' + told if told else 'taken'}; measured again ...")
    _targets()[name].check(data, measure=True)
    print("nothing is wrong with it")
    return 0


# --- inside of it ----------------------------------------------------------------------------


def _inside(name: str, folder: Path, seconds: int, seed: int) -> int:
    """Fuzz a target in this process, which libFuzzer ends."""
    import atheris

    warnings.simplefilter("error")
    home = folder / name
    for part in ("inputs", "findings"):
        (home / part).mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=list(PACKAGES)), _quiet():
        target = _targets()[name]
        for one in target.seeds():
            target.check(one, measure=True)  # what is imported late is imported now
            (home / "inputs" / hashlib.sha256(one).hexdigest()[:16]).write_bytes(one)
    known: set[str] = set()

    def one_input(data: bytes) -> None:
        try:
            target.check(data, measure=zlib.crc32(data) % MEASURED == 0)
        except Exception as error:  # noqa: BLE001  # whatever gets out is what is looked for
            _note(home, data, error, known)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        draw = Random(number)
        changed = bytes(data)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            changed = target.mutate(changed, draw, lambda one: _tweaked(atheris, one, most))
        return changed[:most]

    options = [
        f"-max_total_time={seconds}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}",
        f"-max_len={target.longest}", f"-artifact_prefix={home / 'findings'}{os.sep}",
        f"-seed={seed}", "-len_control=0", "-print_final_stats=1", str(home / "inputs"),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], one_input, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def _tweaked(atheris: Any, data: bytes, most: int) -> bytes:
    return bytes(atheris.Mutate(data, min(most, 2 * len(data) + 64)))


def _note(home: Path, data: bytes, error: Exception, known: set[str]) -> None:
    """Write a finding down, once for each place that raises."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [one for one in frames if "fuzzing" not in one.filename] or frames
    place = f"{type(error).__name__} {ours[-1].filename}:{ours[-1].lineno}"
    if place in known:
        return
    known.add(place)
    path = home / "findings" / f"crash-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    path.write_bytes(data)
    path.with_name(f"{path.name}.txt").write_text("".join(traceback.format_exception(error)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let atheris not name each module that it reads."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


if __name__ == "__main__":
    raise SystemExit(main())
