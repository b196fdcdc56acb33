"""Manifests and differences.

What those meet who make manifests of models, tell two versions apart, and plan a swap of weights.
"""

from pathlib import Path

from bb_plans.deltas import decode, encode
from bb_plans.manifests import folder_reader, manifest_of_folder

model = Path("model")
model.mkdir()
(model / "weights.bin").write_bytes(b"weights")


# %% DifferenceDamaged: version 98, elements of 121 bytes
decode("sparse", b"bytes of something else altogether", b"old", 3)


# %% DifferenceTooLarge: 5368709120 bytes
decode("xorz", b"", None, 5 << 30)


# %% FolderChanged: 'weights.bin' has 3 bytes; 7
manifest = manifest_of_folder(model, "demo", "1")
(model / "weights.bin").write_bytes(b"new")
folder_reader(model)(manifest.files[0])


# %% FolderUnfit: 'latest' is a link that leaves the folder
(model / "latest").symlink_to("/dev/null")
manifest_of_folder(model, "demo", "1")


# %% ModelFileDamaged: 'model.safetensors'; 35 bytes
(model / "model.safetensors").write_bytes(bytes([35, 0, 0, 0, 0, 0, 0, 0]) + b'{"w":')
manifest_of_folder(model, "demo", "1")


# %% RanksUnfit: 6 ranks in groups of 4
from bb_plans.groups import tensor_parallel_groups

tensor_parallel_groups(6, 4)


# %% UnknownDifference: 'bsdiff'
encode("bsdiff", b"new", b"old")


# %% UnpackableChunks: in buckets of 0
from bb_planner_swap.packing import first_fit_decreasing

first_fit_decreasing([5, 3], 0)


# %% BadPlanFile: 'model/weights.bin'
from bytesandbrains.plans import read_plan

read_plan(model / "weights.bin")


# %% BytesDamaged: ops[0] reads 'mem://spans'
from bytesandbrains.plans import bundle_arenas, compare_bytes, swap_bundle

manifest = manifest_of_folder(model, "demo", "1")
bundle = swap_bundle(Path("bundle"), None, manifest, old_files=None, new_files=model)
spans = Path("bundle/spans.bin")
spans.write_bytes(spans.read_bytes()[::-1])
compare_bytes(bundle.plan, arenas=bundle_arenas(Path("bundle"))).check()


# %% PlanLacks: ops[0]; 'file://weights.bin'
from bytesandbrains.plans import carry_out, swap_in_place

plan = swap_in_place(None, manifest_of_folder(model, "demo", "1")).plan
carry_out(plan)


# %% NotProven: the files that were written
from bytesandbrains.demo.plans import prove_files

wanted = manifest_of_folder(model, "demo", "2")
(model / "weights.bin").write_bytes(b"WEIGHTS")
prove_files(manifest_of_folder(model, "demo", "2"), wanted)


# %% NothingPublished: no version was published
from bb_protocol_swap._swap import Swap, SwapConfig
from bb_testing import FakeContext, environment

publisher = Swap(SwapConfig(), environment("swap"))
publisher.plan(FakeContext(), {"root": "", "epoch": 0})


# %% NobodyReady: none of 2 Nodes
import numpy as np

from bb_ir.params import ParameterSet
from bb_protocol_swap._swap import Swap, SwapConfig
from bb_testing import FakeContext, environment, peer_id

publisher = Swap(SwapConfig(), environment("swap"))
publisher.manifest(FakeContext(), ParameterSet.from_tensors({"w": np.ones(3)}))
publisher.decide(FakeContext(), (peer_id(1), peer_id(2)))


# %% NotStaged: epoch 1; epoch 0
from bb_protocol_swap._swap import Swap, SwapConfig
from bb_testing import FakeContext, environment

replica = Swap(SwapConfig(), environment("swap"))
replica.commit(FakeContext(), {"root": "sha256:" + "0" * 64, "epoch": 1})


# %% SwapRefused: epoch is -1
from bb_protocol_swap._swap import Swap, SwapConfig
from bb_testing import FakeContext, environment

replica = Swap(SwapConfig(), environment("swap"))
replica.commit(FakeContext(), {"root": "", "epoch": -1})


# %% SwapTooLarge: 88 bytes
import numpy as np

from bb_ir.params import ParameterSet
from bb_protocol_swap._swap import Swap, SwapConfig
from bb_testing import FakeContext, environment

publisher = Swap(SwapConfig(), environment("swap"))
publisher.manifest(FakeContext(), ParameterSet.from_tensors({"w": np.ones(3)}))
plan, spans = publisher.plan(FakeContext(), {"root": "", "epoch": 0})
replica = Swap(SwapConfig(max_bytes=50), environment("swap"))
replica.ready(FakeContext(), plan, spans)
