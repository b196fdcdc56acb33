"""Peer ids and key pairs: the public vectors, the bounds, and what every bad input becomes."""

import copy
import hashlib
import pickle
import subprocess
import sys

import base58
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.errors import IdError
from bb_ir.ids import KeyPair, PeerId, verify_signature

# The key of the test vectors in the libp2p peer-ids specification, out of its protobuf messages
# 08011240... (private: seed and public key) and 08011220... (public).
SPEC_SEED = bytes.fromhex("7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d")
SPEC_PUBLIC_MESSAGE = bytes.fromhex(
    "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
)
SPEC_PUBLIC_KEY = SPEC_PUBLIC_MESSAGE[4:]
SPEC_ID = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"

# The string examples of the same specification, each with its CIDv1.
SHA256_ID = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
SHA256_CID = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"
ED25519_ID = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
ED25519_CID = "bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rqt5kczyn7lcm3l"

# RFC 8032, section 7.1, test 1: an empty message.
RFC_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC_PUBLIC_KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
RFC_SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
    "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)

identity_multihashes = st.binary(min_size=1, max_size=42).map(lambda d: bytes([0, len(d)]) + d)
sha256_multihashes = st.binary(min_size=32, max_size=32).map(lambda d: bytes([0x12, 32]) + d)
peer_ids = (identity_multihashes | sha256_multihashes).map(PeerId)


def base32_cid(content: bytes) -> str:
    import base64

    return "b" + base64.b32encode(content).decode().rstrip("=").lower()


# --- ids ------------------------------------------------------------------------------------------


def test_id_of_a_public_key_is_the_identity_multihash_of_its_protobuf_message():
    peer = PeerId.from_public_key(SPEC_PUBLIC_KEY)

    assert peer.raw == b"\x00\x24" + SPEC_PUBLIC_MESSAGE


def test_text_of_an_ed25519_id_is_its_base58btc():
    assert str(PeerId.from_public_key(SPEC_PUBLIC_KEY)) == SPEC_ID


def test_id_of_an_ed25519_key_gives_the_key_back():
    assert PeerId.parse(SPEC_ID).public_key() == SPEC_PUBLIC_KEY


def test_id_of_a_hashed_key_holds_no_key():
    assert PeerId.parse(SHA256_ID).public_key() is None


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\x08\x02\x12\x21" + bytes(33), id="secp256k1"),
        pytest.param(b"\x08\x02\x12\x20" + bytes(32), id="other type, same length"),
    ],
)
def test_id_of_another_unhashed_key_holds_no_ed25519_key(message):
    assert PeerId(bytes([0, len(message)]) + message).public_key() is None


@pytest.mark.parametrize("text", [SPEC_ID, SHA256_ID, ED25519_ID])
def test_published_id_survives_reading_and_writing(text):
    assert str(PeerId.parse(text)) == text


@pytest.mark.parametrize(("cid", "text"), [(SHA256_CID, SHA256_ID), (ED25519_CID, ED25519_ID)])
def test_cid_of_an_id_is_read_as_the_same_peer(cid, text):
    assert PeerId.parse(cid) == PeerId.parse(text)


@given(peer_ids)
def test_id_survives_its_text(peer):
    assert PeerId.parse(str(peer)) == peer


@given(peer_ids)
def test_id_survives_its_cid(peer):
    assert PeerId.parse(base32_cid(b"\x01\x72" + peer.raw)) == peer


@given(peer_ids)
def test_id_survives_its_bytes(peer):
    assert PeerId(peer.raw) == peer


@given(peer_ids, peer_ids)
def test_equality_and_hash_go_by_the_bytes(one, other):
    same = one.raw == other.raw

    assert (one == other) == same
    assert (one != other) == (not same)
    assert not same or hash(one) == hash(other)


@given(st.lists(peer_ids, max_size=8))
def test_order_is_the_order_of_the_bytes(peers):
    assert [peer.raw for peer in sorted(peers)] == sorted(peer.raw for peer in peers)


@given(peer_ids, peer_ids)
def test_comparisons_agree_with_the_bytes(one, other):
    assert (one < other, one <= other, one > other, one >= other) == (
        one.raw < other.raw,
        one.raw <= other.raw,
        one.raw > other.raw,
        one.raw >= other.raw,
    )


def test_id_is_no_equal_of_its_bytes():
    peer = PeerId.parse(SPEC_ID)

    assert peer != peer.raw


def test_id_cannot_be_ordered_with_its_text():
    with pytest.raises(TypeError):
        sorted([PeerId.parse(SPEC_ID), SPEC_ID])


def test_equal_id_finds_the_entry_of_a_dictionary():
    book = {PeerId.parse(SPEC_ID): "here"}

    assert book[PeerId.from_public_key(SPEC_PUBLIC_KEY)] == "here"


@pytest.mark.parametrize("attribute", ["raw", "new"])
def test_id_cannot_be_changed(attribute):
    peer = PeerId.parse(SPEC_ID)

    with pytest.raises(AttributeError):
        setattr(peer, attribute, b"")


@pytest.mark.parametrize(
    "carry", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copied_id_is_equal_and_hashes_alike(carry):
    peer = PeerId.parse(SPEC_ID)

    carried = carry(peer)

    assert carried == peer
    assert hash(carried) == hash(peer)


def test_pickled_id_finds_its_entry_in_a_process_with_other_hashes():
    script = (
        "import pickle, sys; from bb_ir.ids import PeerId\n"
        "peer = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "print({PeerId(peer.raw): 'found'}[peer])"
    )
    pickled = pickle.dumps(PeerId.parse(SPEC_ID)).hex()

    done = subprocess.run(
        [sys.executable, "-c", script, pickled], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "found"


def test_repr_shows_how_to_make_the_id():
    assert repr(PeerId.parse(SPEC_ID)) == f"PeerId.parse('{SPEC_ID}')"


def test_importing_ids_loads_no_heavy_library():
    script = (
        "import sys, bb_ir.ids, bb_ir.address\n"
        "print({'base58', 'cryptography', 'numpy', 'onnx'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


# --- bad ids --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", "has 0 bytes"),
        (b"\x00\x00", "has 2 bytes"),
        (bytes([0, 63]) + bytes(63), "has 65 bytes"),
        (b"\x12\x20" + bytes(31), "announces 32 bytes and holds 31"),
        (b"\x12\x20" + bytes(33), "announces 32 bytes and holds 33"),
        (b"\x12\x1f" + bytes(31), "a SHA-256 of 31 bytes"),
        (b"\x12\x21" + bytes(33), "a SHA-256 of 33 bytes"),
        (b"\x00\x2b" + bytes(43), "43 bytes unhashed"),
        (b"\x13\x20" + bytes(32), "unknown hash code 0x13"),
        (b"\x80\x00\x01\x00", "unknown hash code 0x80"),
    ],
)
def test_bytes_that_are_no_multihash_are_refused(raw, found):
    with pytest.raises(IdError, match=found):
        PeerId(raw)


def test_text_given_as_bytes_is_refused_with_the_way_to_parse_it():
    with pytest.raises(IdError) as caught:
        PeerId(SPEC_ID)

    assert "PeerId.parse" in caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        "",
        "peer-7",
        "z" + SPEC_ID,
        SPEC_ID[:-1],
        SPEC_ID + "1",
        SPEC_ID + "\n",
        SPEC_ID + " ",
        SPEC_ID + "\u2003",
        " " + SPEC_ID,
        "1" + SPEC_ID,
        SPEC_ID.replace("K", "0"),
        SPEC_ID.replace("K", "ß"),
        "1" * 200,
        "b",
        "b" + "a" * 40,
        ED25519_CID.upper(),
        ED25519_CID[0] + ED25519_CID[1:].upper(),
        ED25519_CID[:-1],
        ED25519_CID + "a",
        ED25519_CID + "=",
        "bß" + ED25519_CID[2:],
        base32_cid(b"\x01\x70" + PeerId.parse(SHA256_ID).raw),
        base32_cid(b"\x01\x72"),
        "/p2p/" + SPEC_ID,
    ],
)
def test_text_that_is_no_id_is_refused(text):
    with pytest.raises(IdError) as caught:
        PeerId.parse(text)

    assert caught.value.expected
    assert caught.value.fix


def test_cid_with_bits_after_its_last_byte_is_refused():
    text = base32_cid(b"\x01\x72\x00\x02ab")
    assert str(PeerId.parse(text)) == base58.b58encode(b"\x00\x02ab").decode()

    with pytest.raises(IdError, match="bits set after the last byte"):
        PeerId.parse(text[:-1] + chr(ord(text[-1]) + 1))


@pytest.mark.parametrize("size", [0, 31, 33, 36])
def test_public_key_of_a_wrong_length_is_refused(size):
    with pytest.raises(IdError, match=f"is {size} bytes"):
        PeerId.from_public_key(bytes(size))


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_an_id_or_an_id_error(raw):
    try:
        peer = PeerId(raw)
    except IdError:
        return
    assert peer.raw == raw


@given(st.text(max_size=150) | st.text("123456789ABCDEFGHKQmb", max_size=150).map("1".__add__))
def test_arbitrary_text_is_an_id_or_an_id_error(text):
    try:
        peer = PeerId.parse(text)
    except IdError:
        return
    assert str(peer) == text or text.startswith("b")


# --- ids from seeds -------------------------------------------------------------------------------


def test_seeded_id_is_this_one_for_ever():
    # Ours, not a public vector: simulations and written metrics depend on it.
    assert str(PeerId.from_seed(0)) == "12D3KooWFUKKzQtmK4jaKf5QE1ye9j9QGzSHqzGydzDPFaWQSnFS"
    assert (
        str(PeerId.from_seed(b"demo", 7)) == "12D3KooWQCBmSBevKTBBiQaEdxkYT4vKxjz1Sv7m5Z7Rkfxixk4C"
    )


def test_seeded_key_is_a_hash_of_label_seed_and_index():
    label = b"bytesandbrains peer seed v1\x00"
    material = label + b"i" + (8).to_bytes(8, "big") + (5).to_bytes(8, "big") + bytes(8)

    expected = KeyPair.from_seed(hashlib.sha256(material).digest())

    assert KeyPair.derive(5).public_key == expected.public_key


def test_seeds_and_indices_that_look_alike_give_different_peers():
    seeds = [0, 1, b"", b"\x00", b"\x01", bytes(8), (1).to_bytes(8, "big"), bytes(16)]

    peers = {PeerId.from_seed(seed, index) for seed in seeds for index in range(3)}

    assert len(peers) == len(seeds) * 3


@given(st.integers(0, 2**64 - 1) | st.binary(max_size=40), st.integers(0, 2**64 - 1))
def test_same_seed_and_index_give_the_same_peer(seed, index):
    assert PeerId.from_seed(seed, index) == KeyPair.derive(seed, index).peer_id


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**64), (b"x", -1)])
def test_seed_or_index_out_of_range_is_refused(seed, index):
    with pytest.raises(IdError, match=r"is below 0|is 2\*\*64 or more"):
        PeerId.from_seed(seed, index)


# --- key pairs ------------------------------------------------------------------------------------


def test_key_pair_of_the_specification_has_its_published_id():
    pair = KeyPair.from_seed(SPEC_SEED)

    assert pair.public_key == SPEC_PUBLIC_KEY
    assert str(pair.peer_id) == SPEC_ID


def test_signature_is_the_one_of_rfc_8032():
    pair = KeyPair.from_seed(RFC_SEED)

    assert pair.public_key == RFC_PUBLIC_KEY
    assert pair.sign(b"") == RFC_SIGNATURE


def test_published_signature_is_accepted():
    assert verify_signature(RFC_PUBLIC_KEY, b"", signature=RFC_SIGNATURE)


def test_generated_key_pairs_differ():
    assert KeyPair.generate().peer_id != KeyPair.generate().peer_id


def test_id_of_the_signer_is_enough_to_check_a_signature():
    pair = KeyPair.derive(1)
    signature = pair.sign(b"update 7")

    key = PeerId.parse(str(pair.peer_id)).public_key()

    assert key is not None
    assert verify_signature(key, b"update 7", signature=signature)


@given(st.binary(max_size=100))
def test_key_pair_accepts_what_it_signed(message):
    pair = KeyPair.derive(2)

    assert pair.verify(message, signature=pair.sign(message))


def test_signature_of_another_message_is_refused():
    pair = KeyPair.derive(1)

    assert not pair.verify(b"update 8", signature=pair.sign(b"update 7"))


def test_signature_of_another_peer_is_refused():
    signature = KeyPair.derive(1, 1).sign(b"update 7")

    assert not KeyPair.derive(1, 0).verify(b"update 7", signature=signature)


@given(st.binary(max_size=70))
def test_arbitrary_bytes_are_no_signature(signature):
    assert not KeyPair.derive(3).verify(b"update 7", signature=signature)


def test_signature_is_checked_only_against_a_whole_key():
    with pytest.raises(IdError, match="is 31 bytes"):
        verify_signature(bytes(31), b"", signature=RFC_SIGNATURE)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(64), "x" * 32])
def test_private_seed_of_a_wrong_length_or_type_is_refused(seed):
    with pytest.raises(IdError, match="An Ed25519 private seed is"):
        KeyPair.from_seed(seed)


def test_repr_of_a_key_pair_shows_the_id_and_no_secret():
    assert repr(KeyPair.from_seed(SPEC_SEED)) == f"<KeyPair of {SPEC_ID}>"


@pytest.mark.parametrize("password", [None, b"correct horse"])
def test_key_pair_survives_pem(password):
    pair = KeyPair.from_seed(SPEC_SEED)

    pem = pair.to_pem(password=password)

    assert pem.startswith(b"-----BEGIN ")
    assert KeyPair.from_pem(pem, password=password).peer_id == pair.peer_id


def test_password_hides_the_secret_in_the_pem():
    pair = KeyPair.from_seed(SPEC_SEED)

    assert pair.to_pem(password=b"correct horse").startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-")


def test_key_of_the_wrong_length_for_its_kind_is_refused():
    """An X448 key of 32 bytes, over which OpenSSL fails without saying why."""
    body = "MC4CAQAwBQYDK2VvBCIEIJRH15T/QLuhSlSpIpg2GuRQEe1vx1pHkDHBFNg8jOFQ"
    pem = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"

    with pytest.raises(IdError):
        KeyPair.from_pem(pem.encode())


@pytest.mark.parametrize(("written", "read"), [(b"one", b"two"), (b"one", None), (None, b"two")])
def test_pem_with_the_wrong_password_is_refused(written, read):
    pem = KeyPair.derive(1).to_pem(password=written)

    with pytest.raises(IdError, match="cannot be read"):
        KeyPair.from_pem(pem, password=read)


@pytest.mark.parametrize("password", [b"", bytes(5000)])
def test_password_that_cannot_encrypt_is_refused(password):
    with pytest.raises(IdError, match="password of a key was refused"):
        KeyPair.derive(1).to_pem(password=password)


def test_pem_of_another_kind_of_key_is_refused():
    pem = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

    with pytest.raises(IdError, match="key of type X25519"):
        KeyPair.from_pem(pem)


def test_pem_that_is_too_long_is_refused_unread():
    with pytest.raises(IdError, match="has 20000 bytes"):
        KeyPair.from_pem(b"-" * 20_000)


@given(st.integers(0, 119), st.integers(0, 255))
def test_damaged_pem_is_a_key_pair_or_an_id_error(position, byte):
    damaged = bytearray(KeyPair.from_seed(SPEC_SEED).to_pem())
    damaged[position % len(damaged)] = byte

    try:
        pair = KeyPair.from_pem(bytes(damaged))
    except IdError:
        return
    assert pair.peer_id.public_key() == pair.public_key
