"""The page of an explanation: the drawing, then tables of everything.

Names and types come from users and from strangers' artifacts: everything is escaped, and the page
forbids itself every script but its own and every request.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from bb_compiler.explain._drawing import draw, safe
from bb_compiler.explain._info import Contents, EdgeInfo, PortInfo, RegionInfo, TargetInfo
from bb_compiler.explain._style import PAGE_STYLE, SCRIPT, STYLE
from bb_ir.durations import format_duration

__all__ = ["fragment", "page"]

_KEY = (
    "Lanes are peer classes, boxes are regions (what one event starts), arrows are network edges: "
    "solid for requests, dashed for answers. A full dot is an op whose place follows from what it "
    "reads, a ring one that the cursor placed, a bold dot one placed by g.at."
)
_HINT = "Point at an op or an edge to see what is known about it; click to keep it."

#: Texts up to this length are not broken into lines.
_SHORT = 32
#: A cell: its text, and the classes of its `td`.
_Cell = tuple[str, str]


def page(told: Contents) -> str:
    """Return a whole HTML document."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{safe(told.module)}</title>",
        f"<style>\n{STYLE}\n{PAGE_STYLE}\n</style>",
        "</head>",
        "<body>",
        '<main class="bb-explain">',
        f"<h1>{safe(told.module)}</h1>",
        *_summary(told),
        f'<div class="bb-scroll">{draw(told)}</div>',
        f'<p class="bb-key">{_KEY}</p>',
        f'<div class="bb-told" aria-live="polite">{_HINT}</div>',
        *_tables(told),
        "</main>",
        f"<script>{SCRIPT}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def fragment(told: Contents) -> str:
    """Return the drawing for a page of somebody else's, with a style that touches nothing else."""
    parts = [
        '<div class="bb-explain">',
        f"<style>\n{STYLE}\n</style>",
        f"<b>{safe(told.module)}</b>",
        *_summary(told),
        f'<div class="bb-scroll">{draw(told)}</div>',
        f'<div class="bb-key">{_KEY}</div>',
        "</div>",
    ]
    return "\n".join(parts)


def _summary(told: Contents) -> Iterator[str]:
    given = [f"{name}={size:,}" for name, size in {**told.cohort, **told.dims}.items()]
    assumed = [f"one {name} assumed" for name in told.assumed]
    terms = f" ({', '.join([*given, *assumed])})" if given or assumed else ""
    start = f"; the bootstrap sends {told.start}" if told.start.envelopes else ""
    yield (
        f'<div class="bb-sum">program <code>{safe(told.program[:16])}</code>; {told.a_round} sends '
        f"<b>{safe(told.round)}</b>{safe(terms + start)}</div>"
    )


# --- tables ----------------------------------------------------------------------------------


def _tables(told: Contents) -> Iterator[str]:
    yield "<h2>Targets</h2>"
    yield from _table(("target", "class", "phase", "inputs", "outputs", "hash"), _targets(told))
    yield "<h2>Bindings</h2>"
    yield from _table(("slot", "role", "component", "on", "configuration"), _bindings(told))
    yield "<h2>Network edges</h2>"
    columns = (
        "edge", "from", "to", "carries", "values #", "payload #", "envelope #", "per frame #",
        "per round #", "deadline", "line",
    )  # fmt: skip
    yield from _table(columns, (_edge(f"e{i}", edge) for i, edge in enumerate(told.edges)))
    if reasons := [(e.name, why) for e in told.edges for why in e.bytes.unknown]:
        lines = "; ".join(f"{name}: {why}" for name, why in reasons)
        yield f'<p class="bb-key">Bytes that do not follow from the program. {safe(lines)}.</p>'
    yield "<h2>Ops</h2>"
    for index, target in enumerate(told.targets):
        for region in target.regions:
            yield from _region(index, target, region)
    yield "<h2>Stages of the compiler</h2>"
    stages = (
        (
            str(number),
            [(safe(number), "bb-number"), _code(stage.label), _text(_changed(stage.changes))],
        )
        for number, stage in enumerate(told.stages, 1)
    )
    yield from _table(("#", "stage", "what it changed"), (("", cells) for _, cells in stages))


def _changed(changes: tuple[str, ...] | None) -> str:
    if changes is None:
        return "not known of an artifact; explain the Module to see it"
    return "; ".join(changes) or "nothing"


def _targets(told: Contents) -> Iterator[tuple[str, list[_Cell]]]:
    for target in told.targets:
        yield "", [
            _code(target.name), _text(target.peer_class), _text(target.phase),
            _ports(target.inputs), _ports(target.outputs), _code(target.hash[:16]),
        ]  # fmt: skip


def _bindings(told: Contents) -> Iterator[tuple[str, list[_Cell]]]:
    rows = {
        (row.slot, row.role, row.component, target.peer_class, row.config)
        for target in told.targets
        for row in target.bindings
    }
    for row in sorted(rows):
        yield "", [_text(cell) for cell in row]


def _edge(key: str, edge: EdgeInfo) -> tuple[str, list[_Cell]]:
    numbers = (*edge.bytes.texts, f"{edge.per_frame:,}", f"{edge.per_round:,}")
    carried = _ports(edge.ports) if edge.ports else _text("trigger")
    ends = (_text(edge.source_class), _text(edge.target_class))
    figures = [(safe(number), "bb-number") for number in numbers]
    deadline = (safe(edge.deadline), "bb-short")
    return key, [_code(edge.name), *ends, carried, *figures, deadline, _code(edge.source)]


def _region(index: int, target: TargetInfo, region: RegionInfo) -> Iterator[str]:
    inside = f", inside a frame of {region.parent}" if region.parent else ""
    opened = f"on edge {region.name}" if region.opened_in and not region.block else ""
    facts = (
        f"on {target.peer_class}{inside}",
        opened,
        region.block,
        f"within {format_duration(region.deadline_ns)}",
        f"{region.frames:,} frame{'s'[: region.frames != 1]} a round",
        f"one frame sends {region.sends}" if region.sends.envelopes else "",
    )
    name = f"{target.name} / {region.name}" + (
        f" ({target.phase})" if target.phase != "body" else ""
    )
    told = "; ".join(part for part in map(safe, facts) if part)
    yield f"<h3>{safe(name)}</h3>"
    yield f'<div class="bb-key">{told}</div>'
    rows = (
        (
            f"o{index}-{op.number}",
            [
                (safe(number), "bb-number"),
                (f"<code>{safe(op.text)}</code>", "bb-wide"),
                _code(", ".join(port.brief for port in op.outputs)),
                _text("; ".join(op.notes)),
                _code(op.source),
            ],
        )
        for number, op in enumerate(region.listed, 1)
    )
    yield from _table(("#", "op", "gives", "notes", "line"), rows)


def _ports(ports: Iterable[PortInfo]) -> _Cell:
    return _code(", ".join(f"{port.name}: {port.brief}" for port in ports))


def _text(text: str) -> _Cell:
    return safe(text), "bb-short" if len(text) <= _SHORT else "bb-wide"


def _code(text: str) -> _Cell:
    return f"<code>{safe(text)}</code>", "bb-short" if len(text) <= _SHORT else "bb-wide"


def _table(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[_Cell]]]) -> Iterator[str]:
    """Write a table; a column whose heading ends in `#` holds numbers. Rows may have a key."""
    made = list(rows)
    if not made:
        yield '<p class="bb-key">none</p>'
        return
    heads = "".join(
        f'<th class="bb-number">{safe(c[:-1].strip() or "#")}</th>'
        if c.endswith("#")
        else f"<th>{safe(c)}</th>"
        for c in columns
    )
    yield f'<div class="bb-scroll"><table><thead><tr>{heads}</tr></thead><tbody>'
    for key, cells in made:
        tied = f' data-k="{key}"' if key else ""
        told = "".join(
            f'<td class="{kind}">{cell}</td>' if kind else f"<td>{cell}</td>"
            for cell, kind in cells
        )
        yield f"<tr{tied}>{told}</tr>"
    yield "</tbody></table></div>"
