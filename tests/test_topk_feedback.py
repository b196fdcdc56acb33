"""Error feedback of `codec.topk` on Nodes: what is left out arrives later, also after a failure."""

import numpy as np
import pytest

import bytesandbrains as bb
from bb_codec_topk.slots import TopK
from bb_ir.types import PARAMS
from bb_roles import DataSource

UPDATE = bb.ParameterSet.from_tensors({"w": np.array([1, 4, 3], np.float32)})


class FailingOnce(DataSource):
    """A source whose second batch is none."""

    asked = 0

    def next_batch(self, ctx):
        self.asked += 1
        if self.asked == 2:
            raise ValueError("no batch")
        return np.zeros((1, 1), np.float32), np.zeros(1, np.int64)

    def batches(self, ctx, *, epochs=1):
        raise NotImplementedError

    def reset(self, ctx):
        raise NotImplementedError


class Sparse(bb.Module):
    """Clients send the largest entries of an update."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    codec = TopK()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g):
        update = g.input("update", PARAMS)
        got = g.net_out("ask", self.peers.current_view(g), update)
        small = self.codec.compress(g, got)
        _, labels = self.data.next_batch(g, after=small)
        sent, _ = g.net_out("update", g.sender(got), small, labels)
        folded = self.aggregator.contribute(g, self.codec.decode(g, sent))
        done = g.gather(folded, deadline="5s")
        averaged, _ = self.aggregator.aggregate(g, after=done)
        g.output("averaged", averaged)


def test_what_is_left_out_arrives_later_and_a_failed_frame_is_undone():
    artifact = (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_codec("codec", "topk", config={"k": 1})
        .bind_data_source("data", FailingOnce)
        .bind_aggregator("aggregator", "fedavg")
        .compile(Sparse().build())
    )
    federation = bb.LocalFederation(artifact, nodes={"client": 1})

    def run():
        return federation.run({"update": UPDATE})["averaged"]["w"].tolist()

    assert run() == [0, 4, 0]
    with pytest.raises(bb.FrameFailed):
        run()
    assert run() == [0, 0, 6]
    assert run() == [0, 8, 0]
