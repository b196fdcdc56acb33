"""Commits of a group, over wires that lose, double and reorder, among peers that crash."""

import dataclasses
import json
import random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_ir.plan import Digest, DigestAlgorithm, FileChunk, WeightManifest, content_digest
from bb_plans.commit import (
    Abort,
    Commit,
    Committed,
    Coordinator,
    Participant,
    Phase,
    Prepare,
    Ready,
    Refused,
    Standing,
)
from bb_plans.errors import (
    CommitMisuse,
    NoRoom,
    RecordDamaged,
    StaleEpoch,
    VersionIncomplete,
    VersionUnknown,
)
from bb_plans.hashing import digest_of
from bb_plans.store import Store

SECOND = 1_000_000_000
PEERS = ("ada", "bob", "cem")


def manifest(version):
    data = f"weights of version {version}".encode()
    return WeightManifest(
        "demo", str(version), (FileChunk("w", 0, len(data), digest=digest_of(data)),)
    )


ROOTS = [content_digest(manifest(version)) for version in range(20)]
NUMBER = {root: version for version, root in enumerate(ROOTS)}


class MemoryStore:
    """What a participant needs of a store; `staged_roots` and `state` survive crashes."""

    def __init__(self):
        self.staged_roots, self.state = set(), (None, 0)
        self.full = False

    @property
    def current(self):
        root, epoch = self.state
        return None if root is None else Standing("", "", epoch, root)

    @property
    def fence(self):
        return self.state[1]

    def staged(self, root):
        return root in self.staged_roots

    def missing(self, wanted):
        return wanted.files if self.full else ()

    def stage(self, wanted):
        if self.full:
            raise NoRoom("full")
        self.staged_roots.add(content_digest(wanted))
        return content_digest(wanted)

    def release(self, root):
        self.staged_roots.discard(root)

    def commit(self, root, epoch):
        if epoch <= self.fence:
            raise StaleEpoch("late")
        if root not in self.staged_roots:
            raise VersionUnknown("not staged")
        self.state = (root, epoch)
        return self.current


class Group:
    """A coordinator and its peers; messages are delivered as a test says."""

    def __init__(self, quorum=2, peers=PEERS):
        self.now = 0
        self.quorum = quorum
        self.stores = {peer: MemoryStore() for peer in peers}
        self.peers = {peer: Participant(self.stores[peer], "g", peer) for peer in peers}
        self.coordinator = self.coordinate()
        self.record = self.coordinator.record()
        self.wire = []  # (to, message); "" is the coordinator
        self.decided = {}
        self.given_up = set()

    def coordinate(self):
        return Coordinator(
            "g", list(self.stores), quorum=self.quorum, within_ns=10 * SECOND, resend_ns=SECOND
        )

    def do(self, step):
        if step.record is not None:
            self.record = step.record
        self.wire += step.messages
        self.given_up |= {one.epoch for _, one in step.messages if isinstance(one, Abort)}
        decided = self.coordinator.committed
        if decided is not None:
            assert decided.epoch not in self.given_up
            assert self.decided.setdefault(decided.epoch, decided.root) == decided.root

    def deliver(self, index=0, *, keep=False):
        to, message = self.wire[index] if keep else self.wire.pop(index)
        if not to:
            self.do(self.coordinator.receive(message, self.now))
            return
        self.reply(self.peers[to].receive(message, self.now))

    def reply(self, replies):
        self.wire += [("", one) for one in replies]

    def fetch(self, peer):
        """Stage what a peer was asked for, or what the group has."""
        one = self.peers[peer]
        wanted = [told.root for told in (one.decided, one.asked) if told is not None]
        if wanted:
            self.reply(one.stage(manifest(NUMBER[wanted[0]]), self.now))

    def restart_peer(self, peer):
        self.peers[peer] = Participant(self.stores[peer], "g", peer)
        self.reply(self.peers[peer].hello())

    def restart_coordinator(self):
        self.coordinator = self.coordinate()
        self.coordinator.restore(self.record, self.now)

    def settle(self):
        """Lose nothing from here on, until nobody has anything to say."""
        for _ in range(40):
            self.now += SECOND
            self.do(self.coordinator.tick(self.now))
            for peer, one in self.peers.items():
                self.reply(one.tick(self.now))
                if one.phase in {Phase.PLANNED, Phase.STAGING} or one.decided is not None:
                    self.fetch(peer)
            while self.wire:
                self.deliver()

    def check(self):
        """Of an epoch there is one root, and who is not behind has the group's version."""
        told = self.coordinator.committed
        for peer, store in self.stores.items():
            root, epoch = store.state
            if epoch:
                assert self.decided[epoch] == root
            if told is not None and peer not in self.coordinator.behind:
                assert (root, epoch) == (told.root, told.epoch)


def test_all_peers_go_over_together():
    group = Group(quorum=3)
    group.do(group.coordinator.begin(ROOTS[1], 0))
    assert [to for to, _ in group.wire] == list(PEERS)
    for _ in PEERS:
        group.deliver()
    assert {one.phase for one in group.peers.values()} == {Phase.PLANNED}
    assert group.wire == []

    for peer in PEERS:
        group.fetch(peer)
        assert group.peers[peer].phase is Phase.READY
        assert group.stores[peer].current is None
    for _ in PEERS:
        group.deliver()
    assert group.coordinator.phase is Phase.COMMITTED
    while group.wire:
        group.deliver()

    assert {store.state for store in group.stores.values()} == {(ROOTS[1], 1)}
    assert group.coordinator.behind == ()
    assert {one.phase for one in group.peers.values()} == {Phase.COMMITTED}


def test_a_quorum_is_enough_and_the_rest_is_behind_until_it_catches_up():
    group = Group(quorum=2)
    group.do(group.coordinator.begin(ROOTS[1], 0))
    while group.wire:
        group.deliver()
    group.fetch("ada")
    group.fetch("bob")
    while group.wire:
        group.deliver()

    assert group.coordinator.behind == ("cem",)
    assert group.coordinator.standings["cem"] == Standing("g", "cem", 0, None)
    assert group.peers["cem"].decided == Commit("g", 1, ROOTS[1])

    group.fetch("cem")
    while group.wire:
        group.deliver()
    assert group.coordinator.behind == ()
    assert group.stores["cem"].state == (ROOTS[1], 1)


def test_a_peer_that_was_away_says_from_which_version_it_needs_a_plan():
    group = Group(quorum=2)
    away = group.peers.pop("cem")
    for version in (1, 2):
        group.do(group.coordinator.begin(ROOTS[version], group.now))
        group.wire = [one for one in group.wire if one[0] != "cem"]
        for peer in ("ada", "bob"):
            group.deliver()
            group.fetch(peer)
        while any(to != "cem" for to, _ in group.wire):
            group.deliver([to != "cem" for to, _ in group.wire].index(True))
        group.wire = []

    group.peers["cem"] = away
    group.now += 5 * SECOND
    step = group.coordinator.begin(ROOTS[3], group.now)
    asked = dict(step.messages[-1:])["cem"]
    assert asked.parent == ROOTS[2]
    assert away.receive(asked, group.now) == (Standing("g", "cem", 0, None),)
    assert away.phase is Phase.PLANNED
    assert away.stage(manifest(3), group.now) == (Ready("g", 3, ROOTS[3], "cem"),)


def test_a_deadline_leaves_everybody_on_the_old_version():
    group = Group(quorum=2)
    group.do(group.coordinator.begin(ROOTS[1], 0))
    while group.wire:
        group.deliver()
    group.fetch("ada")
    group.deliver()
    group.now = 10 * SECOND
    assert group.peers["bob"].tick(group.now) == (
        Refused("g", 1, ROOTS[1], "bob", "the deadline passed"),
    )
    assert group.peers["ada"].tick(group.now) == ()

    group.do(group.coordinator.tick(group.now))

    assert group.coordinator.phase is Phase.ABORTED
    assert group.wire[0] == ("ada", Abort("g", 1, ROOTS[1], "the deadline passed"))
    while group.wire:
        group.deliver()
    assert {one.phase for one in group.peers.values()} == {Phase.ABORTED}
    assert group.stores["ada"].staged_roots == set(), "it may be pruned now"
    assert {store.state for store in group.stores.values()} == {(None, 0)}
    assert group.peers["bob"].stage(manifest(1), group.now) == ()


def test_too_many_refusals_end_a_commit_before_its_deadline():
    group = Group(quorum=2)
    group.do(group.coordinator.begin(ROOTS[1], 0))
    while group.wire:
        group.deliver()
    for peer in ("ada", "bob"):
        group.reply(group.peers[peer].fail("no source is left"))
        group.deliver(-1)

    assert group.coordinator.phase is Phase.ABORTED
    assert dict(group.coordinator.refused) == dict.fromkeys(("ada", "bob"), "no source is left")
    assert group.wire[0][1].reason == "bob refused: no source is left"


def test_a_commit_that_the_store_refuses_changes_nothing_and_is_told_again():
    """D-21: whoever refuses a commit stays where it was, and nobody takes it for done."""
    group = Group(quorum=2)
    store, peer = group.stores["ada"], group.peers["ada"]
    commit = Commit("g", 4, ROOTS[4])

    assert peer.receive(commit, 0) == (Standing("g", "ada", 0, None),)
    assert (store.state, peer.phase, peer.reason) == ((None, 0), Phase.IDLE, "not staged")

    group.coordinator._committed = commit
    group.do(group.coordinator.receive(Standing("g", "ada", 0, None), 0))
    assert "ada" in group.coordinator.behind
    assert dict(group.coordinator.tick(2 * SECOND).messages)["ada"] == commit
    assert peer.stage(manifest(4), 0) == (Committed("g", 4, ROOTS[4], "ada"),)


def test_what_is_late_or_doubled_changes_nothing():
    store = MemoryStore()
    peer = Participant(store, "g", "ada")
    store.staged_roots = {ROOTS[1], ROOTS[2]}
    peer.receive(Commit("g", 2, ROOTS[2]), 0)

    assert peer.receive(Commit("g", 2, ROOTS[2]), 0) == (Committed("g", 2, ROOTS[2], "ada"),)
    assert peer.receive(Commit("g", 1, ROOTS[1]), 0) == (Standing("g", "ada", 2, ROOTS[2]),)
    assert peer.receive(Prepare("g", 1, ROOTS[1], None, 1), 0) == (
        Standing("g", "ada", 2, ROOTS[2]),
    )
    assert peer.receive(Commit("other", 3, ROOTS[1]), 0) == ()
    peer.receive(Prepare("g", 5, ROOTS[5], ROOTS[2], SECOND), 0)
    assert peer.receive(Prepare("g", 4, ROOTS[4], ROOTS[2], SECOND), 0) == ()
    assert peer.receive(Abort("g", 4, ROOTS[4], "late"), 0) == ()
    assert peer.asked.epoch == 5
    assert peer.phase is Phase.PLANNED
    assert store.state == (ROOTS[2], 2)


def test_strangers_change_nothing():
    group = Group(quorum=1)
    group.do(group.coordinator.begin(ROOTS[1], 0))

    assert group.coordinator.receive(Ready("g", 1, ROOTS[1], "eve"), 0) == (None, ())
    assert group.coordinator.receive(Ready("h", 1, ROOTS[1], "ada"), 0) == (None, ())
    assert group.coordinator.receive(Ready("g", 1, ROOTS[2], "ada"), 0) == (None, ())
    assert group.coordinator.phase is Phase.PLANNED


def test_a_coordinator_goes_on_from_its_record():
    group = Group(quorum=2)
    group.do(group.coordinator.begin(ROOTS[1], 0))
    group.wire = []  # it crashed before it sent anything
    group.restart_coordinator()
    assert group.coordinator.phase is Phase.PLANNED

    group.settle()
    assert group.coordinator.behind == ()
    group.do(group.coordinator.begin(ROOTS[2], group.now))
    for _ in PEERS:
        group.deliver()
    for peer in PEERS:
        group.fetch(peer)
    group.deliver()
    group.deliver()
    assert group.coordinator.committed == Commit("g", 2, ROOTS[2])
    group.wire = []  # and again, after it decided
    group.restart_coordinator()
    assert group.coordinator.committed == Commit("g", 2, ROOTS[2])
    assert group.coordinator.behind == PEERS, "nobody told the new one yet"
    group.settle()
    assert {store.state for store in group.stores.values()} == {(ROOTS[2], 2)}
    assert group.coordinator.behind == ()


def test_a_coordinator_without_a_record_takes_epochs_after_those_of_its_peers():
    group = Group(quorum=2)
    for store in group.stores.values():
        store.state = (ROOTS[7], 7)
    for peer in PEERS:
        group.restart_peer(peer)
    while group.wire:
        group.deliver()

    assert group.coordinator.begin(ROOTS[8], 0).messages[0][1].epoch == 8


def test_nobody_who_says_so_brings_the_epochs_of_a_group_to_their_end(tmp_path):
    coordinator = Coordinator("g", PEERS, quorum=1, within_ns=SECOND)
    coordinator.receive(Standing("g", "cem", (1 << 63) - 1, ROOTS[0]), 0)

    with Store(tmp_path / "store") as store:
        store.put(b"weights of version 1")
        ada = Participant(store, "g", "ada")
        for _ in range(2):
            asked = dict(coordinator.begin(content_digest(manifest(1)), 0).messages)["ada"]
            (ready,) = ada.receive(asked, 0) or ada.stage(manifest(1), 0)
            decided = dict(coordinator.receive(ready, 0).messages)["ada"]
            (said,) = ada.receive(decided, 0)
            assert said == Committed("g", asked.epoch, asked.root, "ada")
            coordinator.receive(said, 0)


def test_a_restored_coordinator_gives_no_epoch_twice():
    group = Group(quorum=2)
    for version in (1, 2):
        group.do(group.coordinator.begin(ROOTS[version], group.now))
        group.do(group.coordinator.abort("asked to", group.now))
    group.restart_coordinator()

    assert group.coordinator.phase is Phase.ABORTED
    assert group.coordinator.begin(ROOTS[3], 0).messages[0][1].epoch == 3


def test_what_was_given_up_is_not_committed_after_all():
    group = Group(quorum=1)
    group.do(group.coordinator.begin(ROOTS[1], 0))
    group.do(group.coordinator.abort("asked to", 0))

    step = group.coordinator.receive(Ready("g", 1, ROOTS[1], "ada"), 0)

    assert step == (None, (("ada", Abort("g", 1, ROOTS[1], "it was given up")),))
    assert (group.coordinator.phase, group.coordinator.committed) == (Phase.ABORTED, None)


def test_a_peer_that_refuses_after_it_was_ready_does_not_count():
    group = Group(quorum=2)
    group.do(group.coordinator.begin(ROOTS[1], 0))
    group.coordinator.receive(Ready("g", 1, ROOTS[1], "ada"), 0)
    group.coordinator.receive(Refused("g", 1, ROOTS[1], "ada", "its disk broke"), 0)
    group.coordinator.receive(Ready("g", 1, ROOTS[1], "bob"), 0)

    assert group.coordinator.phase is Phase.PLANNED
    assert group.coordinator.ready == {"bob"}


def test_who_is_behind_is_told_by_root_and_epoch_and_not_by_late_messages():
    group = Group(quorum=1)
    group.coordinator._committed = Commit("g", 2, ROOTS[2])
    receive = group.coordinator.receive

    receive(Standing("g", "ada", 2, ROOTS[7]), 0)
    assert "ada" in group.coordinator.behind
    receive(Committed("g", 2, ROOTS[2], "ada"), 0)
    assert "ada" not in group.coordinator.behind
    receive(Committed("g", 1, ROOTS[1], "ada"), 0)
    assert "ada" not in group.coordinator.behind
    receive(Standing("g", "ada", 1, ROOTS[1]), 0)
    assert "ada" in group.coordinator.behind, "it went back by itself"


def test_a_version_that_is_staged_too_late_is_refused():
    peer = Participant(MemoryStore(), "g", "ada")
    peer.receive(Prepare("g", 1, ROOTS[1], None, SECOND), 5 * SECOND)
    peer.staging()
    assert peer.phase is Phase.STAGING

    assert peer.stage(manifest(1), 6 * SECOND) == (
        Refused("g", 1, ROOTS[1], "ada", "the deadline passed"),
    )
    assert peer.receive(Prepare("g", 1, ROOTS[1], None, SECOND), 6 * SECOND) == (
        Refused("g", 1, ROOTS[1], "ada", "the deadline passed"),
    )


def test_a_disk_that_is_full_after_all_was_verified_can_be_tried_again():
    store = MemoryStore()
    peer = Participant(store, "g", "ada")
    peer.receive(Prepare("g", 1, ROOTS[1], None, SECOND), 0)
    store.full = True
    with pytest.raises(NoRoom):
        peer.stage(manifest(1), 0)
    assert peer.phase is Phase.PLANNED
    store.full = False

    assert peer.stage(manifest(1), 0) == (Ready("g", 1, ROOTS[1], "ada"),)


def test_misuse_is_told():
    with pytest.raises(CommitMisuse, match="quorum of 4 in a group of 3"):
        Coordinator("g", PEERS, quorum=4, within_ns=1)
    with pytest.raises(CommitMisuse, match="no time"):
        Coordinator("g", PEERS, within_ns=0)
    group = Group()
    group.do(group.coordinator.begin(ROOTS[1], 0))
    with pytest.raises(CommitMisuse, match="neither committed nor aborted"):
        group.coordinator.begin(ROOTS[2], 0)
    with pytest.raises(CommitMisuse, match="nobody asked 'ada'"):
        group.peers["ada"].stage(manifest(1), 0)


def test_a_damaged_record_is_refused():
    group = Group()
    group.do(group.coordinator.begin(ROOTS[1], 0))
    record = group.record
    other = Coordinator("other", PEERS, within_ns=1)

    with pytest.raises(CommitMisuse, match="of group 'g'"):
        other.restore(record, 0)
    for index in range(len(record)):
        with pytest.raises(RecordDamaged):
            group.coordinator.restore(record[:index], 0)
        changed = bytearray(record)
        changed[index] ^= 1
        with pytest.raises(RecordDamaged):
            group.coordinator.restore(bytes(changed), 0)
    assert group.coordinator.record() == record

    facts = json.loads(record.decode().split("\n")[0]) | {"version": 2}
    text = json.dumps(facts)
    with pytest.raises(RecordDamaged, match="another version"):
        group.coordinator.restore(f"{text}\n{blake3(text.encode()).hexdigest()}\n".encode(), 0)


def test_messages_are_plain_data():
    digest = Digest(DigestAlgorithm.BLAKE3, bytes(32))
    for message in (Prepare("g", 1, digest, None, 5), Standing("g", "ada", 0, None)):
        assert type(message)(**dataclasses.asdict(message) | {"root": message.root}) == message


ACTIONS = ("deliver", "double", "lose", "fetch", "tick", "crash", "crash coordinator", "begin",
           "fail", "abort", "fill", "deliver all", "fetch all")  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1 << 16)), max_size=120),
    st.integers(1, 3),
)
def test_nobody_is_on_another_version_than_it_is_said_to_be(actions, quorum):
    group = Group(quorum=quorum)
    version = 0
    for action, number in [("begin", 0), *actions]:
        peer = PEERS[number % 3]
        match action:
            case "deliver" | "double" if group.wire:
                group.deliver(number % len(group.wire), keep=action == "double")
            case "lose" if group.wire:
                group.wire.pop(number % len(group.wire))
            case "fetch" if not group.stores[peer].full:
                group.fetch(peer)
            case "deliver all":
                for _ in range(min(len(group.wire), 12)):
                    group.deliver()
            case "fetch all":
                for one, store in group.stores.items():
                    if not store.full:
                        group.fetch(one)
            case "tick":
                group.now += number % (3 * SECOND)
                group.do(group.coordinator.tick(group.now))
                group.reply(group.peers[peer].tick(group.now))
            case "crash":
                group.restart_peer(peer)
            case "crash coordinator":
                group.restart_coordinator()
            case "begin" if group.coordinator.phase is not Phase.PLANNED and version < 15:
                version += 1
                group.do(group.coordinator.begin(ROOTS[version], group.now))
            case "fail":
                group.reply(group.peers[peer].fail("lost its source"))
            case "abort":
                group.do(group.coordinator.abort("asked to", group.now))
            case "fill":
                group.stores[peer].full = not group.stores[peer].full
            case _:
                pass
        group.check()

    for store in group.stores.values():
        store.full = False
    group.settle()
    group.check()
    assert group.coordinator.phase is not Phase.PLANNED
    told = group.coordinator.committed
    if told is not None:
        assert {store.state for store in group.stores.values()} == {(told.root, told.epoch)}


def test_real_stores_go_over_together_and_serve_all_the_while(tmp_path):
    group = Group(quorum=3)
    for peer in PEERS:
        group.stores[peer] = Store(tmp_path / peer)
        group.peers[peer] = Participant(group.stores[peer], "g", peer)
    rng = random.Random(7)  # noqa: S311
    for version in (1, 2, 1):
        group.do(group.coordinator.begin(ROOTS[version], group.now))
        while group.wire:
            group.deliver(rng.randrange(len(group.wire)))
        for peer, store in group.stores.items():
            if group.peers[peer].phase is Phase.PLANNED:
                with pytest.raises(VersionIncomplete):
                    group.fetch(peer)
                store.put(f"weights of version {version}".encode())
                group.fetch(peer)
        while group.wire:
            group.deliver(rng.randrange(len(group.wire)))
        assert group.coordinator.behind == ()

    for peer, store in group.stores.items():
        with store.reading() as read:
            assert (read.root, read.epoch) == (ROOTS[1], 3), peer
            assert bytes(read.view(read.manifest.files[0])) == b"weights of version 1"
        store.close()
