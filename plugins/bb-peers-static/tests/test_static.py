import pytest

from bb_peers_static import bb_component
from bb_peers_static._static import PeersError, Static, StaticConfig
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment, peer_id
from bb_testing.peer_selector import PeerSelectorSuite


def make(count=5):
    peers = tuple(peer_id(i) for i in range(count))
    return Static(StaticConfig(peers), environment("clients"))


class TestStatic(PeerSelectorSuite):
    def make(self):
        return make()


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Static


def test_view_is_in_the_configured_order():
    peers = (peer_id(3), peer_id(1), peer_id(2))

    assert Static(StaticConfig(peers), environment()).current_view(FakeContext()) == peers


def test_sample_is_in_the_configured_order():
    made = make()
    view = made.current_view(FakeContext())

    for seed in range(30):
        sample = made.sample(FakeContext(seed=seed), n=3)
        assert [p for p in view if p in sample] == list(sample)


def test_every_cohort_is_equally_likely():
    made = make(4)

    drawn = [frozenset(made.sample(FakeContext(seed=seed), n=2)) for seed in range(1200)]

    counts = [drawn.count(cohort) for cohort in set(drawn)]
    assert len(counts) == 6
    assert min(counts) > 140  # 200 are expected; the standard deviation is 13


def test_texts_of_ids_are_read():
    texts = [str(peer_id(1)), str(peer_id(2))]

    config = build_config(StaticConfig, {"peers": texts}, "clients")

    assert config.peers == (peer_id(1), peer_id(2))


def test_peer_named_twice_is_refused():
    with pytest.raises(PeersError, match=r"peers\[2\], 12D3KooW\w+, is in the list twice"):
        StaticConfig((peer_id(1), peer_id(2), peer_id(1)))


def test_peer_named_twice_is_refused_by_configuration():
    with pytest.raises(ConfigError, match="is in the list twice"):
        build_config(StaticConfig, {"peers": [str(peer_id(1))] * 2}, "clients")


def test_text_where_an_id_belongs_is_refused():
    with pytest.raises(PeersError, match=r"peers\[0\] is 'me'") as caught:
        StaticConfig(("me",))

    assert "PeerId.parse" in caught.value.fix


@pytest.mark.parametrize("n", [0, -1])
def test_sample_of_nobody_is_refused(n):
    with pytest.raises(PeersError, match=f"a sample of {n} peers"):
        make().sample(FakeContext(), n=n)


def test_without_peers_sampling_says_what_to_configure():
    with pytest.raises(PeersError, match="slot 'clients' knows no peers") as caught:
        make(0).sample(FakeContext(), n=1)

    assert caught.value.fix == "pass Config({'clients': {'peers': [...]}}) to install"


def test_without_peers_the_view_is_empty():
    assert list(make(0).current_view(FakeContext())) == []
