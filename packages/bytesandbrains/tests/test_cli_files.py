"""Files and folders that commands read: what is not there ends all of them in the same way."""

import os
from pathlib import Path

import pytest

#: Commands, with `{}` for the file that is read.
FILES = [
    "compile {} -o out.onnx",
    "compile mine.py -o out.onnx --bind clients=static --bind data=digits --config {}",
    "explain {}",
    "run {}",
    "run mine.onnx --config {}",
    "run mine.onnx --input x=@{}",
    "snapshot {}",
    "sim {}",
    "replay {}",
    "keys show {}",
    "keys show key.pem --password-file {}",
    "keys new new.pem --password-file {}",
    "sign {} --key key.pem",
    "sign mine.onnx --key {}",
    "plan verify {}",
    "plan show {}",
    "plan apply {} --store store",
    "plan apply plan.json --files version --store store --resume {}",
    "plan swap none version --out out.json --groups {}",
    "plan cache {} --out out.json",
]
FOLDERS = ["plan manifest {}", "plan rollback {}", "plan swap none {} --out out.json"]


@pytest.fixture
def ready(bb, artifact, tmp_path):
    """What the commands need beside the file that is not right."""
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "w.bin").write_bytes(b"weights")
    for words in ("keys new key.pem", "plan swap none version --out plan.json"):
        assert bb(*words.split()).code == 0
    return bb


@pytest.mark.parametrize("command", [*FILES, *FOLDERS])
def test_what_is_not_there_is_a_wrong_input(ready, command):
    before = sorted(Path().rglob("*"))

    done = ready(*command.format("nothing.toml").split(), "--json")

    assert done.code == 3
    assert "nothing.toml" in str(done.json["errors"])
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("command", FILES)
def test_folder_instead_of_a_file_is_a_wrong_input(ready, command):
    Path("folder.toml").mkdir()
    before = sorted(Path().rglob("*"))

    done = ready(*command.format("folder.toml").split(), "--json")

    assert done.code == 3
    assert "folder.toml" in str(done.json["errors"])
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("command", FOLDERS)
def test_file_instead_of_a_folder_is_a_wrong_input(ready, command):
    Path("file.toml").write_text("x")

    done = ready(*command.format("file.toml").split(), "--json")

    assert done.code == 3
    assert "file.toml" in str(done.json["errors"])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("command", [one for one in FILES if not one.startswith("replay")])
def test_file_that_may_not_be_read_is_a_wrong_input(ready, command):
    suffix = ".npy" if "@" in command else ".onnx" if "explain" in command else ".toml"
    Path(f"secret{suffix}").write_text("x = 1")
    Path(f"secret{suffix}").chmod(0)

    done = ready(*command.format(f"secret{suffix}").split(), "--json")

    assert done.code == 3
    assert "secret" in str(done.json["errors"])


def test_a_folder_that_is_no_store_is_not_made_one_by_a_rollback(ready):
    Path("empty").mkdir()

    done = ready("plan", "rollback", "empty", "--json")

    assert (done.code, done.json["errors"][0]["code"]) == (3, "NotAStore")
    assert list(Path("empty").iterdir()) == []
