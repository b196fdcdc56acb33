"""Installing.

`install`, and `LocalFederation` with it, turns an artifact into Nodes. Either everything is found,
configured and built, or nothing is kept; `InstallError` catches all of these.
"""

from dataclasses import dataclass

import bytesandbrains as bb
from bb_roles import DataSource

PEER = bb.PeerId.from_seed(0)


class Trains(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))


class Endless(DataSource):
    """A data source of one's own, without the optional method `reset`."""

    def next_batch(self, ctx): ...
    def batches(self, ctx, *, epochs=1): ...


def compiled(module=None, **parts):
    """Compile a Module, `Trains` when none is given."""
    compiler = bb.Compiler()
    for slot, part in ({"model": "mlp", "data": "digits"} | parts).items():
        if part:
            compiler.bind(slot, part, role="data_source" if slot == "data" else slot)
    return compiler.compile((module or Trains()).build())


def change(artifact, key, value):
    """Change a line of the artifact's metadata, as a damaged or foreign one may have it."""
    entry = next(e for e in artifact.metadata_props if key in e.key)
    entry.value = value
    return artifact


# %% ConfigTypeMismatch: `lr` of slot 'model' is 'fast'
bb.install(PEER, [], compiled(), ["Trains"], {"model": {"lr": "fast"}})


# %% ConstructionFailed: slot 'data'; OfAFile; no such folder
class OfAFile(Endless):
    """Cannot be built without its file."""

    def __init__(self, config, env):
        super().__init__(config, env)
        raise FileNotFoundError("no such folder")


bb.install(PEER, [], compiled(data=OfAFile), ["Trains"])


# %% EmptyTargets: targets is []
bb.install(PEER, [], compiled(), [])


# %% IncompatibleCompiledVersion: 'v9'
artifact = change(compiled(), "bytesandbrains.compiled", "v9")  # by a later version of ours
bb.install(PEER, [], artifact, ["Trains"])


# %% InstallError: no class 'clients'
bb.LocalFederation(compiled(), nodes={"clients": 10})


# %% InvalidArtifact: no file trains.onnx
bb.install(PEER, [], "trains.onnx", ["Trains"])


# %% InvalidBindingTable: 'data'
class Draws(bb.Module):
    data = bb.slots.DataSource()

    def body(self, g):
        self.data.next_batch(g)  # (1)


artifact = compiled(Draws(), model=None)
row = next(e for e in artifact.metadata_props if e.key.endswith("/data"))
artifact.metadata_props.remove(row)  # as a tool that edits artifacts may do by mistake
bb.install(PEER, [], artifact, ["Draws"])


# %% InvalidTrust: 8 bytes
bb.install(PEER, [], compiled(), ["Trains"], secret=b"password")


# %% MissingConfig: 'data'; path
class FromAFile(Endless):
    @dataclass(frozen=True)
    class Config:
        path: str


bb.install(PEER, [], compiled(data=FromAFile), ["Trains"])


# %% NotAllowed: slot 'data'; data_source.digits
bb.install(PEER, [], compiled(), ["Trains"], allow=["model.mlp"])


# %% NotCompiled: no passport
bb.install(PEER, [], Trains().build(), ["Trains"])


# %% NotTrusted: signed by; 12D3KooW
from bb_ir.signing import sign_model

alice, mallory = (bb.KeyPair.derive(0, number) for number in range(2))
artifact = compiled()
sign_model(artifact, mallory)
bb.install(PEER, [], artifact, ["Trains"], trusted=[alice.peer_id])


# %% SlotBindingConflict: 'model'
artifact = compiled()
row = next(e for e in artifact.metadata_props if e.key.endswith("/model"))
artifact.metadata_props.add(key=row.key, value="model|other|-1")
bb.install(PEER, [], artifact, ["Trains"])


# %% UnknownTarget: 'Train'
bb.install(PEER, [], compiled(), ["Train"])


# %% UnregisteredComponent: slot 'model'; model.transformer
artifact = change(compiled(), "/model", "model|transformer|-1")  # compiled elsewhere
bb.install(PEER, [], artifact, ["Trains"])


# %% UnresolvedOp: Reset; 'data'; Endless
class Restarts(bb.Module):
    data = bb.slots.DataSource()

    def body(self, g):
        self.data.reset(g)  # (1)


bb.install(PEER, [], compiled(Restarts(), model=None, data=Endless), ["Restarts"])


# %% UnresolvedType: acme.graph/1
class Echo(bb.Module):
    def body(self, g):
        g.output("same", g.input("graph", bb.custom("acme.graph/1")))


bb.install(PEER, [], bb.Compiler().compile(Echo().build()), ["Echo"])
