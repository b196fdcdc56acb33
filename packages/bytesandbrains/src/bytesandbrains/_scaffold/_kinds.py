"""What each kind of project is: one row per kind, and a folder of templates of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["TEMPLATES", "Template"]


class Template(NamedTuple):
    """One kind of project.

    Attributes:
        summary: What the plugin does, as its declaration says it; without a full stop.
        about: The same for a reader of its README.
        holds: What is in its main module.
        needs: What it depends on besides the contract, with ranges; `{range}` is that of ours.
        tests_need: What its tests depend on besides the kit and pytest.
        extras: Other extras, as lines of TOML.
        after: Folders of templates that come before its own, which win.
    """

    summary: str
    about: str
    holds: str
    needs: tuple[str, ...] = ("numpy>=1.26",)
    tests_need: tuple[str, ...] = ()
    extras: str = ""
    after: tuple[str, ...] = ("common", "component")


_ALONE = ("common",)

TEMPLATES: Mapping[str, Template] = {
    "aggregator": Template(
        "Mean of the updates, weighted by their examples",
        "An aggregator for bytesandbrains: it makes "
        "one set of parameters of those that the clients of a round sent. This one takes their "
        "mean, weighted by examples, with a limit on what one client may count for.",
        "the rule",
    ),
    "backend": Template(
        "Ops of ai.onnx, some in numpy and all others by ONNX's reference",
        "A backend for bytesandbrains: it carries out "
        "what programs do with tensors, op by op, as the ONNX standard says.",
        "the kernels",
        needs=("numpy>=1.26", "onnx>=1.18"),
    ),
    "codec": Template(
        "Parameters as byte planes, compressed with zlib",
        "A codec for bytesandbrains: it makes smaller "
        "what Nodes send each other. This one loses nothing: it sorts the bytes of floats by "
        "their place, which zlib then compresses better.",
        "the codec",
    ),
    "data_source": Template(
        "Two half moons with noise, divided over clients",
        "A data source for bytesandbrains: it gives a "
        "client its examples. This one draws points on two half moons, and every client gets its "
        "part of them.",
        "the data",
    ),
    "index": Template(
        "Exact search by cosine distance",
        "An index for bytesandbrains: it stores "
        "vectors and finds the nearest ones. This one compares all of them, by cosine distance.",
        "the index",
    ),
    "model": Template(
        "Softmax regression in numpy",
        "A model for bytesandbrains: what clients "
        "train. This one is a single layer with softmax, trained by gradient descent.",
        "the model",
    ),
    "peer_selector": Template(
        "Neighbours on a ring, from a place that is drawn",
        "A peer selector for bytesandbrains: it says "
        "which peers take part. This one chooses peers that stand next to each other in a ring.",
        "the choice",
        needs=(),
    ),
    "protocol": Template(
        "A poll, in which every Node has one vote",
        "A protocol for bytesandbrains: ops of its "
        "own, by which Nodes agree on something. In this one they vote. In a program:",
        "the protocol; its ops are in `_ops.py`, its slot for programs in `slots.py`",
        needs=(),
        tests_need=("bb-dsl~={range}",),
        extras='dsl = ["bb-dsl~={range}"]   # the slot; Nodes that run programs do without\n',
    ),
    "transport": Template(
        "Unix sockets between processes of one machine, whose peers prove who they are",
        "A transport for bytesandbrains: it carries "
        "envelopes between Nodes, and says who is at the other end. The contract is provisional: "
        "a minor version may change it.",
        "the transport; `_handshake.py` has how peers prove who they are",
        needs=(),
        after=_ALONE,
    ),
    "planner": Template(
        "Reads what is new of a model, in buckets of one size",
        "A planner for bytesandbrains: it makes plans "
        "of data movements. This one turns one version of a model into another. The contract is "
        "provisional: a minor version may change it.",
        "the planner",
        needs=(),
        after=_ALONE,
    ),
    "executor": Template(
        "Makes one move of a plan after the other",
        "An executor for bytesandbrains: it carries "
        "plans of data movements out. This one makes one move after the other, in the thread that "
        "submits a plan. The contract is provisional: a minor version may change it.",
        "the executor",
        needs=("bb-plans~={range}",),
        after=_ALONE,
    ),
    "stage": Template(
        "Refuses programs that send float64",
        "A stage of the compiler of bytesandbrains: "
        "it looks at every program that names it. This one refuses those that send tensors of "
        "float64.",
        "the stage",
        needs=("onnx>=1.18",),
        tests_need=("bytesandbrains~={range}",),
        after=_ALONE,
    ),
    "command": Template(
        "Shows what is in a file of parameters",
        "A command for `bb`, the command line of "
        "bytesandbrains: it shows the tensors in a "
        "safetensors file.",
        "the command",
        needs=("click>=8.1", "numpy>=1.26"),
        tests_need=("bytesandbrains~={range}",),
        after=_ALONE,
    ),
    "op": Template(
        "Length of a vector, and vectors that are no longer than a limit",
        "Ops for programs of bytesandbrains: pure functions of values, on whatever Node they "
        "stand. These measure vectors and shorten those that are too long.",
        "the functions; `_ops.py` has their types, `functions.py` what programs call",
        tests_need=("bytesandbrains~={range}",),
        extras='dsl = ["bb-dsl~={range}"]   # the functions; Nodes that run programs do without\n',
        after=_ALONE,
    ),
    "type": Template(
        "Histograms as values that travel between Nodes",
        "A type of values for bytesandbrains: Nodes "
        "can send each other what no other type describes. This one is histograms.",
        "the class of the values, and their codec",
        after=_ALONE,
    ),
}
