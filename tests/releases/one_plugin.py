"""What `nox -s release` needs to release plugins alone; the session builds, checks and tries.

    one_plugin.py release CHECKOUT PLUGIN BUMP   set the version, collect the plugin's own changelog
                                                 fragments, commit and tag; prints the tag
    one_plugin.py released CHECKOUT DIST         print the files that were released before
    one_plugin.py unpack SDIST FOLDER            unpack the tests; prints where they are

The checkout is a copy that may be changed. Nothing is pushed.

The kinds of fragments, and how they are written, are those of `release.toml`; what the two tools
are told stands in a file beside the checkout, so that they leave `release.toml` as it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

#: How a changelog begins; what is between the head and the first release stays.
HEAD = """\
# Changelog of {name}

Releases of this plugin alone; those with all others are in the changelog of bytesandbrains.

<!-- towncrier -->
"""
PARTS = ("major", "minor", "patch")


class CannotRelease(Exception):
    """A plugin cannot be released as it is; the text says why, and what to do."""


class Plugin(NamedTuple):
    """A plugin of a checkout.

    Attributes:
        name: Its name.
        folder: Where it is.
        version: The number it has.
        core: The number of the core.
        contract: What it requires of the contract.
    """

    name: str
    folder: Path
    version: str
    core: str
    contract: Requirement


def read_plugin(checkout: Path, name: str) -> Plugin:
    """Return what is to be known of a plugin.

    Raises:
        CannotRelease: There is no such plugin, or its range of the contract has not the core's.
    """
    settings = tomllib.loads((checkout / "release.toml").read_text())
    lockstep, core = settings["lockstep"], settings["tool"]["bumpversion"]["current_version"]
    known = sorted(
        path.parent.name
        for pattern in lockstep["followers"]
        for path in checkout.glob(f"{pattern}/pyproject.toml")
    )
    if name not in known:
        raise CannotRelease(f"there is no plugin {name!r}; there is {', '.join(known)}")
    folder = next(path for one in lockstep["followers"] for path in checkout.glob(one)
                  if path.name == name)  # fmt: skip
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    required = map(Requirement, project["dependencies"])
    found = [one for one in required if canonicalize_name(one.name) == lockstep["contract"]]
    if not found or not found[0].specifier.contains(core):
        raise CannotRelease(
            f"{name} requires {', '.join(map(str, found)) or 'no contract at all'}, and the core "
            f"is {core}: write {lockstep['contract']}~={core} into its dependencies"
        )
    return Plugin(name, folder, project["version"], core, found[0])


def fragments(plugin: Plugin, kinds: Iterable[str]) -> list[str]:
    """Return the names of the plugin's changelog fragments.

    Raises:
        CannotRelease: There is none, or one is of no kind that there is.
    """
    found = sorted(path.name for path in (plugin.folder / "changes").glob("*.md"))
    kinds = list(kinds)
    odd = [one for one in found if not re.fullmatch(rf"[\w+-]+\.({'|'.join(kinds)})\.md", one)]
    if odd:
        raise CannotRelease(f"{odd[0]} is no fragment: its name ends with .KIND.md, of which KIND "
                            f"is one of {', '.join(kinds)}")  # fmt: skip
    if not found:
        raise CannotRelease(
            f"there is nothing to tell of {plugin.name}: write a fragment, such as "
            f"plugins/{plugin.name}/changes/+what.fix.md"
        )
    return found


def tag_of(name: str, version: str) -> str:
    """Return the tag of a release of one plugin."""
    return f"{name}-v{version}"


def tool_settings(plugin: Plugin, towncrier: Mapping[str, Any], template: Path) -> str:
    """Return what the tools are told, as TOML: of the version, and of the changelog."""
    news = {**towncrier, "name": plugin.name, "template": str(template)}
    kinds = news.pop("type")
    folder = f"plugins/{plugin.name}"
    collect = (
        f'towncrier build --yes --config "$BB_SETTINGS" --dir {folder} '
        "--version $BVHOOK_NEW_VERSION"
    )
    bump = {
        "current_version": plugin.version,
        "allow_dirty": True,  # the copy is ours, and its changelog may have just been begun
        "allow_shell_hooks": True,
        "commit": True,
        "tag": True,
        "tag_name": tag_of(plugin.name, "{new_version}"),
        "tag_message": f"{plugin.name} {{new_version}}",
        "message": f"Release {plugin.name} {{new_version}}",
        "pre_commit_hooks": [collect],
    }
    file = {
        "filename": str(plugin.folder / "pyproject.toml"),
        "search": '^version = "{current_version}"',
        "replace": 'version = "{new_version}"',
        "regex": True,
    }
    tables = [
        ("[tool.bumpversion]", bump),
        ("[[tool.bumpversion.files]]", file),
        ("[tool.towncrier]", news),
        *(("[[tool.towncrier.type]]", kind) for kind in kinds),
    ]
    return "\n".join(
        "\n".join([head, *(f"{key} = {_toml(value)}" for key, value in table.items()), ""])
        for head, table in tables
    )


def _toml(value: Any) -> str:
    """Return a text, truth value or list of texts as TOML; JSON writes these the same."""
    return json.dumps(value, ensure_ascii=False)


def released_before(dist: Iterable[str], tags: Iterable[str]) -> list[str]:
    """Return the files of a release that were released before, with their plugin alone.

    Args:
        dist: Names of wheels and sdists.
        tags: All tags.
    """
    known = set(tags)
    return [name for name in dist if tag_of(*_name_and_version(name)) in known]


def _name_and_version(file: str) -> tuple[str, Version]:
    if file.endswith(".whl"):
        name, version, _, _ = parse_wheel_filename(file)
    else:
        name, version = parse_sdist_filename(file)
    return name, version


def unpack_tests(sdist: Path, into: Path) -> Path:
    """Unpack an sdist without its sources, so that its tests meet what is installed."""
    shutil.rmtree(into, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (folder,) = into.iterdir()
    for path in sorted((folder / "src").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    return folder


def release(checkout: Path, name: str, bump: str) -> str:
    """Set the version, collect fragments, commit and tag; return the tag.

    Args:
        checkout: A clone that may be changed.
        name: The plugin.
        bump: `major`, `minor`, `patch`, or the new version.

    Raises:
        CannotRelease: Something is missing, or the version is not above the one before.
    """
    checkout = checkout.resolve()
    plugin = read_plugin(checkout, name)
    told = tomllib.loads((checkout / "release.toml").read_text())["tool"]["towncrier"]
    fragments(plugin, (kind["directory"] for kind in told["type"]))
    if bump not in PARTS and Version(bump) <= Version(plugin.version):
        raise CannotRelease(f"{bump} is not above {plugin.version}, which {name} has")
    changelog = plugin.folder / "CHANGELOG.md"
    if not changelog.exists():
        changelog.write_text(HEAD.format(name=name))
    settings = checkout.parent / f"{name}.release.toml"
    settings.write_text(tool_settings(plugin, told, checkout / told["template"]))
    what = [bump] if bump in PARTS else ["--new-version", bump, "patch"]
    command = ["bump-my-version", "bump", f"--config-file={settings}", *what]
    # The hook is run by a shell: what it is told by this name may hold spaces.
    environment = {**os.environ, "BB_SETTINGS": str(settings)}
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotRelease(f"bump-my-version failed:\n{done.stdout}{done.stderr}")
    version = tomllib.loads((plugin.folder / "pyproject.toml").read_text())["project"]["version"]
    return tag_of(name, version)


def main(what: str, *words: str) -> str:
    """Do one of the three things that the session asks for; return what it is told."""
    if what == "release":
        checkout, name, bump = words
        return release(Path(checkout), name, bump)
    if what == "released":
        checkout, dist = words
        tags = subprocess.run(
            ["git", "-C", checkout, "tag"], capture_output=True, text=True, check=True
        )
        names = [path.name for path in Path(dist).iterdir()]
        return "\n".join(released_before(names, tags.stdout.split()))
    sdist, into = words
    return str(unpack_tests(Path(sdist), Path(into)))


if __name__ == "__main__":
    try:
        sys.stdout.write(main(*sys.argv[1:]))
    except CannotRelease as error:
        sys.exit(str(error))
