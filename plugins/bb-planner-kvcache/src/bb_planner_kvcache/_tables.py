"""Columns of a request, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bb_ir.plan import PlanFormatError, parse_digest, parse_place
from bb_planner_kvcache._asked import Asked, Heat, Held, PageName, Places, TenantCaps
from bb_planner_kvcache._columns import FAR, I64, codes_of, constant
from bb_roles import CacheRequest, CacheTables
from bb_roles.errors import UnplannableRequest

__all__ = ["MAX_BYTES", "MAX_PAGE", "check_bytes", "last_when_none", "read_tables"]

#: Most bytes of a page, of an offset, of all demands together; numbers of pages and layers.
MAX_BYTES: Final = 1 << 61
MAX_PAGE: Final = 1 << 40
_MAX_LAYER: Final = 1 << 31
_MAX_MS: Final = 9 * 10**12
_MAX_TIER: Final = 9999
_MAX_NODES: Final = 1 << 20
_HIT_BYTES: Final = 256 << 10

_MODELS: Final = ("model", "model_id", "model_version")
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": (
        "req_id", "node", "src_node", "layer", "head", *_MODELS, "prefix_id", "pcluster",
        "page_start", "page_end", "page_bytes", "tier_src", "tier_dst", "deadline_ms",
        "deadline_ns", "est_fill_ms", "tenant", "priority", "src_base", "dst_base",
    ),
    "heat": ("layer", "page_id", "decay_hits", "tenant_weight", "size_bytes"),
    "tier_caps": ("tier", "bandwidth_caps", "free_bytes", "node"),
    "tenant_caps": ("tenant", "tier", "bandwidth_caps"),
    "layer_latency": ("layer", "lat_ms"),
    "held": (
        "tier", "page_start", "page_end", "page_bytes", "node", "layer", "head", *_MODELS,
    ),
}  # fmt: skip


class _Table:
    """One table: its columns by name, each checked when it is asked for."""

    def __init__(self, name: str, columns: Any) -> None:
        if not isinstance(columns, Mapping):
            raise UnplannableRequest(f"`{name}` is {columns!r:.80}", expected="columns by name")
        self.name = name
        self.columns = columns
        sizes = {column: _shape(name, column, array) for column, array in columns.items()}
        self.size = next(iter(sizes.values()), 0)
        for column, size in sizes.items():
            if column not in _KNOWN[name]:
                raise _unknown(name, column)
            if size != self.size:
                raise UnplannableRequest(
                    f"column {column!r} of `{name}` has {size} rows, others have {self.size}",
                    expected="columns of one length",
                )

    def has(self, column: str) -> bool:
        return column in self.columns

    def whole(
        self, column: str, default: int | None = None, *, least: int = 0, most: int = MAX_BYTES
    ) -> I64:
        """Return a column of whole numbers."""
        array = self.columns.get(column)
        if array is None:
            usual = self._default(column, default)
            if usual > most and self.size:
                raise UnplannableRequest(
                    f"`{self.name}` has no column {column!r}, so it is {usual} in each row",
                    expected=f"{least} to {most}",
                    fix="add the column, or what is missing in `names`",
                )
            return constant(usual, self.size)
        if not self.size:
            return constant(0, 0)
        if array.dtype.kind not in "iu":
            raise UnplannableRequest(
                f"column {column!r} of `{self.name}` is of {array.dtype}",
                expected="whole numbers, int64",
            )
        self._bounds(column, array, least, most)
        whole: I64 = array.astype(np.int64, copy=False)
        return whole

    def real(self, column: str, default: int | None = None) -> NDArray[np.float64]:
        """Return a column of numbers."""
        array = self.columns.get(column)
        if array is None:
            return np.broadcast_to(np.float64(self._default(column, default)), (self.size,))
        if array.dtype.kind not in "iuf":
            raise UnplannableRequest(
                f"column {column!r} of `{self.name}` is of {array.dtype}", expected="numbers"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UnplannableRequest(
                f"column {column!r} of `{self.name}` has a value that is not finite",
                expected="finite numbers",
            )
        real: NDArray[np.float64] = array.astype(np.float64, copy=False)
        return real

    def _default(self, column: str, default: int | None) -> int:
        if default is None:
            raise UnplannableRequest(
                f"`{self.name}` has no column {column!r}",
                expected=f"of {', '.join(_KNOWN[self.name])} at least those without a default",
            )
        return default

    def _bounds(self, column: str, array: NDArray[Any], least: int, most: int) -> None:
        lowest, highest = int(array.min()), int(array.max())
        if lowest < least or highest > most:
            bad = lowest if lowest < least else highest
            row = int(np.flatnonzero(array == bad)[0])
            raise UnplannableRequest(
                f"column {column!r} of `{self.name}` is {bad} in row {row}",
                expected=f"{least} to {most}",
            )


def read_tables(request: CacheRequest, tables: CacheTables) -> Asked:
    """Return a request that comes as columns.

    Raises:
        UnplannableRequest: A column is missing, unknown, of another type or length, or has a value
            that cannot be.
    """
    if not isinstance(tables, CacheTables):
        raise UnplannableRequest(
            f"`tables` is a {type(tables).__name__}", expected="a bb_roles.CacheTables"
        )
    rows, held = _Table("requests", tables.requests), _Table("held", tables.held)
    names = _Names(tables.names)
    node = rows.whole("node", 0, most=names.most("node", _MAX_NODES))
    src_node = rows.whole("src_node", 0, most=names.most("node", _MAX_NODES))
    src_node = src_node if rows.has("src_node") else node
    tiers = [rows.whole(name, most=_MAX_TIER) if rows.size else node
             for name in ("tier_src", "tier_dst")]  # fmt: skip
    held_tier = held.whole("tier", 0 if not held.size else None, most=_MAX_TIER)
    held_node = held.whole("node", 0, most=names.most("node", _MAX_NODES))
    caps = _Table("tier_caps", tables.tier_caps)
    cap_tier = caps.whole("tier", None if caps.size else 0, most=_MAX_TIER)
    cap_node = caps.whole("node", -1, least=-1, most=names.most("node", _MAX_NODES))
    nodes = 1 + max(map(_most, (node, src_node, held_node, cap_node)), default=0)
    width = 1 + max(map(_most, (*tiers, held_tier, cap_tier)), default=0)
    if nodes * width > _MAX_NODES * 4:
        raise UnplannableRequest(
            f"{nodes} nodes with {width} tiers each are too many",
            fix="number nodes and tiers from 0 on, without gaps",
        )
    places = _places(names, nodes, width)
    stack, held_stack = _stacks(rows, held, names)
    start, end = _pages(rows)
    page_bytes = rows.whole("page_bytes", None if rows.size else 0, least=1, most=MAX_PAGE)
    check_bytes("the pages that are asked for", start, end, page_bytes)
    deadline_ns, due = _deadlines(rows)
    tick_ns = 10**6 if rows.has("deadline_ms") else 1
    tenant = rows.whole("tenant", -1, least=-1, most=names.most("tenant", MAX_PAGE))
    ids = rows.whole("req_id", 0, most=names.most("req_id", MAX_BYTES))
    numbered = rows.has("req_id")
    if not numbered and rows.size > names.most("req_id", MAX_BYTES) + 1:
        raise UnplannableRequest(
            f"`names` has {names.most('req_id', 0) + 1} texts of req_id for {rows.size} rows",
            expected="a text for each row, or a column req_id",
        )
    fill = rows.real("est_fill_ms", 1)
    cluster = "pcluster" if rows.has("pcluster") else "prefix_id"
    head, model = rows.whole("head", 0, most=_MAX_LAYER), rows.whole("model", -1, least=-1)
    return Asked(
        rows.size, request.now_ns, request.window_ms,
        src_node * width + tiers[0], node * width + tiers[1],
        stack, rows.whole("layer", 0, most=_MAX_LAYER), start, end, page_bytes, deadline_ns, due,
        tick_ns, fill, tenant, rows.whole("priority", 0, least=-(1 << 30), most=1 << 30),
        rows.whole(cluster, 0, least=-(1 << 63), most=(1 << 63) - 1),
        rows.whole("src_base") if rows.has("src_base") else None,
        rows.whole("dst_base") if rows.has("dst_base") else None,
        places,
        lambda code: names.text("tenant", code),
        lambda row: names.text("req_id", int(ids[row]) if numbered else row),
        lambda row: PageName("kv", int(head[row]), names.model(int(model[row]))),
        _heat(tables), _held(held, held_node * width + held_tier, held_stack, names),
        _by_place(caps, "bandwidth_caps", cap_node, cap_tier, places),
        _by_place(caps, "free_bytes", cap_node, cap_tier, places),
        _tenant_caps(tables, names), request.quotas,
        lambda name: names.code("tenant", name), _latency(tables), shared_ids=numbered,
    )  # fmt: skip


class _Names:
    """Texts of numbers."""

    def __init__(self, texts: Any) -> None:
        if not isinstance(texts, Mapping):
            raise UnplannableRequest(f"`names` is {texts!r:.80}", expected="texts by column")
        for column, listed in texts.items():
            if column not in ("node", "tenant", "model", "req_id"):
                raise UnplannableRequest(
                    f"`names` has {column!r}", expected="node, tenant, model or req_id"
                )
            _check_texts(column, listed)
        self.texts = texts
        self._models: dict[int, Any] = {}

    def most(self, column: str, otherwise: int) -> int:
        found = self.texts.get(column)
        return otherwise if found is None else len(found) - 1

    def text(self, column: str, code: int) -> str:
        if code < 0:
            return ""
        found = self.texts.get(column)
        if found is None or code >= len(found):  # of nodes that no row is about
            return str(code)
        text: str = found[code]
        return text

    def code(self, column: str, text: str) -> int:
        found = self.texts.get(column)
        if found is not None:
            return found.index(text) if text in found else -2
        return int(text) if text.isascii() and text.isdecimal() else -2

    def model(self, code: int) -> Any:
        """Return the digest of a model, when models have names."""
        if code < 0 or "model" not in self.texts:
            return None
        try:
            return parse_digest(self.texts["model"][code])
        except PlanFormatError as error:
            raise UnplannableRequest(
                f"model {code}: {error.found}", expected=error.expected
            ) from None


def _check_texts(column: str, listed: Any) -> None:
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise UnplannableRequest(
            f"`names` of {column} is {listed!r:.80}", expected="a tuple of texts"
        )
    texts: Sequence[Any] = listed
    strange = next((one for one in texts if not isinstance(one, str)), None)
    if strange is not None:
        raise UnplannableRequest(f"`names` of {column} has {strange!r:.80}", expected="texts")
    if column in ("node", "tenant") and len(set(texts)) < len(texts):
        twice = next(one for at, one in enumerate(texts) if one in texts[:at])
        raise UnplannableRequest(
            f"`names` of {column} has {twice[:80]!r} twice", expected="one number for each"
        )


def _places(names: _Names, nodes: int, width: int) -> Places:
    texts = [names.text("node", code) for code in range(nodes)]
    for text in texts:
        try:
            parse_place(f"tier://{text}/tier0")
        except PlanFormatError:
            raise UnplannableRequest(
                f"no node can be named {text[:80]!r}", expected="a name without /"
            ) from None
    tier = np.tile(np.arange(width), nodes)
    return Places(
        lambda code: f"tier://{texts[code // width]}/tier{code % width}",
        np.repeat(np.arange(nodes), width), tier, np.minimum(tier, 2), texts,
    )  # fmt: skip


def _stacks(rows: _Table, held: _Table, names: _Names) -> tuple[I64, I64]:
    """Number what pages belong to, alike in both tables."""
    codes: list[I64] = []
    for column in ("head", *_MODELS):
        if not rows.has(column) and not held.has(column):
            continue
        least, most = (0, _MAX_LAYER) if column == "head" else (-1, names.most(column, MAX_PAGE))
        default = 0 if column == "head" else -1
        both = [one.whole(column, default, least=least, most=most) for one in (rows, held)]
        codes.append(np.concatenate(both))
    if not codes:
        return constant(0, rows.size), constant(0, held.size)
    joint = codes_of(*codes)
    return joint[: rows.size], joint[rows.size :]


def _pages(table: _Table) -> tuple[I64, I64]:
    none = None if table.size else 0
    start = table.whole("page_start", none, most=MAX_PAGE)
    end = table.whole("page_end", none, most=MAX_PAGE)
    wrong = np.flatnonzero(end < start)
    if len(wrong):
        row = int(wrong[0])
        raise UnplannableRequest(
            f"row {row} of `{table.name}` ends at page {end[row]}, before {start[row]}, its first",
            expected="page_end is the last page, no less than page_start",
        )
    return start, end


def check_bytes(what: str, start: I64, end: I64, page_bytes: I64) -> None:
    """Refuse what would overflow; floats are exact enough to tell."""
    if not len(start):
        return
    if float(((end + 1.0) * page_bytes).max()) > MAX_BYTES:
        raise UnplannableRequest(
            f"{what} have one that begins more than 2 EiB from the first one",
            fix="correct page_end or page_bytes",
        )
    if float(((end - start + 1.0) * page_bytes).sum()) > MAX_BYTES:
        raise UnplannableRequest(
            f"{what} have more than 2 EiB together", fix="correct page_end or page_bytes"
        )


def _deadlines(rows: _Table) -> tuple[I64, I64]:
    if rows.has("deadline_ms") and rows.has("deadline_ns"):
        raise UnplannableRequest(
            "`requests` has deadlines twice", expected="deadline_ms or deadline_ns"
        )
    if rows.has("deadline_ms"):
        told = rows.whole("deadline_ms", most=_MAX_MS)
        return told * 10**6, last_when_none(told)
    told = rows.whole("deadline_ns", 0, most=_MAX_MS * 10**6)
    return told, last_when_none(told)


def last_when_none(deadline: I64) -> I64:
    """Return deadlines with those of 0, which stand for none, after all others."""
    if not len(deadline) or int(deadline.min()) > 0:
        return deadline
    return np.where(deadline == 0, int(deadline.max()) + 1, deadline)


def _heat(tables: CacheTables) -> Heat | None:
    table = _Table("heat", tables.heat)
    if not table.size:
        return None
    return Heat(
        table.whole("layer", 0, most=_MAX_LAYER), table.whole("page_id", most=MAX_PAGE >> 10),
        table.real("decay_hits"), table.real("tenant_weight", 1),
        table.whole("size_bytes", _HIT_BYTES, least=1, most=MAX_PAGE),
    )  # fmt: skip


def _held(table: _Table, place: I64, stack: I64, names: _Names) -> Held | None:
    if not table.size:
        return None
    start, end = _pages(table)
    head, model = table.whole("head", 0, most=_MAX_LAYER), table.whole("model", -1, least=-1)
    page_bytes = table.whole("page_bytes", least=1, most=MAX_PAGE)
    check_bytes("the pages that are held", start, end, page_bytes)
    return Held(
        place, stack, table.whole("layer", 0, most=_MAX_LAYER), start, end, page_bytes,
        lambda row: PageName("kv", int(head[row]), names.model(int(model[row]))),
    )  # fmt: skip


def _by_place(caps: _Table, column: str, node: I64, tier: I64, places: Places) -> I64:
    """Return the caps of all places; those of one node before those of each node."""
    found = np.full(len(places.tier), FAR, np.int64)
    if not caps.size:
        return found
    limits = caps.whole(column, FAR, most=FAR)
    for everywhere in (True, False):
        for row in np.flatnonzero((node < 0) == everywhere).tolist():
            here = places.tier == tier[row]
            if not everywhere:
                here = here & (places.node == node[row])
            found[here] = limits[row]
    return found


def _tenant_caps(tables: CacheTables, names: _Names) -> TenantCaps | None:
    table = _Table("tenant_caps", tables.tenant_caps)
    if not table.columns:
        return None
    none = None if table.size else 0
    return TenantCaps(
        table.whole("tenant", none, most=names.most("tenant", MAX_PAGE)),
        table.whole("tier", none, most=_MAX_TIER), table.whole("bandwidth_caps", none, most=FAR),
    )  # fmt: skip


def _latency(tables: CacheTables) -> tuple[I64, NDArray[np.float64]] | None:
    table = _Table("layer_latency", tables.layer_latency)
    if not table.size:
        return None
    return table.whole("layer", most=_MAX_LAYER), table.real("lat_ms")


def _most(column: I64) -> int:
    return int(column.max()) if len(column) else 0


def _shape(table: str, name: str, array: object) -> int:
    if not isinstance(array, np.ndarray) or array.ndim != 1:
        raise UnplannableRequest(
            f"column {name!r} of `{table}` is a {type(array).__name__}",
            expected="a one-dimensional array of numpy",
        )
    return len(array)


def _unknown(table: str, column: str) -> UnplannableRequest:
    close = get_close_matches(str(column), _KNOWN[table], n=1)
    return UnplannableRequest(
        f"`{table}` has a column {column!r}",
        expected=f"of {', '.join(_KNOWN[table])}",
        fix=f"did you mean {close[0]!r}?" if close else "leave it out",
    )
