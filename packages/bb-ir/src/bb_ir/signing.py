"""Signatures over artifacts: who vouches for one, as a whole.

A signature stands in the metadata of the model, one entry per signer, and is made over the full
hash: SHA-256 over everything that the model says, signatures apart. That is more than the program
hash, which leaves out what fills the slots and with which configuration.

The hash walks over the fields that are set, in the order of their numbers, with a mark and a
length before each, so it does not depend on how protobuf writes a message. Fields that this
version of ONNX does not know do not count, and nothing reads them.

Tensors whose data lies in other files have to be read in before: `bb_ir.external_data`. This
module reads no files. It does not decide whom to trust.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from bb_ir import keys
from bb_ir.errors import IdError
from bb_ir.external_data import ExternalDataError
from bb_ir.ids import KeyPair, PeerId, verify_signature

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["add_signature", "full_hash", "sign_model", "signatures", "verify"]

_LABEL: Final = b"bb.artifact.1\0"
#: Stands at the head of what is hashed; a change of the form changes it.
_FORM: Final = b"bytesandbrains artifact form 1"


def full_hash(model: ModelProto) -> str:
    """Return the SHA-256 of a whole model but its signatures, as 64 hexadecimal digits.

    Raises:
        ExternalDataError: The data of a tensor lies in another file.
    """
    from onnx import TensorProto

    digest = hashlib.sha256(_FORM)
    for part in _fields(model, external=TensorProto.EXTERNAL, signed=model.metadata_props):
        digest.update(part)
    return digest.hexdigest()


def sign_model(model: ModelProto, keypair: KeyPair) -> None:
    """Add the signature of a key pair to a model; an older one of the same key is replaced.

    Raises:
        ExternalDataError: The data of a tensor lies in another file.
    """
    add_signature(model, full_hash(model), keypair)


def add_signature(model: ModelProto, content: str, keypair: KeyPair) -> None:
    """Add the signature of a key pair over a full hash that is known."""
    from bb_ir import onnx_tools

    signed = keypair.sign(_LABEL + bytes.fromhex(content))
    key = f"{keys.SIGNATURE}{keypair.peer_id}"
    onnx_tools.set_meta(model, key, base64.b64encode(signed).decode("ascii"))


def signatures(model: ModelProto) -> dict[PeerId, bytes]:
    """Return what claims to be signatures of a model, by whose they claim to be; none is checked.

    What cannot be read as one is left out.
    """
    found: dict[PeerId, bytes] = {}
    for entry in model.metadata_props:
        if not entry.key.startswith(keys.SIGNATURE):
            continue
        try:
            signer = PeerId.parse(entry.key.removeprefix(keys.SIGNATURE))
            found[signer] = base64.b64decode(entry.value, validate=True)
        except (IdError, binascii.Error, ValueError):
            continue
    return found


def verify(content: str, signer: PeerId, signature: bytes) -> bool:
    """Tell whether a signature is one of a peer over a full hash."""
    key = signer.public_key()
    message = _LABEL + bytes.fromhex(content)
    return key is not None and verify_signature(key, message, signature=signature)


def _fields(message: Any, *, external: int, signed: Any = None) -> Iterator[bytes]:
    """Give what a message says, piece by piece; of `signed`, entries that are no signatures."""
    if getattr(message, "data_location", None) == external:
        raise ExternalDataError(
            f"The data of tensor {message.name!r} lies in another file",
            expected="a model that holds all of its data",
            fix="Read it in first: bb_ir.external_data.read_in(model, folder).",
        )
    for field, value in message.ListFields():
        if _is_single(value):
            yield b"f%d:" % field.number
            yield from _value(value, external)
            continue
        listed = value
        if signed is not None and field.name == "metadata_props":
            listed = [one for one in signed if not one.key.startswith(keys.SIGNATURE)]
        yield b"r%d:%d:" % (field.number, len(listed))
        for one in listed:
            yield from _value(one, external)


def _is_single(value: Any) -> bool:
    return isinstance(value, (str, bytes, int, float)) or hasattr(value, "ListFields")


def _value(value: Any, external: int) -> Iterator[bytes]:
    if hasattr(value, "ListFields"):
        yield b"{"
        yield from _fields(value, external=external)
        yield b"}"
        return
    if isinstance(value, bytes):
        mark, data = b"b", value
    elif isinstance(value, str):
        mark, data = b"t", value.encode("utf-8", "surrogatepass")
    elif isinstance(value, int):
        mark, data = b"n", str(int(value)).encode()
    else:
        mark, data = b"d", struct.pack("<d", cast("float", value))
    yield b"%b%d:" % (mark, len(data))
    yield data
