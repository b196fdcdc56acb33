"""One plugin is released alone: what is checked before, what is told to the tools, what is left."""

import importlib.util
import io
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KINDS = ["feature", "fix"]


def load(name):
    """Import a module that stands beside this file; tests are in no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


one_plugin = load("one_plugin")


@pytest.fixture
def checkout(tmp_path):
    """A repository with one plugin of a number of its own, and a core."""
    home = tmp_path / "checkout"
    plugin = home / "plugins" / "bb-codec-tiny"
    (plugin / "changes").mkdir(parents=True)
    (plugin / "changes" / "+small.fix.md").write_text("It is smaller.\n")
    (plugin / "pyproject.toml").write_text(
        '[project]\nname = "bb-codec-tiny"\nversion = "0.3.1"\n'
        'dependencies = ["numpy>=1", "bb-roles~=0.2.0"]\n'
    )
    (home / "changes").mkdir()
    shutil.copy(ROOT / "changes/_template.md.jinja", home / "changes")
    text = (ROOT / "release.toml").read_text()
    version = tomllib.loads(text)["tool"]["bumpversion"]["current_version"]
    (home / "release.toml").write_text(
        text.replace(f'current_version = "{version}"', 'current_version = "0.2.3"')
    )
    return home


def test_a_plugin_has_a_number_of_its_own(checkout):
    plugin = one_plugin.read_plugin(checkout, "bb-codec-tiny")

    assert (plugin.version, plugin.core) == ("0.3.1", "0.2.3")
    assert plugin.folder == checkout / "plugins/bb-codec-tiny"


def test_there_has_to_be_such_a_plugin(checkout):
    with pytest.raises(one_plugin.CannotRelease, match="'tiny'; there is bb-codec-tiny"):
        one_plugin.read_plugin(checkout, "tiny")


@pytest.mark.parametrize("written", ["bb-roles~=0.1.0", "bb-roles~=0.3.0", "bb-ir~=0.2.0"])
def test_its_range_has_to_hold_the_core_that_is_released(checkout, written):
    file = checkout / "plugins/bb-codec-tiny/pyproject.toml"
    file.write_text(file.read_text().replace("bb-roles~=0.2.0", written))

    with pytest.raises(one_plugin.CannotRelease, match=r"write bb-roles~=0\.2\.3"):
        one_plugin.read_plugin(checkout, "bb-codec-tiny")


def test_fragments_are_those_of_the_plugin(checkout):
    plugin = one_plugin.read_plugin(checkout, "bb-codec-tiny")

    assert one_plugin.fragments(plugin, KINDS) == ["+small.fix.md"]


@pytest.mark.parametrize(
    ("name", "found"), [("", "nothing to tell"), ("+small.news.md", "is no fragment")]
)
def test_without_a_right_fragment_there_is_no_release(checkout, name, found):
    (folder,) = checkout.glob("plugins/*/changes")
    fragment = folder / "+small.fix.md"
    fragment.rename(folder / name) if name else fragment.unlink()

    with pytest.raises(one_plugin.CannotRelease, match=found):
        one_plugin.release(checkout, "bb-codec-tiny", "patch")


@pytest.mark.parametrize("version", ["0.3.1", "0.3.0", "0.2.9"])
def test_a_version_is_above_the_one_before(checkout, version):
    with pytest.raises(one_plugin.CannotRelease, match=f"{version} is not above 0.3.1"):
        one_plugin.release(checkout, "bb-codec-tiny", version)


def test_tools_are_told_of_this_plugin_alone(checkout):
    plugin = one_plugin.read_plugin(checkout, "bb-codec-tiny")
    ours = tomllib.loads((ROOT / "release.toml").read_text())["tool"]["towncrier"]

    told = tomllib.loads(one_plugin.tool_settings(plugin, ours, Path("/t.md.jinja")))["tool"]

    bump, news = told["bumpversion"], told["towncrier"]
    assert (bump["current_version"], bump["tag_name"]) == ("0.3.1", "bb-codec-tiny-v{new_version}")
    assert [one["filename"] for one in bump["files"]] == [str(plugin.folder / "pyproject.toml")]
    assert (news["name"], news["template"]) == ("bb-codec-tiny", "/t.md.jinja")
    same = {"directory", "filename", "start_string", "title_format", "issue_format", "type"}
    assert all(news[key] == ours[key] for key in same)


def test_what_was_released_alone_is_not_released_again():
    dist = [
        "bb_codec_tiny-0.3.1-py3-none-any.whl", "bb_codec_tiny-0.3.1.tar.gz",
        "bb_codec_zstd-0.3.1-py3-none-any.whl", "bb_codec_tiny-0.3.2.tar.gz",
    ]  # fmt: skip

    found = one_plugin.released_before(dist, ["v0.3.1", "bb-codec-tiny-v0.3.1"])

    assert found == dist[:2]


def test_tests_are_unpacked_without_the_sources(tmp_path):
    sdist = tmp_path / "tiny-1.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name in (
            "src/tiny/__init__.py",
            "src/tiny/deep/er.py",
            "tests/test_it.py",
            "README.md",
        ):
            entry = tarfile.TarInfo(f"tiny-1/{name}")
            archive.addfile(entry, io.BytesIO())

    folder = one_plugin.unpack_tests(sdist, tmp_path / "there")

    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"tests/test_it.py", "README.md"}


@pytest.mark.skipif(
    not (shutil.which("bump-my-version") and shutil.which("towncrier")),
    reason="needs the tools of `nox -s release`",
)
def test_a_release_is_a_commit_and_a_tag_with_a_changelog(checkout):
    def git(*words):
        done = subprocess.run(
            ["git", "-C", str(checkout), *words], check=True, capture_output=True, text=True
        )
        return done.stdout.split()

    git("init", "--quiet")
    git("config", "user.name", "a")
    git("config", "user.email", "a@b.example")
    git("add", "--all")
    git("commit", "--quiet", "--message=all")

    assert one_plugin.release(checkout, "bb-codec-tiny", "minor") == "bb-codec-tiny-v0.4.0"

    assert git("tag") == ["bb-codec-tiny-v0.4.0"]
    assert git("status", "--porcelain") == []
    assert sorted(git("show", "--name-only", "--format=")) == [
        f"plugins/bb-codec-tiny/{name}"
        for name in ("CHANGELOG.md", "changes/+small.fix.md", "pyproject.toml")
    ]
    changelog = (checkout / "plugins/bb-codec-tiny/CHANGELOG.md").read_text()
    assert "## 0.4.0 (" in changelog
    assert "- It is smaller." in changelog


def test_fragments_of_all_plugins_have_a_known_kind():
    told = tomllib.loads((ROOT / "release.toml").read_text())["tool"]["towncrier"]["type"]
    kinds = {one["directory"] for one in told}

    assert {path.name.split(".")[-2] for path in ROOT.glob("plugins/*/changes/*.md")} <= kinds
