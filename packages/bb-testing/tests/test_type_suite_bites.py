"""The suite of types of values fails where a type is broken, and passes where it is not."""

import textwrap

import pytest

from bb_testing.value_type import TypeSuite

pytest_plugins = ["pytester"]

GOOD = '''
import pickle
import struct

import numpy as np

from bb_roles import TypeCodec, TypeSpec
from bb_testing.value_type import TypeSuite

class Points:
    """Some numbers and a label."""

    def __init__(self, numbers, label):
        self.numbers, self.label = numbers, label

    def __eq__(self, other):
        return self.label == other.label and np.array_equal(self.numbers, other.numbers)

class Good(TypeCodec):
    def encode(self, value):
        label = value.label.encode()
        return struct.pack("<I", len(label)) + label + value.numbers.tobytes()

    def decode(self, data):
        (length,) = struct.unpack_from("<I", data)
        if length > len(data) - 4:
            raise ValueError("the label breaks off")
        return Points(np.frombuffer(data[4 + length :], "<u2"), str(data[4 : 4 + length], "utf-8"))

class Suite(TypeSuite):
    codec = "Good"

    def spec(self):
        cls = getattr(globals()[self.codec], "of", __name__ + ":Points")
        return TypeSpec("test.points/1", cls, f"{__name__}:{self.codec}", 1 << 16)

    def sample(self, rng):
        return Points(rng.integers(0, 99, 5).astype("<u2"), "a label")
'''

BROKEN = {
    "test_declaration_fits": """
        class Broken:
            pass
        """,
    "test_samples_come_back": """
        class Broken(Good):
            def decode(self, data):
                found = super().decode(data)
                return Points(found.numbers, found.label.upper())
        """,
    "test_samples_come_back ": """
        class Broken(Good):
            def is_instance(self, value):
                return value.label != "a label"
        """,
    "test_same_value_gives_the_same_bytes": """
        class Broken(Good):
            def encode(self, value):
                return super().encode(value) + struct.pack("<Q", id(value))
            def decode(self, data):
                return super().decode(data[:-8])
        """,
    "test_bytes_do_not_name_the_class": """
        class Broken(Good):
            def encode(self, value):
                return pickle.dumps(value)
            def decode(self, data):
                return pickle.loads(data)
        """,
    "test_any_object_is_taken_or_refused": """
        class Broken(Good):
            of = "builtins:object"
            def is_instance(self, value):
                return bool(value.label)
        """,
    "test_damaged_bytes_are_a_value_or_raise": """
        class Broken(Good):
            def decode(self, data):
                (length,) = struct.unpack_from("<I", data)
                np.empty(min(length, 1 << 28), np.uint8)
                return super().decode(data)
        """,
    "test_damaged_bytes_are_a_value_or_raise ": """
        class Broken(Good):
            def decode(self, data):
                (length,) = struct.unpack_from("<I", data)
                text = bytes(data[4 : 4 + length]).decode("utf-8", "surrogateescape")
                return Points(np.frombuffer(data[4 + length :], "<u2"), text)
        """,
}


def written() -> str:
    """Return the source of a test module: `Test0` is of the good type, then the broken ones."""
    parts = [GOOD, "class Test0(Suite): ...\n"]
    for at, source in enumerate(BROKEN.values(), 1):
        parts.append(textwrap.dedent(source).replace("Broken", f"Broken{at}"))
        parts.append(f'class Test{at}(Suite):\n    codec = "Broken{at}"\n')
    return "\n".join(parts)


def test_every_test_bites(tests_of):
    assert {name.strip() for name in BROKEN} == tests_of(TypeSuite)


def test_suite_fails_on_broken_types_and_on_no_other(bites):
    bites(written(), BROKEN.items())


def test_a_suite_that_replaces_a_test_fails(pytester):
    pytester.syspathinsert()
    pytester.makepyfile(
        test_points=GOOD + "class Test0(Suite):\n    def test_samples_come_back(self): ...\n"
    )

    pytester.runpytest("-p", "no:randomly", "-q").assert_outcomes(failed=1, passed=10)


@pytest.mark.parametrize("missing", ["spec", "sample"])
def test_what_an_author_forgot_is_named(missing):
    suite = type("Mine", (TypeSuite,), {})()

    with pytest.raises(NotImplementedError, match=f"Mine needs `def {missing}"):
        suite.spec() if missing == "spec" else suite.sample(None)
