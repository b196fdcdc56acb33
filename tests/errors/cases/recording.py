"""Recording.

`Module.build()` runs `body` once and writes down what it calls. What cannot mean anything is
refused there and then, with the line of your file; `BuildError` catches all of these.
"""

import bytesandbrains as bb


# %% BadOption: quorum=1.5
class Poll(bb.Module):
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g):
        asked = g.net_out("ask", self.peers.sample(g, 8), self.model.params(g))
        answer = g.net_out("answer", g.sender(asked), self.model.params(g))
        g.output("count", g.gather(answer, quorum=1.5).count)  # (1)


Poll().build()


# %% DuplicateName: edge 'sent'
class Twice(bb.Module):
    peers = bb.slots.PeerSelector(of="client")

    def body(self, g):
        cohort = self.peers.sample(g, 2)
        g.net_out("sent", cohort)  # (2)
        g.net_out("sent", cohort)  # (1)


Twice().build()


# %% EmptyBlock: rounds
class Idle(bb.Module):
    def body(self, g):
        with g.rounds(10):  # (1)
            pass


Idle().build()


# %% EmptyModule: Nothing.body
class Nothing(bb.Module):
    def body(self, g):
        pass


Nothing().build()


# %% ForeignValue: 'params'
class Inner(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        self.model.load_params(g, self.taken)  # (1)


class Outer(bb.Module):
    model = bb.slots.Model()

    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def body(self, g):
        self.inner.taken = self.model.params(g)  # (2)
        self.inner(g)


Outer().build()


# %% MissingGraph: self.model.params
class Forgets(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("params", self.model.params())  # (1)


Forgets().build()


# %% NoBackendInScope: Double has no Backend slot
class Double(bb.Module):
    def body(self, g):
        g.output("twice", g.input("x", "tensor(float32)") * 2)  # (1)


Double().build()


# %% NoValueYet: <Output loss: any> has no truth value
class Decides(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        metrics = self.model.fit(g, self.data.batches(g))
        loss = metrics["loss"]  # (2)
        if loss:  # (1)
            g.output("loss", loss)


Decides().build()


# %% NotAnOutput: 3 is an int
class LoadsANumber(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        self.model.load_params(g, 3)  # (1)


LoadsANumber().build()


# %% NotEntered: used like a value
class Counts(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        number = g.rounds(10)  # (2)
        g.output("half", number / 2)  # (1)


Counts().build()


# %% RecursiveModule: Endless calls itself
class Endless(bb.Module):
    def __init__(self):
        super().__init__()
        self.again = self

    def body(self, g):
        self.again(g)  # (1)


Endless().build()


# %% UnknownAttribute: <model slot 'model' of Misspells>; 'evalaute'
class Misspells(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        g.output("metrics", self.model.evalaute(g, self.data.batches(g)))  # (1)


Misspells().build()


# %% UnknownPort: unknown: xs; missing: x
class Predicts(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("y", self.model.forward(g, g.input("x", "tensor(float32)")))


class Asks(bb.Module):
    def __init__(self):
        super().__init__()
        self.part = Predicts()

    def body(self, g):
        self.part(g, xs=g.input("x", "tensor(float32)"))  # (1)


Asks().build()


# %% UnknownType: field 'accuracy' of 'metrics'
class Doubts(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        metrics = self.model.evaluate(g, self.data.batches(g))
        accuracy = metrics["accuracy"]  # (2)
        g.output("error", 1 - accuracy)  # (1)


Doubts().build()


# %% UnnamedModule: Predicts
class Predicts(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("y", self.model.forward(g, g.input("x", "tensor(float32)")))


class Asks(bb.Module):
    def body(self, g):
        Predicts()(g, x=g.input("x", "tensor(float32)"))  # (1)


Asks().build()


# %% WrongPortType: 'x'
class Predicts(bb.Module):
    model = bb.slots.Model()

    def body(self, g):
        g.output("y", self.model.forward(g, g.input("x", "tensor(float32)")))  # (2)


class Asks(bb.Module):
    model = bb.slots.Model()

    def __init__(self):
        super().__init__()
        self.part = Predicts()

    def body(self, g):
        self.part(g, x=self.model.params(g))  # (1)


Asks().build()
