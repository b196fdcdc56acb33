"""Addresses: the public vectors, both forms both ways, and what every bad input becomes."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir._varint import decode_varint, encode_varint
from bb_ir.address import MAX_ADDRESS_BYTES, MAX_COMPONENTS, Address, Component
from bb_ir.errors import AddressError
from bb_ir.ids import PeerId

ED25519_ID = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
ED25519_CID = "bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rqt5kczyn7lcm3l"
SHA256_ID = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC"
SHA256_HEX = "221220d52ebb89d85b02a284948203a62ff28389c57c9f42beec4ec20db76a68911c0b"
KNOWN = "dns, dns4, dns6, ip4, ip6, memory, p2p, quic-v1, tcp, tls, udp, unix, ws, wss"

labels = st.from_regex(r"[a-z0-9_]([A-Za-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
ports = st.integers(0, 65535).map(str)
names_of_files = st.text(
    st.characters(exclude_characters="/%\x7f", exclude_categories=["Cs"], min_codepoint=32),
    min_size=1,
    max_size=12,
)
paths = st.lists(names_of_files, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))
peers = st.binary(min_size=32, max_size=32).map(lambda key: str(PeerId.from_public_key(key)))
components = st.one_of(
    st.tuples(st.just("ip4"), st.ip_addresses(v=4).map(str)),
    st.tuples(st.just("ip6"), st.ip_addresses(v=6).map(str)),
    st.tuples(st.sampled_from(["dns", "dns4", "dns6"]), hosts),
    st.tuples(st.sampled_from(["tcp", "udp"]), ports),
    st.tuples(st.just("memory"), st.integers(0, 2**64 - 1).map(str)),
    st.tuples(st.just("p2p"), peers),
    st.tuples(st.sampled_from(["tls", "quic-v1", "ws", "wss"])),
).map(lambda parts: "/" + "/".join(parts))
ends = st.just("") | paths.map(lambda path: "/unix" + path)
addresses = st.builds(
    lambda parts, end: Address.parse("".join(parts) + end),
    st.lists(components, min_size=1, max_size=6),
    ends,
)


def refused(text: str) -> AddressError:
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    return caught.value


def refused_bytes(raw: bytes) -> AddressError:
    with pytest.raises(AddressError) as caught:
        Address.from_bytes(raw)
    return caught.value


# --- varints --------------------------------------------------------------------------------------

# The examples of the unsigned-varint specification.
VARINTS = [(1, "01"), (127, "7f"), (128, "8001"), (255, "ff01"), (300, "ac02"), (16384, "808001")]


@pytest.mark.parametrize(("number", "encoded"), VARINTS)
def test_varint_is_written_as_published(number, encoded):
    assert encode_varint(number) == bytes.fromhex(encoded)


@pytest.mark.parametrize(("number", "encoded"), VARINTS)
def test_varint_is_read_as_published(number, encoded):
    assert decode_varint(bytes.fromhex(encoded)) == (number, len(encoded) // 2)


@given(st.integers(0, 2**63 - 1), st.binary(max_size=4), st.binary(max_size=4))
def test_varint_survives_among_other_bytes(number, before, after):
    encoded = encode_varint(number)

    read = decode_varint(before + encoded + after, len(before))

    assert read == (number, len(before) + len(encoded))


@pytest.mark.parametrize("number", [-1, 2**63])
def test_number_outside_the_range_of_a_varint_is_refused(number):
    with pytest.raises(ValueError, match="outside the range"):
        encode_varint(number)


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        ("", "the bytes end inside"),
        ("80", "the bytes end inside"),
        ("8000", "not the shortest for 0"),
        ("810000", "not the shortest for 1"),
        ("ffffffffffffffffff01", "longer than 9 bytes"),
    ],
)
def test_varint_that_is_cut_padded_or_too_long_is_refused(encoded, why):
    with pytest.raises(ValueError, match=why):
        decode_varint(bytes.fromhex(encoded))


@given(st.binary(max_size=12))
def test_arbitrary_bytes_have_at_most_one_reading_as_a_varint(data):
    try:
        number, end = decode_varint(data)
    except ValueError:
        return
    assert encode_varint(number) == data[:end]


# --- both forms -----------------------------------------------------------------------------------

VECTORS = [
    # Published with the implementations of the multiaddr specification.
    ("/ip4/127.0.0.1/udp/1234", "047f000001910204d2"),
    ("/ip4/127.0.0.1/tcp/4321", "047f0000010610e1"),
    ("/ip4/127.0.0.1/udp/1234/ip4/127.0.0.1/tcp/4321", "047f000001910204d2047f0000010610e1"),
    ("/ip4/1.2.3.4", "0401020304"),
    ("/ip6/::1", "2900000000000000000000000000000001"),
    ("/ip6/2601:9:4f81:9700:803e:ca65:66e8:c21", "29260100094f819700803eca6566e80c21"),
    ("/tcp/0", "060000"),
    ("/tcp/65535", "06ffff"),
    (f"/p2p/{SHA256_ID}", f"a503{SHA256_HEX}"),
    (f"/p2p/{SHA256_ID}/tcp/1234", f"a503{SHA256_HEX}0604d2"),
    (
        f"/ip6/2001:8a0:7ac5:4201:3ac9:86ff:fe31:7095/tcp/8000/ws/p2p/{SHA256_ID}",
        f"29200108a07ac542013ac986fffe317095061f40dd03a503{SHA256_HEX}",
    ),
    (
        f"/ip6/2001:8a0:7ac5:4201:3ac9:86ff:fe31:7095/tcp/8000/wss/p2p/{SHA256_ID}",
        f"29200108a07ac542013ac986fffe317095061f40de03a503{SHA256_HEX}",
    ),
    # By hand, from the multicodec table: the code as a varint, then the value.
    ("/dns/a.example", "35" + "09" + b"a.example".hex()),
    ("/dns4/a.example", "36" + "09" + b"a.example".hex()),
    ("/dns6/a.example", "37" + "09" + b"a.example".hex()),
    ("/unix/tmp/a.sock", "9003" + "0b" + b"/tmp/a.sock".hex()),
    ("/tls", "c003"),
    ("/quic-v1", "cd03"),
    ("/memory/4", "8906" + "0000000000000004"),
]


@pytest.mark.parametrize(("text", "encoded"), VECTORS)
def test_address_is_written_to_bytes_as_published(text, encoded):
    assert Address.parse(text).to_bytes().hex() == encoded


@pytest.mark.parametrize(("text", "encoded"), VECTORS)
def test_address_is_written_to_text_as_published(text, encoded):
    assert str(Address.from_bytes(bytes.fromhex(encoded))) == text


@given(addresses)
def test_address_survives_its_bytes(address):
    assert Address.from_bytes(address.to_bytes()) == address


@given(addresses)
def test_address_survives_its_text(address):
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("/ip6/0:0:0:0:0:0:0:1", "/ip6/::1"),
        ("/ip6/2001:DB8::A", "/ip6/2001:db8::a"),
        ("/ip6/::FFFF:102:304", "/ip6/::ffff:1.2.3.4"),
        (f"/p2p/{ED25519_CID}", f"/p2p/{ED25519_ID}"),
    ],
)
def test_other_spellings_become_the_canonical_one(written, canonical):
    assert str(Address.parse(written)) == canonical


def test_unix_takes_the_rest_of_the_text_as_its_path():
    address = Address.parse("/unix/run/p2p/tcp/80")

    assert address.components == (Component("unix", "/run/p2p/tcp/80"),)


def test_longest_path_that_fits_survives_its_text():
    address = Address.parse("/unix/" + "x" * (MAX_ADDRESS_BYTES - 5))

    assert len(address.to_bytes()) == MAX_ADDRESS_BYTES
    assert Address.parse(str(address)) == address


def test_address_with_the_most_components_survives_its_text():
    address = Address.parse("/ip6/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" * MAX_COMPONENTS)

    assert Address.parse(str(address)) == address


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_an_address_or_an_address_error(raw):
    try:
        address = Address.from_bytes(raw)
    except AddressError:
        return
    assert address.to_bytes() == raw
    assert Address.parse(str(address)) == address


@given(addresses, st.integers(0, 2000), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_bytes_are_an_address_or_an_address_error(address, position, patch, removed):
    raw = address.to_bytes()
    at = position % (len(raw) + 1)
    damaged = raw[:at] + patch + raw[at + removed :]

    try:
        read = Address.from_bytes(damaged)
    except AddressError:
        return
    assert read.to_bytes() == damaged
    assert Address.parse(str(read)) == read


pieces = st.sampled_from([*KNOWN.split(", "), "1.2.3.4", "::1", "80", ED25519_ID, "", "..", "%2F"])


@given(
    st.text(max_size=60)
    | st.text(max_size=60).map("/dns/".__add__)
    | st.lists(pieces | st.text(max_size=8), max_size=8).map(lambda parts: "/" + "/".join(parts))
)
def test_arbitrary_text_is_an_address_or_an_address_error(text):
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert Address.from_bytes(address.to_bytes()) == address
    assert Address.parse(str(address)) == address


# --- looking into an address ----------------------------------------------------------------------


def test_components_stand_in_the_order_of_the_text():
    address = Address.parse(f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{ED25519_ID}")

    assert address.components == (
        ("ip4", "127.0.0.1"),
        ("udp", "4001"),
        ("quic-v1", ""),
        ("p2p", ED25519_ID),
    )


def test_peer_is_the_one_of_the_last_p2p_component():
    address = Address.parse(f"/p2p/{SHA256_ID}/tcp/1/p2p/{ED25519_ID}")

    assert address.peer == PeerId.parse(ED25519_ID)


def test_address_without_p2p_names_no_peer():
    assert Address.parse("/ip4/127.0.0.1/tcp/4001").peer is None


def test_value_is_the_one_of_the_first_such_component():
    assert Address.parse("/ip4/1.2.3.4/tcp/1/ip4/2.3.4.5/tcp/2").value("tcp") == "1"


def test_value_of_a_protocol_without_values_is_empty():
    assert Address.parse("/tcp/443/tls").value("tls") == ""


def test_value_of_a_protocol_that_is_not_there_is_none():
    assert Address.parse("/tcp/443").value("tls") is None


def test_value_of_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(AddressError) as caught:
        Address.parse("/tcp/443").value("tpc")

    assert KNOWN in caught.value.expected


@pytest.mark.parametrize("inner", ["tcp/4001", "/tcp/4001", Address.parse("/tcp/4001")])
def test_slash_appends_text_or_an_address(inner):
    assert Address.parse("/ip4/127.0.0.1") / inner == Address.parse("/ip4/127.0.0.1/tcp/4001")


@given(addresses.filter(lambda address: address.value("unix") is None), addresses)
def test_encapsulated_address_has_the_components_of_both(outer, inner):
    assert outer.encapsulate(inner).components == outer.components + inner.components


def test_nothing_can_be_appended_to_a_unix_path():
    with pytest.raises(AddressError) as caught:
        Address.parse("/unix/tmp/a.sock") / "tcp/80"

    assert "'unix' at the end" in caught.value.expected


def test_appending_beyond_the_most_components_is_refused():
    full = Address.parse("/tls" * MAX_COMPONENTS)

    with pytest.raises(AddressError, match="33 or more components"):
        full / "ws"


# --- values ---------------------------------------------------------------------------------------


@given(addresses, addresses)
def test_equality_hash_and_order_go_by_the_bytes(one, other):
    same = one.to_bytes() == other.to_bytes()

    assert (one == other) == same
    assert not same or hash(one) == hash(other)
    assert (one < other) == (one.to_bytes() < other.to_bytes())
    assert (one >= other) == (one.to_bytes() >= other.to_bytes())


def test_address_is_no_equal_of_its_text():
    assert Address.parse("/tcp/1") != "/tcp/1"


def test_equal_address_finds_the_entry_of_a_dictionary():
    book = {Address.parse("/ip6/::1/tcp/1"): "here"}

    assert book[Address.parse("/ip6/0:0:0:0:0:0:0:1/tcp/1")] == "here"


@pytest.mark.parametrize("attribute", ["components", "peer", "new"])
def test_address_cannot_be_changed(attribute):
    address = Address.parse("/tcp/1")

    with pytest.raises(AttributeError):
        setattr(address, attribute, ())


@pytest.mark.parametrize(
    "carry", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copied_address_is_equal_and_hashes_alike(carry):
    address = Address.parse("/ip4/127.0.0.1/tcp/1")

    carried = carry(address)

    assert carried == address
    assert hash(carried) == hash(address)


def test_repr_shows_how_to_make_the_address():
    assert repr(Address.parse("/tcp/1")) == "Address.parse('/tcp/1')"


# --- bad text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("", 0, "does not start with '/'"),
        ("ip4/127.0.0.1", 0, "does not start with '/'"),
        ("127.0.0.1:4001", 0, "does not start with '/'"),
        ("/", 1, "empty component"),
        ("//tcp/1", 1, "empty component"),
        ("/tcp//1", 5, "empty component"),
        ("/tcp/1/", 7, "empty component"),
        ("/ip4/127.0.0.1/tcp", 18, "ends after 'tcp'"),
        ("/unix", 5, "ends after 'unix'"),
        ("/tcp/1/foo/2", 7, "protocol 'foo' is unknown"),
        ("/TCP/1", 1, "protocol 'TCP' is unknown"),
        ("/udp/1/quic-v1/2", 15, "protocol '2' is unknown"),
        ("/ip4/127.0.0.1/tcp/65536", 19, "'65536' is not a whole number in range"),
        ("/tcp/-1", 5, "'-1' is not a whole number"),
        ("/tcp/+1", 5, "not a whole number"),
        ("/tcp/080", 5, "not a whole number"),
        ("/tcp/8_0", 5, "not a whole number"),
        ("/tcp/٣", 5, "not a whole number"),
        ("/tcp/http", 5, "not a whole number"),
        ("/tcp/" + "9" * 4000, 5, "not a whole number"),
        ("/memory/18446744073709551616", 8, "not a whole number"),
        ("/ip4/1.2.3", 5, "not an IPv4 address"),
        ("/ip4/1.2.3.256", 5, "not an IPv4 address"),
        ("/ip4/01.2.3.4", 5, "not an IPv4 address"),
        ("/ip4/::1", 5, "not an IPv4 address"),
        ("/ip6/127.0.0.1", 5, "not an IPv6 address"),
        ("/ip6/[::1]", 5, "not an IPv6 address"),
        ("/ip6/fe80::1%eth0", 5, "names a zone"),
        ("/dns/-a", 5, "not a host name"),
        ("/dns/a..b", 5, "not a host name"),
        ("/dns/a b", 5, "not a host name"),
        ("/dns/a\n", 5, "not a host name"),
        ("/dns/münchen.example", 5, "not a host name"),
        ("/dns/" + "a" * 64, 5, "not a host name"),
        ("/dns/" + "a." * 127, 5, "not a host name"),
        ("/p2p/tcp", 5, "'tcp' is not a peer id"),
        (f"/tcp/1/p2p/{ED25519_ID[:-1]}", 11, "multihash of a peer id"),
        ("/unix/%2Ftmp%2Fa.sock", 6, "holds a '%'"),
        ("/unix//tmp", 6, "cannot stand in an address"),
        ("/unix/tmp/", 6, "cannot stand in an address"),
        ("/unix/", 6, "cannot stand in an address"),
        ("/unix/a\x00b", 6, "cannot stand in an address"),
        ("/unix/a\udcffb", 6, "no UTF-8 form"),
    ],
)
def test_bad_text_is_refused_with_its_place(text, place, found):
    error = refused(text)

    assert found in error.found
    assert str(error.where[0]).startswith(f"character {place} of ")
    assert error.expected
    assert error.fix


def test_unknown_protocol_is_refused_with_the_known_ones():
    assert KNOWN in refused("/sctp/1").expected


def test_text_beyond_the_limit_is_refused_unread():
    assert "has 5000 characters" in refused("/" + "x" * 4999).found


def test_text_of_too_many_components_is_refused():
    assert "33 or more components" in refused("/tls" * (MAX_COMPONENTS + 1)).found


def test_text_of_too_many_bytes_is_refused():
    assert "has 1025 bytes" in refused("/unix/" + "x" * (MAX_ADDRESS_BYTES - 4)).found


def test_message_about_long_text_stays_short():
    assert len(str(refused("/dns/" + "x" * 4000))) < 1000


# --- bad bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoded", "place", "found"),
    [
        ("", 0, "no bytes"),
        ("80", 0, "the bytes end inside a varint"),
        ("8400", 0, "not the shortest for 4"),
        ("ffffffffffffffffff01", 0, "longer than 9 bytes"),
        ("0604d28401", 3, "code 0x0084 is unknown"),
        ("047f0000", 1, "should have 4 bytes, and 3 are left"),
        ("0604d206", 4, "should have 2 bytes, and 0 are left"),
        ("0604d200", 3, "code 0x0000 is unknown"),
        ("35", 1, "the bytes end inside a varint"),
        ("35810061", 1, "not the shortest for 1"),
        ("350361", 2, "should have 3 bytes, and 1 are left"),
        ("35ffffffffffffffff7f61", 10, "should have 9223372036854775807 bytes"),
        ("3500", 2, "not a host name"),
        ("3501ff", 2, "not a host name"),
        ("3503612f62", 2, "not a host name"),
        ("900300", 3, "cannot stand in an address"),
        ("90030161", 3, "cannot stand in an address"),
        ("9003022f25", 3, "holds a '%'"),
        ("9003022fff", 3, "not UTF-8"),
        ("9003022f610604d2", 5, "3 bytes stand after the 'unix' component"),
        ("a50300", 3, "has 0 bytes"),
        # Published as bad: a SHA-256 of 33 bytes.
        (
            "a503221221c05877cbae039d70a5e600ea02c6f9f2942439285c9e344e26f8d280c850fad6",
            3,
            "announces 33 bytes and holds 32",
        ),
    ],
)
def test_bad_bytes_are_refused_with_their_place(encoded, place, found):
    raw = bytes.fromhex(encoded)

    error = refused_bytes(raw)

    assert found in error.found
    assert error.where == (f"byte {place} of {len(raw)}",)
    assert error.expected
    assert error.fix


@given(addresses, st.integers(1, 2000))
def test_shortened_bytes_never_give_the_same_address(address, removed):
    raw = address.to_bytes()
    cut = raw[: len(raw) - 1 - removed % len(raw)]

    try:
        read = Address.from_bytes(cut)
    except AddressError:
        return
    assert read.components == address.components[: len(read.components)]
    assert read != address


def test_bytes_beyond_the_limit_are_refused_unread():
    assert "has 1025 bytes" in refused_bytes(bytes(MAX_ADDRESS_BYTES + 1)).found


def test_bytes_of_too_many_components_are_refused():
    assert "33 or more components" in refused_bytes(b"\xc0\x03" * (MAX_COMPONENTS + 1)).found


def test_text_given_as_bytes_is_refused_with_the_way_to_parse_it():
    assert "Address.parse" in refused_bytes("/tcp/1").fix
