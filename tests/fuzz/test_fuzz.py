"""What is fuzzed for hours elsewhere is fuzzed here for seconds, and fuzzing itself is tested.

Inputs are made from those that `seeds` gives, and changed as in `nox -s fuzz`; only errors of ours
may come out, and no more may be allocated than the input is worth.
"""

import importlib
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bb_ir.errors import WireError

HERE = Path(__file__).parent


def load(name):
    """Import a module that stands beside this file; tests are in no package."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    return importlib.import_module(name)


def load_run():
    """Import `run.py` from beside this file; other folders of tests have one of that name."""
    spec = importlib.util.spec_from_file_location("fuzz_run", HERE / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_run"] = module
    spec.loader.exec_module(module)
    return module


fuzzing = load("fuzzing")
mutate = load("fuzzing._mutate")
TARGETS = fuzzing.TARGETS
NAMES = list(TARGETS)

#: Far more inputs are tried by `nox -s fuzz`.
some = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


def changed(target, number):
    """Return an input: one that is taken, changed a few times."""
    draw = Random(number)
    data = draw.choice(target.seeds())
    for _ in range(draw.choice((1, 1, 2, 3, 5))):
        data = target.mutate(data, draw, mutate.tweak_with(draw))
    return data


@pytest.mark.parametrize("name", NAMES)
def test_inputs_to_begin_with_are_taken_and_the_same_in_every_process(name):
    target = TARGETS[name]
    assert target.seeds() == target.seeds()
    for data in target.seeds():
        assert target.check(data, measure=True) in target.taken


@pytest.mark.parametrize("name", NAMES)
@some
@given(number=st.integers(0, 2**32))
def test_changed_inputs_let_no_error_out_but_ours(name, number):
    TARGETS[name].check(changed(TARGETS[name], number), measure=number % 4 == 0)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_let_no_error_out_but_ours(name, data):
    TARGETS[name].check(data)


@pytest.mark.parametrize("name", NAMES)
def test_changed_inputs_get_past_checksums(name):
    """Some are taken in spite of a change, and others refused for what they say."""
    target = TARGETS[name]
    told = Counter(target.check(changed(target, number)) for number in range(150))
    taken = sum(told[one] for one in target.taken)
    assert taken >= 5, told
    assert 150 - taken >= 5, told


# What must be found


def broken(read):
    return fuzzing.Target("broken", lambda: [b""], lambda data, *_: data, read)


def test_an_error_of_python_is_found():
    with pytest.raises(KeyError):
        broken(lambda data: {b"": ""}[data]).check(b"x")


def test_an_error_of_ours_that_cannot_be_printed_is_found():
    class Odd(WireError):
        def __str__(self):
            return self.found.nothing

    def read(data):
        raise Odd("odd")

    with pytest.raises(AttributeError):
        broken(read).check(b"x")


def test_an_allocation_that_an_input_only_claims_is_found():
    target = broken(lambda data: str(np.ones(int.from_bytes(data, "little"), np.uint8).nbytes))
    assert target.check(b"\x00\x01", measure=True) == "256"
    with pytest.raises(fuzzing.Finding, match="bytes are allocated for an input of 4"):
        target.check(b"\x00\x00\x00\x01", measure=True)


def test_allocations_are_not_looked_at_when_nobody_asks():
    assert broken(lambda data: str(len(data * (1 << 25)))).check(b"x") == "33554432"


# What the command line shows

LOG = """\
INFO: Running with entropic power schedule (0xFF, 100).
#27\tINITED cov: 812 ft: 1200 corp: 12/3kb exec/s: 0 rss: 95Mb
#4096\tpulse  cov: 900 ft: 2100 corp: 80/9kb lim: 4096 exec/s: 409 rss: 99Mb
#5000\tDONE   cov: 905 ft: 2231 corp: 85/9kb lim: 4096 exec/s: 500 rss: 99Mb
"""


def test_what_came_of_a_target_is_a_line_of_a_table():
    run = load_run()
    rows = [run.row_of("types", LOG, 10.4, 0), run.row_of("snapshots", "nothing", 3.0, 2)]
    assert run.table(rows).splitlines() == [
        "target     executions  exec/s  features  seconds  findings",
        "types           5,000     481     2,231       10         0",
        "snapshots           0       0         0        3         2",
    ]


def test_an_input_that_was_written_down_is_handed_in_again(tmp_path, capsys):
    run = load_run()
    path = tmp_path / "types" / "findings" / "crash-1"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"tensor(float32)[?")
    assert run.main(["--replay", str(path)]) == 0
    assert "refused: TypeTextError" in capsys.readouterr().out


def test_a_target_that_there_is_not_is_named(capsys):
    with pytest.raises(SystemExit):
        load_run().main(["typos"])
    assert "no target typos; there are envelopes, " in capsys.readouterr().err
