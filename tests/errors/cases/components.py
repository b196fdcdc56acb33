"""Components of this project.

What the ready-made components refuse. In a run it is the `error` of an `OpFailed` step; when it is
about a configuration, `install` says so. They are errors of ours and, most of them, `ValueError`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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


# %% InputMisfit: 32 numbers; 64
mlp = bound_class("model", "mlp")
mlp.infer_types(mlp.Config(layers=(64, 10)), "Forward", (bb.tensor("float32", ("n", 32)),))


# %% MetricsError: examples
make("aggregator", "fedavg").contribute(ctx, weights(1.0), {"loss": 0.5})


# %% bb_roles.NothingContributed: round
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


# %% bb_aggregator_fedopt.InvalidSetting: 'adam' has no momentum
make("aggregator", "fedopt", rule="adam", momentum=0.9)


# %% bb_aggregator_fedopt.StateMismatch: 'yogi'
yogi, adam = make("aggregator", "fedopt", rule="yogi"), make("aggregator", "fedopt", rule="adam")
adam.load(yogi.save())


# %% StepOutOfRange: 'w'; 2500.0
fedopt = make("aggregator", "fedopt", rule="avgm", lr=500)
for value in (0.0, 5.0):
    fedopt.contribute(ctx, weights(value), {"examples": 10})
    fedopt.aggregate(ctx)


# %% KernelError: Softmax; axes
make("backend", "numpy").kernel("Softmax", {"axes": 1}, 1)


# %% EncodingDamaged: it has the tensors w
codec = make("codec", "quantize")
codec.decode(ctx, weights(1.0, 2.0))  # was never encoded


# %% bb_codec_quantize.InvalidSetting: to is 'int5'
make("codec", "quantize", to="int5")


# %% NotParameters: ndarray
make("codec", "quantize").encode(ctx, np.zeros(3))


# %% ValueNotFinite: 'w'
make("codec", "quantize").encode(ctx, weights(1.0, np.inf))


# %% DataError: parts.npz
make("data_source", "arrays", path="parts.npz")


# %% TooFewExamples: 1438 examples cannot give 2000 clients
make("data_source", "digits", split="train", partition="iid", clients=2000, client=0)


# %% ChainMisfit: 'quantize' takes params
make("codec", "chain", codecs=("zstd", "quantize"))


# %% ChainStateMisfit: of the codecs ['quantize']
small = make("codec", "chain", codecs=("quantize",))
make("codec", "chain", codecs=("quantize", "zstd")).load(small.save())


# %% bb_codec_topk.InvalidSetting: share is 0
make("codec", "topk", share=0)


# %% NotAnUpdate: ndarray
make("codec", "topk").encode(ctx, np.zeros(3))


# %% ResidualUnfit: a half of it is missing
codec = make("codec", "topk", k=1)
codec.compress(ctx, weights(1.0, 2.0))
state = codec.save()
codec.load(type(state)(tensors={"residual": state.tensors["residual"]}))


# %% RoundNotSaved: frozenset
codec = make("codec", "topk")
codec.compress(FakeContext(round=frozenset([1])), weights(1.0))
codec.save()


# %% SparseDamaged: it has the tensors w
make("codec", "topk").decode(ctx, weights(1.0, 2.0))  # was never encoded


# %% SparseTooLarge: 1328 bytes
make("codec", "topk", max_bytes=1000).encode(ctx, weights(*range(300)))


# %% UpdateNotFinite: 'w'
make("codec", "topk").encode(ctx, weights(1.0, np.inf))


# %% UpdateReshaped: 'w'
codec = make("codec", "topk")
codec.compress(ctx, weights(1.0, 2.0))
codec.compress(ctx, weights(1.0, 2.0, 3.0))


# %% FrameDamaged: it begins with
make("codec", "zstd").decode(ctx, b"was never encoded")


# %% bb_codec_zstd.InvalidSetting: level is 23
make("codec", "zstd", level=23)


# %% ValueTooLarge: 1001 bytes
make("codec", "zstd", takes="bytes", max_bytes=1000).encode(ctx, bytes(1001))


# %% WrongKind: ndarray
make("codec", "zstd").encode(ctx, np.zeros(3))


# %% ColumnMismatch: 'kind'
table = pa.table({"width": [0.5, 1.5], "sort": [0, 1]})
pq.write_table(table, "leaves.parquet")
make("data_source", "parquet", path="leaves.parquet", label="kind")


# %% FileUnreadable: readings.parquet
make("data_source", "parquet", path="readings.parquet", label="kind")


# %% UnusableValue: 'width'; 1 nulls
table = pa.table({"width": [0.5, None], "kind": [0, 1]})
pq.write_table(table, "leaves.parquet")
make("data_source", "parquet", path="leaves.parquet", label="kind")


# %% ReductionDamaged: 'stored'; requests is not what its record says
from bb_datasource_trace.tables import read_tables, synthetic, write_tables

write_tables(synthetic(requests=10), "stored")
pq.write_table(pa.table({"req_id": [0]}), "stored/requests.parquet")
read_tables("stored")


# %% TablesDiffer: requests and heat came out other
from pathlib import Path

from bb_datasource_trace import tables

tables.write_tables(tables.synthetic(requests=10), "stored")
record = Path("stored/reduction.json")
record.write_text(record.read_text().replace('"seed": 0', '"seed": 1'))
tables.replay("stored")


# %% TraceLineMalformed: line 1 of; 13 hash_ids for 6955 tokens
from pathlib import Path

from bb_datasource_trace.importers import import_mooncake

ids = ", ".join(str(number) for number in range(13))
line = f'{{"timestamp": 0, "input_length": 6955, "output_length": 9, "hash_ids": [{ids}]}}'
Path("requests.jsonl").write_text(line)
import_mooncake("requests.jsonl", "trace.parquet", model="")


# %% TraceMismatch: no column 'slo_ns'
from bb_datasource_trace.generators import sessions

sessions(requests=10).drop("slo_ns").write_parquet("trace.parquet")
make("data_source", "trace", path="trace.parquet")


# %% TraceRowInvalid: row 1; ts_ns before
from bb_datasource_trace.generators import sessions

sessions(requests=10).reverse().write_parquet("trace.parquet")
make("data_source", "trace", path="trace.parquet")


# %% TraceUnreadable: trace.parquet
make("data_source", "trace", path="trace.parquet")


# %% SklearnError: loss is 'huber'
make("model", "sklearn", loss="huber")


# %% DtypeUnsupported: Mish; float64
make("backend", "onnxruntime").kernel("Mish", {}, 1)(np.ones(3))  # float64


# %% bb_backend_onnxruntime.InvalidSetting: threads is 0
make("backend", "onnxruntime", threads=0)


# %% OpRefused: Softmax; axes
make("backend", "onnxruntime").kernel("Softmax", {"axes": 1}, 1)


# %% RunFailed: op Add failed; float32[3], float32[2]
add = make("backend", "onnxruntime").kernel("Add", {}, 1)
add(np.ones(3, np.float32), np.ones(2, np.float32))


# %% bb_index_usearch.InvalidSetting: connectivity is 1
make("index", "usearch", connectivity=1)


# %% CohortError: knows no peers
make("peer_selector", "random").sample(ctx, n=3)


# %% bb_peers_random.InvalidSetting: 1 weights and 2 peers
peers = tuple(bb.PeerId.from_seed(number) for number in range(2))
make("peer_selector", "random", peers=peers, weights=(1.0,))


# %% bb_roles.InvalidSetting: attackers is -1
make("aggregator", "krum", attackers=-1)


# %% TooFewUpdates: 2
krum = make("aggregator", "krum", attackers=1)
for value in (1.0, 2.0):
    krum.contribute(ctx, weights(value), {"examples": 10})
krum.aggregate(ctx)


# %% bb_index_flat.InvalidSetting: dim is 0
make("index", "flat", dim=0)


# %% bb_roles.StateMismatch: float32[0, 2]
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


# %% bb_protocol_registry.InvalidMessage: sequence='one'
registry = make("protocol", "registry")
ctx.sender = bb.PeerId.from_seed(7)
registry.register(ctx, {"sequence": "one", "ttl_ns": 10**9, "labels": []})


# %% bb_protocol_registry.InvalidSetting: ttl_s is 0.0
make("protocol", "registry", ttl_s=0.0)


# %% bb_protocol_registry.NoSender: Register
registry = make("protocol", "registry")
registry.register(FakeContext(sender=None), registry.announce(ctx))


# %% RegistryFull: 1
registry = make("protocol", "registry", max_members=1)
for number in range(2):
    ctx.sender = bb.PeerId.from_seed(number)
    registry.register(ctx, registry.announce(ctx))


# %% bb_protocol_registry.StaleSequence: 1
registry = make("protocol", "registry")
ctx.sender = bb.PeerId.from_seed(7)
first, second = registry.announce(ctx), registry.announce(ctx)
registry.register(ctx, second)
registry.register(ctx, first)


# %% bb_protocol_registry.StateMismatch: registry
make("protocol", "registry").load(make("index", "flat", dim=2).save())


# %% bb_protocol_gossip.InvalidMessage: weight=0.0
gossip = make("protocol", "gossip", value=20.5)
ctx.sender = bb.PeerId.from_seed(7)
gossip.receive(ctx, {"sequence": 1, "weight": 0.0}, 18.0)


# %% bb_protocol_gossip.InvalidSetting: max_peers is 0
make("protocol", "gossip", max_peers=0)


# %% MixedModes: weight of 0.5
gossip = make("protocol", "gossip", value=20.5)
gossip.share(ctx, (bb.PeerId.from_seed(7),))
gossip.ask(ctx, (bb.PeerId.from_seed(8),))


# %% bb_protocol_gossip.NoSender: Receive
gossip = make("protocol", "gossip", value=20.5)
gossip.receive(FakeContext(sender=None), {"sequence": 1, "weight": 0.5}, 18.0)


# %% NoValue: no value yet
make("protocol", "gossip").estimate(ctx)


# %% NotFinite: NaN
gossip = make("protocol", "gossip")
gossip.put(ctx, weights(1.0, 2.0))
ctx.sender = bb.PeerId.from_seed(7)
gossip.mix(ctx, weights(3.0, np.nan))


# %% NotOneNeighbour: 0 peers
make("protocol", "gossip", value=20.5).share(ctx, ())


# %% bb_protocol_gossip.StaleSequence: 4
gossip = make("protocol", "gossip", value=20.5)
ctx.sender = bb.PeerId.from_seed(7)
for number in (5, 4):
    gossip.answer(ctx, {"sequence": number}, 18.0)


# %% bb_protocol_gossip.StateMismatch: gossip
make("protocol", "gossip").load(make("index", "flat", dim=2).save())


# %% TooManyPeers: 1
gossip = make("protocol", "gossip", value=20.5, max_peers=1)
for number in range(2):
    ctx.sender = bb.PeerId.from_seed(number)
    gossip.receive(ctx, {"sequence": 1, "weight": 0.5}, 18.0)


# %% ValueMismatch: 'w'
gossip = make("protocol", "gossip")
gossip.put(ctx, weights(1.0, 2.0))
ctx.sender = bb.PeerId.from_seed(7)
gossip.mix(ctx, weights(1.0, 2.0, 3.0))


# %% WeightExhausted: weight
gossip = make("protocol", "gossip", value=20.5)
ctx.sender = bb.PeerId.from_seed(7)
for _ in range(400):  # it sends, and nobody sends to it
    _, note, _ = gossip.share(ctx, (ctx.sender,))
    gossip.confirm(ctx, {"sequence": note["sequence"]})


# %% BadColumn: policy is 'mru'
from bb_planner_kvcache.simulator import hits

hits(np.array([1, 2, 1, 3]), capacity=2, policy="mru")


# %% InvalidWave: swap window is 4 to 4
from dataclasses import replace

from bb_planner_kvcache.planner import KvCachePlanner
from bb_planner_kvcache.waves import check_wave, waves_of
from bb_roles import CacheRequest, CacheTables

one, zero = np.array([1]), np.array([0])
demand = {"page_start": zero, "page_end": zero, "page_bytes": one}
demand |= {"tier_src": zero, "tier_dst": one}
planner = KvCachePlanner(KvCachePlanner.Config(min_io_bytes=0))
window = planner.columns(CacheRequest(0, 20, tables=CacheTables(demand)))
check_wave(replace(waves_of(window.ops)[0, 1], swap_window=(4, 4)))
