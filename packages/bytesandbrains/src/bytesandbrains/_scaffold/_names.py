"""Whether a name can be that of a new distribution, and the other names that follow from it."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Collection
from typing import Final, NamedTuple

from bb_ir.errors import BytesAndBrainsError

#: Packages that may not be installed here and are where a plugin is used, and folders of projects:
#: a plugin's own package is not to be imported in their place, nor they in its.
_NAMES: Final = """
accelerate bin build catboost click cupy cv2 dask datasets dgl diffusers dist doc docs example
examples faiss flask flax flower flwr grpc h5py hnswlib huggingface_hub hydra ignite jax
jaxlib keras lib lightgbm lightning matplotlib mlflow mxnet networkx numba numpy onnx
onnxruntime openfl optax paddle pandas peft pil plotly polars protobuf pyarrow pydantic pytest
pytorch pytorch_lightning ray requests safetensors scikit_learn scipy scripts seaborn
sentence_transformers setup sklearn spacy src statsmodels syft sympy tensorboard tensorflow
test tests tf tokenizers torch torchaudio torchvision tqdm transformers triton usearch wandb
xgboost yaml zstandard
"""
_WELL_KNOWN: Final = frozenset(_NAMES.split())

__all__ = ["BadName", "NameTaken", "Names", "check_name"]

#: Longer ones make lines that no formatter can fold.
_LONGEST = 40
_LONGEST_CLASS = 16
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)


class BadName(BytesAndBrainsError):
    """A name cannot be that of a new distribution.

    Met at `bb new`. It is the name that pip installs and that programs bind, and with underscores
    the name of a Python package: small letters and digits, with dashes between words.
    """


class NameTaken(BytesAndBrainsError):
    """Something else has the name that a new distribution shall get.

    Met at `bb new`: a module of Python, an installed or a well-known package, or a plugin of the
    same kind has it, and of two that have one name neither could be used. Choose another one.
    """


class Names(NamedTuple):
    """The names of one project.

    Attributes:
        name: Of the distribution, and what the plugin is bound by.
        package: Of the Python package.
        cls: Of its main class.
        point: Of its entry point.
    """

    name: str
    package: str
    cls: str
    point: str


def check_name(kind: str, name: str, taken: Collection[str] = ()) -> Names:
    """Return the names of a new project.

    Args:
        kind: What kind of plugin it is.
        name: Its name.
        taken: Names that no plugin of the kind can have.

    Raises:
        BadName: It is none.
        NameTaken: Another one has it.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise BadName(
            f"{name!r} is no name for a plugin",
            expected=f"small letters and digits, with dashes between words, at most {_LONGEST}",
            fix=_suggestion(name),
        )
    package = name.replace("-", "_")
    point = f"{kind}.{name}.1" if kind == "type" else f"{kind}.{name}"
    if name in taken:
        raise NameTaken(
            f"{name!r} is a {kind} of `bb` itself",
            expected=f"another name than {', '.join(taken)}",
            fix=f"such as 'my-{name}'",
        )
    _check_package(name, package)
    _check_point(point)
    return Names(name, package, _class(kind, name), point)


def _class(kind: str, name: str) -> str:
    """Return the name of the class; of a long name that of its kind, so that lines stay short."""
    long, short = ("".join(map(str.capitalize, re.split("[-_]", one))) for one in (name, kind))
    return long if len(long) <= _LONGEST_CLASS else f"My{short}"


def _suggestion(name: str) -> str:
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    near = "-".join(words).lstrip("-0123456789")[:_LONGEST].strip("-")
    return f"such as {near!r}" if near else "such as 'my-median'"


def _check_package(name: str, package: str) -> None:
    from importlib.metadata import PackageNotFoundError, distribution
    from importlib.util import find_spec

    if keyword.iskeyword(package):
        raise BadName(f"{name!r} is a word of Python", fix=f"such as 'my-{name}'")
    try:
        found = distribution(name)
    except PackageNotFoundError:
        found = None
    if found is not None:
        raise NameTaken(
            f"distribution {name!r} is installed already, in version {found.version}",
            fix="choose another name, or uninstall it first",
        )
    if package in _WELL_KNOWN:
        raise NameTaken(
            f"{name!r} is the name of something that many projects have",
            expected=f"a name that nothing else is imported by: the plugin becomes {package!r}",
            fix=f"such as 'my-{name}'",
        )
    if package in sys.stdlib_module_names or find_spec(package) is not None:
        raise NameTaken(
            f"there is a Python module {package!r} already",
            expected="a name that nothing else is imported by",
            fix=f"such as 'my-{name}'",
        )


def _check_point(point: str) -> None:
    from bb_roles.entry_points import find

    owners = find(point)
    if owners:
        raise NameTaken(
            f"plugin {point} is provided by {owners[0].distribution} already",
            expected="a name that no plugin of the kind has",
            fix="choose another one; `bb plugins` lists those there are",
        )
