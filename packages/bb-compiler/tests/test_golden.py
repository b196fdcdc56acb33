"""Golden tests of the passes: text in, text out.

Each file in `golden/<pass>/` shows one behaviour: a comment, the model that goes into the pass
after `--- in`, and after `--- out` the model that comes out, or after `--- error` the code and
the text of the error. `pytest packages/bb-compiler/tests/test_golden.py --update` writes what
comes out into the files; read the difference before you commit it.
"""

from pathlib import Path

import onnx
import pytest

from bb_compiler import CompileError
from bb_compiler.passes import CANONICAL
from bb_ir.text import parse_model, print_model

GOLDEN = Path(__file__).with_name("golden")
FILES = sorted(GOLDEN.glob("*/*.txt"))
PASSES = {stage.__name__: stage for stage in CANONICAL}
#: Passes that stamp names, so that a second run has another task.
ONCE = {"partition_by_class", "stamp_passport"}
FINAL = {"verify_artifact", "stamp_passport"}


def read(path):
    comment, _, rest = path.read_text().partition("--- in\n")
    given, mark, expected = rest.partition("--- out\n")
    if not mark:
        given, mark, expected = rest.partition("--- error\n")
    return comment, given, expected


def run(name, given):
    """Return the mark and the text of what a pass makes of a model."""
    model = parse_model(given)
    before = model.SerializeToString(deterministic=True)
    try:
        result = PASSES[name](model)
    except CompileError as error:
        return None, "--- error\n", f"{error.code}: {error}\n"
    finally:
        assert model.SerializeToString(deterministic=True) == before, "a pass changed its input"
    return result, "--- out\n", print_model(result)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_pass_makes_of_a_model_what_is_written(path, request):
    name = path.parent.name
    comment, given, expected = read(path)

    result, mark, text = run(name, given)

    if request.config.getoption("--update", default=False):
        path.write_text(f"{comment}--- in\n{given}{mark}{text}")
        return
    assert text == expected, "if this is meant: pytest packages/bb-compiler/tests --update"
    assert comment.startswith("# "), "say what the file shows"
    if result is None:
        return
    assert parse_model(text) == result
    if name not in ONCE:
        assert PASSES[name](result) == result, "a second run changes something"
    if name in FINAL:
        onnx.checker.check_model(result)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_input_is_written_as_it_is_printed(path):
    _, given, _ = read(path)

    assert print_model(parse_model(given)) == given


def test_every_pass_has_golden_tests():
    assert {path.parent.name for path in FILES} == set(PASSES)
