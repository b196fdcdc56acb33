"""Values, names and the wire.

Texts and bytes that cannot be read or written: types, ids, addresses, parameters, envelopes. You
meet them where you write such a text, load a file, or look at what a peer sent.
"""

import numpy as np

import bytesandbrains as bb


# %% AddressError: 'udp4'
bb.Address.parse("/ip4/10.0.0.7/udp4/4001")


# %% AddressRefused: another peer
from bb_runtime.addresses import sign_addresses

keys = bb.KeyPair.derive(0)
there = bb.PeerId.from_seed(1)
sign_addresses(keys, [f"/ip4/10.0.0.7/tcp/4001/p2p/{there}"], sequence=1)


# %% DumpError: begin otherwise
from bb_ir.dump import load

load(b"a letter from a friend, and no dump at all")


# %% EnvelopeRefused: b'GET '
from bb_ir.wire import DEFAULT_LIMITS, read_prelude

read_prelude(b"GET / HTTP/1.1".ljust(32), DEFAULT_LIMITS)  # a browser knocks


# %% ExternalDataError: '../secrets.bin'; not a place in the model's folder
from pathlib import Path

import onnx

from bb_ir.external_data import read_in

tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.UINT8, dims=[3])
tensor.data_location = onnx.TensorProto.EXTERNAL
tensor.external_data.add(key="location", value="../secrets.bin")
read_in(onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor])), Path())


# %% IdError: 0l
bb.PeerId.parse("12D3KooWFUKKzQtmK4jaKf5QE1ye9j9QGzSHqzGydzDPFaWQSn0l")


# %% InvalidPlan: ops[0].dst; and 1 more
from bb_ir.plan import CachePlan, TransferKind, TransferOp, check

escape = TransferOp(TransferKind.STORAGE2H, "file://pages", "file://../../etc/passwd", 4096)
check(CachePlan("from a stranger", (escape,)))


# %% ModelTextError: 'modle M'
from bb_ir.text import parse_model

parse_model("modle M")


# %% OpSchemaError: 'Greet'; 'name'
from bb_ir.ops import OpSchema, Port, ops

ops(OpSchema("Greet", "greet", (Port("name", bb.scalar("string")), Port("name", bb.tensor()))))


# %% ParameterSetError: 77 bytes
weights = bb.ParameterSet.from_tensors({"w": np.zeros(4, np.float32)})
bb.ParameterSet.from_image(bytes(weights.image)[:-3])  # a file that was cut off


# %% PlanFormatError: "planID"; CachePlan
from bb_ir.plan import CachePlan, from_json

from_json(CachePlan, '{"planID":"cache-1"}')


# %% TypeTextError: 'float33'
bb.tensor("float33", (2, 3))


# %% WireError: 'three'
from bb_ir.values import encode_value

encode_value("three", bb.scalar("int64"))
