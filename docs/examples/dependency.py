"""A component of your own that leans on a sibling: a median that keeps its updates compressed.

The mean of federated averaging can be folded as updates arrive. A median cannot: it needs all of
them at once. `Median` keeps them in 8 bits a number, by whatever Codec the program binds to the
slot `codec`. It declares the need in `depends` and finds the component in its environment.

    python dependency.py
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

import numpy as np

import bytesandbrains as bb
from bb_roles import Aggregator, Codec, Context, Environment

CLIENTS = 10


class Median(Aggregator):
    """The median of each parameter over all updates of a round, so that one liar moves little."""

    # Slot name to contract. Compiler and installer refuse a program that does not fill the slot.
    depends: ClassVar = {"codec": Codec}

    def __init__(self, config: Any, env: Environment) -> None:
        super().__init__(config, env)
        self.codec: Any = env.dependencies["codec"]
        # Rounds may overlap, so what they collect is kept apart.
        self.rounds: dict[Hashable, list[Any]] = defaultdict(list)
        self.examples: dict[Hashable, int] = defaultdict(int)
        self.plain = self.kept = 0

    def contribute(self, ctx: Context, params: bb.ParameterSet, metrics: Mapping[str, Any]) -> None:
        """Keep one update, compressed."""
        encoded = self.codec.encode(ctx, params)
        self.rounds[ctx.round].append(encoded)
        self.examples[ctx.round] += metrics["examples"]
        self.plain += params.nbytes
        self.kept += encoded.nbytes

    def aggregate(self, ctx: Context) -> tuple[bb.ParameterSet, dict[str, Any]]:
        """Return the median, tensor by tensor, and end the round."""
        updates = [self.codec.decode(ctx, encoded) for encoded in self.rounds.pop(ctx.round)]
        median = {
            name: np.median([update[name] for update in updates], axis=0).astype(np.float32)
            for name in updates[0].names
        }
        summary = {"count": len(updates), "examples": self.examples.pop(ctx.round)}
        return bb.ParameterSet.from_tensors(median), summary

    def abandon(self, ctx: Context) -> None:
        """Forget a round that failed."""
        self.rounds.pop(ctx.round, None)
        self.examples.pop(ctx.round, None)


def compiler() -> bb.Compiler:
    """Bind every slot that the program itself uses; a class of ours goes where a name would."""
    return (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", Median)
    )


def main() -> None:
    """Forget the sibling and be told; bind it and train."""
    program = bb.programs.FederatedAveraging(CLIENTS, epochs=3, evaluate=True)
    try:
        compiler().compile(program.build())
    except bb.CompileError as error:
        print(f"{error.code}: {error}\n")

    # The program has no op on `codec`: it is bound for the aggregator alone.
    artifact = compiler().bind_codec("codec", "quantize").compile(program.build())
    part = {"split": "train", "partition": "iid", "clients": CLIENTS}
    federation = bb.LocalFederation(
        artifact,
        nodes={"client": CLIENTS},
        config={
            # A function of the Node's number among the clients: each gets its own part.
            "data": lambda i: {**part, "client": i},
            "test": {"split": "test"},
            "codec": {"to": "int8"},
        },
    )
    for number, outputs in enumerate(federation.rounds(10), start=1):
        if number % 5 == 0:
            print(f"round {number:2}: test accuracy {outputs['test']['accuracy']:.3f}")
    median: Any = federation.server.component("aggregator")
    print(f"kept {median.kept} bytes of updates instead of {median.plain}")


if __name__ == "__main__":
    main()
