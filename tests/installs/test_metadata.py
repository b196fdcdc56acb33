"""What the built wheels say of themselves and of each other: it is what users resolve against."""

import email
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RELEASE = tomllib.loads((ROOT / "release.toml").read_text())
VERSION = RELEASE["tool"]["bumpversion"]["current_version"]
CONTRACT = RELEASE["lockstep"]["contract"]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))


def metadata(wheels, name):
    """Return what the wheel of a distribution says; skip one that is built apart from these."""
    wheel = wheels.get(name.replace("-", "_"))
    if wheel is None:
        pytest.skip(f"{name} is not among the wheels")
    with zipfile.ZipFile(wheel) as archive:
        path = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(path))


def requirements_of_ours(meta):
    found = [Requirement(line) for line in meta.get_all("Requires-Dist", [])]
    return [one for one in found if one.name in PACKAGES]


@pytest.mark.parametrize("name", PACKAGES)
def test_package_has_the_one_version_and_pins_the_others_to_it(wheels, name):
    meta = metadata(wheels, name)
    pins = {str(one.specifier) for one in requirements_of_ours(meta)}

    assert meta["Version"] == VERSION
    assert pins <= {f"=={VERSION}"}


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_asks_for_the_contract_in_a_range_that_holds_this_version(wheels, name):
    asked = requirements_of_ours(metadata(wheels, name))
    ranges = {str(one.specifier) for one in asked}

    assert CONTRACT in {one.name for one in asked}
    assert all(text.startswith("~=") for text in ranges)
    assert all(one.specifier.contains(VERSION) for one in asked)


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_needs_nothing_of_the_core_but_the_contract(wheels, name):
    # What a plugin adds to the recorder stands behind an extra of its own.
    needed = [
        one.name
        for one in requirements_of_ours(metadata(wheels, name))
        if not (one.name == "bb-dsl" and 'extra == "dsl"' in str(one.marker))
    ]

    # Planners and executors stand on bb-plans, which knows the contract alone.
    assert set(needed) <= {CONTRACT, "bb-ir", "bb-plans"}
