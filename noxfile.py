#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox[uv]>=2025.10.16"]
# ///
"""Everything a developer does here, by name.

nox -s demo                run the demonstration; arguments after `--` go to `bb demo`
nox -s tests               the whole suite on the Python that runs nox
nox                        tests and lint
nox -s tests_on-3.13       the suite on one other Python
nox -s browser             the pages that we write, in a headless Chromium
nox -s lint                format, style, types, direction of imports
nox -s dev                 make `.venv-dev`, an environment to work in
nox -s docs                the documentation as a site in site/; fails on a link that leads nowhere
nox -s proto -- --write    generate the protobuf code anew; without `--write` compare it
nox -s wheels              build everything, check the lockstep, install what was built and run it
nox -s minimums            the suite on the lowest versions that the packages promise
nox -s swarm               programs in hundreds of random worlds; `-- --seed N` for one of them
nox -s soak                a thousand rounds in a bad world: memory stays what it is
nox -s fuzz                all that reads bytes from outside; `-- --seconds 600 snapshots` for one
nox -s bench               the benchmarks, as JSON in bench-out/
nox -s bench-peers         our simulator beside Flower's and pfl, installed for it; takes long
nox -s equal-flwr          our aggregators against Flower's strategies of the same rules, to 1e-6
nox -s bench-flwr          the speed of both, as JSON in bench-out/
nox -s constraints         write constraints.txt anew from what resolves today
nox -s release -- minor    changelog, versions, commit, tag; pushes nothing
"""

from __future__ import annotations

import email
import filecmp
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.10.16"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = "CI" in os.environ
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint"]

ROOT = Path(__file__).parent
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]
RELEASE = nox.project.load_toml("release.toml")
LOCKSTEP = RELEASE["lockstep"]
VERSION = RELEASE["tool"]["bumpversion"]["current_version"]

PYTHONS = ["3.11", "3.12", "3.13"]
WHOLE_SUITE_ON = {PYTHONS[0], PYTHONS[-1]}
PROTO = Path("packages/bb-ir/proto")
GENERATED = Path("packages/bb-ir/src/bb_ir/_proto")


def members(*kinds: str) -> list[str]:
    """Folders that `release.toml` lists under `lockstep.<kind>`."""
    found = (path for kind in kinds for pattern in LOCKSTEP[kind] for path in ROOT.glob(pattern))
    return sorted(str(p.relative_to(ROOT)) for p in found if (p / "pyproject.toml").exists())


ALL = members("packages", "followers")


def editable(*, extras: str = "") -> Iterator[str]:
    """All members as arguments of an install; `extras` are those of the facade."""
    for member in ALL:
        yield "-e"
        yield f"{member}[{extras}]" if extras and member.endswith("/bytesandbrains") else member


def group(*names: str) -> list[str]:
    """The requirements of the named dependency groups."""
    return [requirement for name in names for requirement in GROUPS[name]]


def install_editable(session: nox.Session, *groups: str, extras: str = "") -> None:
    """Install all members at once, so that a stale pin between two cannot resolve."""
    if session.python is None and not (3, 11) <= sys.version_info < (3, 14):
        session.error(f"Python 3.11 to 3.13 is needed; nox runs on {sys.version.split()[0]}")
    session.install(*editable(extras=extras), *group(*groups), "-c", "constraints.txt")


def run_tests(session: nox.Session, *, only: str = "not browser") -> None:
    """Run pytest on both cores; benchmarks run once each, untimed."""
    options = ["-n2", "--benchmark-disable", "-m", only]
    session.run("pytest", *options, *session.posargs, env=with_uv())


def with_uv() -> dict[str, str]:
    """Tell the tests where uv is, if nox came with one: it fills an environment in a second."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("uv", path=beside) or shutil.which("uv")
    return {"UV": found} if found else {}


@nox.session
def demo(session: nox.Session) -> None:
    """Train a network over ten clients and draw what came of it."""
    install_editable(session, extras="demo")
    session.run("bb", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole suite; arguments after `--` go to pytest."""
    install_editable(session, "test")
    run_tests(session)


@nox.session(python=PYTHONS)
def tests_on(session: nox.Session) -> None:
    """Run the suite on one Python: all of it on the lowest and the highest."""
    install_editable(session, "test")
    whole = session.python in WHOLE_SUITE_ON
    run_tests(session, only="not browser" if whole else "not browser and not slow")


@nox.session
def browser(session: nox.Session) -> None:
    """Open the pages that we write in a headless Chromium; needs one on the path, or $CHROMIUM."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if not os.environ.get("CHROMIUM") and not any(map(shutil.which, names)):
        told = f"no browser: none of {', '.join(names)} is on the path (Debian: chromium)"
        if "CI" in os.environ:
            session.error(told)
        session.skip(told)
    install_editable(session, "test")
    session.run("pytest", "-m", "browser", "tests/browser", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types and the direction of imports."""
    install_editable(session, "test", "lint")
    typed = [f"{member}/src" for member in ALL]
    typed += ["tests/typing"] if any(ROOT.glob("tests/typing/*.py")) else []
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("mypy", *typed)
    session.run("pyright", *typed)
    session.run("lint-imports")


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Make `.venv-dev` with all members editable and every tool: the one to point an editor at."""
    uv = with_uv().get("UV")
    if uv is None:
        session.error('this needs uv: pip install "nox[uv]"')
    make = [uv, "venv", "--seed", "--allow-existing", "-p", sys.executable]
    session.run(*make, ".venv-dev", external=True)
    what = [*editable(extras="demo"), *group("test", "lint", "proto", "wheels")]
    pip = [uv, "pip", "install", "--python", ".venv-dev", "-c", "constraints.txt"]
    session.run(*pip, *what, external=True)


@nox.session
def proto(session: nox.Session) -> None:
    """Fail where the generated protobuf code is not what its source says; `-- --write` rewrites."""
    session.install(*group("proto"), "-c", "constraints.txt")
    fresh = Path(session.create_tmp())
    sources = sorted(path.name for path in (ROOT / PROTO).glob("*.proto"))
    outputs = [f"--python_out={fresh}", f"--pyi_out={fresh}"]
    session.run("python", "-m", "grpc_tools.protoc", f"-I{PROTO}", *outputs, *sources)
    names = [f"{Path(s).stem}_pb2.{end}" for s in sources for end in ("py", "pyi")]
    if "--write" in session.posargs:
        for name in names:
            shutil.copy(fresh / name, ROOT / GENERATED / name)
        return
    _, stale, missing = filecmp.cmpfiles(fresh, ROOT / GENERATED, names, shallow=False)
    if stale or missing:
        session.error(f"not current: {stale + missing}; run: nox -s proto -- --write")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation as a site, strictly, in site/: menu, API reference and links."""
    session.install(*group("docs"), "-c", "constraints.txt")
    stage = Path(session.create_tmp()) / "stage"
    session.run("python", "docs/site/stage.py", str(stage))
    session.run("zensical", "build", "--strict", "--config-file", str(stage / "mkdocs.yml"))
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    shutil.copytree(stage / "site", ROOT / "site")


@nox.session
def wheels(session: nox.Session) -> None:
    """Build all wheels, compare their metadata, install them elsewhere and run them."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    install_editable(session, "test", "wheels")
    for member in ALL:
        session.run("python", "-m", "build", "--no-isolation", f"--outdir={dist}", member)
    own = {Path(m).name for m in members("packages")}
    for wheel in sorted(dist.glob("*.whl")):
        check_lockstep(session, wheel, own)
    env = {**with_uv(), "BB_WHEELS": str(dist)}
    session.run("pytest", "-p", "no:cacheprovider", "tests/installs", *session.posargs, env=env)


def check_lockstep(session: nox.Session, wheel: Path, own: set[str]) -> None:
    """Believe the wheel, not the source: it is what users resolve against."""
    with zipfile.ZipFile(wheel) as archive:
        path = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        meta = email.message_from_bytes(archive.read(path))
    if meta["Version"] != VERSION:
        session.error(f"{wheel.name} is not {VERSION}")
    operator = "==" if meta["Name"] in own else "~="
    for line in meta.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        if requirement.name in own and str(requirement.specifier) != operator + VERSION:
            session.error(f"{wheel.name} wants {line}, not {operator}{VERSION}")
        # What a plugin adds to the recorder stands behind an extra of its own.
        extra = requirement.name == "bb-dsl" and 'extra == "dsl"' in str(requirement.marker)
        if operator == "~=" and requirement.name in own - {LOCKSTEP["contract"]} and not extra:
            session.error(f"{wheel.name} is a plugin and may not depend on {line}")


@nox.session(python=PYTHONS[0])
def minimums(session: nox.Session) -> None:
    """Run the suite on the lowest versions that the packages promise to work with."""
    if session.venv_backend != "uv":
        session.error('only uv can resolve downwards: pip install "nox[uv]"')
    session.install("--resolution=lowest-direct", *editable())
    lowest = session.run("uv", "pip", "freeze", "--exclude-editable", silent=True)
    pins = Path(session.create_tmp()) / "lowest.txt"
    pins.write_text("\n".join(line for line in str(lowest).splitlines() if "==" in line))
    session.install(*group("test"), "-c", str(pins))
    run_tests(session)


@nox.session
def swarm(session: nox.Session) -> None:
    """Run programs in random worlds, one per seed, and see that what must hold does."""
    install_editable(session, "test")
    session.run("python", "-W", "error", "tests/swarm/run.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Run a thousand rounds in a bad world, and see that no memory and no counter grows."""
    install_editable(session, "test")
    session.run("python", "-W", "error", "tests/swarm/soak.py", *session.posargs)


@nox.session(python="3.13")
def fuzz(session: nox.Session) -> None:
    """Change inputs of everything that reads bytes from outside, and see that only we refuse."""
    install_editable(session, "fuzz")
    folder = session.cache_dir / "fuzz"  # what it learned is kept
    run = ("python", "-W", "error", "tests/fuzz/run.py", f"--folder={folder}")
    session.run(*run, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, all or what is named after `--`; `-- --docs` writes docs/benchmarks.md anew."""
    install_editable(session, "bench", extras="demo")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


# The others do not run on all Pythons that we do.
@nox.session(name="bench-peers", python=PYTHONS[0])
def bench_peers(session: nox.Session) -> None:
    """Compare our simulator with others, each in an environment of its own, as JSON and a table."""
    install_editable(session, "bench")
    home = session.cache_dir / "peers"  # what is installed is kept
    session.run(
        "python", "tests/benchmarks/run_peers.py", f"--environments={home}", *session.posargs
    )


def install_beside_flower(session: nox.Session, *groups: str) -> None:
    """Install all members and Flower into one environment, in versions that suit both."""
    # Where it differs from ours, Flower's own ranges leave no choice.
    pins = "tests/benchmarks/peers/constraints-flower.txt"
    session.install(*editable(), *group("flwr", *groups), "-c", pins)


@nox.session(name="equal-flwr", python=PYTHONS[0])
def equal_flwr(session: nox.Session) -> None:
    """Compare what our aggregators give with Flower's strategies of the same rules."""
    install_beside_flower(session, "test")
    session.run("pytest", "tests/equal_flwr", *session.posargs)


@nox.session(name="bench-flwr", python=PYTHONS[0])
def bench_flwr(session: nox.Session) -> None:
    """Measure our aggregators beside Flower's strategies, as JSON and a table."""
    install_beside_flower(session, "bench")
    session.run("python", "tests/benchmarks/run_flwr.py", *session.posargs)


@nox.session
def constraints(session: nox.Session) -> None:
    """Write down the versions that resolve today, by name and version only."""
    install = [*editable(extras="demo"), *group("test", "lint", "proto", "wheels", "docs")]
    session.install("--upgrade", *install)
    freeze = ["uv", "pip", "freeze"] if session.venv_backend == "uv" else ["pip", "freeze"]
    frozen = str(session.run(*freeze, silent=True)).splitlines()
    head = (
        "# The versions that continuous integration uses. `nox -s constraints` rewrites this file."
    )
    lines = [line for line in frozen if "==" in line and not line.startswith(("-e", "pip=="))]
    (ROOT / "constraints.txt").write_text("\n".join([head, *sorted(lines)]) + "\n")


@nox.session
def release(session: nox.Session) -> None:
    """Write the changelog, move every version, commit and tag."""
    session.install(*group("release"))
    session.run("bump-my-version", "bump", "--config-file=release.toml", *session.posargs)


if __name__ == "__main__":
    nox.main()
