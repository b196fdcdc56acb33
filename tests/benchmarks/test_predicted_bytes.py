"""What `explain` predicts of every edge of the examples is what their Nodes send."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("bytes")
    command = [sys.executable, "-W", "error", str(HERE / "run.py"), "bytes", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "bytes.json").read_text())["result"]


def states(compared):
    return {(one["program"], one["edge"]): one["state"] for one in compared["edges"]}


#: Edges whose bytes no type tells, and why.
OPEN = {
    ("compressed_updates", "update"): "update.0 is bytes of any length",  # zstd's
    ("registry_fedavg", "announce"): "the length of announce.labels, of type list(string)",
    ("registry_fedavg", "renew"): "the length of renew.labels, of type list(string)",
}


def test_what_is_sent_is_predicted_to_the_byte_where_types_tell_all(compared):
    other = {edge for edge, state in states(compared).items() if state != "equal"}

    assert other == OPEN.keys()


def test_what_is_left_open_has_a_reason(compared):
    told = {(one["program"], one["edge"]): one["why"] for one in compared["edges"] if one["why"]}

    assert told.keys() == OPEN.keys()
    assert all(why in told[edge][0] for edge, why in OPEN.items())


def test_open_dimension_gives_a_formula(compared):
    told = {(one["program"], one["edge"]): one["formula"] for one in compared["edges"]}

    assert told["split_learning", "gradient"] == "128*batch + 12"
    assert told["two_classes", "readings"] == "32*readings[0]"


def test_round_is_the_sum_of_what_its_edges_send(compared):
    assert compared["round"]["equal"]
    assert compared["round"]["envelopes"] == [20, 20]
