"""Components of this project.

What the ready-made components refuse. In a run it is the `error` of an `OpFailed` step; when it is
about a configuration, `install` says so. They are errors of ours and, most of them, `ValueError`.
"""

import numpy as np

import bytesandbrains as bb
from bb_roles.registry import bound_class
from bb_testing import FakeContext, environment


def make(role, name, **config):
    """Build a component alone, as its author's tests do."""
    cls = bound_class(role, name)
    return cls(cls.Config(**config), environment(slot=role))


def weights(*values):
    return bb.ParameterSet.from_tensors({"w": np.array(values, np.float32)})


ctx = FakeContext()


# %% CohortExceeded: 1
fedavg = make("aggregator", "fedavg", cohort=1)
fedavg.contribute(ctx, weights(1.0, 2.0), {"examples": 10})
fedavg.contribute(ctx, weights(3.0, 4.0), {"examples": 10})


# %% GridTooCoarse: cohort=1048576
make("aggregator", "fedavg", cohort=2**20, weight_max=2**20)


# %% MetricsError: examples
make("aggregator", "fedavg").contribute(ctx, weights(1.0), {"loss": 0.5})


# %% bb_aggregator_fedavg.NothingContributed: round
make("aggregator", "fedavg").aggregate(ctx)


# %% RoundKeyError: round
fedavg = make("aggregator", "fedavg")
fedavg.contribute(FakeContext(round=frozenset([1])), weights(1.0), {"examples": 10})
fedavg.save()


# %% UpdateMismatch: 'w'
fedavg = make("aggregator", "fedavg")
fedavg.contribute(ctx, weights(1.0, 2.0), {"examples": 10})
fedavg.contribute(ctx, weights(1.0, 2.0, 3.0), {"examples": 10})


# %% UpdateOutOfRange: 'w'; nan
make("aggregator", "fedavg").contribute(ctx, weights(1.0, np.nan), {"examples": 10})


# %% KernelError: Softmax; axes
make("backend", "numpy").kernel("Softmax", {"axes": 1}, 1)


# %% EncodingDamaged: it has the tensors w
codec = make("codec", "quantize")
codec.decode(ctx, weights(1.0, 2.0))  # was never encoded


# %% bb_codec_quantize.InvalidSetting: bits is 5
make("codec", "quantize", bits=5)


# %% NotParameters: ndarray
make("codec", "quantize").encode(ctx, np.zeros(3))


# %% ValueNotFinite: 'w'
make("codec", "quantize").encode(ctx, weights(1.0, np.inf))


# %% DataError: parts.npz
make("data_source", "arrays", path="parts.npz")


# %% bb_index_flat.InvalidSetting: dim is 0
make("index", "flat", dim=0)


# %% bb_index_flat.StateMismatch: float32[0, 2]
small, large = make("index", "flat", dim=2), make("index", "flat", dim=3)
large.load(small.save())


# %% UnknownId: 7
index = make("index", "flat")
index.add(ctx, np.eye(3))
index.remove(ctx, np.array([7]))


# %% VectorMismatch: 2
index = make("index", "flat", dim=3)
index.add(ctx, np.ones((4, 2)))


# %% VectorOutOfRange: nan
make("index", "flat").add(ctx, np.array([[1.0, np.nan]]))


# %% MlpError: layers
make("model", "mlp", layers=(64,))


# %% bb_peers_registry.PeersError: 'registry'
make("peer_selector", "registry")


# %% bb_peers_static.PeersError: knows no peers
make("peer_selector", "static").sample(ctx, n=3)


# %% InvalidMessage: sequence='one'
registry = make("protocol", "registry")
ctx.sender = bb.PeerId.from_seed(7)
registry.register(ctx, {"sequence": "one", "ttl_ns": 10**9, "labels": []})


# %% bb_protocol_registry.InvalidSetting: ttl_s is 0.0
make("protocol", "registry", ttl_s=0.0)


# %% NoSender: Register
registry = make("protocol", "registry")
registry.register(FakeContext(sender=None), registry.announce(ctx))


# %% RegistryFull: 1
registry = make("protocol", "registry", max_members=1)
for number in range(2):
    ctx.sender = bb.PeerId.from_seed(number)
    registry.register(ctx, registry.announce(ctx))


# %% StaleSequence: 1
registry = make("protocol", "registry")
ctx.sender = bb.PeerId.from_seed(7)
first, second = registry.announce(ctx), registry.announce(ctx)
registry.register(ctx, second)
registry.register(ctx, first)


# %% bb_protocol_registry.StateMismatch: registry
make("protocol", "registry").load(make("index", "flat", dim=2).save())
