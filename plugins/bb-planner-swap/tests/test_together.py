"""Manifests, differences and plans together: ops bring the new version, byte for byte."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from bb_ir.plan import chunk_digest, digest_text
from bb_planner_swap._swap import Settings, Swap
from bb_plans.deltas import Rates, decode, differences
from bb_plans.manifests import folder_reader, manifest_of_folder
from bb_roles import SwapRequest

SLOW_LINK = Rates(1e5)


def carried_out(plan, old_bytes, blobs):
    """Do what a plan says, to what is in a dictionary; return bytes by digest."""
    have = dict(old_bytes)
    for op in plan.ops:
        source = blobs[op.src]
        assert op.dst == f"cas://{digest_text(op.digest)}"
        if not op.codec:
            have[op.digest] = bytes(source[op.src_offset : op.src_offset + op.length])
            continue
        encoded = source[op.src_offset : op.src_offset + op.encoded_length]
        base = None if op.src_digest is None else have[op.src_digest]
        have[op.digest] = bytes(decode(op.codec, encoded, base, op.length, op.digest))
    return have


def by_digest(manifest, read):
    return {chunk_digest(chunk): bytes(read(chunk)) for chunk in manifest.files}


def swapped(old_root, new_root, *, sent=True):
    """Plan a swap between two folders, carry it out, and return the files that come of it."""
    old, new = (manifest_of_folder(root, "demo", root.name) for root in (old_root, new_root))
    read_old, read_new = folder_reader(old_root), folder_reader(new_root)
    found = list(differences(old, new, read_old, read_new, SLOW_LINK)) if sent else []
    pack = b"".join(bytes(one.data) for one in found)  # all of them in one message
    begins = np.cumsum([0, *(len(one.data) for one in found)]).tolist()
    sources = tuple(one.source("mem://message", at) for one, at in zip(found, begins, strict=False))
    request = SwapRequest(new, from_=old, sources=sources)
    plan = Swap(Settings(1 << 16, destination="store")).plan(request)
    files = {f"file://{c.path}": (new_root / c.path).read_bytes() for c in new.files}
    have = carried_out(plan, by_digest(old, read_old), {"mem://message": pack, **files})
    made = {}
    for chunk in new.files:
        made[chunk.path] = made.get(chunk.path, b"") + have[chunk_digest(chunk)]
    return plan, made, sum(len(one.data) for one in found)


def on_disk(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("sent", [True, False], ids=["as differences", "from files"])
def test_a_step_of_training(tmp_path, sent):
    generator = np.random.default_rng(0)
    weights = generator.normal(0, 0.02, (256, 300)).astype(np.float16)
    step = generator.normal(0, 1e-6, weights.shape)
    frozen = generator.normal(0, 1, 5000).astype(np.float32)
    for name, w in (("old", weights), ("new", (weights + step).astype(np.float16))):
        (tmp_path / name).mkdir()
        save_file({"w": w, "frozen": frozen}, tmp_path / name / "m.safetensors")
        (tmp_path / name / "config.json").write_text(f'{{"version": "{name}"}}')

    plan, made, wire = swapped(tmp_path / "old", tmp_path / "new", sent=sent)

    assert made == on_disk(tmp_path / "new")
    assert {op.src for op in plan.ops} == (
        {"mem://message"} if sent else {"file://m.safetensors", "file://config.json"}
    )
    assert wire < 0.1 * plan.total_bytes


@given(data=st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_two_folders(tmp_path_factory, data):
    contents = st.binary(max_size=40) | st.integers(1, 300).map(bytes)
    root = tmp_path_factory.mktemp("any")
    for name in ("old", "new"):
        (root / name).mkdir()
        names = st.sampled_from(["a", "b", "c", "d"])
        for path, content in data.draw(st.dictionaries(names, contents)).items():
            (root / name / path).write_bytes(content)

    _, made, _ = swapped(root / "old", root / "new")

    assert made == on_disk(root / "new")
