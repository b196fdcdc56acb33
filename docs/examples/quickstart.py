"""The first program: a client pulls a batch, runs its model on it and publishes its parameters.

Run it where the demo's parts are installed (`pip install "bytesandbrains[demo]"`):

    python quickstart.py
"""

import bytesandbrains as bb


# 1. Describe. A Module is a program. Its slots say which kinds of parts it needs, not which ones.
class FederatedClient(bb.Module):
    """One local round: pull a batch, run the model on it, publish its parameters."""

    data_source = bb.slots.DataSource()
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        """Record the program: each call adds one operation, nothing is computed here."""
        batch, _labels = self.data_source.next_batch(g)
        self.model.forward(g, batch)
        g.output("params", self.model.params(g))


def main() -> None:
    """Compile the program, install it on one Node and run it once."""
    # 2. Compile. Each slot is bound to a component that some installed package provides; `bb
    #    plugins` lists them. The artifact is an ONNX model: save it, open it in Netron.
    artifact = (
        bb.Compiler()
        .bind_data_source("data_source", "digits")
        .bind_model("model", "mlp")
        .compile(FederatedClient().build())
    )

    # 3. Install. A Node has an identity, addresses where others may reach it, and a configuration
    #    for the components. A real one keeps the key of `bb.KeyPair.generate()`; this one comes
    #    from a seed, so that every run prints the same.
    peer = bb.PeerId.from_seed(0)
    address = bb.Address.parse("/memory/1")
    config = bb.Config({"model": {"lr": 0.1}})
    node = bb.install(peer, [address], artifact, ["FederatedClient"], config)

    # 4. Run. A Node has no threads, sockets or clock: it does what it is asked to when it is
    #    polled, and reports in steps.
    node.run_bootstrap()
    node.invoke("FederatedClient")
    for step in node.poll():
        match step:
            case bb.Emitted(name="params", value=params):
                show(params)
            case bb.OpFailed(error=error):
                raise error


def show(params: bb.ParameterSet) -> None:
    """Print the tensors of a parameter set, and the digest of its bytes."""
    for name, tensor in params.items():
        first = ", ".join(f"{number:+.4f}" for number in tensor.flat[:4])
        print(f"{name:<16} {tensor.dtype} {tensor.shape!s:<9} {first}, ...")
    print(f"{params.count} numbers in {params.nbytes} bytes, sha256 {params.digest()[:16]}")


if __name__ == "__main__":
    main()
