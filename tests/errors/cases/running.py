"""Running.

What happens to a run: inputs that do not fit are refused at the call, and an op that fails ends
its frame with an `OpFailed` step, whose `error` is one of these, or what the component raised.
`federation.run()` raises `FrameFailed` for it. `OpError` catches those of the engine.
"""

import threading
from dataclasses import dataclass, field

import numpy as np

import bytesandbrains as bb
from bb_roles import Batches, DataSource, Model
from bb_runtime.replay import replay
from bytesandbrains.journal import FileJournal

PEER = bb.PeerId.from_seed(0)


def compiled(module, **parts):
    """Compile a Module."""
    compiler = bb.Compiler()
    roles = {handle.name: handle.role for handle in module.slots_of()}
    for slot, part in parts.items():
        compiler.bind(slot, part, role=roles[slot])
    return compiler.compile(module.build())


def federation_of(module, **parts):
    """Compile a Module and install it in this process."""
    return bb.LocalFederation(compiled(module, **parts))


def fail(federation, inputs=None):
    """Run once, and raise the error of the op that fails."""
    for event in federation.events(inputs):
        if isinstance(event.step, bb.OpFailed):
            raise event.step.error


class Own(Model):
    """A model of one's own, of which only `fit` is to be written."""

    def params(self, ctx):
        return bb.ParameterSet.from_tensors({"w": np.zeros(1, np.float32)})

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


# %% EndlessLoop: turn
class Spins(bb.Module):
    def body(self, g):
        with g.loop() as turn:  # (1)
            turn.until(turn < 0)


federation = federation_of(Spins())
federation.bus.max_ops = 1000  # ten million, if you do not say otherwise
federation.run()


# %% EndlessExchange: 'again'
class Bounces(bb.Module):
    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")

    def body(self, g):
        with g.rounds():
            got = g.net_out("again", self.clients.current_view(g), g.scalar(1))  # (1)
            g.gather(g.net_out("back", g.sender(got), got))  # (2)


federation = federation_of(Bounces(), clients="static")
federation.bus.max_envelopes = 1000  # five million, if you do not say otherwise
federation.run()


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


# %% JournalDamaged: record 3
records = []
node = bb.install(PEER, [], compiled(Echo()), ["Echo"], journal=records.append)
node.advance(1)
node.advance(2)
replay(records[:2] + records[3:])  # one is missing


# %% JournalFull: has 1 segments
journal = FileJournal("journal", segment_bytes=1024, segments=1)
artifact = compiled(Echo())
records = []
node = bb.install(PEER, [], artifact, ["Echo"], journal=records.append)
for now in range(50):
    node.advance(now)
for record in records:
    journal(record)


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


# %% NotReplayable: 'token' of slot 'model' is a secret
@dataclass(frozen=True)
class Settings:
    """What the model is told."""

    token: str = field(metadata={"secret": True})


class Guarded(Own):
    """Needs a secret."""

    Config = Settings

    def fit(self, ctx, batches): ...


class Shows(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("params", self.model.params(g))


records = []
artifact = compiled(Shows(), model=Guarded)
bb.install(PEER, [], artifact, ["Shows"], {"model": {"token": "x"}}, journal=records.append)
replay(records)


# %% NodeBusy: may not be asked twice: Fit of slot 'model'
class Slow(Own):
    defers = ("fit",)

    def fit(self, ctx, batches):
        self.handle = ctx.external()
        return self.handle


class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))  # (1)


node = federation_of(Trains(), model=Slow, data="digits").server
node.invoke("Trains")
node.poll()
node.snapshot()


# %% NotPublished: 'sam'
federation_of(Echo()).run({"x": np.zeros(3, np.float32)})["sam"]


# %% NodeClosed: is closed
federation = federation_of(Echo())
federation.close()
federation.run({"x": np.zeros(3, np.float32)})


# %% NotStorable: goes over a Batches
class Stream(DataSource):
    def next_batch(self, ctx):
        return np.zeros((1, 2)), np.zeros(1)

    def batches(self, ctx, *, epochs=1):
        return Batches(2, lambda: iter([self.next_batch(ctx), self.next_batch(ctx)]))


class Shows(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    data = bb.slots.DataSource()

    def body(self, g):
        with g.each(self.data.batches(g)) as (inputs, _labels):  # (1)
            seen = g.net_out("show", self.peers.current_view(g), inputs)
            g.gather(g.net_out("seen", g.sender(seen)))


node = federation_of(Shows(), peers="static", data=Stream).server
node.invoke("Shows")
node.poll()
node.snapshot()


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


# %% Quarantined: is stuck
class Hangs(Own):
    """Hands out work that never ends."""

    defers = ("fit",)

    def fit(self, ctx, batches):
        return ctx.defer(threading.Event().wait)


class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))  # (1)


node = federation_of(Trains(), model=Hangs, data="digits").server
node.invoke("Trains")
work = [step for step in node.poll() if isinstance(step, bb.Deferred)]  # nobody does it
node.advance(2 * 3600 * 10**9)
node.invoke("Trains")
raise next(step.error for step in node.poll() if isinstance(step, bb.OpFailed))


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


# %% ReplayDiverged: Emitted loss of Trains
class Clocked(Own):
    """Depends on something that no journal holds."""

    calls = 0

    def fit(self, ctx, batches):
        Clocked.calls += 1
        return {"examples": 1, "loss": float(self.calls)}


class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        g.output("loss", self.model.fit(g, self.data.batches(g)))  # (1)


records = []
artifact = compiled(Trains(), model=Clocked, data="digits")
node = bb.install(PEER, [], artifact, ["Trains"], journal=records.append)
node.invoke("Trains")
node.poll()
replay(records)


# %% SnapshotDamaged: checksum differs
node = federation_of(Echo()).server
damaged = bytearray(node.snapshot())
damaged[-1] ^= 1
node.restore(damaged)


# %% SnapshotError: incarnation 1
node = federation_of(Echo()).server
node.restore(node.snapshot(), clean=False)


# %% SnapshotForeign: another peer
def node_of(peer):
    artifact = bb.Compiler().compile(Echo().build())
    return bb.install(peer, [], artifact, ["Echo"])


node_of(bb.PeerId.from_seed(1)).restore(node_of(PEER).snapshot())


# %% SnapshotNewer: version 9
node = federation_of(Echo()).server
later = bytearray(node.snapshot())
later[4] = 9
node.restore(later)
