"""The records of a journal: what is damaged is found, and what was never finished is cut off."""

import struct
import tracemalloc

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_runtime import journal
from bb_runtime.errors import JournalDamaged
from bb_runtime.journal import START, Chain, Kind, Opaque, Record, Scan, records_of

PEER = PeerId.from_seed(b"journal", 0)
FIELDS = struct.Struct("<4sHHQQQ")
BODIES = [(Kind.CALL, b"first"), (Kind.POLL, b""), (Kind.RECEIVE, b"a longer one" * 9)]


def written(bodies=BODIES):
    chain = Chain()
    return [chain.add(kind, body) for kind, body in bodies]


def read(data, **options):
    scan = Scan(data, **options)
    return [(record.kind, bytes(record.body)) for record in scan], scan


def test_records_are_read_as_they_were_written():
    records = written()

    found, scan = read(b"".join(records))

    assert found == BODIES
    assert (scan.cut, scan.number) == (0, 3)
    assert [one.number for one in records_of(records)] == [1, 2, 3]


def test_a_body_may_be_written_in_parts():
    whole, parts = Chain(), Chain()

    assert whole.add(Kind.CALL, b"abc") == parts.add(Kind.CALL, b"a", memoryview(b"bc"))
    assert whole.digest == parts.digest


def test_what_follows_the_last_whole_record_is_cut_off():
    *whole, last = written()
    before = b"".join(whole)

    for length in range(len(last)):
        found, scan = read(before + last[:length])
        assert found == BODIES[:2]
        assert scan.cut == length


def test_what_a_crash_left_zero_is_cut_off():
    *whole, last = written()
    before = b"".join(whole)

    for length in range(len(last)):
        found, scan = read(before + last[:length] + bytes(len(last) - length))
        assert found == BODIES[:2]
        assert scan.cut == len(last)


def test_a_record_that_breaks_off_before_others_is_damaged():
    first, second, _ = written()

    with pytest.raises(JournalDamaged, match="record 2 of the journal is damaged: its head breaks"):
        read(first + second[:-1], last=False)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_found_wherever_it_is(data):
    records = written()
    whole = bytearray(b"".join(records))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    number = 1 + sum(at >= sum(map(len, records[: n + 1])) for n in range(len(records)))

    try:
        found, scan = read(bytes(whole))
    except JournalDamaged as error:
        assert f"record {number} of the journal" in error.found  # noqa: PT017
        return
    # The last record may have been written in part; then nothing else is lost.
    assert number == len(records)
    assert found == BODIES[:-1]
    assert scan.cut == len(records[-1])


@pytest.mark.parametrize(
    "change",
    [
        lambda r: [r[0], r[2]],
        lambda r: [r[1], r[0], r[2]],
        lambda r: [r[0], r[0], r[1], r[2]],
        lambda r: [r[1], r[2]],
    ],
    ids=["left out", "swapped", "doubled", "without the first"],
)
def test_records_that_do_not_follow_each_other_are_found(change):
    with pytest.raises(JournalDamaged, match="it does not follow the record before it"):
        list(records_of(change(written())))


def forged(kind, number, body, chain=None):
    """A record whose own checksums all fit."""
    fields = FIELDS.pack(b"BBr2", kind, 0, number, len(body), xxhash.xxh3_64_intdigest(body))
    head = fields + (chain or xxhash.xxh3_128_digest(START + fields))
    return head + (xxhash.xxh3_64_intdigest(head) & 0xFFFFFFFF).to_bytes(4, "little") + body


def test_records_have_the_form_that_is_documented():
    assert written()[0] == forged(Kind.CALL, 1, b"first")


def test_a_record_of_another_body_is_found_though_its_checksums_fit():
    first, _, third = written()
    chain = Chain()
    chain.add(*BODIES[0])
    chain.add(*BODIES[1])

    with pytest.raises(JournalDamaged, match=r"record 2 .* does not follow"):
        read(first + forged(Kind.POLL, 2, b"forged", chain.digest) + third)


def test_a_kind_of_a_later_version_is_an_error():
    with pytest.raises(JournalDamaged, match=r"record 1 .* of kind 250"):
        read(forged(250, 1, b""))


@pytest.mark.parametrize("length", [1 << 20, 1 << 60, (1 << 64) - 1])
def test_no_memory_is_taken_for_what_a_head_merely_claims(length):
    """It is read as a record that breaks off: no more is asked for than there is."""
    fields = FIELDS.pack(b"BBr2", Kind.CALL, 0, 1, length, 7)
    head = fields + xxhash.xxh3_128_digest(START + fields)
    head += (xxhash.xxh3_64_intdigest(head) & 0xFFFFFFFF).to_bytes(4, "little")
    tracemalloc.start()
    try:
        found, scan = read(head + bytes(100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found == []
    assert scan.cut == len(head) + 100
    assert peak < 100_000
    with pytest.raises(JournalDamaged, match="breaks off"):
        read(head + bytes(100), last=False)


def test_long_bodies_are_not_copied():
    body = memoryview(bytes(100_000))

    head, number, same = Chain().parts(Kind.RECEIVE, b"12345678", body)

    assert (len(head), number) == (52, b"12345678")
    assert same is body
    found, _ = read(b"".join((head, number, same)))
    assert found == [(Kind.RECEIVE, b"12345678" + bytes(body))]


def test_a_torn_record_in_which_another_journal_stands_is_cut_off_all_the_same():
    """Heads count only when their numbers are later ones of this journal."""
    chain = Chain()
    whole = b"".join(chain.add(*one) for one in BODIES)
    torn = chain.add(Kind.RECEIVE, b"x" * 20 + b"".join(written()) + b"x" * 20)[:-3]

    found, scan = read(whole + torn)

    assert len(found) == 3
    assert scan.cut == len(torn)


@pytest.mark.parametrize("between", [0, 1000, (1 << 20) - 60, (1 << 20) - 20, (2 << 20) + 5])
def test_damage_is_told_from_a_torn_end_by_the_records_after_it(between):
    chain = Chain()
    first = chain.add(Kind.RECEIVE, bytes(between))
    second = chain.add(Kind.POLL, b"")

    with pytest.raises(JournalDamaged, match=r"record 1 .* its head was changed"):
        read(b"?" + first[1:] + second)
    found, scan = read(b"?" + first[1:] + second[:-1])
    assert (found, scan.cut) == ([], len(first + second) - 1)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_records_or_a_typed_error(data):
    try:
        found, scan = read(data)
    except JournalDamaged:
        return
    assert found == []
    assert scan.cut == len(data)


READERS = [
    journal.read_offer, journal.read_number, journal.read_call, journal.read_done,
    journal.read_raised, journal.read_sent, journal.read_table, journal.read_steps,
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS, ids=lambda one: one.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=90))
def test_a_body_that_says_nothing_sensible_is_a_typed_error(reader, data):
    record = Record(7, Kind.CALL, memoryview(data), bytes(16))
    try:
        reader(record)
    except JournalDamaged as error:
        assert error.found.startswith("record 7")  # noqa: PT017


def record_of(*parts):
    return Record(3, Kind.CALL, memoryview(b"".join(map(bytes, parts))), bytes(16))


def test_values_come_back_as_they_were():
    params = ParameterSet.from_tensors({"w": np.arange(3.0)})
    value = ("invoke", ("T", {"x": np.arange(4, dtype=np.int8), "peers": (PEER,)}), {"p": params})

    name, args, kwargs = journal.read_call(record_of(journal.write_value(value)))

    assert (name, args[0], args[1]["peers"]) == ("invoke", "T", (PEER,))
    assert args[1]["x"].dtype == np.int8
    assert args[1]["x"].tolist() == [0, 1, 2, 3]
    assert kwargs["p"] == params


class Unreadable:
    """Raises whatever is asked of it."""

    @property
    def dtype(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [object(), Unreadable(), {1}, lambda: 0, (x for x in "ab")])
def test_what_cannot_be_written_is_named_and_the_rest_is_kept(value):
    written = journal.write_value(("publish", ("topic", {"good": 1, "bad": [value]}), {}))

    _, args, _ = journal.read_call(record_of(written))

    assert args[0] == "topic"
    assert args[1]["good"] == 1
    assert journal.opaque_in(args) == type(value).__qualname__
    assert isinstance(args[1]["bad"][0], Opaque)


def test_a_list_that_holds_itself_is_named():
    value = [1]
    value.append(value)

    _, args, _ = journal.read_call(record_of(journal.write_value(("f", (value,), {}))))

    assert journal.opaque_in(args) == "list"


@pytest.mark.parametrize("refused", ["", "duplicate"])
def test_an_offer_comes_back_as_it_was(refused):
    body = journal.write_offer(b"p" * 32, memoryview(b"header"), PEER, refused)

    assert journal.read_offer(record_of(body)) == (PEER, b"p" * 32, b"header", refused)
