"""`bb replay`: journals that `bb run` wrote, from the command line."""

import re
import shutil

import click
import numpy as np
import pytest

from bb_ir.params import ParameterSet
from bb_runtime import Dropped, Emitted, FrameId, OpFailed
from bytesandbrains.cli import _progress
from bytesandbrains.cli._config import BadConfigFile
from bytesandbrains.cli._lacking import fill_in
from bytesandbrains.cli._replay_apart import apart
from bytesandbrains.cli._values import text_of
from bytesandbrains.journal import FileJournal, read_journal


@pytest.fixture
def journals(bb, artifact, tmp_path):
    """Run with two seeds, and return the folders of the journals."""
    for seed in (1, 2):
        done = bb(
            "run", artifact, "--config", "mine.toml", "--rounds", 2, "--seed", seed,
            "--journal", f"seed-{seed}",
        )  # fmt: skip
        assert done.code == 0
        assert f"wrote seed-{seed}/" in done.out
    return tmp_path


def test_a_run_is_told_call_by_call(bb, journals):
    done = bb("replay", "seed-1/server")

    assert done.code == 0
    assert done.out.startswith("Mine on 12D3Koo")
    assert "invoke Mine" in done.out
    assert "Ship        weights to " in done.out
    assert "Emitted     round of Mine  frame 2" in done.out
    assert "steps, all as recorded" in done.out


def test_values_that_stand_in_a_header_are_counted(bb, journals):
    server, client = bb("replay", "seed-1/server").out, bb("replay", "seed-1/client-0").out

    received = re.findall(r"receive \S+ from \S+ ([\d,]+) bytes", server + client)
    assert received
    assert "0" not in received


def test_until_stops_after_a_record(bb, journals):
    done = bb("replay", "seed-1/server", "--until", 5)

    assert "5 records, 2 steps, all as recorded" in done.out


def test_break_shows_the_op_s_line_and_the_frame_s_values(bb, journals):
    done = bb("replay", "seed-1/client-0", "--break", "model.LoadParams")

    assert done.code == 0
    assert "stopped before model.LoadParams in record" in done.out
    assert "self.model.load_params(g, received)" in done.out
    assert re.search(
        r"params of 2,410 elements, -0\.\d+ to 0\.\d+, mean \S+: layers.0.weight float32\[32, 64\]",
        done.out,
    )


def test_an_op_that_is_not_reached_fails(bb, journals):
    done = bb("replay", "seed-1/client-0", "--break", "Fit", "--until", 4)

    assert done.code == 1
    assert "op Fit was not reached" in done.err


def test_json_holds_calls_steps_and_where_it_stopped(bb, journals):
    told = bb("replay", "seed-1/client-0", "--break", "Fit", "--json").json

    assert told["targets"] == ["Mine.client"]
    assert {"poll", "offer", "receive", "authorize"} >= {one["call"] for one in told["entries"]}
    assert told["stopped"]["op"] == "model.Fit"
    assert told["stopped"]["source"].endswith("mine.py:19")


def test_diff_names_the_first_step_at_which_two_runs_part(bb, journals):
    done = bb("replay", "seed-1/server", "--diff", "seed-2/server")

    assert done.code == 1
    assert "made otherwise: seed: 1 / 2" in done.out
    assert "the first step at which they part:" in done.out
    assert done.out.count("Ship weights to ") == 2
    assert 'g.net_out("weights"' in done.out
    assert "what differs, first / second:\n" in done.out
    assert re.search(
        r"value '\S+': differs from byte [\d,]+ of [\d,]+ on; digests [0-9a-f]{12} / [0-9a-f]{12}",
        done.out,
    )


def _emitted(value, name="y"):
    return Emitted("T", name, value, FrameId(1, 2))


SET = {"w": np.arange(4.0).reshape(2, 2)}


@pytest.mark.parametrize(
    ("one", "two", "lines"),
    [
        (_emitted(1.5), _emitted(2.5), ["value: 1.5 / 2.5"]),
        (_emitted(1.5), _emitted(1.5, "z"), ["name: y / z"]),
        (_emitted(np.arange(3)), _emitted(np.arange(4)), ["value: int64[3] / int64[4]"]),
        (
            _emitted(np.array([1.0, 2.0, np.nan])), _emitted(np.array([1.0, 3.0, np.nan])),
            ["value: 1 of 3 elements, first [1]: 2.0 / 3.0"],
        ),
        (_emitted(np.float64(0.0)), _emitted(np.float64(-0.0)),
         ["value: 1 of 1 elements, first []: 0.0 / -0.0"]),
        (
            _emitted(ParameterSet.from_tensors(SET)),
            _emitted(ParameterSet.from_tensors({"w": SET["w"] + [[0, 0], [1, 2]]})),
            ["value['w']: 2 of 4 elements, first [1, 0]: 2.0 / 3.0"],
        ),
        (_emitted({"a": 1, "b": 2}), _emitted({"a": 1, "c": 2}),
         ["value['b']: only in the first", "value['c']: only in the second"]),
        (_emitted({"a": {"n": 1}}), _emitted({"a": {"n": 2}}), ["value['a']['n']: 1 / 2"]),
        (_emitted(1), Dropped("late", None, "e"), ["the kind of step: Emitted / Dropped"]),
        (Dropped("late", None, "e"), Dropped("unknown", None, "e"), ["reason: late / unknown"]),
        (_emitted(SET), _emitted(SET), []),
        (_emitted(np.array([])), _emitted(np.array([])), []),
        (_emitted(np.array(["a", None])), _emitted(np.array(["b", None])),
         ["value: ['a', None] / ['b', None]"]),
        (_emitted("1"), _emitted(1), ["value: '1' / 1"]),
        (_emitted("a" * 200 + "b"), _emitted("a" * 200 + "c"),
         ["value, from character 200 on: b / c"]),
    ],
)  # fmt: skip
def test_what_differs_between_two_steps_is_told(one, two, lines):
    assert sorted(apart(one, two, None)) == lines


def test_failures_differ_by_their_codes_and_not_by_where_files_lie():
    def failed(error, trace):
        return OpFailed("T", "Fit", "m", "c", None, error, FrameId(1, 2), None, None, trace)

    one, two = failed(ValueError("a"), "/here"), failed(ValueError("b"), "/there")

    assert apart(one, two, None) == []
    assert apart(one, failed(KeyError("a"), ""), None) == ["error: ValueError / KeyError"]


def test_diff_of_a_journal_with_itself_finds_nothing(bb, journals):
    done = bb("replay", "seed-1/server", "--diff", "seed-1/server")

    assert done.code == 0
    assert re.fullmatch(r"equal: all \d+ steps are the same\n", done.out)


def test_diff_tells_what_led_there_and_how_many_steps_were_equal(bb, journals):
    done = bb("replay", "seed-1/server", "--diff", "seed-2/server")
    told = bb("replay", "seed-1/server", "--diff", "seed-2/server", "--json").json

    assert "after 0 equal steps, the first step at which they part:" in done.out
    assert done.out.count("what led there:") == 2
    assert done.out.count("invoke Mine") == 2
    assert not told["equal"]
    assert told["steps"] == 0
    for side in told["parted"]:
        assert (side["kind"], side["op"], side["frame"]) == ("Ship", "Send", None)
        assert side["source"].endswith("mine.py:17")
        assert side["now_ns"] == 0
        assert side["led_there"][-1].endswith("poll")


def test_diff_until_a_record_before_they_part_finds_nothing(bb, journals):
    done = bb("replay", "seed-1/server", "--diff", "seed-2/server", "--until", 3, "--json")

    assert done.code == 0
    assert done.json["equal"] is True
    assert done.json["differing"]["seed"] == ["1", "2"]


def test_diff_tells_of_torn_ends_and_of_a_run_that_ended_before(bb, journals):
    shutil.copytree(journals / "seed-1" / "server", journals / "torn")
    file = journals / "torn" / "000001.bbj"
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 3])

    done = bb("replay", "seed-1/server", "--diff", "torn")

    assert done.code == 1
    assert re.search(r"torn: cut off [\d,]+ bytes of a record", done.out)
    assert "torn: ended before" in done.out
    assert re.search(r"after [1-9]\d* equal steps", done.out)


def test_diff_tells_which_ended_before(bb, journals):
    done = bb("replay", "seed-1/server", "--diff", "seed-1/client-0", "--json")

    assert done.code == 1
    assert done.json["differing"]["peer"]
    sides = done.json["parted"]
    assert [side["record"] > 2 for side in sides if side]


def test_a_bar_on_a_terminal_leaves_what_is_printed_alone(monkeypatch, capsys):
    """Bars are for long readings: this one takes a moment that is no time."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(_progress, "_MOMENT", -1.0)

    with _progress.reading("mine", 100) as at:
        at(40)
        click.echo("out")
        at(100)

    shown = capsys.readouterr()
    assert shown.out == "out\n"
    assert "mine" in shown.err


def test_no_bar_where_there_is_no_terminal_or_for_what_is_short(monkeypatch, capsys):
    with _progress.reading("mine", 100) as at:
        at(100)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with _progress.reading("mine", 100) as at:
        at(100)
    with _progress.reading("mine", 100, hidden=True) as at:
        at(100)

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("hidden", [False, True])
def test_what_is_under_way_is_told_on_a_terminal(monkeypatch, capsys, hidden):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with _progress.working("mine", hidden=hidden):
        click.echo("out")

    shown = capsys.readouterr()
    assert shown.out == "out\n"
    assert ("mine" in shown.err) is not hidden


def test_what_is_done_next_is_told_as_it_is(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with _progress.working("mine") as at:
        at("[next]")

    assert "[next]" in capsys.readouterr().err


def test_what_is_under_way_is_not_told_to_a_file(capsys):
    with _progress.working("mine"):
        click.echo("out")

    assert capsys.readouterr() == ("out\n", "")


def test_what_was_torn_is_told(bb, journals):
    file = journals / "seed-1" / "server" / "000001.bbj"
    file.write_bytes(file.read_bytes()[:-3])

    done = bb("replay", "seed-1/server")

    assert done.code == 0
    assert "bytes of a record that was never written to its end" in done.out


def test_a_damaged_journal_is_an_input_error(bb, journals):
    file = journals / "seed-1" / "server" / "000001.bbj"
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(bytes(data))

    done = bb("replay", "seed-1/server")

    assert done.code == 3
    assert done.err.startswith("error[JournalDamaged]: record 1 of the journal is damaged")


def test_a_folder_of_journals_names_those_inside(bb, journals):
    done = bb("replay", "seed-1")

    assert done.code == 3
    assert "name one of seed-1/client-0, seed-1/client-1, seed-1/server" in done.err


def test_a_journal_is_not_written_over(bb, artifact, journals):
    done = bb("run", artifact, "--config", "mine.toml", "--journal", "seed-1")

    assert done.code == 3
    assert "holds a journal" in done.err


def test_break_and_diff_do_not_go_together(bb, journals):
    assert bb("replay", "seed-1/server", "--break", "Fit", "--diff", "seed-2/server").code == 2


def test_an_empty_journal_says_what_it_lacks(bb, tmp_path):
    FileJournal(tmp_path / "none")

    assert "is no journal" in bb("replay", tmp_path / "none").err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.arange(3), "int64[3] = [0, 1, 2]"),
        (np.arange(100.0), "float64[100], 0 to 99, mean 49.5"),
        (np.full(20, np.nan), "float64[20], 20 not finite"),
        (np.array([1.0] * 9 + [np.inf]), "float64[10], 1 to 1, mean 1, 1 not finite"),
        (np.array(["a"] * 9), "<U1[9]"),
        ("text", "str 'text'"),
    ],
)
def test_values_are_summed_up_in_a_line(value, text):
    assert text_of(value) == text


# Configuration that a journal leaves out


@pytest.fixture
def keyed(bb, tmp_path):
    """The folder of a journal whose Node was given a secret."""
    from bb_runtime.journal import Chain, Kind, Opaque, write_value

    facts = {
        "version": 2,
        "config": {"server.model": {"value": 2.0, "token": Opaque("secret")}, "data": {"n": 1}},
    }
    with FileJournal(tmp_path / "keyed") as journal:
        journal(Chain().add(Kind.INSTALL, write_value((facts,))))
    return read_journal(tmp_path / "keyed")


@pytest.mark.parametrize(
    "given",
    [
        ["server.model.token=hunter22"],
        ["model.token = hunter22"],
        ["all.toml"],
        ["class.json"],
        ["all.toml", "model.token='hunter22'"],
    ],
)
def test_what_a_journal_leaves_out_is_taken_from_files_and_pairs(keyed, tmp_path, given):
    (tmp_path / "all.toml").write_text("[model]\ntoken = 'hunter22'\nvalue = 9.0\n[data]\nn = 2\n")
    (tmp_path / "class.json").write_text('{"server": {"model": {"token": "hunter22"}}}')

    assert fill_in(keyed, given) == {"server.model": {"token": "hunter22"}}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("model.value=3", "'model.value' is nothing that the journal leaves out"),
        ("nowhere.token=3", "is nothing that the journal leaves out"),
        ("token=3", "is nothing that the journal leaves out"),
        ("one.toml", "for one Node of its class"),
        ("missing.toml", "cannot be read"),
    ],
)
def test_what_is_given_and_cannot_be_used_is_an_error(keyed, tmp_path, given, found):
    (tmp_path / "one.toml").write_text("[server.1.model]\ntoken = 'x'\n")

    with pytest.raises(BadConfigFile, match=found):
        fill_in(keyed, [given])


def test_a_file_that_lacks_the_secret_fills_in_nothing(keyed, tmp_path):
    (tmp_path / "other.toml").write_text("[client.model]\ntoken = 'x'\n")

    assert fill_in(keyed, ["other.toml"]) == {}


SECRETIVE = """\
import dataclasses

import bytesandbrains as bb
from bb_testing.programs import CountingModel, PartConfig


@dataclasses.dataclass(frozen=True)
class Key(PartConfig):
    token: str = dataclasses.field(default="", metadata={"secret": True})


class Keyed(CountingModel):
    Config = Key

    def backward(self, ctx, x):
        self.w = self.w - len(self.config.token)


class Count(bb.Module):
    bindings = {"model": Keyed}
    model = bb.slots.Model()

    def body(self, g):
        x = g.input("x", "tensor(float64)[None]")
        self.model.backward(g, x)
        g.output("y", self.model.params(g))
"""


def test_a_run_with_a_secret_is_replayed_when_it_is_given_again(bb, tmp_path):
    (tmp_path / "secretive.py").write_text(SECRETIVE)
    (tmp_path / "keys.toml").write_text("[model]\nvalue = 3.0\ntoken = 'hunter22'\n")
    done = bb("run", "secretive.py:Count", "--config", "keys.toml", "--input", "x=[1.0]",
              "--journal", "night")  # fmt: skip
    assert done.code == 0, done.err
    [folder] = (tmp_path / "night").iterdir()
    assert all(b"hunter22" not in path.read_bytes() for path in folder.iterdir())

    without = bb("replay", folder)
    with_file = bb("replay", folder, "--config", "keys.toml")
    with_pair = bb("replay", folder, "--config", "model.token=hunter22", "--diff", folder)
    with_other = bb("replay", folder, "--config", "model.token=short")

    assert without.code == 3
    assert "--config" in without.err
    assert with_file.code == 0, with_file.err
    assert "all as recorded" in with_file.out
    assert with_pair.code == 0
    assert with_other.code == 1
    assert "ReplayDiverged" in with_other.err
