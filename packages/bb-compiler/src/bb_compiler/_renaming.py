"""Other names for the values of an op: in its ports, and in metadata that lists values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import NodeProto

from bb_ir import keys, onnx_tools

__all__ = ["renamed", "used_names"]

_VALUE = "value:"


def renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """Return a copy of an op that uses other names."""
    result = NodeProto()
    result.CopyFrom(node)
    result.input[:] = [names.get(name, name) for name in node.input]
    result.output[:] = [names.get(name, name) for name in node.output]
    for entry in result.metadata_props:
        if entry.key == keys.AFTER:
            entry.value = _listed(entry.value, names)
        elif entry.key == keys.ENTER:
            entry.value = ";".join(_entered(one, names) for one in entry.value.split(";"))
        elif entry.key == keys.AT and entry.value.startswith(_VALUE):
            name = entry.value.removeprefix(_VALUE)
            entry.value = f"{_VALUE}{names.get(name, name)}"
    return result


def used_names(node: NodeProto) -> Iterator[str]:
    """Yield the values that an op needs, those that only say where or when it runs included."""
    yield from filter(None, node.input)
    yield from onnx_tools.meta_list(node, keys.AFTER)
    place = onnx_tools.get_meta(node, keys.AT)
    if place.startswith(_VALUE):
        yield place.removeprefix(_VALUE)


def _listed(text: str, names: Mapping[str, str]) -> str:
    return ",".join(names.get(name, name) for name in text.split(","))


def _entered(text: str, names: Mapping[str, str]) -> str:
    scope, _, listed = text.partition(":")
    return f"{scope}:{_listed(listed, names)}"
