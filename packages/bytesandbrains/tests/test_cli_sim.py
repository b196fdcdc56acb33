"""`bb sim`: federations in virtual time, from the command line."""

import json
import signal
import subprocess
import sys

import pytest

SCENARIO = """\
program = "mine.py:Mine"
rounds = 4
seed = 3
[bind]
clients = "static"
data = "digits"
[peers]
client = 5
[config.client.data]
split = "train"
partition = "iid"
clients = "{count}"
client = "{index}"
[links]
latency = "20ms"
jitter = "10ms"
[compute.client]
time = "100ms"
"""


@pytest.fixture
def scenario(program, tmp_path):
    """A scenario of the program."""
    path = tmp_path / "world.toml"
    path.write_text(SCENARIO)
    return path


def test_table_and_summary_are_printed(bb, scenario):
    done = bb("sim", scenario)

    assert done.code == 0
    assert done.out.startswith("Mine: 1 server, 5 client; seed 3\n")
    assert "4 rounds in 0." in done.out
    assert "6 of 6 peers were needed" in done.out
    assert "round  ended  seconds  answered" in done.out
    assert "5/5" in done.out


def test_figures_are_told_once(bb, scenario):
    done = bb("sim", scenario)

    lines = [line.split() for line in done.out.splitlines()]
    assert [line[0] for line in lines if line[0].isdecimal()] == ["1", "2", "3", "4", "4"]
    assert [line[0] for line in lines[1:6]] == ["round", "1", "2", "3", "4"]
    assert "round 1 " not in done.out


def test_some_lines_of_many_rounds_are_told(bb, scenario):
    done = bb("sim", scenario, "--rounds", 35)

    told = [line.split()[0] for line in done.out.splitlines() if " done " in line]
    assert told == ["1", "4", "8", "12", "16", "20", "24", "28", "32", "35"]


def test_run_of_which_no_round_succeeded_says_why(bb, scenario):
    with scenario.open("a") as more:
        more.write('[[liars]]\npeers = "client[0:5]"\nkind = "silence"\n')
    done, told = bb("sim", scenario), bb("sim", scenario, "--json")

    assert done.code == told.code == 1
    said = " ".join(done.err.split())
    assert "error[NoRoundDone]: no round succeeded: 4 failed; first QuorumNotMet" in said
    assert "lower the quorum" in said
    assert [error["code"] for error in told.json["errors"]] == ["NoRoundDone"]
    assert [one["answered"] for one in told.json["rounds"]] == [0] * 4


BROKEN = """\
from bb_aggregator_fedavg._fedavg import FedAvg


class Broken(FedAvg):
    def contribute(self, ctx, params, metrics):
        raise ZeroDivisionError("no luck")
"""


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_verbose_runs_show_the_first_traceback_of_each_code(
    bb, scenario, tmp_path, monkeypatch, as_json
):
    (tmp_path / "broken_fold.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--bind", "aggregator=broken_fold:Broken", "--out", "here", "--no-plot", *as_json]

    quiet = bb("sim", scenario, *options)
    # `bb` takes it that no traceback is shown.
    call = "from bytesandbrains.cli import main; main()"
    command = [sys.executable, "-c", call, "sim", str(scenario), "-vv", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert quiet.code == done.returncode == 1
    assert done.stderr.count("first ZeroDivisionError:\nTraceback (most recent call last):") == 1
    assert 'raise ZeroDivisionError("no luck")' in done.stderr
    assert "put right what raised ZeroDivisionError" in " ".join((quiet.err + quiet.out).split())
    assert "Traceback" not in (tmp_path / "here" / "metrics.json").read_text() + done.stdout


def test_run_in_which_nothing_ended_is_told(bb, scenario):
    done = bb("sim", scenario, "--until", "1ms")

    assert done.code == 1
    assert "no round ended within 1ms" in done.err
    assert "0 rounds in 0.00 virtual seconds" in done.out


def test_options_win_over_the_scenario(bb, scenario):
    options = ["--peers", "client=3", "--rounds", 2, "--seed", 9, "--until", "1h"]

    told = bb("sim", scenario, *options, "--json").json

    assert told["peers"] == {"server": 1, "client": 3}
    assert told["seed"] == 9
    assert [one["answered"] for one in told["rounds"]] == [3, 3]
    assert told["complete"] is True


def test_same_seed_gives_the_same_bytes(bb, scenario, tmp_path):
    for out in ("one", "two"):
        assert bb("sim", scenario, "--out", out).code == 0

    names = ["checkpoint.bbsim", "metrics.json", "rounds.png", "timeline.png"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("words", [("--plot", "p.png"), ("--out", "here"), ("--plot", "p.gif")])
def test_plots_that_cannot_be_drawn_are_refused_before_it_runs(bb, scenario, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    done = bb("sim", scenario, *words, "--json")

    assert done.code == 2
    (error,) = json.loads(done.out)["errors"]
    assert error["code"] == "WrongUsage"
    assert ('pip install "bytesandbrains[demo]"' in error["fix"]) == ("p.gif" not in words)
    assert not {"p.png", "p.gif", "here"} & {one.name for one in scenario.parent.iterdir()}


def test_runs_without_plots_need_nothing_to_draw(bb, scenario, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    assert bb("sim", scenario, "--rounds", 1, "--out", "here", "--no-plot").code == 0


def test_plots_can_be_left_out(bb, scenario, tmp_path):
    bb("sim", scenario, "--out", "here", "--no-plot")

    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == ["checkpoint.bbsim", "metrics.json"]


def test_example_runs(bb, tmp_path):
    (tmp_path / "example.toml").write_text(bb("sim", "--example").out)

    told = bb("sim", "example.toml", "--rounds", 3, "--json").json

    assert told["peers"]["client"] == 100
    assert [one["ended"] for one in told["rounds"]] == [{"done": 1}] * 3


@pytest.mark.parametrize("options", [["--example", "--json"], ["--json", "--example"]])
def test_example_as_json_holds_the_text(bb, options):
    assert bb("sim", *options).json == {"scenario": bb("sim", "--example").out}


def test_program_is_found_beside_its_scenario(bb, scenario, tmp_path, monkeypatch):
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)

    assert bb("sim", scenario, "--rounds", 1).code == 0


def test_artifact_is_simulated_too(bb, artifact, tmp_path):
    text = SCENARIO.replace("mine.py:Mine", "mine.onnx")
    lines = [line for line in text.splitlines() if line not in ('clients = "static"', "[bind]")]
    (tmp_path / "world.toml").write_text("\n".join(lines).replace('data = "digits"', ""))

    assert bb("sim", "world.toml").code == 0


WORLDS = """
from bb_sim import Link, Scenario

same = {{
    "program": "{program}",
    "bind": {{"clients": "static", "data": "digits"}},
    "peers": {{"client": 3}},
    "rounds": 2,
}}
near = Scenario(**same)
far = Scenario(**same, links=Link(latency="2s"))
"""


@pytest.fixture
def worlds(scenario, tmp_path):
    """Two scenarios of the program, in a Python file."""
    named = next(line for line in SCENARIO.splitlines() if line.startswith("program"))
    path = tmp_path / "worlds.py"
    path.write_text(WORLDS.format(program=named.partition('"')[2].rstrip('"')))
    return path


def test_scenario_may_be_python(bb, worlds):
    near, far = (bb("sim", f"{worlds}:{name}", "--json").json for name in ("near", "far"))

    assert [one["answered"] for one in near["rounds"]] == [3, 3]
    assert far["virtual_ns"] - near["virtual_ns"] > 7 * 10**9


def test_scenario_of_a_python_file_has_to_be_named_where_there_are_two(bb, worlds):
    unnamed, misnamed = bb("sim", worlds), bb("sim", f"{worlds}:fra")

    assert unnamed.code == misnamed.code == 3
    assert "holds 2 scenarios" in unnamed.err
    assert "there are near, far" in misnamed.err


def test_time_that_is_over_is_told(bb, scenario):
    done = bb("sim", scenario, "--until", "300ms")

    assert done.code == 0
    assert "the time was over before all rounds had ended" in done.out


def test_interrupt_keeps_what_was_done(bb, scenario, tmp_path, monkeypatch):
    from bb_sim import Simulation

    whole = Simulation.rounds

    def two(self):
        for one in whole(self):
            if one.number == 3:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(Simulation, "rounds", two)

    done = bb("sim", scenario, "--out", "kept")

    assert done.code == 130
    assert "interrupted after 3 rounds" in done.err
    told = json.loads((tmp_path / "kept" / "metrics.json").read_text())
    assert told["interrupted"] is True
    assert [one["ended"] for one in told["rounds"]] == [{"done": 1}] * 3 + [{}]


def test_first_interrupt_stops_between_events_and_resume_goes_on(bb, scenario, monkeypatch):
    from bb_sim import Simulation

    whole = Simulation.step
    count = iter(range(10**9))

    def step(self):
        if next(count) == 20:
            signal.raise_signal(signal.SIGINT)
        return whole(self)

    monkeypatch.setattr(Simulation, "step", step)
    stopped = bb("sim", scenario, "--out", "kept")
    resumed = bb("sim", scenario, "--out", "kept", "--resume")
    never = bb("sim", scenario, "--json").json

    assert stopped.code == 130
    assert "--resume goes on" in stopped.err
    assert resumed.code == 0
    assert "going on after round" in resumed.out
    told = json.loads((scenario.parent / "kept" / "metrics.json").read_text())
    assert told["digest"] == never["digest"]
    assert told["rounds"] == never["rounds"]


def test_more_rounds_can_be_run_later(bb, scenario):
    bb("sim", scenario, "--out", "kept", "--rounds", 2)

    told = bb("sim", scenario, "--out", "kept", "--resume", "--rounds", 5, "--json").json

    assert [one["ended"] for one in told["rounds"]] == [{"done": 1}] * 5
    assert told == bb("sim", scenario, "--rounds", 5, "--json").json, "as if asked for at once"


def test_resuming_needs_a_checkpoint_of_the_same(bb, scenario):
    assert bb("sim", scenario, "--resume").code == 2
    assert "cannot be read" in bb("sim", scenario, "--resume", "--out", "none").err
    bb("sim", scenario, "--out", "kept", "--rounds", 1)

    done = bb("sim", scenario, "--resume", "--out", "kept", "--seed", 4)

    assert done.code == 3
    assert "the scenario differs" in done.err
    assert "checkpoint.bbsim" in done.err
    assert done.err.count("expected:") == 1
    assert "replacing" not in done.err


def test_a_checkpoint_that_is_replaced_is_told(bb, scenario):
    first = bb("sim", scenario, "--out", "kept", "--rounds", 1)

    again = bb("sim", scenario, "--out", "kept", "--rounds", 1)

    assert "replacing" not in first.err
    assert "replacing kept/checkpoint.bbsim of an earlier run" in again.err.replace("\\", "/")


def test_a_checkpoint_that_cannot_be_taken_now_is_tried_again_at_once(tmp_path, monkeypatch):
    from bb_sim import NoCheckpointNow
    from bytesandbrains.cli import _checkpoints

    class Busy:
        asked = 0

        def checkpoint(self):
            self.asked += 1
            if self.asked == 1:
                raise NoCheckpointNow("a Node is busy")
            return b"all of it"

    kept, busy = _checkpoints.Checkpoints(tmp_path), Busy()
    later = _checkpoints.time.monotonic() + 2 * _checkpoints._EVERY
    monkeypatch.setattr(_checkpoints.time, "monotonic", lambda: later)

    kept.save_sometimes(busy)
    kept.save_sometimes(busy)

    assert kept.file.read_bytes() == b"all of it"


def test_a_checkpoint_that_cannot_be_written_costs_no_results(bb, scenario):
    (scenario.parent / "kept" / "checkpoint.bbsim").mkdir(parents=True)

    done = bb("sim", scenario, "--out", "kept", "--rounds", 2)

    assert done.code != 0
    assert "checkpoint.bbsim" in done.err
    told = json.loads((scenario.parent / "kept" / "metrics.json").read_text())
    assert len(told["rounds"]) == 2


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[links]", "[link]", "did you mean 'links'"),
        ("client = 5", "clint = 5", "did you mean 'client'"),
        ('program = "mine.py:Mine"', "", "names no program"),
        ("mine.py:Mine", "mine.py:Mien", "did you mean mine.py:Mine?"),
        ("[config.client.data]", "[config.client.date]", "client.data"),
        ("time =", "tme =", "did you mean 'time'"),
    ],
)
def test_mistake_in_a_scenario_is_an_error_of_input(bb, scenario, old, new, told):
    scenario.write_text(SCENARIO.replace(old, new))

    done = bb("sim", scenario)

    assert done.code == 3
    assert told in done.err


def test_wrong_number_of_peers_is_wrong_usage(bb, scenario):
    assert bb("sim", scenario, "--peers", "client=none").code == 2
    assert bb("sim").code == 2


def test_journals_are_written_and_replayed(bb, scenario, tmp_path):
    plain = bb("sim", scenario, "--json").json
    done = bb("sim", scenario, "--journal", "night", "--journal-peers", "server,client[1:3]")

    assert done.code == 0
    assert done.out.endswith("wrote 3 journals to night/\n")
    assert f"digest {plain['digest'][:16]}" in done.out
    written = sorted(path.name for path in (tmp_path / "night").iterdir())
    assert written == ["client-1", "client-2", "server"]
    for name in written:
        replayed = bb("replay", f"night/{name}")
        assert replayed.code == 0
        assert "all as recorded" in replayed.out


def test_journals_are_not_written_over(bb, scenario):
    assert bb("sim", scenario, "--journal", "night").code == 0
    done = bb("sim", scenario, "--journal", "night")

    assert done.code == 3
    assert "'night' holds journals" in done.err


def test_peers_of_journals_need_a_folder(bb, scenario):
    done = bb("sim", scenario, "--journal-peers", "server")

    assert done.code == 2
    assert "--journal-peers needs --journal DIR" in done.err
