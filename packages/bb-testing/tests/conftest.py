"""What the tests of the suites share: suites over good and broken parts are run, and looked at."""

import re
import subprocess
import sys
import textwrap

import pytest

from bb_testing._life import LivingSuite

#: What is switched off where suites are run: order, memory of the last run, and other processes.
PLAIN = ["-p", "no:randomly", "-p", "no:cacheprovider"]


def tests_in(suite):
    return {name for name in vars(suite) if name.startswith("test_")}


@pytest.fixture
def tests_of():
    """Return a function that gives the names of a suite's own tests, without those it inherits."""
    return tests_in


@pytest.fixture
def bites(pytester):
    """Return `check(source, broken, *options)`: runs a module of suites.

    `Test0` is of something good, and passes. `Test1` and so on are of what is broken: each fails
    the test that `broken` names in its place, beside what is shown where it does not.
    """

    def check(source, broken, *options):
        pytester.syspathinsert()
        pytester.makepyfile(test_bites=source)
        run = pytester.inline_run(*PLAIN, "-q", *options)
        failed: dict[str, set[str]] = {}
        for report in run.getreports("pytest_runtest_logreport"):
            if report.failed:
                _, cls, test = report.nodeid.split("::")
                failed.setdefault(cls, set()).add(test.partition("[")[0])
        assert run.getreports("pytest_runtest_logreport"), "no suite was run"
        for at, (name, shown) in enumerate(broken, 1):
            assert name.strip() in failed.pop(f"Test{at}", set()), f"{name} let this pass: {shown}"
        assert failed == {}, "what is good fails"

    return check


@pytest.fixture
def bites_components(bites):
    """Return `check(good, broken)`: runs the suite of a role over components.

    `good` is a module with a class `Good` and a class `Suite`; `broken` has classes `Broken` by the
    names of tests.
    """
    # What holds for components of all roles in use is bitten in `test_life_bites`.
    chosen = f"Test0 or not ({' or '.join(tests_in(LivingSuite))})"

    def check(good, broken):
        parts = [good, "class Test0(Suite):\n    def make(self): return Good()\n"]
        for at, source in enumerate(broken.values(), 1):
            parts.append(textwrap.dedent(source).replace("Broken", f"Broken{at}"))
            given = "None, environment()" if "Component" in source else ""
            parts.append(
                f"class Test{at}(Suite):\n    def make(self): return Broken{at}({given})\n"
            )
        bites("\n".join(parts), broken.items(), "-k", chosen)

    return check


@pytest.fixture(scope="session")
def outcomes_of(tmp_path_factory):
    """Return `run(files, *options)`: runs suites in a process of their own.

    Gives the names of tests by suite and outcome, and all that was said under `said`.
    """

    def run(files, *options):
        folder = tmp_path_factory.mktemp("bites")
        for name, source in files.items():
            (folder / name).write_text(source)
        command = [sys.executable, "-m", "pytest", "-q", "-rA", *PLAIN, "-p", "no:xdist"]
        done = subprocess.run(
            [*command, "-W", "error", *options, str(folder)],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = {}
        pattern = r"^(PASSED|FAILED|XFAIL|ERROR) \S*::(\w+)::(test_\w+)"
        for outcome, suite, name in re.findall(pattern, done.stdout, re.MULTILINE):
            found.setdefault(suite, {}).setdefault(outcome, set()).add(name)
        assert found, done.stdout + done.stderr
        return {**found, "said": done.stdout}

    return run
