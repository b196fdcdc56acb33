import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_ir.errors import BytesAndBrainsError
from bb_peers_random import bb_component
from bb_peers_random._keys import _log, exponential_keys
from bb_peers_random._random import Random, RandomConfig
from bb_peers_random.errors import CohortError, InvalidSetting
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment, peer_id
from bb_testing.peer_selector import PeerSelectorSuite

NODE = peer_id(0)


def peers(count):
    return tuple(peer_id(i) for i in range(1, count + 1))


def make(count=5, **config):
    return Random(RandomConfig(peers(count), **config), environment("clients"))


def cohorts(selector, n, count=2000):
    return [selector.sample(FakeContext(seed=seed), n=n) for seed in range(count)]


class TestRandom(PeerSelectorSuite):
    def make(self):
        return make()


class TestWeighted(PeerSelectorSuite):
    def make(self):
        return make(weights=(1, 2, 3, 4, 5))


class TestStratified(PeerSelectorSuite):
    def make(self):
        return make(weights=(1, 2, 3, 4, 5), groups=("a", "b", "a", "c", "a"))


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Random


def test_the_readme_runs():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102


# ---- chances


def test_every_cohort_is_equally_likely():
    drawn = [frozenset(cohort) for cohort in cohorts(make(4), 2, 1200)]

    counts = [drawn.count(cohort) for cohort in set(drawn)]
    assert len(counts) == 6
    assert min(counts) > 140  # 200 are expected; the standard deviation is 13


def test_one_peer_is_drawn_in_proportion_to_its_weight():
    weights = (1.0, 2.0, 5.0, 12.0)
    drawn = [cohort[0] for cohort in cohorts(make(4, weights=weights), 1)]

    for peer, weight in zip(peers(4), weights, strict=True):
        chance = weight / 20
        deviation = math.sqrt(2000 * chance * (1 - chance))
        assert abs(drawn.count(peer) - 2000 * chance) < 4 * deviation


def test_pairs_are_drawn_as_by_successive_draws():
    """P({i, j}) = w_i/W * w_j/(W - w_i) and the other way round."""
    weights = (1.0, 2.0, 5.0)
    drawn = [frozenset(cohort) for cohort in cohorts(make(3, weights=weights), 2)]

    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b = weights[i], weights[j]
        chance = a / 8 * b / (8 - a) + b / 8 * a / (8 - b)
        deviation = math.sqrt(2000 * chance * (1 - chance))
        expected = 2000 * chance
        assert abs(drawn.count(frozenset((peers(3)[i], peers(3)[j]))) - expected) < 4 * deviation


def test_only_the_ratio_of_weights_counts():
    light, heavy = make(weights=(1, 2, 4, 8, 16)), make(weights=(64, 128, 256, 512, 1024))

    assert cohorts(light, 2, 50) == cohorts(heavy, 2, 50)


def test_extreme_weights_are_drawn_in_order():
    selector = make(3, weights=(1e-9, 1e9, 1.0))

    assert set(cohorts(selector, 1, 300)) == {(peer_id(2),)}
    assert set(cohorts(selector, 2, 300)) == {(peer_id(2), peer_id(3))}


def test_rounds_of_one_node_draw_differently():
    drawn = {make(8).sample(FakeContext(round=i), n=3) for i in range(40)}

    assert len(drawn) > 20  # of 56


def test_logarithm_is_right():
    values = np.concatenate([[2.0**-53, 0.5, 1 - 2.0**-53], np.linspace(1e-6, 1, 999)])

    assert np.allclose(_log(values), np.log(values), rtol=1e-14, atol=0)


def test_keys_are_the_same_bits_everywhere():
    """Written down once: a change would change every recorded run."""
    marks = np.array([0, 1, 2**64 - 1], np.uint64)
    keys = exponential_keys(marks, np.array([7, 9], np.uint64), np.array([1.0, 2.0, 0.5]))

    assert [key.hex() for key in keys.tolist()] == [
        "0x1.7273990a805ddp-4",
        "0x1.322b94203e2d9p-2",
        "0x1.33df5c875e8a4p+0",
    ]


# ---- groups


@settings(deadline=None)
@given(data=st.data(), seed=st.integers(0, 1 << 32))
def test_groups_differ_by_one_while_none_is_exhausted(data, seed):
    groups = tuple(data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=20)))
    n = data.draw(st.integers(1, len(groups)))
    selector = make(len(groups), groups=groups)

    cohort = set(selector.sample(FakeContext(seed=seed), n=n))

    taken = dict.fromkeys(groups, 0)
    for peer, name in zip(peers(len(groups)), groups, strict=True):
        taken[name] += peer in cohort
    assert sum(taken.values()) == n
    left = [taken[name] for name in taken if taken[name] < groups.count(name)]
    assert max(taken.values()) <= min(left, default=n) + 1


def test_every_group_can_be_first():
    groups = ("a",) * 9 + ("b",)
    drawn = [cohort[0] for cohort in cohorts(make(10, groups=groups), 1, 1000)]

    assert 420 < drawn.count(peer_id(10)) < 580  # 500 are expected; the deviation is 16


def test_names_of_one_group_say_nothing():
    assert cohorts(make(6, groups=("x",) * 6), 3, 40) == cohorts(make(6), 3, 40)


# ---- what is the same in samples of one draw


lists = st.permutations(range(1, 13))


@settings(deadline=None)
@given(order=lists, seed=st.integers(0, 1 << 32), n=st.integers(1, 12))
def test_the_order_of_the_list_does_not_matter(order, seed, n):
    weights = {i: float(i) for i in order}
    other = Random(
        RandomConfig(tuple(map(peer_id, order)), tuple(weights[i] for i in order)), environment()
    )
    cohort = other.sample(FakeContext(seed=seed), n=n)

    same = make(12, weights=tuple(float(i) for i in range(1, 13)))
    assert set(cohort) == set(same.sample(FakeContext(seed=seed), n=n))
    assert [peer for peer in map(peer_id, order) if peer in cohort] == list(cohort)


@settings(deadline=None)
@given(seed=st.integers(0, 1 << 32), n=st.integers(1, 11))
def test_a_cohort_is_part_of_a_larger_one(seed, n):
    selector = make(12, groups=tuple("abcabcabcaaa"))
    cohort, larger = (set(selector.sample(FakeContext(seed=seed), n=m)) for m in (n, n + 1))

    assert cohort < larger


@settings(deadline=None)
@given(seed=st.integers(0, 1 << 32), n=st.integers(1, 11), gone=st.integers(0, 11))
def test_a_peer_that_leaves_changes_its_own_place_only(seed, n, gone):
    before = set(make(12).sample(FakeContext(seed=seed), n=n))
    left = tuple(peer for at, peer in enumerate(peers(12)) if at != gone)
    after = set(Random(RandomConfig(left), environment()).sample(FakeContext(seed=seed), n=n))

    assert before - after == before & {peers(12)[gone]}


# ---- who is known


def test_view_is_in_the_configured_order_without_the_node():
    listed = (peer_id(3), NODE, peer_id(1))

    assert Random(RandomConfig(listed), environment()).current_view(FakeContext()) == (
        peer_id(3),
        peer_id(1),
    )
    made = Random(RandomConfig(listed, include_self=True), environment())
    assert made.current_view(FakeContext()) == listed


def test_weights_stay_with_their_peers_when_the_node_is_left_out():
    listed = (NODE, peer_id(1), peer_id(2))
    made = Random(RandomConfig(listed, (1.0, 1e9, 1e-9), ("a", "b", "b")), environment())

    assert set(cohorts(made, 1, 100)) == {(peer_id(1),)}


def test_texts_and_whole_numbers_are_read():
    config = build_config(RandomConfig, {"peers": [str(peer_id(1))], "weights": [2]}, "clients")

    assert config == RandomConfig((peer_id(1),), (2.0,))


# ---- what is refused


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e-10, 1e10, math.nan, math.inf])
def test_weight_out_of_range_is_refused(weight):
    with pytest.raises(InvalidSetting, match=r"weights\[1\] is") as caught:
        make(2, weights=(1.0, weight))
    assert caught.value.expected == "a number from 1e-09 to 1e+09"
    with pytest.raises(ConfigError):
        build_config(RandomConfig, {"peers": list(peers(2)), "weights": [1.0, weight]}, "clients")


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"weights": (1.0,)}, "there are 1 weights and 2 peers"),
        ({"weights": (1.0, 1.0, 1.0)}, "there are 3 weights and 2 peers"),
        ({"groups": ("a",)}, "there are 1 groups and 2 peers"),
    ],
)
def test_lists_of_another_length_are_refused(config, found):
    with pytest.raises(InvalidSetting, match=found):
        make(2, **config)


def test_peer_named_twice_is_refused():
    with pytest.raises(InvalidSetting, match=r"peers\[2\], 12D3KooW\w+, is in the list twice"):
        RandomConfig((peer_id(1), peer_id(2), peer_id(1)))


def test_text_where_an_id_belongs_is_refused():
    with pytest.raises(InvalidSetting, match=r"peers\[0\] is 'me'") as caught:
        RandomConfig(("me",))
    assert "PeerId.parse" in caught.value.fix


@pytest.mark.parametrize("n", [0, -1])
def test_sample_of_nobody_is_refused(n):
    with pytest.raises(CohortError, match=f"a sample of {n} peers"):
        make().sample(FakeContext(), n=n)


@pytest.mark.parametrize("listed", [(), (NODE,)])
def test_without_others_sampling_says_what_to_configure(listed):
    made = Random(RandomConfig(listed), environment("clients"))

    assert list(made.current_view(FakeContext())) == []
    with pytest.raises(CohortError, match="slot 'clients' knows no peers") as caught:
        made.sample(FakeContext(), n=1)
    assert caught.value.fix == "pass Config({'clients': {'peers': [...]}}) to install"


def test_a_single_peer_is_the_cohort():
    assert make(1).sample(FakeContext(), n=1) == peers(1)


def test_every_error_is_one_of_ours_and_a_value_error():
    for kind in (CohortError, InvalidSetting):
        assert issubclass(kind, BytesAndBrainsError)
        assert issubclass(kind, ValueError)
