"""`bb replay`: journals that `bb run` wrote, from the command line."""

import pytest

from bytesandbrains.journal import FileJournal


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


def test_until_stops_after_a_record(bb, journals):
    done = bb("replay", "seed-1/server", "--until", 5)

    assert "5 records, 2 steps, all as recorded" in done.out


def test_break_shows_the_op_s_line_and_the_frame_s_values(bb, journals):
    done = bb("replay", "seed-1/client-0", "--break", "model.LoadParams")

    assert done.code == 0
    assert "stopped before model.LoadParams in record" in done.out
    assert "self.model.load_params(g, received)" in done.out
    assert "params of 2,410 elements: layers.0.weight float32[32, 64]" in done.out


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


def test_diff_of_a_journal_with_itself_finds_nothing(bb, journals):
    done = bb("replay", "seed-1/server", "--diff", "seed-1/server")

    assert (done.code, done.out) == (0, "all steps are the same\n")


def test_diff_tells_which_ended_before(bb, journals):
    done = bb("replay", "seed-1/server", "--diff", "seed-1/client-0", "--json")

    assert done.code == 1
    assert done.json["differing"]["peer"]
    sides = done.json["parted"]
    assert [side["record"] > 2 for side in sides if side]


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
