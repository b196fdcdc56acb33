"""Running.

What happens to a run: inputs that do not fit are refused at the call, and an op that fails ends
its frame with an `OpFailed` step, whose `error` is one of these, or what the component raised.
`federation.run()` raises `FrameFailed` for it. `OpError` catches those of the engine.
"""

import numpy as np

import bytesandbrains as bb
from bb_roles import Model

PEER = bb.PeerId.from_seed(0)


def federation_of(module, **parts):
    """Compile a Module and install it in this process."""
    compiler = bb.Compiler()
    roles = {handle.name: handle.role for handle in module.slots_of()}
    for slot, part in parts.items():
        compiler.bind(slot, part, role=roles[slot])
    return bb.LocalFederation(compiler.compile(module.build()))


def fail(federation, inputs=None):
    """Run once, and raise the error of the op that fails."""
    for event in federation.events(inputs):
        if isinstance(event.step, bb.OpFailed):
            raise event.step.error


class Own(Model):
    """A model of one's own, of which only `fit` is written."""

    def forward(self, ctx, x): ...
    def backward(self, ctx, grad): ...
    def compute_loss(self, ctx, prediction, target): ...
    def params(self, ctx): ...
    def load_params(self, ctx, params): ...
    def evaluate(self, ctx, batches): ...


class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))


class Echo(bb.Module):
    def body(self, g):
        g.output("same", g.input("x", "tensor(float32)[3]"))


# %% DeadlineExceeded: loop block; turn 1
class Waits(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g):
        with g.loop(3, deadline="5s"):
            asked = g.net_out("ask", self.peers.current_view(g), self.model.params(g))
            answer = g.net_out("answer", g.sender(asked), self.model.params(g))
            self.model.load_params(g, answer)


node = federation_of(Waits(), peers="static", model="mlp").server
node.invoke("Waits")
node.poll()  # asks, and nobody answers
node.advance(5 * 10**9)
raise next(step.error for step in node.poll() if isinstance(step, bb.OpFailed))


# %% DeliveryError: already
federation = federation_of(Echo())
federation.bus.add(federation.server)


# %% FrameFailed: Fit of slot 'model'; out of memory
class Small(Own):
    """Has no room for the data."""

    def fit(self, ctx, batches):
        raise MemoryError("out of memory")  # (1)


class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))  # (2)


federation_of(Trains(), model=Small, data="digits").run()


# %% InvalidInput: 'x'
federation_of(Echo()).run({"x": np.zeros(4, np.float32)})


# %% NodeBroken: was interrupted in the middle of an op
class Interrupted(Own):
    """Stands for Ctrl-C while an op runs."""

    def fit(self, ctx, batches):
        raise KeyboardInterrupt


federation = federation_of(Trains(), model=Interrupted, data="digits")
try:
    federation.run()
except KeyboardInterrupt:
    federation.run()


# %% NotPublished: 'sam'
federation_of(Echo()).run({"x": np.zeros(3, np.float32)})["sam"]


# %% NoTurn: no turn of the block ran
class Repeats(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        with g.loop(g.input("times", "int64")):
            metrics = self.model.fit(g, self.data.batches(g))
        g.output("last", g.last(metrics))


fail(federation_of(Repeats(), model="mlp", data="digits"), {"times": 0})


# %% OpError: times is
class Repeats(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        with g.loop(g.input("times")):
            self.model.fit(g, self.data.batches(g))


fail(federation_of(Repeats(), model="mlp", data="digits"), {"times": "thrice"})


# %% QuorumNotMet: answered
class Asks(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g):
        asked = g.net_out("ask", self.peers.current_view(g), self.model.params(g))
        answer = g.net_out("answer", g.sender(asked), self.model.params(g))
        g.output("count", g.gather(answer, deadline="5s").count)


federation = federation_of(Asks(), peers="static", model="mlp")
federation.bus.remove(federation.nodes["client"][0].peer)
fail(federation)
