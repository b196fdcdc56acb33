"""Compiled models as drawings in a notebook: `%load_ext bytesandbrains.notebook`.

What `Compiler.compile` returns is an `onnx.ModelProto`, a class that is not ours to extend; the
extension teaches IPython to show one that has our passport. Nothing is changed before it is loaded,
and other ONNX models are shown as ever. An `Explanation` needs no extension.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(ipython: Any) -> None:
    """Show compiled models as drawings; IPython calls this for `%load_ext`."""
    from onnx import ModelProto

    ipython.display_formatter.formatters["text/html"].for_type(ModelProto, _show)


def unload_ipython_extension(ipython: Any) -> None:
    """Show them as text again; IPython calls this for `%unload_ext`."""
    from onnx import ModelProto

    ipython.display_formatter.formatters["text/html"].pop(ModelProto, None)


def _show(model: Any) -> str | None:
    """Return the drawing, or nothing for a model that is no artifact of ours."""
    from bb_compiler.explain import NotAnArtifact, explain

    try:
        return explain(model)._repr_html_()  # pyright: ignore[reportPrivateUsage]  # IPython's protocol
    except NotAnArtifact:
        return None
