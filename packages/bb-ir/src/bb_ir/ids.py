"""Who a peer is: `PeerId`, and the key pair that proves it.

An id is the libp2p one: the multihash of a public key. For Ed25519, the kind made here, the key
itself stands inside the id, so an id alone is enough to check a signature. Ids that hash a longer
key (RSA in libp2p) are read, compared and written, but hold no key.

`PeerId` is a dictionary key in hot paths, so this module imports nothing heavy: `cryptography`
and `base58` load when a key or a text is first needed. It must not read or write files; keys
travel as PEM bytes.

Sources: the libp2p peer-ids specification, the multiformats multihash and CID specifications.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, final

from bb_ir.errors import IdError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["MAX_PEER_ID_BYTES", "KeyPair", "PeerId", "verify_signature"]

#: Longest multihash looked at, in bytes.
MAX_PEER_ID_BYTES: Final = 64

#: Length of an Ed25519 public key and of the private seed, in bytes.
_KEY_BYTES: Final = 32

_IDENTITY: Final = 0x00
_SHA2_256: Final = 0x12
#: libp2p hashes the encoded public key when it is longer than this.
_MAX_IDENTITY_DIGEST: Final = 42
_SHA2_256_DIGEST: Final = 32

#: The protobuf message PublicKey{Type: Ed25519, Data: 32 bytes}, without the 32 bytes.
_ED25519_MESSAGE: Final = bytes([0x08, 0x01, 0x12, _KEY_BYTES])
_ED25519_PREFIX: Final = bytes([_IDENTITY, len(_ED25519_MESSAGE) + _KEY_BYTES]) + _ED25519_MESSAGE

#: Version and codec of the CID that wraps a peer id: CIDv1, libp2p-key.
_CID_PREFIX: Final = bytes([0x01, 0x72])
#: Longer than any text of an id within the size limit.
_MAX_TEXT: Final = 128

_SEED_LABEL: Final = b"bytesandbrains peer seed v1\0"
_UINT64: Final = 1 << 64
_MAX_PEM_BYTES: Final = 16 * 1024


@final
class PeerId:
    """The identity of a peer: a libp2p multihash of its public key.

    Ids are immutable, hashable and ordered by their bytes. `str` gives the base58btc text
    (`12D3KooW...` for Ed25519 keys), `PeerId.parse` reads it back.

    Args:
        raw: The multihash: code 0x00 (the encoded key itself, at most 42 bytes) or code 0x12
            (its SHA-256), a length byte, then that many bytes.

    Raises:
        IdError: The bytes are not such a multihash.
    """

    __slots__ = ("_hash", "_raw")

    def __init__(self, raw: bytes) -> None:
        _check_multihash(raw)
        self._raw = raw
        self._hash = hash(raw)

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Read an id from its base58btc text, or from a base32 CIDv1 (`bafz...`).

        Raises:
            IdError: The text is neither, is not in its only canonical spelling, or names
                something other than a libp2p key.
        """
        if len(text) > _MAX_TEXT:
            raise IdError(
                f"The text of a peer id has {len(text)} characters, {text[:16]!r}...",
                expected=f"at most {_MAX_TEXT} characters",
                fix="Pass the id alone, without an address around it.",
            )
        if text.startswith(("1", "Qm")):
            return cls(_from_base58(text))
        if text.startswith("b"):
            return cls(_from_cid(text))
        raise IdError(
            f"The text {text!r} is not a peer id",
            expected="base58btc that starts with '1' or 'Qm', or a CIDv1 that starts with 'b'",
            fix="Copy the whole id; those of Ed25519 keys start with '12D3KooW'.",
        )

    @classmethod
    def from_public_key(cls, public_key: bytes) -> PeerId:
        """Make the id of an Ed25519 public key.

        Args:
            public_key: The 32 raw bytes of the key.

        Raises:
            IdError: There are not 32 bytes.
        """
        _check_key_bytes(public_key, "An Ed25519 public key")
        return cls(_ED25519_PREFIX + public_key)

    @classmethod
    def from_seed(cls, seed: int | bytes, index: int = 0) -> PeerId:
        """Make the id of the key pair that `KeyPair.derive` gives, the same on every machine.

        It is for tests, demos and simulations: who knows the seed can sign as this peer.

        Args:
            seed: A number from 0 to 2**64 - 1, or bytes of any length.
            index: Which peer of this seed, from 0 to 2**64 - 1.

        Raises:
            IdError: A number is out of range.
        """
        return KeyPair.derive(seed, index).peer_id

    @property
    def raw(self) -> bytes:
        """The multihash, at most 64 bytes."""
        return self._raw

    def public_key(self) -> bytes | None:
        """Return the 32 raw bytes of the Ed25519 key in this id, or None if it holds none."""
        if len(self._raw) != len(_ED25519_PREFIX) + _KEY_BYTES:
            return None
        if not self._raw.startswith(_ED25519_PREFIX):
            return None
        return self._raw[len(_ED25519_PREFIX) :]

    def __str__(self) -> str:
        import base58

        return base58.b58encode(self._raw).decode("ascii")

    def __repr__(self) -> str:
        return f"PeerId.parse({str(self)!r})"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self._raw == other._raw if isinstance(other, PeerId) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._raw < other._raw if isinstance(other, PeerId) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._raw <= other._raw if isinstance(other, PeerId) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self._raw > other._raw if isinstance(other, PeerId) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self._raw >= other._raw if isinstance(other, PeerId) else NotImplemented

    def __reduce__(self) -> tuple[type[PeerId], tuple[bytes]]:
        # The cached hash differs from process to process, so only the bytes travel.
        return (PeerId, (self._raw,))


@final
class KeyPair:
    """An Ed25519 key pair: it signs, and its `peer_id` is who signed.

    Make one with `generate`, `from_seed`, `derive` or `from_pem`. Its `repr` shows the id, never
    the secret.

    Args:
        private: The private key as `cryptography` holds it.
    """

    __slots__ = ("_peer_id", "_private", "_public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._public_key = private.public_key().public_bytes_raw()
        self._peer_id = PeerId.from_public_key(self._public_key)

    @classmethod
    def generate(cls) -> KeyPair:
        """Make a new key pair from the operating system's randomness."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> KeyPair:
        """Make the key pair of a 32-byte private seed, as RFC 8032 defines it.

        Raises:
            IdError: There are not 32 bytes.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        _check_key_bytes(seed, "An Ed25519 private seed")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def derive(cls, seed: int | bytes, index: int = 0) -> KeyPair:
        """Make the key pair number `index` of a seed, the same on every machine.

        The private seed is a SHA-256 over a label of this project, the seed and the index. It is
        for tests, demos and simulations: such a key is as secret as its seed, and no more.

        Args:
            seed: A number from 0 to 2**64 - 1, or bytes of any length.
            index: Which key pair of this seed, from 0 to 2**64 - 1.

        Raises:
            IdError: A number is out of range.
        """
        kind, body = (b"b", seed) if isinstance(seed, bytes) else (b"i", _uint64(seed, "seed"))
        length = len(body).to_bytes(8, "big")
        material = _SEED_LABEL + kind + length + body + _uint64(index, "index")
        return cls.from_seed(hashlib.sha256(material).digest())

    @classmethod
    def from_pem(cls, pem: bytes, *, password: bytes | None = None) -> KeyPair:
        """Read a key pair from the PEM bytes of a PKCS #8 private key.

        Args:
            pem: What `to_pem` gave, or any Ed25519 PKCS #8 PEM; at most 16 KiB.
            password: Needed if, and only if, the PEM is encrypted.

        Raises:
            IdError: The bytes are no such key, or the password does not fit.
        """
        from cryptography.exceptions import InternalError, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if len(pem) > _MAX_PEM_BYTES:
            raise IdError(
                f"The PEM of a key has {len(pem)} bytes",
                expected=f"at most {_MAX_PEM_BYTES} bytes",
                fix="Pass the bytes of one private key.",
            )
        try:
            private = load_pem_private_key(pem, password)
        except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
            raise IdError(
                f"The PEM of a key cannot be read: {str(error).partition('. ')[0]}",
                expected="a PKCS #8 private key, and a password if it is encrypted",
                fix="Check that the file is complete and that the password belongs to it.",
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise IdError(
                f"The PEM holds a key of type {type(private).__name__}",
                expected="an Ed25519 private key",
                fix="Make one with `KeyPair.generate().to_pem()`.",
            )
        return cls(private)

    def to_pem(self, *, password: bytes | None = None) -> bytes:
        """Write the private key as PKCS #8 PEM bytes.

        Args:
            password: Encrypts the PEM; None leaves the secret readable. It may not be empty.

        Raises:
            IdError: The password is empty or too long for `cryptography`.
        """
        from cryptography.hazmat.primitives import serialization

        try:
            encryption = (
                serialization.NoEncryption()
                if password is None
                else serialization.BestAvailableEncryption(password)
            )
            return self._private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
        except ValueError as error:
            raise IdError(
                f"The password of a key was refused: {error}",
                expected="a password of 1 to 1023 bytes, or None",
                fix="Pass a password of that length.",
            ) from error

    @property
    def peer_id(self) -> PeerId:
        """The id of the peer that holds this key pair."""
        return self._peer_id

    @property
    def public_key(self) -> bytes:
        """The 32 raw bytes of the public key."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """Sign a message and return the 64 bytes of the signature."""
        return self._private.sign(message)

    def verify(self, message: bytes, *, signature: bytes) -> bool:
        """Say whether this key pair signed exactly this message."""
        return verify_signature(self._public_key, message, signature=signature)

    def __repr__(self) -> str:
        return f"<KeyPair of {self._peer_id}>"


def verify_signature(public_key: bytes, message: bytes, *, signature: bytes) -> bool:
    """Say whether the holder of an Ed25519 key signed exactly this message.

    Args:
        public_key: The 32 raw bytes, for example from `PeerId.public_key`.
        message: What was signed, byte for byte.
        signature: The 64 bytes from `KeyPair.sign`; any other bytes are no signature.

    Raises:
        IdError: The public key is not 32 bytes long.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    _check_key_bytes(public_key, "An Ed25519 public key")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _check_multihash(raw: bytes) -> None:
    if type(raw) is not bytes:
        raise IdError(
            f"A peer id was made from {type(raw).__name__}",
            expected="the bytes of a multihash",
            fix="Use `PeerId.parse(text)` for text, `bytes(view)` for a view.",
        )
    size = len(raw)
    if not 2 < size <= MAX_PEER_ID_BYTES:
        raise _bad_multihash(f"has {size} bytes, where 3 to {MAX_PEER_ID_BYTES} are allowed", raw)
    # Code and length are varints, and all that are allowed here fit into one byte each.
    code, length = raw[0], raw[1]
    if code not in {_IDENTITY, _SHA2_256}:
        raise _bad_multihash(f"has the unknown hash code 0x{code:02x}", raw)
    if length != size - 2:
        raise _bad_multihash(f"announces {length} bytes and holds {size - 2}", raw)
    if code == _SHA2_256 and length != _SHA2_256_DIGEST:
        raise _bad_multihash(f"holds a SHA-256 of {length} bytes instead of 32", raw)
    if code == _IDENTITY and length > _MAX_IDENTITY_DIGEST:
        raise _bad_multihash(f"holds {length} bytes unhashed, where 42 are the most", raw)


def _bad_multihash(what: str, raw: bytes) -> IdError:
    shown = raw[:16].hex() + ("..." if len(raw) > 16 else "")
    return IdError(
        f"The multihash of a peer id {what}: {shown or 'no bytes'}",
        expected="0x00 and at most 42 bytes, or 0x12 and 32 bytes, each after its length",
        fix="Pass the whole `raw` of a `PeerId` and nothing after it.",
    )


def _check_key_bytes(key: bytes, what: str) -> None:
    if type(key) is not bytes or len(key) != _KEY_BYTES:
        size = f"{len(key)} bytes" if type(key) is bytes else f"of type {type(key).__name__}"
        raise IdError(
            f"{what} is {size}",
            expected=f"{_KEY_BYTES} raw bytes",
            fix="Pass the raw key, without PEM, protobuf or hexadecimal around it.",
        )


def _uint64(number: int, name: str) -> bytes:
    if not 0 <= number < _UINT64:
        shown = "below 0" if number < 0 else "2**64 or more"
        raise IdError(
            f"The {name} of a peer is {shown}",
            expected="a number from 0 to 2**64 - 1",
            fix="Choose a smaller number, or pass the seed as bytes.",
        )
    return number.to_bytes(8, "big")


def _from_base58(text: str) -> bytes:
    import base58

    try:
        raw = base58.b58decode(text)
    except ValueError as error:
        raise _bad_text(text, "base58btc", str(error)) from error
    # The library drops white space at the end, so what it read is written and compared.
    if base58.b58encode(raw).decode("ascii") != text:
        raise _bad_text(text, "base58btc", "characters around it")
    return raw


def _from_cid(text: str) -> bytes:
    import base64

    body = text[1:]
    try:
        raw = base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except ValueError as error:
        raise _bad_text(text, "base32", str(error)) from error
    if base64.b32encode(raw).decode("ascii").rstrip("=").lower() != body:
        raise _bad_text(text, "base32", "capitals, or bits set after the last byte")
    if not raw.startswith(_CID_PREFIX):
        raise _bad_text(text, "a CID", f"it starts with {raw[:2].hex()}, a libp2p key with 0172")
    return raw[len(_CID_PREFIX) :]


def _bad_text(text: str, form: str, why: str) -> IdError:
    return IdError(
        f"The peer id {text!r} cannot be read as {form}: {why}",
        expected="base58btc such as '12D3KooW...', or a base32 CIDv1 of a libp2p key",
        fix="Copy the id again, whole and without spaces.",
    )
