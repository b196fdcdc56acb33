"""What all commands share: help, exit codes, how errors look."""

import json
import os
import subprocess
import sys

import pytest

COMMANDS = ["demo", "compile", "explain", "run", "plugins", "doctor"]


def start(*arguments, **environment):
    """Call `bb` as users do, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from bytesandbrains.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_lists_the_commands_and_the_exit_codes(bb):
    done = bb("--help")

    assert done.code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in done.out] == []
    assert "130 interrupted" in " ".join(done.out.split())
    assert "..." not in done.out.partition("Commands:")[2]  # whole sentences


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_its_exit_codes(bb, name):
    done = bb(name, "--help")

    assert done.code == 0
    assert "--json" in done.out
    assert "Exit codes: 0 done" in done.out


def test_version_is_printed(bb):
    import bytesandbrains

    assert bb("--version").out == f"bytesandbrains {bytesandbrains.__version__}\n"


def test_unknown_command_is_a_usage_error_with_a_hint(bb):
    done = bb("explian")

    assert done.code == 2
    assert "'explain'" in done.err


def test_error_of_the_input_is_told_in_one_form(bb):
    done = bb("explain", "nothing.onnx")

    assert done.code == 3
    assert done.out == ""
    assert done.err.startswith("error[NoSuchFile]: there is no file 'nothing.onnx'\n")
    assert "\n  fix: " in done.err


def test_error_as_json_goes_to_stdout(bb):
    done = bb("explain", "nothing.onnx", "--json")

    (error,) = done.json["errors"]
    assert done.code == 3
    assert error["code"] == "NoSuchFile"
    assert set(error) == {"code", "found", "expected", "fix", "where"}


def test_defect_is_owned_up_to_without_a_traceback(bb, monkeypatch):
    def fail(*_):
        raise KeyError("inside")

    monkeypatch.setattr("bytesandbrains.fingerprint.fingerprint", fail)

    done = bb("doctor")

    assert done.code == 70
    assert done.err.startswith("error[Defect]: KeyError: 'inside'")


def test_interrupt_ends_with_130(bb, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bytesandbrains.fingerprint.fingerprint", interrupt)

    assert bb("doctor").code == 130


def test_two_v_show_the_traceback():
    done = start("-vv", "explain", "nothing.onnx")

    assert done.returncode == 3
    assert "error[NoSuchFile]" in done.stderr
    assert "Traceback" in done.stderr


def test_log_goes_to_stderr(tmp_path):
    code = "import bytesandbrains as bb\nprogram = bb.programs.FederatedAveraging(1)\n"
    (tmp_path / "it.py").write_text(code)
    binds = ["peers=static", "model=mlp", "data=digits", "aggregator=fedavg"]
    options = [word for bind in binds for word in ("--bind", bind)]

    done = start(
        "compile", f"{tmp_path / 'it.py'}:program", "-v", "--json", *options,
        "-o", str(tmp_path / "it.onnx"),
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "INFO bytesandbrains" in done.stderr
    assert json.loads(done.stdout)["module"] == "FederatedAveraging"


def test_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -c 'from bytesandbrains.cli import main; main()' plugins"

    done = subprocess.run(
        ["bash", "-c", f"{command} | true"], capture_output=True, text=True, check=False
    )

    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["sim", "fedavg", "--json", "--bogus"], "No such option"),
        (["sim", "--json"], "Missing argument 'SCENARIO'"),
        (["sim", "fedavg", "--peers", "many", "--json"], "a number of peers"),
        (["sim", "fedavg", "--resume", "--json"], "--resume needs --out"),
        (["demo", "--rounds", "none", "--json"], "is not a valid integer"),
        (["plugins", "--json", "a", "b"], "give one ROLE"),
        (["smi", "--json"], "Did you mean 'sim'?"),
    ],
)
def test_wrong_usage_is_json_where_that_is_asked_for(bb, arguments, found):
    done = bb(*arguments)

    (error,) = done.json["errors"]
    assert done.code == 2
    assert done.err == ""
    assert error["code"] == "WrongUsage"
    assert found in error["found"]
    assert error["expected"].startswith("bb ")


def test_wrong_usage_is_text_elsewhere(bb):
    done = bb("sim", "--bogus")

    assert done.code == 2
    assert done.out == ""
    assert "Usage: bb sim" in done.err
