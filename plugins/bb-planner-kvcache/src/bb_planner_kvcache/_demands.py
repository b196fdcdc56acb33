"""Demands that come one by one, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from bb_ir.plan import KvPageRef, PlanFormatError, digest_text, parse_place
from bb_planner_kvcache._asked import MEDIA, Asked, Held, PageName, Places
from bb_planner_kvcache._columns import FAR, I64, constant
from bb_planner_kvcache._tables import MAX_BYTES, MAX_PAGE, check_bytes, last_when_none
from bb_roles import CacheRequest, PageDemand
from bb_roles.errors import UnplannableRequest

__all__ = ["read_demands"]

_MOST_PRIORITY: Final = 1 << 30
_LONGEST: Final = 4096


class _Codes:
    """Numbers things in the order in which they come."""

    def __init__(self) -> None:
        self.found: dict[Any, int] = {}

    def __call__(self, thing: Any) -> int:
        return self.found.setdefault(thing, len(self.found))


def read_demands(request: CacheRequest) -> Asked:
    """Return a request whose demands come one by one.

    Raises:
        UnplannableRequest: A demand is none, has an id that another one has, names no place, or has
            numbers that cannot be.
    """
    demands = _several("demands", request.demands, PageDemand)
    held = _several("held", request.held, KvPageRef)
    _check_ids(demands)
    place, stack, tenant = _Codes(), _Codes(), _Codes()
    rows = [_row(number, one, place, stack, tenant) for number, one in enumerate(demands)]
    table = np.array(rows, np.int64).reshape(len(rows), len(_COLUMNS))
    column = dict(zip(_COLUMNS, np.ascontiguousarray(table.T), strict=True))
    check_bytes(
        "the pages that are asked for", column["start"], column["end"], column["page_bytes"]
    )
    places, texts = _places(place), list(tenant.found)
    size = len(rows)
    return Asked(
        size, request.now_ns, request.window_ms, column["src"], column["dst"], column["stack"],
        column["layer"], column["start"], column["end"], column["page_bytes"],
        column["deadline"], last_when_none(column["deadline"]), 1, np.ones(size), column["tenant"],
        column["priority"], constant(0, size), None, None, places,
        lambda code: texts[code] if code >= 0 else "", lambda row: demands[row].request,
        lambda row: _name(demands[row].pages), None,
        _held(held, places, stack, sorted({*column["page_bytes"].tolist()})),
        np.full(len(places.tier), FAR), np.full(len(places.tier), FAR), None, request.quotas,
        lambda name: tenant.found.get(name, -2), None, shared_ids=False,
    )  # fmt: skip


_COLUMNS: Final = (
    "src", "dst", "stack", "layer", "start", "end", "page_bytes", "deadline", "tenant", "priority",
)  # fmt: skip


def _several(field: str, given: Any, kind: type) -> tuple[Any, ...]:
    if not isinstance(given, tuple) or not all(isinstance(one, kind) for one in given):
        raise UnplannableRequest(
            f"`{field}` is {given!r:.80}", expected=f"a tuple of {kind.__name__}"
        )
    return given


def _check_ids(demands: Sequence[PageDemand]) -> None:
    seen: set[str] = set()
    for one in demands:
        if not _is_text(one.request) or not one.request or one.request in seen:
            raise UnplannableRequest(
                f"a demand has the id {one.request!r:.80}, which is empty or that of another one",
                expected="a text that no other demand has",
            )
        seen.add(one.request)


def _is_text(value: object) -> bool:
    """Tell whether a value is a text that a plan can hold."""
    return isinstance(value, str) and len(value) <= _LONGEST and _encodes(value)


def _encodes(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)


def _row(
    number: int, one: PageDemand, place: _Codes, stack: _Codes, tenant: _Codes
) -> tuple[int, ...]:
    pages, at = one.pages, f"demands[{number}]"
    if not isinstance(pages, KvPageRef):
        raise UnplannableRequest(f"{at}.pages is {pages!r:.80}", expected="a KvPageRef")
    if not _is_text(pages.tensor) or not _is_text(one.tenant):
        raise UnplannableRequest(
            f"{at} is of tensor {pages.tensor!r:.80} and tenant {one.tenant!r:.80}",
            expected=f"texts of at most {_LONGEST} characters",
        )
    head = _number(f"{at}.pages.head", pages.head, 0, (1 << 32) - 1)
    first = _number(f"{at}.pages.page", pages.page, 0, MAX_PAGE)
    count = _number(f"{at}.pages.page_count", pages.page_count or 1, 1, MAX_PAGE)
    size = _number(f"{at}.pages.page_bytes", pages.page_bytes, 1, MAX_PAGE)
    if (first + count) * size > MAX_BYTES:
        raise UnplannableRequest(
            f"{at}.pages reaches more than 2 EiB from the first page", expected="fewer pages"
        )
    return (
        _place(f"{at}.src", one.src, place),
        _place(f"{at}.dst", one.dst, place),
        stack((pages.tensor, head, _model(at, pages.model))),
        _number(f"{at}.pages.layer", pages.layer, 0, (1 << 31) - 1),
        first,
        first + count - 1,
        size,
        _number(f"{at}.deadline_ns", one.deadline_ns, 0, FAR),
        tenant(one.tenant) if one.tenant else -1,
        _number(f"{at}.priority", one.priority, -_MOST_PRIORITY, _MOST_PRIORITY),
    )


def _model(at: str, model: Any) -> Any:
    try:
        if model is not None:
            digest_text(model)
    except (AttributeError, PlanFormatError):
        raise UnplannableRequest(
            f"{at}.pages.model is {model!r:.80}", expected="a Digest, or None"
        ) from None
    return model


def _number(field: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise UnplannableRequest(f"{field} is {value!r:.80}", expected=f"{least} to {most}")
    return value


def _place(field: str, text: Any, place: _Codes) -> int:
    try:
        parse_place(text)
    except (PlanFormatError, AttributeError):
        raise UnplannableRequest(
            f"{field} is {text!r:.80}", expected="a place, such as tier://node/tier0"
        ) from None
    return place(text)


def _places(place: _Codes) -> Places:
    texts = list(place.found)
    read = [parse_place(text) for text in texts]
    node = _Codes()
    return Places(
        texts.__getitem__,
        np.array([node(one.node) if one.node else -1 for one in read], np.int64),
        np.array([one.tier for one in read], np.int64),
        np.array([MEDIA.index(one.medium) for one in read], np.int64),
        list(node.found),
    )


def _name(pages: KvPageRef) -> PageName:
    return PageName(pages.tensor, pages.head, pages.model)


def _held(
    refs: Sequence[KvPageRef], places: Places, stack: _Codes, sizes: Sequence[int]
) -> Held | None:
    """Return what is held: without a node everywhere, without a size in each that is asked for."""
    rows: list[tuple[int, ...]] = []
    names: list[KvPageRef] = []
    for number, ref in enumerate(refs):
        at = f"held[{number}]"
        first = _number(f"{at}.page", ref.page, 0, MAX_PAGE)
        count = _number(f"{at}.page_count", ref.page_count or 1, 1, MAX_PAGE)
        size = _number(f"{at}.page_bytes", ref.page_bytes, 0, MAX_PAGE)
        layer = _number(f"{at}.layer", ref.layer, 0, (1 << 31) - 1)
        code = stack((ref.tensor, ref.head, _model(at, ref.model)))
        for place in _where(ref, places):
            for one in [size] if size else sizes:
                rows.append((place, code, layer, first, first + count - 1, one))
                names.append(ref)
    if not rows:
        return None
    columns: list[I64] = list(np.ascontiguousarray(np.array(rows, np.int64).T))
    place_of, code_of, layer_of, start, end, page_bytes = columns
    check_bytes("the pages that are held", start, end, page_bytes)
    return Held(place_of, code_of, layer_of, start, end, page_bytes, lambda row: _name(names[row]))


def _where(ref: KvPageRef, places: Places) -> Sequence[int]:
    if not ref.node:
        return range(len(places.tier))
    if ref.node not in places.nodes:
        return ()
    node = places.nodes.index(ref.node)
    here = (places.node == node) & (places.tier == ref.tier)
    return [int(one) for one in np.flatnonzero(here)]
