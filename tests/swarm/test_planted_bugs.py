"""A proof that the swarm can fail: each invariant finds a bug that is planted into the engine."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from swarming import runs
from swarming.parts import LinearModel, Sum
from swarming.planting import found, nothing, plant
from swarming.programs import PROGRAMS

from bb_aggregator_fedavg import _fedavg
from bb_runtime._admission import Admission
from bb_runtime._engine import Engine
from bb_runtime._frames import OPEN
from bb_runtime._gathers import Gathers
from bb_runtime._order import Order
from bb_runtime._post import Post
from bb_runtime._retries import Retries
from bb_runtime._windows import Window
from bb_sim import Crash, Join, Liar, Link, Simulation


def test_message_that_is_taken_twice_is_found(monkeypatch):
    monkeypatch.setattr(Window, "check", lambda *_: "")

    wrong = found("gossip", range(8))

    assert re.search("message .* was accepted [2-9] times", wrong)


def test_answer_that_is_folded_twice_is_found(monkeypatch):
    def again(open_child):
        def still_open(self, frame, parent, edge):
            open_child(self, frame, parent, edge)
            parent.expected[frame.name][frame.sender] = 0
            parent.open_replies += 1

        return still_open

    plant(monkeypatch, Engine, "_open_child", again)
    liar = (Liar("client[0]", "flood", times=3),)

    wrong = found("rounds", liars=liar)

    assert re.search("folded 4 updates of .* who was asked 1 times", wrong)


def test_message_that_is_opened_out_of_order_is_found(monkeypatch):
    monkeypatch.setattr(Order, "holds", lambda *_: False)
    monkeypatch.setattr(Order, "is_late", lambda *_: False)

    wrong = found("streamed", range(8))

    assert re.search("message .* on 'part' was opened after", wrong)


def test_envelope_that_is_held_back_for_ever_is_found(monkeypatch):
    monkeypatch.setattr(Order, "_arm", nothing)

    wrong = found("streamed", range(8))

    assert re.search("holds [0-9]+ envelopes held back", wrong)


def test_update_that_is_lost_after_the_gather_is_found(monkeypatch):
    monkeypatch.setattr(Gathers, "_close_region", nothing)

    wrong = found("rounds", range(6))

    assert "took an update after its end, so that is lost" in wrong


def test_update_that_counts_and_is_not_folded_is_found(monkeypatch):
    def forgetful(fold):
        def fold_some(self, current, *update):
            if current.count != 1:
                fold(self, current, *update)

        return fold_some

    plant(monkeypatch, _fedavg.FedAvg, "_fold", forgetful)

    def different(index):
        return {"value": index + 1.0}

    case = PROGRAMS["fedavg"]()._replace(config={"data": different})
    monkeypatch.setattr(runs, "PROGRAMS", {"fedavg": lambda: case})

    wrong = found("fedavg")

    assert re.search(r"folded \[.*\] where \[.*\] is due", wrong)


def test_update_that_is_neither_folded_nor_abandoned_is_found(monkeypatch):
    monkeypatch.setattr(Engine, "_abandon", nothing)

    wrong = found("all_fail", range(6))

    assert "are neither folded nor abandoned" in wrong


def test_gather_that_fires_twice_is_found(monkeypatch):
    def careless(fire):
        def fires(self, frame, state):
            fire(self, frame, state)
            state.fired = False

        return fires

    plant(monkeypatch, Gathers, "_fire", careless)

    wrong = found("fedavg")

    assert re.search("gather . of frame . fired [2-9] times", wrong)


def test_gather_that_never_fires_is_found(monkeypatch):
    def deaf(judge):
        def judges(self, frame, state, *, expired=False):
            if expired:
                judge(self, frame, state, expired=expired)

        return judges

    plant(monkeypatch, Gathers, "judge", deaf)

    assert found("learning") == ""  # it fires at its deadline, which is late and right

    monkeypatch.setattr(Gathers, "judge", nothing)
    assert "in a world that allows all of them" in found("learning")


def test_frame_that_ends_before_its_gather_is_found(monkeypatch):
    def hasty(tidy):
        def tidies(self):
            for frame in [f for f in self.frames.values() if f.gathers and f.open_replies]:
                self.end(frame, "done", "")
            tidy(self)

        return tidies

    plant(monkeypatch, Engine, "tidy", hasty)

    wrong = found("fedavg")

    assert re.search(r"frame 2 of 'main' is done, and its gathers \[.*\] never fired", wrong)


@pytest.mark.parametrize("name", ["fedavg", "again", "crowded"])
def test_bytes_that_are_never_given_back_are_found(monkeypatch, name):
    def leaky(end):
        def ends(self, frame, how, reason):
            frame.payload = 0
            end(self, frame, how, reason)

        return ends

    plant(monkeypatch, Engine, "end", leaky)
    large = {"model": {"size": 1_000}}
    case = PROGRAMS[name]()._replace(config=large, options=None)
    monkeypatch.setattr(runs, "PROGRAMS", {name: lambda: case})

    wrong = found(name)

    assert re.search(r"server holds \d+ bytes\n", wrong)


def test_answers_that_are_expected_for_ever_are_found(monkeypatch):
    def forgetful(end):
        def ends(self, frame, how, reason):
            frame.messages = []
            end(self, frame, how, reason)

        return ends

    plant(monkeypatch, Engine, "end", forgetful)

    assert "expected answers of envelopes" in found("fedavg")


def test_envelopes_that_are_sent_again_for_ever_are_found(monkeypatch):
    monkeypatch.setattr(Retries, "_forget", nothing)

    wrong = found("again")

    assert "unacknowledged envelopes" in wrong


def test_frames_that_are_not_accounted_for_are_found(monkeypatch):
    def silent(decode):
        def drops(self, lease, values=None):
            if lease.edge.name == "update" and lease.head.message_id % 2:
                lease.used = True
                self._released(lease)
                return
            decode(self, lease, values)

        return drops

    plant(monkeypatch, Admission, "_receive", silent)

    assert re.search(r"envelopes taken, \d+ frames for them", found("fedavg"))


def test_message_under_a_wrong_source_is_found(monkeypatch):
    def mistaken(receive):
        def receives(self, lease, values):
            if lease.parent is not None:
                waiting = lease.parent.expected[lease.edge.name]
                lease.source = next(peer for peer, entry in waiting.items() if entry == OPEN)
            receive(self, lease, values)

        return receives

    plant(monkeypatch, Admission, "_receive", mistaken)
    slow = {"client -> server": Link(jitter="1s")}  # so that they answer in another order

    wrong = found("fedavg", between=slow)

    assert re.search("accepted message .* as from .*, which never sent it", wrong)
    assert re.search("[1-9] times folded what came 0 times from", wrong) is None


def test_message_whose_values_were_changed_is_found(monkeypatch):
    def spoiled(receive):
        def receives(self, lease, values):
            if values is not None and lease.edge.name == "update":
                values = [values[0], {**values[1], "examples": 7}]
            receive(self, lease, values)

        return receives

    plant(monkeypatch, Admission, "_receive", spoiled)

    assert "which never sent it" in found("fedavg")


def test_update_that_comes_to_the_aggregator_under_another_name_is_found(monkeypatch):
    def mistaken(receive):
        def receives(self, edge, values, head, source, *parent, **options):
            if parent[0] is not None:
                waiting = parent[0].expected[edge.name]
                source = next(peer for peer, entry in waiting.items() if entry == OPEN)
            receive(self, edge, values, head, source, *parent, **options)

        return receives

    plant(monkeypatch, Engine, "receive", mistaken)
    slow = {"client -> server": Link(jitter="1s")}

    assert re.search("1 times folded what came 0 times from", found("fedavg", between=slow))


def test_error_that_gets_out_is_found(monkeypatch):
    def fragile(failed):
        def fails(self, ship):
            raise KeyError(ship.message_id)

        return fails

    plant(monkeypatch, Post, "failed", fragile)
    join = (Join("client[0]", "30s"),)

    wrong = found("fedavg", faults=join)

    assert "KeyError" in wrong


def test_op_that_fails_for_no_good_reason_is_found(monkeypatch):
    def broken_sender(self, ctx):
        raise AttributeError

    monkeypatch.setattr(Sum, "aggregate", broken_sender)

    assert "ops failed with AttributeError" in found("rounds")


def test_learning_that_goes_astray_is_found(monkeypatch):
    def uphill(fit):
        def fits(self, ctx, batches):
            before = self.w
            metrics = fit(self, ctx, batches)
            self.w = 2 * before - self.w
            return metrics

        return fits

    plant(monkeypatch, LinearModel, "fit", uphill)

    assert re.search("round .* of honest updates went from", found("learning"))


def test_learning_that_stops_where_it_need_not_is_found(monkeypatch):
    def picky(fire):
        def fires(self, frame, state):
            if len(state.answers) < len(state.asked):
                self._engine.end(frame, "failed", "picky")
            else:
                fire(self, frame, state)

        return fires

    plant(monkeypatch, Gathers, "_fire", picky)
    crash = (Crash("client[1]", "1ms"),)

    wrong = found("learning", faults=crash)

    assert "in a world that allows all of them" in wrong


def test_what_running_late_changes_is_found(monkeypatch):
    running = []
    run = Simulation.run

    def different(self):
        result = run(self)
        running.append(self)
        result.virtual_ns += len(running)
        return result

    monkeypatch.setattr(Simulation, "run", different)

    assert found("fedavg") == "running late changes the result"
