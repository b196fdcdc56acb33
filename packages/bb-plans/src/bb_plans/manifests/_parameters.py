"""Manifests of parameter sets: of the safetensors file that a set is the image of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from bb_ir.errors import ParameterSetError
from bb_ir.params import ParameterSet
from bb_ir.plan import DigestAlgorithm, FileChunk, WeightManifest
from bb_plans._raw import Bytes, Data, as_bytes
from bb_plans.hashing import digest_of
from bb_plans.manifests._formats import safetensors_tensors
from bb_plans.manifests._tensors import SPAN_BYTES, runs

__all__ = ["manifest_of_params", "params_of", "params_reader"]


def manifest_of_params(
    params: ParameterSet,
    model_id: str,
    version: str,
    *,
    path: str = "params.safetensors",
    algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3,
    span_bytes: int = SPAN_BYTES,
) -> WeightManifest:
    """Return the manifest of a parameter set: a chunk for the header, and some for each tensor.

    The chunks are those of the set's image, in its order, so that `params_of` puts it together
    again, and so that a file with the image has the same manifest.

    Args:
        params: The set.
        model_id: The model's name.
        version: The version's label.
        path: Name of the file that the image would be.
        algorithm: How digests are made.
        span_bytes: Most bytes of one chunk of a tensor, rounded down to a multiple of 16.

    Raises:
        ConfigError: `span_bytes` is below 1.
    """
    image = params.image
    cut = runs(len(image), safetensors_tensors(path, image), span_bytes)
    chunks = tuple(
        FileChunk(
            path, run.offset, run.length,
            digest=digest_of(image[run.offset : run.offset + run.length], algorithm),
            tensor=run.tensor,
        )
        for run in cut
    )  # fmt: skip
    return WeightManifest(model_id, version, chunks)


def params_reader(params: ParameterSet) -> Callable[[FileChunk], memoryview]:
    """Return what reads the chunks of a set's manifest, without copying them."""
    image = params.image
    return lambda chunk: image[chunk.offset : chunk.offset + chunk.length]


def params_of(manifest: WeightManifest, read: Callable[[FileChunk], Data]) -> ParameterSet:
    """Return the parameter set that chunks are put together to.

    Args:
        manifest: As `manifest_of_params` returned it; the manifest of a folder with one
            safetensors file will do.
        read: Returns the bytes of a chunk, such as `lambda chunk: store.view(chunk.digest)`.

    Raises:
        ParameterSetError: The chunks are not those of one file, or the file is no image of a set.
    """
    chunks = sorted(manifest.files, key=lambda chunk: chunk.offset)
    parts: list[Bytes] = []
    end = 0
    for chunk in chunks:
        data = as_bytes(read(chunk))
        if chunk.path != chunks[0].path or chunk.offset != end or len(data) != chunk.length:
            raise ParameterSetError(
                f"a chunk of {chunk.path[:80]!r} at {chunk.offset} with {len(data)} bytes, "
                f"where byte {end} of {chunks[0].path[:80]!r} is next",
                expected="the chunks of one safetensors file, without holes",
            )
        parts.append(data)
        end += chunk.length
    # What chunks claim is allocated only when it was read.
    whole: Bytes = np.concatenate(parts) if parts else np.empty(0, np.uint8)
    whole.flags.writeable = False
    return ParameterSet.from_image(memoryview(cast("Any", whole)))
