"""Where everything stands in the drawing of a program: lanes, boxes, rows and arrows.

A lane is a peer class, time runs downwards. A region is a box in its lane, an op a row in its box,
a network edge an arrow to the box that its envelope opens. What follows from a send is drawn right
below it, so every row has a height of its own and nothing can lie on anything else. A child region
stands inside the box of its parent. A message to a peer of the class that is already busy goes to
a second lane of that class: it is another peer.

Only positions are made here, from the explanation alone; `_drawing` writes them as SVG.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from unicodedata import east_asian_width

from bb_compiler.explain._expressions import expression
from bb_compiler.explain._info import Contents, EdgeInfo, OpInfo, RegionInfo
from bb_ir.durations import format_duration

__all__ = ["GAP", "HEAD", "LANE", "ROW", "Arrow", "Box", "Lane", "Layout", "Row", "fit", "lay_out"]

LANE = 224  # width of a lane
GAP = 172  # between lanes, where the labels of the arrows stand
HEAD = 62  # height of a lane's heading
ROW = 19
_MARGIN = 12
_TITLE = 42  # of a box
_ARROW = 54  # height that an arrow and its label take
_INSET = 9  # of a box within a box
_CHAR = 6.65  # width of a character of the rows' font
_DEEPEST = 48  # messages within messages; beyond, nothing is drawn
_MOST_LANES = 24
_LONG_RUN, _FIRST, _LAST = 10, 5, 3
_NETWORK = ("Send", "Receive", "Gather")
#: What the recorder puts behind a name, and a drawing has no room for.
_NUMBERED = re.compile(r"(?<=[A-Za-z_])\.\d+\b")


@dataclass(frozen=True)
class Lane:
    """A peer of one class."""

    index: int
    peer_class: str
    color: int
    note: str
    x: float


@dataclass
class Box:
    """A region; it ends below its last op, answer or block, whatever else follows from it."""

    key: str
    lane: Lane
    title: str
    note: str
    x: float
    y: float
    width: float
    bottom: float = 0

    @property
    def height(self) -> float:
        """From its top to below the last thing that stands in it."""
        return self.bottom + 8 - self.y


@dataclass(frozen=True)
class Row:
    """An op, or a few that are left out; those have no key."""

    key: str
    op: OpInfo | None
    text: str
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Arrow:
    """A network edge, from the border of a box to that of another."""

    key: str
    edge: EdgeInfo
    color: int
    start: float
    end: float
    y: float
    label_x: float


@dataclass
class Layout:
    """Everything that is drawn; boxes before what stands in them."""

    lanes: list[Lane] = field(default_factory=list[Lane])
    boxes: list[Box] = field(default_factory=list[Box])
    rows: list[Row] = field(default_factory=list[Row])
    arrows: list[Arrow] = field(default_factory=list[Arrow])
    width: float = 0
    height: float = 0


def lay_out(told: Contents) -> Layout:
    """Return the places of everything; equal explanations have equal drawings."""
    return _Draft(told).finish()


def fit(text: str, width: float, char: float = _CHAR) -> str:
    """Shorten a text to a width in pixels."""
    room = int(width / char)
    if sum(map(_cells, text)) <= room:
        return text
    kept = ""
    used = 1  # the dots
    for letter in text:
        used += _cells(letter)
        if used > room:
            break
        kept += letter
    return kept + "…"


def _cells(letter: str) -> int:
    return 2 if east_asian_width(letter) in "WF" else 1


_Place = tuple[str, str]


class _Draft:
    def __init__(self, told: Contents) -> None:
        self.edges = {edge.name: (f"e{i}", edge) for i, edge in enumerate(told.edges)}
        self.regions: dict[_Place, tuple[int, str, RegionInfo]] = {}
        self.blocks: dict[_Place, list[RegionInfo]] = {}
        self.classes: dict[str, int] = {}
        for index, target in enumerate(told.targets):
            self.classes.setdefault(target.peer_class, len(self.classes))
            for region in target.regions:
                self.regions[target.phase, region.name] = (index, target.peer_class, region)
                if region.parent and region.name not in self.edges:
                    self.blocks.setdefault((target.phase, region.parent), []).append(region)
        self.out = Layout()
        self.lanes: dict[tuple[str, int], Lane] = {}
        self.placed: dict[_Place, Box] = {}
        self.open: list[Box] = []
        self.y: float = HEAD + 14

    def finish(self) -> Layout:
        """Place every region that no message opens, with what follows from it; then the rest."""
        roots = [
            p for p, (*_, r) in self.regions.items() if not r.parent and p[1] not in self.edges
        ]
        roots.sort(key=lambda place: place[0] == "bootstrap")
        for place in (*roots, *self.regions):
            if place not in self.placed:
                self._root(place)
        out = self.out
        right = max((lane.x + LANE for lane in out.lanes), default=LANE)
        loops = any(arrow.start == arrow.end for arrow in out.arrows)
        out.width = right + (GAP if loops else 0) + _MARGIN
        out.height = self.y + 4
        return out

    def _root(self, place: _Place) -> None:
        lane = self._lane(self.regions[place][1])
        if lane is None:
            return
        self._region(place, lane, None)
        self.y += 22

    def _lane(self, peer_class: str) -> Lane | None:
        """Return the first lane of a class in which nothing is going on."""
        busy = {box.lane.index for box in self.open}
        for number in range(_MOST_LANES):
            lane = self.lanes.get((peer_class, number)) or self._new_lane(peer_class, number)
            if lane is None or lane.index not in busy:
                return lane
        return None

    def _new_lane(self, peer_class: str, number: int) -> Lane | None:
        index = len(self.out.lanes)
        if index >= _MOST_LANES:
            return None
        note = "another peer of this class" if number else ""
        x = _MARGIN + index * (LANE + GAP)
        color = self.classes.get(peer_class, 0)
        lane = self.lanes[peer_class, number] = Lane(index, peer_class, color, note, x)
        self.out.lanes.append(lane)
        return lane

    def _region(self, place: _Place, lane: Lane, parent: Box | None) -> None:
        """Draw a box with its ops, and after each send what follows from it."""
        index, _, region = self.regions[place]
        x, width = _room(lane, parent)
        key = f"r{index}-{len(self.placed)}"
        title = ("bootstrap: " if place[0] == "bootstrap" else "") + region.name
        box = Box(
            key, lane, fit(title, width - 16), fit(_note(region), width - 16), x, self.y, width
        )
        self.out.boxes.append(box)
        self.placed[place] = box
        self.open.append(box)
        self.y += _TITLE
        box.bottom = self.y - 8
        for item in _shortened(self._items(place, region)):
            if isinstance(item, RegionInfo):
                self.y += 4
                self._region((place[0], item.name), lane, box)
                self.y += 6
            else:
                self._row(item, box, place, index)
        self.y = max(self.y, box.bottom) + 8
        if parent is not None:
            parent.bottom = max(parent.bottom, box.bottom + 8)
        self.open.pop()

    def _items(self, place: _Place, region: RegionInfo) -> list[OpInfo | RegionInfo]:
        """Return ops and blocks in the order in which they were recorded."""
        last = region.ops[-1].number + 1 if region.ops else 0
        found: list[tuple[int, OpInfo | RegionInfo]] = [(op.number, op) for op in region.listed]
        found += [
            (block.ops[0].number if block.ops else last, block)
            for block in self.blocks.get(place, ())
            if (place[0], block.name) not in self.placed
        ]
        return [item for _, item in sorted(found, key=lambda pair: pair[0])]

    def _row(self, item: OpInfo | str, box: Box, place: _Place, target: int) -> None:
        op = None if isinstance(item, str) else item
        key = "" if op is None else f"o{target}-{op.number}"
        text = item if isinstance(item, str) else _label(item)
        width = box.width - 12
        shown = fit(text, width - 22)
        self.out.rows.append(Row(key, op, shown, box.x + 6, self.y, width))
        self.y += ROW
        box.bottom = self.y
        if op is not None and op.name == "Send":
            self._arrow(op, box, place[0])

    def _arrow(self, op: OpInfo, box: Box, phase: str) -> None:
        key, edge = self.edges.get(op.edge, ("", None))
        place = (phase, op.edge)
        if edge is None or place not in self.regions or place in self.placed:
            return
        _, peer_class, region = self.regions[place]
        parent = self.placed.get((phase, region.parent))
        lane = parent.lane if parent is not None else self._lane(peer_class)
        if lane is None or len(self.open) > _DEEPEST:
            return
        y = self.y + 22
        rightwards = lane.index >= box.lane.index
        start = box.x + box.width if rightwards else box.x
        left, width = _room(lane, parent)
        end = left if rightwards else left + width
        side = box.lane.x + (LANE + GAP / 2 if rightwards else -GAP / 2)
        if lane is box.lane:
            end = start
        self.out.arrows.append(Arrow(key, edge, box.lane.color, start, end, y, side))
        bottom = y + _ARROW - 22
        box.bottom = max(box.bottom, y + 8)
        self.y = y - 12 if lane is not box.lane else bottom
        self._region(place, lane, parent)
        self.y = max(self.y, bottom) + 6


def _room(lane: Lane, parent: Box | None) -> tuple[float, float]:
    """Return where a box begins, and how wide it is: a child is narrower, to some depth."""
    if parent is None:
        return lane.x, LANE
    inset = _INSET if parent.width > LANE - 6 * _INSET else 0
    return parent.x + inset, parent.width - 2 * inset


def _shortened(items: list[OpInfo | RegionInfo]) -> Iterator[OpInfo | RegionInfo | str]:
    """Leave out the middle of long runs of ops that have nothing to do with the network."""
    run: list[OpInfo] = []
    for item in items:
        if isinstance(item, OpInfo) and item.name not in _NETWORK:
            run.append(item)
            continue
        yield from _cut(run)
        run = []
        yield item
    yield from _cut(run)


def _cut(run: list[OpInfo]) -> Iterator[OpInfo | str]:
    if len(run) <= _LONG_RUN:
        yield from run
        return
    yield from run[:_FIRST]
    yield f"… {len(run) - _FIRST - _LAST:,} more ops"
    yield from run[-_LAST:]


def _label(op: OpInfo) -> str:
    """Return what a row says: a network op names its edge, an output its name."""
    if formula := expression(op):
        return _NUMBERED.sub("", formula)
    name = op.edge or (op.attributes.get("name", "") if op.name == "Output" else "")
    conditions = op.shown if op.name in ("When", "Until") else ()
    return f"{op.label} {name or _NUMBERED.sub('', ', '.join(conditions[-1:]))}".rstrip()


def _note(region: RegionInfo) -> str:
    often = "" if region.frames == 1 else f"{region.frames:,} a round"
    within = f"within {format_duration(region.deadline_ns)}"
    return " · ".join(part for part in (region.block, often, within) if part)
