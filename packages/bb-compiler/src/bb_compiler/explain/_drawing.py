"""Writes a layout as SVG that stands inside a page: no ids, no markers, colours from its style."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator

from bb_compiler.explain._info import Contents, EdgeInfo, OpInfo
from bb_compiler.explain._layout import (
    GAP,
    HEAD,
    LANE,
    ROW,
    Arrow,
    Box,
    Lane,
    Row,
    fit,
    lay_out,
)
from bb_ir.durations import format_duration

__all__ = ["COLORS", "about_edge", "about_op", "draw", "safe"]

#: Number of colours in the style; lanes beyond take turns.
COLORS = 6
_PLACED = {
    "inputs": "bb-by-inputs",
    "away": "bb-by-inputs",
    "cursor": "bb-by-cursor",
    "at": "bb-by-at",
}


def safe(text: object) -> str:
    """Escape a text for HTML; what cannot be seen, or turns what follows around, is replaced."""
    shown = "".join("\N{REPLACEMENT CHARACTER}" if _hidden(c) else c for c in str(text))
    return html.escape(shown, quote=True)


def _hidden(letter: str) -> bool:
    return letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def draw(told: Contents) -> str:
    """Return the drawing."""
    out = lay_out(told)
    width, height = f"{out.width:g}", f"{out.height:g}"
    about = f"{len(told.edges)} network edges between {len(out.lanes)} kinds of peers"
    parts = [
        (
            f'<svg class="bb-drawing" width="{width}" '
            f'height="{height}" viewBox="0 0 {width} {height}" role="group" '
            f'aria-label="{safe(told.module)}: {about}">'
        ),
        *(_lane(lane, out.height, _targets(told, lane)) for lane in out.lanes),
        *(_box(box) for box in out.boxes),
        *(_row(row) for row in out.rows),
        *(_arrow(arrow) for arrow in out.arrows),
        "</svg>",
    ]
    return "\n".join(parts)


def about_edge(edge: EdgeInfo) -> Iterator[str]:
    """Give everything about an edge, a line each."""
    answers = f", in answer to {edge.answers}" if edge.answers else ""
    yield f"{edge.name}: {edge.source_class} → {edge.target_class}{answers}"
    yield f"carries {', '.join(f'{p.name}: {p.brief}' for p in edge.ports) or 'a trigger'}"
    size = edge.bytes
    if size.formula:
        yield f"values {size.formula} bytes"
    if size.unknown:
        yield f"bytes not known: {'; '.join(size.unknown)}"
    else:
        yield (
            f"values {size.values}, payload {size.payload}, with header {size.envelope} bytes "
            "per envelope"
        )
    yield f"{edge.per_frame:,} per frame ({_FAN_OUT[edge.fan_out]}), {edge.per_round:,} per round"
    most = format_duration(edge.deadline_ns)
    usual = "as long as answers usually do, " if edge.auto else ""
    yield f"an answer may take {usual}{'at most ' if usual else ''}{most}"
    if edge.retries:
        yield f"sent again up to {edge.retries} times, until it is acknowledged"
    if edge.replies > 1:
        yield f"each peer answers {edge.replies} times"
    if edge.ordered:
        yield "opened in the order in which it was sent"
    if edge.source:
        yield edge.source


_FAN_OUT = {
    "sample": "as many as are sampled",
    "cohort": "the cohort that was given",
    "answer": "to whoever asked",
    "gather": "to all who answered",
    "assumed": "assumed; the program leaves it open",
}


def about_op(op: OpInfo) -> Iterator[str]:
    """Give everything about an op, a line each."""
    yield op.text
    for port in op.outputs:
        yield f"{port.name}: {port.brief}"
    yield from op.notes
    if op.source:
        yield op.source


def _targets(told: Contents, lane: Lane) -> str:
    if lane.note:
        return lane.note
    return ", ".join(t.name for t in told.targets if t.peer_class == lane.peer_class)


def _lane(lane: Lane, height: float, targets: str) -> str:
    middle = lane.x + LANE / 2
    return (
        f'<g class="bb-lane bb-c{lane.color % COLORS}">'
        f'<line x1="{middle:g}" y1="{HEAD - 8}" x2="{middle:g}" y2="{height:g}"/>'
        f'<rect x="{lane.x:g}" y="4" width="{LANE}" height="{HEAD - 14}" rx="6"/>'
        f'<text class="bb-class" x="{middle:g}" y="25">{safe(fit(lane.peer_class, LANE - 20, 8))}'
        f'</text><text class="bb-note" x="{middle:g}" y="42">{safe(fit(targets, LANE - 16))}</text>'
        "</g>"
    )


def _box(box: Box) -> str:
    return (
        f'<g class="bb-region bb-c{box.lane.color % COLORS}" data-k="{box.key}">'
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="5"/>'
        f'<text class="bb-title" x="{box.x + 9:g}" y="{box.y + 17:g}">{safe(box.title)}</text>'
        f'<text class="bb-note" x="{box.x + 9:g}" y="{box.y + 32:g}">{safe(box.note)}</text></g>'
    )


def _row(row: Row) -> str:
    text_y = row.y + ROW - 5.5
    text = f'<text x="{row.x + 18:g}" y="{text_y:g}">{safe(row.text)}</text>'
    if row.op is None:
        return f'<g class="bb-more">{text}</g>'
    how = _PLACED.get(row.op.placed, "bb-by-compiler")
    edge = " bb-network" if row.op.edge else ""
    return (
        f'<g class="bb-op {how}{edge}" data-k="{row.key}" tabindex="0">'
        f"<title>{safe(chr(10).join(about_op(row.op)))}</title>"
        f'<rect x="{row.x:g}" y="{row.y:g}" width="{row.width:g}" height="{ROW - 1}" rx="3"/>'
        f'<circle cx="{row.x + 9:g}" cy="{row.y + ROW / 2 - 0.5:g}" r="3"/>{text}</g>'
    )


def _arrow(arrow: Arrow) -> str:
    edge = arrow.edge
    answer = " bb-answer" if edge.answers else ""
    size = edge.bytes
    told = size.formula if size.unknown else str(size.envelope)
    times = f"{edge.per_frame:,}x, " if edge.per_frame != 1 else ""
    lines = (
        f"{told} B" if told else "size not known",
        f"{times}{'' if edge.auto else 'within '}{edge.deadline}",
    )
    line, head = _loop(arrow) if arrow.start == arrow.end else _straight(arrow)
    middle = f"{arrow.label_x:g}"
    return (
        f'<g class="bb-edge bb-c{arrow.color % COLORS}{answer}" data-k="{arrow.key}" tabindex="0">'
        f"<title>{safe(chr(10).join(about_edge(edge)))}</title>"
        f'<path class="bb-hit" d="{line}"/><path class="bb-line" d="{line}"/>'
        f'<path class="bb-head" d="{head}"/>'
        f'<text class="bb-title" x="{middle}" y="{arrow.y - 7:g}">{safe(fit(edge.name, GAP - 10))}'
        f'</text><text class="bb-note" x="{middle}" y="{arrow.y + 14:g}">'
        f"{safe(fit(lines[0], GAP - 10))}</text>"
        f'<text class="bb-note" x="{middle}" y="{arrow.y + 28:g}">{safe(lines[1])}</text></g>'
    )


def _straight(arrow: Arrow) -> tuple[str, str]:
    back = -8 if arrow.end > arrow.start else 8
    line = f"M{arrow.start:g} {arrow.y:g}H{arrow.end + back / 2:g}"
    head = f"M{arrow.end:g} {arrow.y:g}l{back} -4.5v9z"
    return line, head


def _loop(arrow: Arrow) -> tuple[str, str]:
    """Draw an arrow that comes back to the lane it leaves, below itself."""
    line = f"M{arrow.start:g} {arrow.y:g}h14q6 0 6 6v34q0 6 -6 6h-10"
    head = f"M{arrow.start:g} {arrow.y + 46:g}l8 -4.5v9z"
    return line, head
