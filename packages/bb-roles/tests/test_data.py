import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.types import tensor
from bb_roles import State
from bb_roles.data import (
    DataConfig,
    DataError,
    InMemory,
    batch_types,
    dirichlet,
    holdout,
    iid,
    parts,
    portion,
    shards,
)
from bb_testing.context import FakeContext, environment

labels_of = st.lists(st.integers(0, 4), min_size=40, max_size=200).map(np.array)
clients_of = st.integers(1, 10)
seeds = st.integers(0, 2**40)


def assert_divides(divided, n, clients):
    assert len(divided) == clients
    assert all(part.dtype == np.int64 for part in divided)
    assert all((np.diff(part) > 0).all() for part in divided)
    assert sorted(np.concatenate(divided).tolist()) == list(range(n))


def source(n=10, **config):
    config = DataConfig(**{"batch_size": 4, **config})
    x = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    return InMemory(config, environment("data"), x, np.arange(n))


def targets(batches):
    return [y.tolist() for _, y in batches]


# Partitions.


@given(st.integers(10, 300), clients_of, seeds)
def test_iid_covers_everything_in_parts_of_nearly_one_size(n, clients, seed):
    divided = iid(n, clients, seed)

    assert_divides(divided, n, clients)
    sizes = [len(part) for part in divided]
    assert max(sizes) - min(sizes) <= 1


@given(labels_of, clients_of, st.integers(1, 4), seeds)
def test_shards_cover_everything(labels, clients, per_client, seed):
    divided = shards(labels, clients, per_client, seed)

    assert_divides(divided, len(labels), clients)


@given(labels_of, clients_of, st.sampled_from([0.3, 1.0, 100.0]), seeds)
def test_dirichlet_covers_everything_and_leaves_nobody_short(labels, clients, alpha, seed):
    divided = dirichlet(labels, clients, alpha, seed, min_examples=1)

    assert_divides(divided, len(labels), clients)
    assert min(len(part) for part in divided) >= 1


@given(labels_of, st.floats(0.1, 0.9), seeds)
def test_holdout_divides_each_class_by_its_share(labels, fraction, seed):
    train, test = holdout(labels, fraction, seed)

    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(labels)))
    for c in np.unique(labels):
        assert np.count_nonzero(labels[test] == c) == round((labels == c).sum() * fraction)


def test_two_shards_give_a_client_few_classes():
    labels = np.repeat(np.arange(10), 60)

    divided = shards(labels, 10, 2, seed=0)

    assert max(len(np.unique(labels[part])) for part in divided) <= 2


def test_small_alpha_separates_classes_and_large_alpha_mixes_them():
    labels = np.tile(np.arange(10), 100)

    def largest_share(alpha):
        divided = dirichlet(labels, 5, alpha, seed=3)
        return np.mean(
            [np.bincount(labels[part], minlength=10).max() / len(part) for part in divided]
        )

    assert largest_share(100.0) < 0.15
    assert largest_share(0.1) > 0.3


@pytest.mark.parametrize(
    "divide",
    [
        lambda labels, seed: iid(len(labels), 5, seed),
        lambda labels, seed: shards(labels, 5, 2, seed),
        lambda labels, seed: dirichlet(labels, 5, 0.5, seed),
        lambda labels, seed: holdout(labels, 0.3, seed),
    ],
)
def test_seed_alone_decides(divide):
    labels = np.tile(np.arange(10), 20)

    first, again, other = divide(labels, 7), divide(labels.copy(), 7), divide(labels, 8)

    assert [p.tolist() for p in first] == [p.tolist() for p in again]
    assert [p.tolist() for p in first] != [p.tolist() for p in other]


def test_partitions_are_the_same_in_every_version():
    labels = np.tile(np.arange(4), 5)

    assert [p.tolist() for p in iid(8, 2, seed=1)] == [[0, 4, 5, 6], [1, 2, 3, 7]]
    assert [p.tolist() for p in shards(labels, 2, 2, seed=1)] == [
        [0, 3, 4, 7, 8, 11, 12, 15, 16, 19],
        [1, 2, 5, 6, 9, 10, 13, 14, 17, 18],
    ]
    assert [p.tolist() for p in dirichlet(labels, 2, 0.5, seed=1)] == [
        [0, 1, 3, 4, 6, 8, 9, 11, 12, 13, 15, 17, 19],
        [2, 5, 7, 10, 14, 16, 18],
    ]


def test_texts_and_one_hot_rows_are_classes():
    numbers = np.tile(np.arange(3), 10)
    texts = np.array(["bird", "cat", "dog"])[numbers]

    expected = [part.tolist() for part in dirichlet(numbers, 3, 0.5, seed=2)]

    assert [p.tolist() for p in dirichlet(texts, 3, 0.5, seed=2)] == expected
    assert [p.tolist() for p in dirichlet(np.eye(3)[numbers], 3, 0.5, seed=2)] == expected


def test_real_targets_are_held_out_but_not_divided_by_class():
    targets = np.linspace(0.0, 1.0, 10)

    train, test = holdout(targets, 0.3, seed=0)

    assert (len(train), len(test)) == (7, 3)
    with pytest.raises(DataError, match=r"the labels are float64 of shape \[10\]"):
        shards(targets, 2, 1, seed=0)


def test_dirichlet_draws_again_until_nobody_is_short():
    labels = np.tile(np.arange(2), 30)

    divided = dirichlet(labels, 6, 0.3, seed=0, min_examples=4)

    assert min(len(part) for part in divided) >= 4


def test_dirichlet_that_cannot_be_is_refused_with_what_to_change():
    labels = np.zeros(40, np.int64)

    with pytest.raises(DataError, match="left some client with") as caught:
        dirichlet(labels, 10, 0.01, seed=0, min_examples=4)

    assert "raise alpha" in caught.value.fix


@pytest.mark.parametrize(
    "divide",
    [
        lambda: iid(3, 4, 0),
        lambda: shards(np.arange(7), 4, 2, 0),
        lambda: dirichlet(np.arange(7), 4, 0.5, 0, min_examples=2),
    ],
)
def test_more_parts_than_examples_are_refused(divide):
    with pytest.raises(DataError, match="examples cannot give 4 clients"):
        divide()


def test_no_clients_are_refused():
    with pytest.raises(DataError, match="clients is 0"):
        iid(3, 0, 0)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_holdout_needs_examples_on_both_sides(fraction):
    with pytest.raises(DataError, match="examples on both sides"):
        str(holdout(np.zeros(10, np.int64), fraction, seed=0))


# The configuration's choice.


@given(
    st.sampled_from(["all", "iid", "shard", "dirichlet"]),
    st.sampled_from(["all", "train"]),
    st.integers(0, 1000),
)
def test_parts_and_held_out_examples_never_meet(partition, split, seed):
    labels = np.tile(np.arange(5), 30)
    common = {"split": split, "seed": seed, "partition": partition, "min_examples": 1}
    client = {} if partition == "all" else {"clients": 3, "client": 0}

    divided = parts(labels, DataConfig(**common, **client))
    (held_out,) = parts(labels, DataConfig(split="test", seed=seed))

    everything = np.concatenate(divided)
    assert len(np.unique(everything)) == len(everything)
    if split == "train":
        assert sorted([*everything, *held_out]) == list(range(150))
    else:
        assert sorted(everything) == list(range(150))


def test_portion_of_everything_is_no_copy():
    x, y = np.zeros((4, 2)), np.arange(4)

    assert portion(x, y, DataConfig())[0] is x


def test_portion_is_the_part_of_the_client():
    x, y = np.arange(12.0), np.tile(np.arange(3), 4)
    config = DataConfig(partition="iid", clients=3, client=2, seed=5)

    mine_x, mine_y = portion(x, y, config)

    expected = parts(y, config)[2]
    assert (mine_x.tolist(), mine_y.tolist()) == (x[expected].tolist(), y[expected].tolist())


def test_train_without_held_out_examples_is_everything():
    x, y = np.zeros(5), np.arange(5)

    assert len(portion(x, y, DataConfig(split="train", test_fraction=0.0))[0]) == 5


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"split": "validation"}, "split is 'validation'"),
        ({"partition": "quantity"}, "partition is 'quantity'"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0"),
        ({"test_fraction": float("nan")}, "test_fraction is nan"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"shards_per_client": 0}, "shards_per_client is 0"),
        ({"min_examples": 0}, "min_examples is 0"),
        ({"partition": "iid"}, "has client None of None"),
        ({"partition": "iid", "clients": 3}, "has client None of 3"),
        ({"partition": "iid", "clients": 0, "client": 0}, "clients is 0"),
        ({"partition": "iid", "clients": 3, "client": 3}, "client is 3"),
        ({"clients": 3, "client": 1}, "partition is 'all'"),
        ({"split": "test", "partition": "iid", "clients": 3, "client": 1}, "split 'test'"),
    ],
)
def test_wrong_value_is_refused(wrong, found):
    with pytest.raises(DataError, match=found) as caught:
        DataConfig(**wrong)

    assert caught.value.expected


# Batches.


def test_next_batch_goes_round_in_stored_order():
    made = source()

    seen = [made.next_batch(FakeContext())[1].tolist() for _ in range(4)]

    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]


def test_next_batch_of_a_whole_number_of_batches_has_no_empty_one():
    made = source(8)

    seen = [made.next_batch(FakeContext())[1].tolist() for _ in range(3)]

    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]


def test_next_batch_cannot_be_written():
    x, y = source().next_batch(FakeContext())

    assert not x.flags.writeable
    assert not y.flags.writeable


def test_reset_starts_over():
    made = source()
    made.next_batch(FakeContext())

    made.reset(FakeContext())

    assert made.next_batch(FakeContext())[1].tolist() == [0, 1, 2, 3]


def test_each_pass_has_an_order_of_its_own():
    drawn = targets(source().batches(FakeContext(), epochs=2))

    assert [len(y) for y in drawn] == [4, 4, 2, 4, 4, 2]
    first, second = np.concatenate(drawn[:3]), np.concatenate(drawn[3:])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()


def test_inputs_and_targets_stay_together():
    for x, y in source().batches(FakeContext()):
        assert (x[:, 0] == 3 * y).all()


def test_batches_are_the_same_when_iterated_again():
    batches = source().batches(FakeContext())

    assert targets(batches) == targets(batches)


def test_without_shuffling_the_order_is_the_stored_one():
    drawn = targets(source(6, shuffle=False).batches(FakeContext(), epochs=2))

    assert drawn == [[0, 1, 2, 3], [4, 5], [0, 1, 2, 3], [4, 5]]


def test_examples_are_counted_once_whatever_the_passes():
    assert source().batches(FakeContext(), epochs=3).examples == 10


def test_no_passes_are_refused():
    with pytest.raises(DataError, match="epochs is 0"):
        source().batches(FakeContext(), epochs=0)


def test_place_survives_saving():
    one, other = source(), source()
    one.next_batch(FakeContext())

    other.load(one.save())

    assert other.next_batch(FakeContext())[1].tolist() == [4, 5, 6, 7]


def test_state_of_other_data_is_refused():
    with pytest.raises(DataError, match="the saved place is example 10 of 10"):
        source().load(State(data={"position": 10}))


@pytest.mark.parametrize(("n", "m"), [(0, 0), (3, 2)])
def test_arrays_that_do_not_fit_are_refused(n, m):
    with pytest.raises(DataError, match=f"there are {n} inputs and {m} targets"):
        InMemory(DataConfig(), environment("data"), np.zeros((n, 2)), np.zeros(m))


def test_module_does_not_import_numpy():
    code = "import bb_roles.data, sys; print('numpy' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_types_of_batches_leave_their_length_open():
    told = batch_types(tensor("float32", (8, 8)), tensor("int64", ()))

    assert told == {
        "NextBatch.batch": "tensor(float32)[batch,8,8]",
        "NextBatch.labels": "tensor(int64)[batch]",
        "Batches.batches": "local(batches,inputs:tensor(float32)[batch,8,8],"
        "targets:tensor(int64)[batch])",
    }
