"""An explanation: what is in an artifact, and the ways to show it."""

from __future__ import annotations

import dataclasses
from typing import Any

from bb_compiler.explain._info import Contents
from bb_compiler.explain._page import fragment, page

__all__ = ["Explanation"]


class Explanation(Contents):
    """What is in an artifact; a notebook shows it as a drawing.

    Attributes:
        module: Name of the recorded Module.
        program: SHA-256 of the program without bindings, in hex.
        targets: What can be installed.
        edges: What goes over the network, requests before their answers.
        stages: The stages that made it, in order.
        round: What one round sends: each root region runs once, with all that follows from it.
        start: What the bootstrap sends: each of its regions and blocks once.
        cohort: Sizes of cohorts that were given, by peer class.
        dims: Lengths of dimensions that were given, by name.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return dataclasses.asdict(self)

    def to_html(self) -> str:
        """Return one page that needs nothing else: the drawing, and tables of everything.

        Equal explanations give equal pages.
        """
        return page(self)

    def _repr_html_(self) -> str:
        """Return the drawing for a notebook."""
        return fragment(self)
