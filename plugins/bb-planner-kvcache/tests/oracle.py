"""A window planned row by row and page by page, as the documentation says: slow, and plain.

Nothing of the planner is used here: what it finds with sorts of columns is to be the same.
"""

from dataclasses import dataclass, field
from math import inf

#: Media, by tier, between which something moves.
ROUTES = {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)}


def rows_of(columns):
    lists = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


@dataclass
class Run:
    """Pieces of rows that are moved together."""

    rows: list
    start: int
    end: int
    pieces: list = field(default_factory=list)
    fate: str = "met"
    reach: int = 0

    @property
    def turn(self):
        due = min(row["deadline_ms"] or inf for row in self.rows)
        return -max(row["priority"] for row in self.rows), due, min(row["at"] for row in self.rows)

    @property
    def row(self):
        return self.rows[0]

    def nbytes(self, last=None):
        return ((self.end if last is None else last) - self.start + 1) * self.row["page_bytes"]


class Oracle:
    """The plan of a window: `states` of rows, `ops`, `prefetch`, and the pages to `evict`."""

    def __init__(self, request, config, names):
        self.config, self.names, self.quotas = config, names, request.quotas
        self.now_ms, tables = request.now_ns // 10**6, request.tables
        self.rows = rows_of(tables.requests)
        for at, row in enumerate(self.rows):
            row |= {"at": at, "state": "met"}
        self.heat, self.held = rows_of(tables.heat), rows_of(tables.held)
        self.shares = {(one["tenant"], one["tier"]): one["bandwidth_caps"]
                       for one in rows_of(tables.tenant_caps)}  # fmt: skip
        self.caps = {one["tier"]: one for one in rows_of(tables.tier_caps)}
        self.victims = self.coldest() if config.eviction else []
        self.look_at_rows()
        self.runs = self.join(self.tenants(self.missing()))
        self.put_aside()
        self.fit_places()
        self.settle()
        self.told()

    def told(self):
        self.states = [row["state"] for row in self.rows]
        chosen = sorted((run for run in self.runs if run.fate == "met"), key=lambda run: run.turn)
        self.ops = [self.op(run) for run in chosen]
        later = ("quota", "limit", "small")
        put_off = [run for run in self.runs
                   if run.fate in later or (run.fate == "met" and run.reach < run.end)]  # fmt: skip
        self.prefetch = [
            (run.row["layer"], run.reach + 1 if run.fate == "met" else run.start, run.end,
             run.row["page_bytes"])
            for run in sorted(put_off, key=lambda run: run.turn)[: self.config.max_prefetch]
        ]  # fmt: skip
        self.evict = self.dropped(chosen)

    def op(self, run):
        row, tenants = run.row, {one["tenant"] for one in run.rows}
        rank, due, first = run.turn
        return (
            row["node"], row["tier_src"], row["tier_dst"], row["layer"], row["page_bytes"],
            run.start, run.reach, run.nbytes(run.reach), len(run.pieces), -rank,
            0 if due == inf else due, tenants.pop() if len(tenants) == 1 else -1, first,
        )  # fmt: skip

    # --- rows

    def hits(self, layer, page):
        found = [one["decay_hits"] for one in self.heat
                 if (one["layer"], one["page_id"]) == (layer, page)]  # fmt: skip
        return max(found, default=0)

    def look_at_rows(self):
        for row in self.rows:
            slack = row["deadline_ms"] - self.now_ms if row["deadline_ms"] else inf
            popular = self.hits(row["layer"], row["page_start"]) > self.config.pmin
            media = min(row["tier_src"], 2), min(row["tier_dst"], 2)
            if not popular and slack <= self.config.umin:
                row["state"] = "cold" if slack > 0 else "late"
            elif media not in ROUTES:
                row["state"] = "route"
            elif row["tier_src"] == row["tier_dst"]:
                row["state"] = "held"
            elif (row["page_end"] + 1) * row["page_bytes"] > self.config.layer_bytes:
                row["state"] = "range"

    def missing(self):
        """Return the parts of rows whose pages are not there: row, first and last page."""
        there = {(*self.place(one, "tier"), one["layer"], one["page_bytes"], page)
                 for one in self.held
                 for page in range(one["page_start"], one["page_end"] + 1)}  # fmt: skip
        found = []
        for row in self.rows:
            if row["state"] != "met":
                continue
            key = *self.place(row), row["layer"], row["page_bytes"]
            pages = [page for page in range(row["page_start"], row["page_end"] + 1)
                     if (*key, page) not in there]  # fmt: skip
            if not pages:
                row["state"] = "held"
            for page in pages:
                if found and found[-1][0] is row and found[-1][2] == page - 1:
                    found[-1][2] = page
                else:
                    found.append([row, page, page])
        return found

    @staticmethod
    def place(row, tier="tier_dst"):
        return row["node"], row[tier]

    # --- limits

    def tenants(self, pieces):
        limits = self.listed(tenants=True)
        if self.config.tenant_credits:
            limits.insert(0, self.share)
        for limit in limits:
            order = sorted(
                pieces, key=lambda one: (-one[0]["priority"], one[0]["deadline_ms"] or inf)
            )
            items = [(*limit(row), (last - first + 1) * row["page_bytes"], row["page_bytes"])
                     for row, first, last in order]  # fmt: skip
            for piece, item, taken in zip(order, items, greedy(items), strict=True):
                piece.append((item[2], taken))
            for row, _, _, (size, taken) in pieces:
                if taken < size:
                    row["state"] = "partial" if taken else "tenant"
            pieces = [[row, first, first + taken // row["page_bytes"] - 1]
                      for row, first, _, (_, taken) in pieces if taken]  # fmt: skip
        return pieces

    def share(self, row):
        key = row["tenant"], row["tier_dst"]
        return (*key, row["node"]), self.shares.get(key, inf)

    def listed(self, *, tenants):
        """Return limits, one for all quotas that look at the same: row to group and bytes."""
        shapes = {}
        for quota in self.quotas:
            if bool(quota.tenant) is tenants:
                shape = bool(quota.node), quota.tier >= 0, bool(quota.tenant)
                shapes.setdefault(shape, []).append(quota)
        return [self.limit(shape, quotas) for shape, quotas in shapes.items()]

    def limit(self, shape, quotas):
        def of(row):
            tenant = self.names["tenant"][row["tenant"]] if row["tenant"] >= 0 else None
            mine = self.names["node"][row["node"]], row["tier_dst"], tenant
            group = tuple(one for one, counts in zip(mine, shape, strict=True) if counts)
            told = [quota.limit for quota in quotas if group == tuple(
                one for one, counts in zip((quota.node, quota.tier, quota.tenant), shape,
                                           strict=True) if counts)]  # fmt: skip
            return group, min(told, default=inf)

        return of

    def room(self, row):
        place, cap = self.place(row), self.caps.get(row["tier_dst"])
        if cap is None:
            return place, inf
        evictable = sum(size for one, _, size, _ in self.victims if one == place)
        return place, min(cap["bandwidth_caps"], cap["free_bytes"] + evictable)

    def fit_places(self):
        limits = self.listed(tenants=False)
        if self.config.enforce_tier_caps:
            limits.insert(0, self.room)
        for limit in limits:
            live = sorted((one for one in self.runs if one.fate == "met"), key=lambda one: one.turn)
            items = [(*limit(one.row), one.nbytes(one.reach), one.row["page_bytes"])
                     for one in live]  # fmt: skip
            for run, taken in zip(live, greedy(items), strict=True):
                if not taken:
                    run.fate = "quota"
                run.reach = run.start + taken // run.row["page_bytes"] - 1 if taken else run.reach
        count = {}
        for run in sorted(self.runs, key=lambda run: run.turn):
            if run.fate == "met":
                place = self.place(run.row)
                count[place] = count.get(place, 0) + 1
                run.fate = "met" if count[place] <= self.config.max_ops_per_tier else "limit"

    # --- runs

    def join(self, pieces):
        def identity(row):
            return row["node"], row["tier_src"], row["tier_dst"], row["layer"], row["page_bytes"]

        runs, before = [], None
        for row, first, last in sorted(pieces, key=lambda one: (*identity(one[0]), one[1])):
            run = runs[-1] if runs and identity(before) == identity(row) else None
            other = self.config.prefix_fanout and run and before["prefix_id"] != row["prefix_id"]
            if run is None or first > run.end + 1 or (other and first == run.end + 1):
                run = Run([], first, last)
                runs.append(run)
            run.rows.append(row)
            run.pieces.append((row, first, last))
            run.end = run.reach = max(run.end, last)
            before = row
        return runs

    def put_aside(self):
        for run in self.runs:
            if run.nbytes() < self.config.min_io_bytes:
                run.fate = "small"
        taken = []
        for run in sorted(self.runs, key=lambda run: run.turn):
            if run.fate != "met":
                continue
            begin = run.row["layer"] * self.config.layer_bytes + run.start * run.row["page_bytes"]
            end, place = begin + run.nbytes(), self.place(run.row)
            if any(place == one and begin < high and low < end for one, low, high in taken):
                run.fate = "overlap"
            else:
                taken.append((place, begin, end))

    def settle(self):
        """Tell rows what became of their pieces."""
        moving = set()
        for run in self.runs:
            for row, first, last in run.pieces:
                fate = "quota" if run.fate == "met" and last > run.reach else run.fate
                if fate != "met":
                    row["state"] = fate
                if run.fate == "met" and first <= run.reach:
                    moving.add(row["at"])
        for row in self.rows:
            if row["at"] in moving and row["state"] != "met":
                row["state"] = "partial"

    # --- what is dropped

    def coldest(self):
        """Return what could be dropped, coldest first: place, layer, page size, page."""
        wanted = {(self.place(row), row["layer"], row["page_bytes"], page) for row in self.rows
                  for page in range(row["page_start"], row["page_end"] + 1)}  # fmt: skip
        last_used = {}
        for one in self.held:
            for page in range(one["page_start"], one["page_end"] + 1):
                key = self.place(one, "tier"), one["layer"], one["page_bytes"], page
                if one["tier"] in self.caps and key not in wanted:
                    last_used.pop(key, None)
                    last_used[key] = self.hits(one["layer"], page)
        found = sorted(last_used, key=last_used.__getitem__)
        return [(place, layer, size, page) for place, layer, size, page in found]

    def dropped(self, chosen):
        found = set()
        needed = {}
        for run in chosen:
            place = self.place(run.row)
            needed[place] = needed.get(place, 0) + run.nbytes(run.reach)
        for victim in self.victims:
            place = victim[0]
            lacking = needed.get(place, 0) - self.caps[place[1]]["free_bytes"]
            if sum(one[2] for one in found if one[0] == place) < lacking:
                found.add(victim)
        return found


def greedy(items):
    """Return how much of each item is taken: group, limit of the group, size, unit; in turn."""
    room, taken = {}, []
    for group, limit, size, unit in items:
        if limit == inf:
            taken.append(size)
        elif group not in room and size > limit:
            taken.append(limit // unit * unit)
            room[group] = limit - taken[-1]
        else:
            room.setdefault(group, limit)
            taken.append(size if size <= room[group] else 0)
            room[group] -= taken[-1]
    return taken
