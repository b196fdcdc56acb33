"""What a notebook shows of an artifact that was loaded: tables, in plain HTML without a style.

The drawing needs the compiler's view of the program, which this package must not import:
`bytesandbrains.explain(model)` has it. Names may be a stranger's, so everything is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bb_ir.durations import format_duration

if TYPE_CHECKING:
    from bb_runtime.artifact import Artifact

__all__ = ["html_of"]


def html_of(artifact: Artifact) -> str:
    """Return the tables of an artifact."""
    targets = artifact.targets.values()
    bound = {(r.slot, r.role, r.component, t.cls) for t in targets for r in t.rows}
    parts = [
        f"<b>artifact</b> of program <code>{_safe(artifact.program[:16])}</code>",
        _table(
            ("target", "class", "phase", "inputs", "outputs"),
            ((t.short, t.cls, t.phase, ", ".join(t.inputs), ", ".join(t.outputs)) for t in targets),
        ),
        _table(("slot", "role", "component", "on"), sorted(bound)),
    ]
    if artifact.edges:
        rows = (
            (
                edge.name,
                f"{edge.source_class} → {edge.target_class}",
                ", ".join(str(type_) for _, type_ in edge.ports) or "trigger",
                edge.answers or "-",
                format_duration(edge.deadline_ns),
            )
            for edge in artifact.edges.values()
        )
        parts.append(_table(("edge", "way", "carries", "answers", "deadline"), rows))
    return "\n".join(parts)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _safe(text: str) -> str:
    # A lone surrogate cannot be written to any page.
    return html.escape(text.encode("utf-8", "replace").decode())
