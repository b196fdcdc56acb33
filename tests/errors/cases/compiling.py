"""Compiling.

`Compiler.compile` checks the program across the whole network. Several errors of one stage are
reported together; `CompileError` catches all of these.
"""

import bytesandbrains as bb
from bb_roles import Model, Protocol


class Federated(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()
    backend = bb.slots.Backend()


PARTS = {
    "peers": "static",
    "model": "mlp",
    "data": "digits",
    "aggregator": "fedavg",
    "backend": "numpy",
}


def compile_(module, parts=PARTS):
    recorded = module.build()
    compiler = bb.Compiler()
    for slot in module.slots_of():
        if slot.name in parts and f'"{slot.name}"' in str(recorded):
            compiler.bind(slot.name, parts[slot.name], role=slot.role)
    return compiler.compile(recorded)


# %% AggregatesEarly: Aggregate of slot 'aggregator'; no reply 'update'
class Hurries(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        metrics = self.model.fit(g, self.data.batches(g, after=received))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)  # (2)
        g.output("count", g.gather(folded).count)  # (3)
        averaged, _ = self.aggregator.aggregate(g)  # (1)
        self.model.load_params(g, averaged)


compile_(Hurries())


# %% AmbiguousPlacement: Params of slot 'model'; class 'client'; 'params'; class 'server'
class Personal(Federated):
    def body(self, g):
        g.net_out("go", self.peers.sample(g, 2))
        mine = self.model.params(g)  # (1)
        with g.at("server"):
            self.model.load_params(g, mine)  # (2)


compile_(Personal())


# %% AnswersTwice: edge 'tell'; loop block
class Reports(Federated):
    def body(self, g):
        asked = g.net_out("ask", self.peers.sample(g, 2))
        with g.loop(3):  # (2)
            metrics = self.model.fit(g, self.data.batches(g))
            told = g.net_out("tell", g.sender(asked), metrics)  # (1)
        g.gather(told)


compile_(Reports())


# %% ArtifactInvalid: is never given
class Trains(Federated):
    def body(self, g):
        self.model.fit(g, self.data.batches(g))


def forget_the_first_op(model):
    """A stage of one's own that breaks the model."""
    del model.functions[0].node[0]
    return model


compiler = bb.Compiler().bind_model("model", "mlp").bind_data_source("data", "digits")
compiler.insert_stage(forget_the_first_op, before="verify_artifact")
compiler.compile(Trains().build())


# %% BadBinding: NotAModel
class NotAModel:
    def params(self, ctx):
        return None


bb.Compiler().bind_model("model", NotAModel)  # (1)


# %% bb_compiler.BadConfig: 'model'; 'layer'
bb.Compiler().bind_model("model", "mlp", config={"layer": [64, 10]})  # (1)


# %% BadStage: 'solve_types'
bb.Compiler().insert_stage("solve_types", after="infer_regions")


# %% BlockEscape: Output reads 'metrics' (line 4); loop block
class Repeats(Federated):
    def body(self, g):
        with g.loop(3):  # (3)
            metrics = self.model.fit(g, self.data.batches(g))  # (2)
        g.output("loss", metrics)  # (1)


compile_(Repeats())


# %% BoundTwice: slot 'model' is bound to 'mlp'
compiler = bb.Compiler()
compiler.bind_model("model", "mlp")  # (2)
compiler.bind_model("model", "mlp", config={"layers": [64, 10]})  # (1)


# %% ComponentOpMisfit: slot 'registry'; Announce
from bb_protocol_registry.slots import Registry


class Silent(Protocol):
    """Has no op at all."""


class Joins(bb.Module):
    registry = Registry()

    def body(self, g):
        g.output("said", self.registry.announce(g))  # (1)


bb.Compiler().bind_protocol("registry", Silent).compile(Joins().build())


# %% ComponentTypeMisfit: Params.params; tensor(float32)
class Odd(Model):
    types = {"Params.params": "tensor(float32)"}


class Reads(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("params", self.model.params(g))  # (1)


bb.Compiler().bind_model("model", Odd).compile(Reads().build())


# %% CrossClassDataflow: 'sent' (line 4) of class 'client'; 'mine' of class 'server'
class Sum(Federated):
    def body(self, g):
        mine = g.input("mine", "tensor(float32)")
        theirs = g.net_out("sent", self.peers.sample(g, 2), mine * 2)  # (2)
        g.output("sum", mine + theirs)  # (1)


compile_(Sum())


# %% DeadlineInversion: may wait 2m; after 30s
class Tree(bb.Module):
    peer_class = "cloud"
    edges = bb.slots.PeerSelector(of="edge")
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g):
        down = g.net_out("down", self.edges.sample(g, 2), self.model.params(g))
        work = g.net_out("work", self.clients.sample(g, 5), down)
        back = g.net_out("back", g.sender(work), self.model.params(g))
        done = g.gather(back, deadline="2m")  # (1)
        up = g.net_out("up", g.sender(down), self.model.params(g, after=done))
        g.gather(up, deadline="30s")  # (2)


compile_(Tree(), {"edges": "static", "clients": "static", "model": "mlp"})


# %% DependencyMissing: 'backend'
from bb_roles import Backend


class OnABackend(Model):
    depends = {"backend": Backend}


class Reads(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("params", self.model.params(g))  # (1)


bb.Compiler().bind_model("model", OnABackend).compile(Reads().build())  # (2)


# %% BadReplies: answer 5 times on edge 'update'; at most 2 times
class Streams(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        with g.loop(2):
            self.model.fit(g, self.data.batches(g))
            update = g.net_out("update", g.sender(received), self.model.params(g), replies=5)  # (1)
        g.gather(update, deadline="30s")


compile_(Streams())


# %% EdgeLimitTooLow: edge 'weights'; 1,000 bytes
class Sends(Federated):
    def body(self, g):
        weights = g.input("weights", "params(w:tensor(float32)[128,64])")
        g.net_out("weights", self.peers.sample(g, 2), weights, max_bytes=1_000)  # (1)


compile_(Sends())


# %% FanOutEscape: LoadParams; 'update' (line 5); once for every reply
class TakesEach(Federated):
    def body(self, g):
        cohort = self.peers.sample(g, 2)
        received = g.net_out("weights", cohort)
        update = g.net_out("update", g.sender(received), self.model.params(g))  # (2)
        with g.at(cohort):
            self.model.load_params(g, update)  # (1)


compile_(TakesEach())


# %% GatherOutsideFanOut: gather over 'weights' (line 3); class 'client'
class GathersOne(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))  # (2)
        g.gather(received)  # (1)


compile_(GathersOne())


# %% MalformedRecording: Trains
class Trains(Federated):
    def body(self, g):
        self.model.fit(g, self.data.batches(g))


bb.Compiler().compile(Trains())


# %% NotAnArtifact: no passport
class Trains(Federated):
    def body(self, g):
        self.model.fit(g, self.data.batches(g))


bb.explain(Trains().build())


# %% NotSendable: 'batches' (line 3); edge 'data'
class SendsData(Federated):
    def body(self, g):
        batches = self.data.batches(g)  # (2)
        g.net_out("data", self.peers.sample(g, 1), batches)  # (1)


compile_(SendsData())


# %% bb_compiler.NothingContributed: Aggregate of slot 'aggregator'; class 'server'
class Forgets(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        update = g.net_out("update", g.sender(received), self.model.params(g))
        done = g.gather(update)
        averaged, _ = self.aggregator.aggregate(g, after=done)  # (1)
        self.model.load_params(g, averaged)


compile_(Forgets())


# %% NothingWaits: g.sleep(...), and nothing takes its trigger
class Waits(Federated):
    def body(self, g):
        g.sleep("5s", after=self.model.params(g))  # (1)
        g.output("params", self.model.params(g))


compile_(Waits())


# %% OutsideBlock: LoadParams; when block; class 'server'
class Strays(Federated):
    def body(self, g):
        weights = self.model.params(g)  # (3)
        received = g.net_out("weights", self.peers.sample(g, 2), weights)
        metrics = self.model.evaluate(g, self.data.batches(g, after=received))
        with g.when(metrics["loss"] > 1.0):  # (2)
            self.model.load_params(g, weights)  # (1)


compile_(Strays())


# %% MixedDeadlines: edge 'back'; another gather
class MeasuresOnce(Federated):
    def body(self, g):
        work = g.net_out("work", self.peers.sample(g, 8), self.model.params(g))
        back = g.net_out("back", g.sender(work), self.model.params(g))
        g.gather(back, deadline="auto", quorum=0.5)  # (1)
        g.gather(back, deadline="1m")  # (2)


compile_(MeasuresOnce())


# %% QuorumUnreachable: 12 answers; 8 peers
class AsksTooFew(Federated):
    def body(self, g):
        work = g.net_out("work", self.peers.sample(g, 8), self.model.params(g))  # (2)
        back = g.net_out("back", g.sender(work), self.model.params(g))
        g.gather(back, quorum=12)  # (1)


compile_(AsksTooFew())


# %% SenderOutsideMessage: 'params' (line 3); class 'server'
class AnswersNobody(Federated):
    def body(self, g):
        params = self.model.params(g)  # (2)
        g.net_out("back", g.sender(params), params)  # (1)


compile_(AnswersNobody())


# %% SeveralErrors: 3 errors
class ManyMistakes(Federated):
    def body(self, g):
        batch, _labels = self.data.next_batch(g)
        self.model.load_params(g, batch)
        self.model.apply_delta(g, batch)
        g.net_out("data", self.peers.sample(g, 1), self.data.batches(g))


compile_(ManyMistakes())


# %% SiblingRegions: 'push' (line 8); 'mine'; different events
class Gossip(bb.Module):
    neighbours = bb.slots.PeerSelector()
    backend = bb.slots.Backend()

    def body(self, g):
        mine = g.input("mine", "tensor(float32)")
        chosen = self.neighbours.sample(g, 1)
        theirs = g.net_out("push", chosen, mine)  # (2)
        g.output("mixed", (theirs + mine) * 0.5)  # (1)


compile_(Gossip(), {"neighbours": "static", "backend": "numpy"})


# %% StageFailed: 'shout'
class Trains(Federated):
    def body(self, g):
        self.model.fit(g, self.data.batches(g))


def shout(model):
    """A stage of one's own that returns no model."""
    print(len(model.functions), "functions")


compiler = bb.Compiler().bind_model("model", "mlp").bind_data_source("data", "digits")
compiler.insert_stage(shout, before="solve_types").compile(Trains().build())


# %% TypeMismatch: LoadParams is given 'batch' (line 3) of type tensor
class LoadsABatch(Federated):
    def body(self, g):
        batch, _labels = self.data.next_batch(g)  # (2)
        self.model.load_params(g, batch)  # (1)


compile_(LoadsABatch())


# %% UnboundSlot: slot 'data'; class 'Trains'
class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))  # (1)


bb.Compiler().bind_model("model", "mlp").compile(Trains().build())


# %% UnknownOp: 'Matmul'
class Square(Federated):
    def body(self, g):
        x = g.input("x", "tensor(float32)")
        g.output("square", self.backend.op(g, "Matmul", x, x))  # (1)


compile_(Square())


# %% UnknownPeerClass: 'cleint'
class Misspelt(Federated):
    def body(self, g):
        g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        with g.at("cleint"):
            self.model.params(g)  # (1)


compile_(Misspelt())


# %% UnknownSlot: slot 'modle'
class Reads(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("params", self.model.params(g))


compiler = bb.Compiler().bind_model("model", "mlp").bind_model("modle", "mlp")  # (1)
compiler.compile(Reads().build())


# %% UnknownStage: 'solve_type'
bb.Compiler().without_stage("solve_type")


# %% WrongAssumption: 'clients'
class Sends(Federated):
    def body(self, g):
        g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))


bb.explain(compile_(Sends()), cohort={"clients": 10})


# %% WrongRole: 'data' is a data_source slot
class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))  # (1)


compiler = bb.Compiler().bind_model("model", "mlp").bind_model("data", "mlp")  # (2)
compiler.compile(Trains().build())
