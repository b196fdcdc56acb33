"""Every example runs as a script, and prints what its reader is promised."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
# Examples of what is too large to be installed everywhere: `nox -s torch` runs them.
NEEDS = {"torch_federation": "bb_model_torch"}
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@cache  # what an example prints is looked at by more than one test
def run(path: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def lines_of(name: str) -> list[str]:
    return run(FOLDER / f"{name}.py", PYTHONHASHSEED="1").splitlines()


def numbers(line: str) -> list[float]:
    return [float(text) for text in NUMBER.findall(line)]


def starting(lines: list[str], word: str) -> list[list[float]]:
    """Return the numbers of all lines that start with a word."""
    return [numbers(line) for line in lines if line.startswith(word)]


def digits_of(split: str, **more) -> list[np.ndarray]:
    """Return which digits each client of a partition has."""
    from bb_datasource_digits._digits import load_digits
    from bb_roles.data import DataConfig, parts

    return parts(load_digits()[1], DataConfig(split=split, **more))


def where_it_runs(name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of an example that needs a member which is apart; of others none."""
    if name not in NEEDS:
        return []
    absent = find_spec(NEEDS[name]) is None
    return [pytest.mark.torch, pytest.mark.skipif(absent, reason=f"{NEEDS[name]} is not installed")]


RUNNING = [pytest.param(p, id=p.stem, marks=where_it_runs(p.stem)) for p in EXAMPLES]


@pytest.mark.parametrize("path", RUNNING)
def test_example_prints_the_same_every_time(path):
    first, second = (run(path, PYTHONHASHSEED=seed) for seed in "12")

    assert first
    assert first == second


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_uses_nothing_but_what_is_public(path):
    tree = ast.walk(ast.parse(path.read_text()))
    named = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    public = {"bytesandbrains", "bb_roles", "numpy"}
    public |= {"bb_codec_topk.slots", "bb_protocol_registry.slots"}
    public |= {"bb_dsl.slots", "bb_ir.ops", "bb_ir.types"}  # for a protocol of one's own
    if path.stem in NEEDS:
        public |= {"torch", "bb_model_torch.model"}
    standard = set(sys.stdlib_module_names) | {"collections.abc", "concurrent.futures"}
    assert named - public <= standard


def test_readme_lists_every_example():
    listed = re.findall(r"^\| \[`(\w+\.py)`\]", (FOLDER / "README.md").read_text(), re.MULTILINE)

    assert sorted(listed) == [path.name for path in EXAMPLES]


def test_quickstart_prints_real_parameters():
    *tensors, last = run(FOLDER / "quickstart.py").splitlines()

    found = {line.split()[0]: re.search(r"\((.*?)\)", line)[1] for line in tensors}
    weights = [float(text) for text in re.findall(r"[+-]\d\.\d{4}", tensors[0])]
    assert found == {
        "layers.0.weight": "32, 64",
        "layers.0.bias": "32,",
        "layers.1.weight": "10, 32",
        "layers.1.bias": "10,",
    }
    assert len(set(weights)) == 4
    assert last == "2410 numbers in 9960 bytes, sha256 6f16de124e454c21"


def test_dependency_is_demanded_and_then_used():
    lines = lines_of("dependency")

    [_, (_, before), (_, after)] = [[], *starting(lines, "round")]
    [(kept, plain)] = starting(lines, "kept")
    assert lines[0].startswith("DependencyMissing: '__main__:Median' in slot 'aggregator'")
    assert "needs slot 'codec', which is not bound" in lines[0]
    assert after >= before > 0.85
    assert after > 0.93
    # A byte a number instead of four, and a header: of 10 clients in 10 rounds.
    assert plain == 10 * 10 * 9960
    assert 0.25 < kept / plain < 0.35


def test_clients_come_and_go_by_their_leases():
    lines = lines_of("registry_fedavg")

    rounds = [line for line in lines if line.startswith("round")]
    members = [numbers(line.partition(",")[0])[1] for line in rounds]
    asked = [numbers(line.partition("asked")[2].partition(";")[0]) for line in rounds]
    answered = [numbers(line.partition(";")[2])[0] for line in rounds]
    accuracy = [numbers(line)[-1] for line in rounds]
    assert lines[3] == "client 3 is gone"
    assert lines[6] == "95 s later"
    # It is in the table until its lease ends, is asked in vain, and is never asked afterwards.
    assert members == [10] * 5 + [9] * 3
    assert all(len(cohort) == 8 for cohort in asked)
    assert [len(set(cohort) - {3}) for cohort in asked[3:]] == answered[3:]
    assert answered[:3] == [8] * 3
    assert any(3 in cohort for cohort in asked[3:5])
    assert not any(3 in cohort for cohort in asked[5:])
    assert set().union(*asked) == set(range(10))
    assert accuracy[-1] > 0.9


def test_neighbours_are_those_of_a_search_by_hand():
    whole, without = (numbers(line) for line in lines_of("nearest_neighbours"))

    for (accuracy, nines, nearest), forget in ((whole, False), (without, True)):
        expected = neighbours_by_hand(forget_nines=forget)
        assert (accuracy, nines, nearest) == pytest.approx(expected, abs=6e-4)
    assert whole[0] > 0.95
    assert without[1] == 0


def neighbours_by_hand(*, forget_nines: bool) -> tuple[float, int, float]:
    from bb_datasource_digits._digits import load_digits

    images, labels = load_digits()
    [known], [asked] = digits_of("train"), digits_of("test")
    if forget_nines:
        known = known[labels[known] != 9]
    away = ((images[asked][:, None].astype(float) - images[known][None]) ** 2).sum(axis=2)
    nearest = np.argsort(away, axis=1, kind="stable")[:, :5]
    votes = [np.bincount(row, minlength=10).argmax() for row in labels[known][nearest]]
    right = np.mean(votes == labels[asked])
    return float(right), int(np.sum(np.array(votes) == 9)), float(away.min(axis=1).mean())


def test_statistics_of_the_station_are_those_of_numpy():
    lines = lines_of("two_classes")

    readings = np.random.default_rng(7).normal(20.0, 2.0, (1000, 8)).astype(np.float32)
    readings[123, 4] = 60.0
    [mean], [deviation], [strangest] = (
        starting(lines, word) for word in ("mean", "deviation", "strangest")
    )
    assert mean == pytest.approx(readings.mean(axis=0), abs=1e-3)
    assert deviation == pytest.approx(readings.std(axis=0), abs=1e-3)
    scores = (readings - readings.mean(axis=0)) / readings.std(axis=0)
    assert strangest == pytest.approx([scores.max()], abs=1e-2)
    assert scores.argmax() == 123 * 8 + 4
    assert "InvalidInput: input 'readings' of Monitoring is an array of shape (1000, 7)" in lines
    assert "  expected: tensor(float32)[?,8]" in lines


def test_server_that_trains_shares_its_model():
    lines = lines_of("one_node_two_roles")

    rounds = starting(lines, "round")
    assert lines[0] == "5 nodes; the first runs Federation and Federation.client"
    assert lines[1] == "its two roles use one model"
    assert [taken[:3] for taken in rounds] == [[n, 5, 1438] for n in range(1, 6)]
    assert rounds[0][3] < rounds[-1][3]
    assert rounds[-1][3] > 0.88


def test_own_stage_objects_to_the_right_line_and_is_recorded():
    lines = lines_of("own_stage")

    source = (FOLDER / "own_stage.py").read_text().splitlines()
    at = 1 + next(n for n, line in enumerate(source) if "= g.gather(" in line)
    asked = [numbers(line) for line in lines if "examples, loss" in line]
    assert lines[0].startswith("NoDeadline: ")
    assert lines[1].endswith(f"own_stage.py:{at}")
    assert "stages: verify_recording, gathers_have_deadlines, inline_for_partition ..." in lines
    assert len(asked) == 3
    assert sum(examples for examples, _ in asked) == 1797
    # An untrained network of ten classes is about as good as a guess: log(10) is 2.3.
    assert all(1.8 < loss < 3.2 for _, loss in asked)


def test_hierarchy_learns_from_every_client_once():
    lines = lines_of("hierarchical")

    rounds = starting(lines, "round")
    assert lines[0].startswith("DeadlineInversion: this gather may wait 1m")
    # 1438 examples are all of the training half, so no client was asked by two edges.
    assert [taken[:3] for taken in rounds] == [[n, 3, 1438] for n in (1, 5, 10)]
    assert rounds[0][3] > rounds[1][3] > rounds[2][3]
    assert rounds[-1][4] > 0.9


def test_peers_that_gossip_agree_and_learn():
    rounds = starting(lines_of("gossip"), "after")

    distances = [away for _, away, _, _ in rounds]
    _, _, worst_first, best_first = rounds[0]
    _, _, worst, best = rounds[-1]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.15 * distances[0]
    assert best_first < 0.5
    assert worst > 0.85 > worst_first
    assert best - worst < 0.1


def test_rounds_end_when_the_model_is_good_enough_or_they_are_used_up():
    *checks, end = lines_of("rounds")

    found = [numbers(line) for line in checks]
    numbers_of_rounds = [int(number) for number, _ in found]
    assert numbers_of_rounds == list(range(5, 5 * len(found) + 1, 5))
    assert found[0][1] < 0.7
    assert [accuracy < 0.94 for _, accuracy in found] == [True] * (len(found) - 1) + [False]
    assert end == f"stopped after {numbers_of_rounds[-1]} rounds"
    assert numbers_of_rounds[-1] < 60


def test_rounds_that_overlap_finish_out_of_order_and_learn():
    *checks, order = lines_of("async_averaging")

    finished = [int(number) for number in numbers(order)]
    found = [numbers(line) for line in checks]
    assert finished != sorted(finished)
    assert all(abs(number - place) < 12 for place, number in enumerate(finished, 1))
    assert [accuracy for _, _, accuracy in found] == sorted(accuracy for _, _, accuracy in found)
    assert found[-1][1] == 120
    assert found[0][2] < 0.6
    assert found[-1][2] > 0.8


def test_both_halves_of_a_split_network_learn():
    passes = starting(lines_of("split_learning"), "pass")

    losses = [loss for _, loss, _ in passes]
    assert [n for n, _, _ in passes] == list(range(1, 9))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.2 * losses[0]
    assert passes[0][2] < 0.75
    assert 0.95 < passes[-1][2] < 1.0


def test_table_of_a_federated_evaluation_adds_up():
    _, *clients, overall = lines_of("federated_evaluation")

    rows = [[float(word) for word in line.split()[1:]] for line in clients if "no" not in line]
    examples, accuracy, loss = zip(*rows, strict=True)
    assert [line.split()[1:] for line in clients if len(line.split()) == 3] == [["no", "answer"]]
    assert (len(clients), len(rows)) == (8, 7)
    assert [float(word) for word in overall.split()[1:]] == pytest.approx(
        [
            sum(examples),
            np.average(accuracy, weights=examples),
            np.average(loss, weights=examples),
        ],
        abs=1e-3,
    )
    assert min(accuracy) > 0.85
    # Each row is the right client's: parts differ in size, and the fifth client was switched off.
    sizes = [len(part) for part in digits_of("train", partition="dirichlet", clients=8, client=0)]
    assert list(examples) == sizes[:4] + sizes[5:]


def test_student_comes_near_its_teacher():
    lines = lines_of("teacher_student")

    (_, first_away, teacher, first), *_, (_, last_away, same, last) = starting(lines, "step")
    assert lines[0] == "teacher: 9610 parameters, student: 910"
    assert teacher == same > 0.93
    assert first_away > 4 * last_away
    assert first < 0.3
    assert last > 0.9


def test_codec_carries_updates_and_its_misuse_does_not_compile():
    lines = lines_of("codec_bridge")

    rounds = starting(lines, "round")
    assert lines[0].startswith("TypeMismatch: Encode is given 'batch'")
    assert rounds[0][1] < rounds[1][1]
    assert rounds[1][1] > 0.93


@pytest.mark.torch
@pytest.mark.skipif(find_spec("bb_model_torch") is None, reason="bb_model_torch is not installed")
def test_module_of_pytorch_learns_in_a_federation():
    misfit, *lines = lines_of("torch_federation")

    rounds = starting(lines, "round")
    [means] = starting(lines, "means")
    assert misfit.startswith("TypeMismatch: an input has shape [64], which the module does not")
    assert [number for number, _, _ in rounds] == list(range(1, 11))
    assert rounds[-1][1] < 0.3 * rounds[0][1]
    assert rounds[-1][2] > 0.9
    assert len(set(means)) == 4


def test_error_feedback_makes_up_for_what_a_chain_of_codecs_leaves_out():
    lines = lines_of("compressed_updates")

    accuracies = [numbers(line)[:3] for line in lines[::2]]
    saved = [numbers(line.replace(",", "")) for line in lines[1::2]]
    whole, forgetting, remembering = accuracies
    assert [line.split(":")[0] for line in lines[::2]] == ["Whole", "Forgetting", "Remembering"]
    assert forgetting < remembering < whole
    assert remembering[-1] > 0.9 > forgetting[-1]
    assert [came + less for came, less, _ in saved] == [saved[0][0]] * 3
    # 4,810 numbers of 4 bytes from each of 10 clients in each of 20 rounds, and headers.
    assert 0 < saved[0][0] - 10 * 20 * 4810 * 4 < 200 * 1000
    assert all(came < saved[0][0] / 20 for came, _, _ in saved[1:])
