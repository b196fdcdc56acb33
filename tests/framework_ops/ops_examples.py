"""One small program per op of the framework: a body, as it stands in the reference.

Each is run on a server and two clients; what it publishes is printed on the page below it. Draws
differ between versions of numpy, so no example publishes one.
"""

from __future__ import annotations

from bb_ir import keys

__all__ = ["EXAMPLES"]

EXAMPLES = {
    "Scalar": """
limit = g.scalar(0.25)
g.output("half", limit / 2)
""",
    "Record": """
metrics = g.record(loss=g.scalar(0.5), examples=g.scalar(100))
g.output("metrics", metrics)
""",
    "Field": """
metrics = g.record(loss=g.scalar(0.5), examples=g.scalar(100))
g.output("loss", metrics["loss"])
g.output("examples", g.field(metrics, "examples", "int64"))
""",
    "Calculate": """
loss = g.scalar(0.5)
g.output("good", (loss < 1.0) & ~loss.equals(0.0))
""",
    keys.PASS_THROUGH: """
cohort = self.peers.current_view(g)
trained = self.model.fit(g, self.data.batches(g))
ready = g.net_out("ready", g.gate(cohort, after=trained))  # sends nothing else than word of it
with g.at(ready):
    g.output("told", g.me())
""",
    "Length": """
g.output("asked", g.length(self.peers.current_view(g)))
""",
    "Item": """
cohort = self.peers.current_view(g)
g.output("first", cohort[0])
g.output("last", g.item(cohort, -1))
""",
    "Concat": """
cohort = self.peers.current_view(g)
g.output("in_turn", g.concat(cohort[1], cohort))
""",
    "Without": """
cohort = self.peers.current_view(g)
g.output("others", g.without(cohort, cohort[0]))
""",
    "Reduce": """
got = g.net_out("weights", self.peers.current_view(g), self.model.params(g))
self.model.load_params(g, got)
metrics = self.model.fit(g, self.data.batches(g))
done = g.gather(g.net_out("metrics", g.sender(got), metrics), values=True)
g.output("loss", g.mean(done.values, "loss", weight="examples"))
g.output("examples", g.sum(done.values, "examples"))
""",
    keys.NOW: """
begun = g.now()
g.output("nanoseconds", g.now(after=g.sleep("2s", begun)) - begun)
""",
    keys.ME: """
hello = g.net_out("hello", self.peers.current_view(g), g.me())
g.output("from", hello)
""",
    keys.RANDOM: """
noise = g.random.normal(0.0, 0.1)
dice = g.random.integers(1, 7)
g.output("fair", (dice >= 1) & (dice <= 6) & (noise < 9.0) & (g.random.uniform() < 1.0))
""",
    keys.CHOICE: """
one = g.random.choice(self.peers.current_view(g), 1)
g.output("asked", g.length(one))
""",
    keys.METRIC: """
got = g.net_out("weights", self.peers.current_view(g), self.model.params(g))
self.model.load_params(g, got)
metrics = self.model.fit(g, self.data.batches(g))
g.metric("fits", after=metrics)
g.metric("loss", g.field(metrics, "loss", "float64"), "gauge")
g.output("metrics", metrics)
""",
    keys.OUTPUT: """
g.output("params", self.model.params(g))
""",
    keys.SLEEP: """
first = self.model.fit(g, self.data.batches(g))
g.output("after_five_seconds", g.sleep("5s", first))
""",
    "When": """
flag = g.scalar(0.5) < 1.0
with g.when(flag):
    g.output("said", g.scalar("it is"))
""",
    "Loop": """
with g.loop(2) as turn:
    g.output("turn", turn)
""",
    "Each": """
with g.each(self.peers.current_view(g)) as peer:
    g.output("peer", peer)
""",
    "Rounds": """
with g.rounds(2) as number:
    self.model.fit(g, self.data.batches(g))
    g.output("round", number)
""",
    "Every": """
with g.every("5s") as tick:
    g.output("tick", tick)
    tick.until(tick.equals(2))
""",
    "On": """
with g.on("loss", "float64") as loss:
    g.output("heard", loss)
g.publish("loss", g.scalar(0.5))
""",
    keys.TURN: """
with g.loop(3) as turn:
    g.output("square", turn * turn)
""",
    keys.UNTIL: """
with g.loop(100) as turn:
    g.output("turn", turn)
    turn.until(turn.equals(2))
""",
    keys.LAST: """
with g.loop(3) as turn:
    square = turn * turn
g.output("last", g.last(square))
""",
    keys.PUBLISH: """
with g.on("done") as event:
    g.output("event", event)
g.publish("done", g.scalar("the model is trained"))
""",
    keys.SEND: """
got = g.net_out("greeting", self.peers.current_view(g), g.scalar("hello"))
g.output("got", got)
""",
    keys.SENDER: """
got = g.net_out("question", self.peers.current_view(g), g.scalar(20))
answer = g.net_out("answer", g.sender(got), got + 1)
g.output("answer", answer)
""",
    keys.GATHER: """
got = g.net_out("question", self.peers.current_view(g), g.scalar(20))
answer = g.net_out("answer", g.sender(got), got + 1)
done = g.gather(answer, quorum=0.5, wait="all", deadline="10s", values=True)
g.output("count", done.count)
g.output("answers", done.values)
""",
}
