"""What the simulator makes of a Node that closes, and of one that never comes to rest."""

import pytest

import bb_dsl as bb
from bb_runtime import Options
from bb_runtime.errors import EndlessLoop
from bb_sim import Scenario, Simulation


class Spins(bb.Module):
    """Goes round and round, for so long."""

    def __init__(self, turns: int | None) -> None:
        super().__init__()
        self.turns = turns

    def body(self, g: bb.Graph) -> None:
        with g.loop(self.turns) as turn:
            turn.until(turn < 0)
        g.output("turns", g.gather(turn).count)


def simulated(compiled, turns, options=None):
    return Simulation(compiled(Spins(turns)), Scenario(rounds=1), options=options)


def test_a_loop_without_end_is_told_of(compiled, monkeypatch):
    monkeypatch.setattr("bb_runtime.node.Node.poll_until_quiet.__defaults__", (5000,))
    with pytest.raises(EndlessLoop, match=r"in turn \d,\d+ of loop"):
        simulated(compiled, None, Options(max_ops_per_poll=100)).run()


def test_what_one_poll_does_not_do_the_next_ones_do(compiled):
    whole = simulated(compiled, 300).run()
    cut = simulated(compiled, 300, Options(max_ops_per_poll=7)).run()
    assert cut.complete
    assert cut.digest == whole.digest


def test_a_node_that_closed_is_absent(simulation):
    made = simulation(8)
    rounds = made.rounds()
    next(rounds)
    made.nodes["client[1]"].close()
    for _ in rounds:
        pass
    result = made.result()
    assert "client[1]" not in made.nodes
    assert result.complete
    assert [one.answered for one in result.rounds] == [8, 7, 7]
    assert sum(row.gone for row in made.root.peers()) == 1
