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
nox -s torch               bb-model-torch, which no other session installs; `-- --cuda`: with GPUs
nox -s proto -- --write    generate the protobuf code anew; without `--write` compare it
nox -s wheels              build everything, check the lockstep, install what was built and run it
nox -s minimums            the suite on the lowest versions that the packages promise
nox -s matrix              each plugin alone with the core, on the newest and oldest it allows
nox -s matrix-all          all plugins together on every Python; `matrix-page` writes both down
nox -s swarm               programs in hundreds of random worlds; `-- --seed N` for one of them
nox -s soak                a thousand rounds in a bad world: memory stays what it is
nox -s fuzz                all that reads bytes from outside; `-- --seconds 600 snapshots` for one
nox -s bench               the benchmarks, as JSON in bench-out/
nox -s bench-peers         our simulator beside Flower's and pfl, installed for it; takes long
nox -s equal-flwr          our aggregators against Flower's strategies of the same rules, to 1e-6
nox -s bench-flwr          the speed of both, as JSON in bench-out/
nox -s constraints         write constraints.txt anew from what resolves today
nox -s release -- minor    changelog, versions, wheels, checks, commit, tag; `--dry-run` tries it;
                           `--plugin bb-aggregator-krum patch` releases one plugin alone
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import nox

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

PYTHONS = ["3.11", "3.12", "3.13"]
WHOLE_SUITE_ON = {PYTHONS[0], PYTHONS[-1]}
PROTO = GENERATED = Path("packages/bb-ir/src/bb_ir/_proto")


def members(*kinds: str) -> list[str]:
    """Folders that `release.toml` lists under `lockstep.<kind>`."""
    found = (path for kind in kinds for pattern in LOCKSTEP[kind] for path in ROOT.glob(pattern))
    return sorted(str(p.relative_to(ROOT)) for p in found if (p / "pyproject.toml").exists())


#: Too large to be installed everywhere: built and released with the others, and tested in a
#: session of its own.
APART = members("apart")
BUILT = members("packages", "followers")
ALL = [member for member in BUILT if member not in APART]


def editable(*, extras: str = "") -> Iterator[str]:
    """All members but those apart as arguments of an install; `extras` are those of the facade."""
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


# Plain pip: uv does not find wheels of a local version, and takes what brings CUDA instead.
@nox.session(python=PYTHONS[0], venv_backend="virtualenv")
def torch(session: nox.Session) -> None:
    """Test bb-model-torch on the CPU; with `-- --cuda` on the build that pip finds, GPUs included.

    Without that word nothing but a build for the CPU is taken, so that nobody is sent gigabytes;
    where pip finds none, the session is skipped.
    """
    arguments = list(session.posargs)
    build = pinned("torch")
    if "--cuda" in arguments:
        arguments.remove("--cuda")
    elif sys.platform == "linux":
        build += "+cpu"  # only builds for the CPU have this version
    if build.endswith("+cpu") and not is_found(session, build):
        session.skip(f"pip finds no {build}: CONTRIBUTING.md says where it is")
    session.install(*group("test", "lint"), "editables>=0.5", "-c", "constraints.txt")
    # The builds share this environment; pip would make one for each member, which takes minutes.
    apart = [part for member in APART for part in ("-e", member)]
    own = ["--no-build-isolation", *editable(), *apart]
    session.install(*own, build, "-c", "constraints.txt")
    sources = [f"{member}/src" for member in APART]
    session.run("mypy", *sources)
    session.run("pyright", *sources)
    session.run("pytest", "-n2", *APART, "tests/test_public_api.py", *arguments)
    session.run("pytest", "-n2", "-m", "torch", "tests/test_examples.py", *arguments)


def pinned(name: str) -> str:
    """Return the requirement of one distribution as constraints.txt has it."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}=="))


def is_found(session: nox.Session, requirement: str) -> bool:
    """Ask pip whether it finds a distribution, and install nothing."""
    try:
        session.run("pip", "install", "--dry-run", "--no-deps", "--quiet", requirement)
    except nox.command.CommandFailed:
        return False
    return True


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
def dist(session: nox.Session) -> None:
    """Build all wheels, to install from in another environment; `wheels` tries them as well."""
    session.install(*group("wheels"), "-c", "constraints.txt")
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    for member in BUILT:
        build = ("python", "-m", "build", "--wheel", "--no-isolation", f"--outdir={folder}")
        session.run(*build, str(ROOT / member), silent=True)
    session.log('pip install "bytesandbrains[all,testing]" --find-links dist')


@nox.session
def wheels(session: nox.Session) -> None:
    """Build all wheels, compare their metadata, install them elsewhere and run them."""
    install_editable(session, "test", "wheels")
    build_and_try(session, ROOT, *session.posargs)


def build_and_try(session: nox.Session, home: Path, *arguments: str) -> Path:
    """Build all distributions of a checkout, check what they say, and use them as users do."""
    dist = home / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for member in BUILT:
        session.run(
            "python", "-m", "build", "--no-isolation", f"--outdir={dist}", str(home / member)
        )
    env = {**with_uv(), "BB_WHEELS": str(dist)}
    tests = ("pytest", "-p", "no:cacheprovider", str(home / "tests/installs"))
    session.run(*tests, *arguments, env=env)
    return dist


def install_lowest(session: nox.Session, *what: str) -> None:
    """Install in the lowest versions that are promised, and what the tests need beside them."""
    if session.venv_backend != "uv":
        session.error('only uv can resolve downwards: pip install "nox[uv]"')
    session.install("--resolution=lowest-direct", *what)
    lowest = session.run("uv", "pip", "freeze", "--exclude-editable", silent=True)
    pins = Path(session.create_tmp()) / "lowest.txt"
    pins.write_text("\n".join(line for line in str(lowest).splitlines() if "==" in line))
    session.install(*group("test"), "-c", str(pins))


@nox.session(python=PYTHONS[0])
def minimums(session: nox.Session) -> None:
    """Run the suite on the lowest versions that the packages promise to work with."""
    install_lowest(session, *editable())
    run_tests(session)


PLUGINS = sorted(Path(member).name for member in members("followers") if member in ALL)
TRIED = ROOT / ".nox" / "matrix"


@nox.session(python=PYTHONS[0])
@nox.parametrize("versions", ["newest", "oldest"])
@nox.parametrize("plugin", PLUGINS)
def matrix(session: nox.Session, plugin: str, versions: str) -> None:
    """Run the tests of one plugin, alone with the core, on the newest or the oldest it allows."""
    project = nox.project.load_toml(f"plugins/{plugin}/pyproject.toml")
    needs = project.get("dependency-groups", {}).get("test", ())  # plugins that its tests use
    beside = [need.partition("~")[0] for need in needs]
    plugins = [f"plugins/{name}" for name in (plugin, *beside)]
    alone = [f"-e{member}" for member in (*members("packages"), *plugins)]
    if versions == "oldest":
        install_lowest(session, *alone)
    else:
        session.install("--upgrade", *alone, *group("test"))
    tests = ["pytest", "-q", "--benchmark-disable", "-m", "not slow", f"plugins/{plugin}"]
    keep(session, f"{plugin}-{versions}", *tests)


@nox.session(name="matrix-all", python=PYTHONS)
def matrix_all(session: nox.Session) -> None:
    """Run the tests of all plugins together on one Python, with the newest of everything."""
    session.install("--upgrade", *editable(), *group("test"))
    keep(session, f"all-{session.python}", "pytest", "-q", "-n2", "--benchmark-disable", "plugins")


def keep(session: nox.Session, name: str, *tests: str) -> None:
    """Run tests and keep their outcome for the page that `nox -s matrix-page` writes."""
    TRIED.mkdir(parents=True, exist_ok=True)
    file = TRIED / f"{name}.json"
    file.unlink(missing_ok=True)
    freeze = ["uv", "pip", "freeze", "--exclude-editable"]
    frozen = str(session.run(*freeze, silent=True)).split()
    report = TRIED / f"{name}.xml"
    session.run(*tests, f"--junit-xml={report}", success_codes=[0, 1])
    counts = ET.parse(report).getroot().find("testsuite").attrib  # noqa: S314  # our own
    found = {key: int(counts[key]) for key in ("tests", "failures", "errors", "skipped")}
    file.write_text(json.dumps({"name": name, "installed": frozen, **found}))
    if found["failures"] + found["errors"]:
        session.error(f"{name}: {found['failures']} failed, {found['errors']} errors")


@nox.session(name="matrix-page")
def matrix_page(session: nox.Session) -> None:
    """Write docs/reference/compatibility.md from what the two sessions above kept."""
    session.run(
        "python", "tests/matrix/matrix_page.py", str(TRIED), "docs/reference/compatibility.md"
    )


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


@nox.session
def robustness(session: nox.Session) -> None:
    """Compare aggregation rules under attack; `-- --docs` writes the page and its picture anew."""
    install_editable(session, "test")
    session.run("python", "-W", "error", "tests/robustness/run.py", *session.posargs)


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
    lines.append(pinned("torch"))  # which is not installed here; it is moved by hand
    (ROOT / "constraints.txt").write_text("\n".join([head, *sorted(lines)]) + "\n")


@nox.session
def release(session: nox.Session) -> None:
    """Release X.Y.Z, or patch, minor, major: changelog, versions, wheels, checks, commit, tag.

    With `--plugin NAME` it is that plugin alone, with a number and a tag of its own. All of it
    happens in a copy; when every check has passed, commit, tag and `dist/` are taken over.
    `--dry-run` stops before that.
    """
    asked = argparse.ArgumentParser(prog="nox -s release --", allow_abbrev=False)
    asked.add_argument("version", help="patch, minor, major, or a version such as 0.2.0")
    asked.add_argument("--plugin", metavar="NAME", help="a plugin, such as bb-aggregator-krum")
    asked.add_argument("--dry-run", action="store_true", help="try it, and change nothing")
    said = asked.parse_args(session.posargs)
    if not said.dry_run and git(session, "status", "--porcelain"):
        session.error("there are changes that no commit holds: commit or stash them first")
    copy = Path(session.create_tmp()).resolve() / "release"
    shutil.rmtree(copy, ignore_errors=True)
    git(session, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(copy))
    for key in ("user.name", "user.email"):
        git(session, "-C", str(copy), "config", key, git(session, "config", key))
    make = release_alone if said.plugin else release_all
    tag, dist = make(session, copy, *filter(None, (said.plugin, said.version)))
    session.run("twine", "check", "--strict", *map(str, sorted(dist.iterdir())))
    told = git(session, "-C", str(copy), "show", "--stat", "HEAD")
    session.log(f"{told}\n{len(list(dist.iterdir()))} files for {tag} in {dist}")
    if said.dry_run:
        session.log(f"{tag} could be released as it is; nothing was changed")
        return
    git(session, "fetch", "--quiet", "--tags", str(copy), "HEAD")
    git(session, "merge", "--quiet", "--ff-only", "FETCH_HEAD")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    shutil.copytree(dist, ROOT / "dist")
    session.log(
        f"{tag} is committed and tagged here. Now: git push --follow-tags; twine upload dist/*"
    )


def release_all(session: nox.Session, copy: Path, version: str) -> tuple[str, Path]:
    """Release the core and all plugins that have its number, in a copy; return tag and files."""
    install_editable(session, "test", "wheels", "release")
    what = ["--new-version", version, "patch"] if version[0].isdigit() else [version]
    with session.chdir(copy):
        session.run("bump-my-version", "bump", "--config-file=release.toml", *what)
    dist = build_and_try(session, copy)
    before = ("python", str(ONE_PLUGIN), "released", str(copy), str(dist))
    for file in str(session.run(*before, silent=True)).split():
        session.log(f"{file} was released before, with its plugin alone: it is left out")
        (dist / file).unlink()
    return git(session, "-C", str(copy), "describe", "--tags", "--match=v*"), dist


#: Releases one plugin in a copy; says what was released before; unpacks tests.
ONE_PLUGIN = ROOT / "tests/releases/one_plugin.py"


def release_alone(session: nox.Session, copy: Path, plugin: str, version: str) -> tuple[str, Path]:
    """Release one plugin, in a copy; return tag and files."""
    session.install(*group("wheels", "release"), "packaging>=24", "-c", "constraints.txt")
    script = ("python", str(ONE_PLUGIN))
    tag = str(session.run(*script, "release", str(copy), plugin, version, silent=True)).strip()
    dist = copy / "dist"
    build = ("python", "-m", "build", "--no-isolation")
    session.run(*build, f"--outdir={dist}", str(copy / "plugins" / plugin))
    project = nox.project.load_toml(copy / "plugins" / plugin / "pyproject.toml")
    needs = project.get("dependency-groups", {}).get("test", ())  # plugins that its tests use
    core = released_core(session, copy, [f"plugins/{need.partition('~')[0]}" for need in needs])
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    python = fresh_environment(session, copy.parent / "alone", [*core, wheel])
    tests = str(session.run(*script, "unpack", str(sdist), str(copy.parent / "sdist"), silent=True))
    settings = ("-c", "pyproject.toml", "--import-mode=importlib", "-o", "markers=slow: takes long")
    with session.chdir(tests.strip()):
        session.run(
            python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *settings,
            "--benchmark-disable", "-m", "not slow", "-W", "error", "tests", external=True,
        )  # fmt: skip
        for point in project["project"]["entry-points"]["bytesandbrains.v1"]:
            bb = str(Path(python).with_name("bb"))
            session.run(bb, "plugins", "--check", point, external=True)
    return tag, dist


def released_core(session: nox.Session, copy: Path, beside: list[str]) -> list[Path]:
    """Build the wheels of the core as it was released last, and of other plugins of that time."""
    core, wheels = copy.parent / "core", copy.parent / "core-wheels"
    for folder in (core, wheels):
        shutil.rmtree(folder, ignore_errors=True)
    git(session, "clone", "--quiet", "--no-hardlinks", str(copy), str(core))
    tag = f"v{RELEASE['tool']['bumpversion']['current_version']}"
    if git(session, "-C", str(core), "tag", "--list", tag):
        git(session, "-C", str(core), "checkout", "--quiet", tag)
    else:
        session.log(f"there is no tag {tag}: the plugin is tried with the core as it is here")
    for member in [*members("packages"), *beside]:
        build = ("python", "-m", "build", "--wheel", "--no-isolation", f"--outdir={wheels}")
        session.run(*build, str(core / member), silent=True)
    return sorted(wheels.glob("*.whl"))


def fresh_environment(session: nox.Session, home: Path, wheels: list[Path]) -> str:
    """Make an environment of some wheels and what tests need; return its Python."""
    shutil.rmtree(home, ignore_errors=True)
    python = str(home / "bin" / "python")
    wanted = [*map(str, wheels), *group("test"), "-c", "constraints.txt"]
    if uv := with_uv().get("UV"):
        session.run(uv, "venv", "--quiet", str(home), external=True)
        session.run(uv, "pip", "install", "--quiet", "--python", python, *wanted, external=True)
    else:
        session.run("python", "-m", "venv", str(home))
        session.run(python, "-m", "pip", "install", "--quiet", *wanted, external=True)
    return python


def git(session: nox.Session, *arguments: str) -> str:
    """Run git and return what it printed."""
    return str(session.run("git", *arguments, external=True, silent=True)).strip()


if __name__ == "__main__":
    nox.main()
