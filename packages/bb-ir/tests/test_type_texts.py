"""Types in the words of an error: short, and with the entries that clash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.type_texts import brief, clash
from bb_ir.types import meet, params, parse_type, tensor

ENTRIES = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(tensor, st.sampled_from(["", "float32", "int64"]), st.none() | st.just((2,))),
)


@given(st.builds(params, ENTRIES), st.builds(params, ENTRIES))
def test_clash_has_words_exactly_where_types_exclude_each_other(one, other):
    assert bool(clash(one, other)) == (meet(one, other) is None)


def test_clash_of_plain_types_needs_no_words():
    assert clash(tensor("float32"), tensor("int64")) == ""
    assert clash(tensor("float32"), parse_type("params(a:tensor)")) == ""


def test_clash_inside_lists_is_found():
    one, other = parse_type("list(record(a:int64))"), parse_type("list(record(b:int64))")

    assert clash(one, other) == "lacks 'b'; has 'a' besides"


def test_many_names_are_counted():
    one, other = params({}), params({f"w{i}": tensor() for i in range(5)})

    assert clash(one, other) == "lacks 'w0', 'w1', 'w2' and 2 more"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("params(a:tensor)", "params(a:tensor)"),
        (
            f"params({','.join(f'layer{i}.weight:tensor(float32)[10]' for i in range(9))})",
            "params(layer0.weight:tensor(float32)[10],...) of 9",
        ),
        (
            f"list(params({','.join(f'layer{i}.weight:tensor(float32)' for i in range(9))}))",
            "list(params(layer0.weight:tensor(float32),...) of 9)",
        ),
    ],
)
def test_long_types_are_cut(text, short):
    assert brief(parse_type(text)) == short
