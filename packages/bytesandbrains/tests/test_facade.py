"""What `import bytesandbrains as bb` gives."""

import subprocess
import sys

import pytest

import bytesandbrains as bb


@pytest.mark.parametrize("name", bb.__all__)
def test_every_name_is_there(name):
    assert getattr(bb, name) is not None


def test_names_are_listed_without_being_looked_up():
    assert set(bb.__all__) <= set(dir(bb))


def test_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert bb.__version__ == version("bytesandbrains")


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Modul'"):
        _ = bb.Modul


def test_import_loads_neither_numpy_nor_onnx_nor_click():
    code = "import sys, bytesandbrains; print({'numpy', 'onnx', 'click'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
