"""Manifests: which chunks a version of a model is made of, each with its digest.

The chunks of a file cover all its bytes, so the file can be put together again exactly. Where the
format tells where tensors lie (safetensors, ONNX, npy) each tensor has chunks of its own.
"""

from bb_plans.manifests._folders import INDEX_NAME, MANIFEST_NAME, folder_reader, manifest_of_folder
from bb_plans.manifests._parameters import manifest_of_params, params_of, params_reader
from bb_plans.manifests._tensors import SPAN_BYTES

__all__ = [
    "INDEX_NAME",
    "MANIFEST_NAME",
    "SPAN_BYTES",
    "folder_reader",
    "manifest_of_folder",
    "manifest_of_params",
    "params_of",
    "params_reader",
]
