"""What a journal costs: per record, and in a round of federated averaging.

The journal of every Node goes to a file, as `bb run --journal` writes it, without waiting for the
disk. It has reached its bounds before anything is measured, as that of a Node that runs for long:
it writes over older files of its own. Without a journal nothing is to be paid: a Node is then of
the ordinary class.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from do_nothing import Echo, Everybody, compiler, parameters, peers
from measure import Effort, Row, Times, interleave, shown, shown_ratio

import bb_runtime as rt
from bb_ir.ids import PeerId
from bb_runtime.journal import Chain, Kind
from bytesandbrains.journal import FileJournal
from bytesandbrains.programs import FederatedAveraging

SMALL, LARGE = 650, 1_000_000
_ROUND = "FederatedAveraging"
_MEGABYTE = 1 << 20
#: Rounds until each Node has written three segments of 64 MiB, with `LARGE` parameters.
_FILLS = 60


def measure(effort: Effort) -> dict[str, Any]:
    """Measure rounds with and without journals, and records by themselves."""
    sizes = [(10, SMALL), (100, SMALL), (10, LARGE)]
    if effort.smoke:
        sizes = [(2, 20)]
    most = max(clients for clients, _ in sizes)
    Everybody.ids = peers(1, most)
    with tempfile.TemporaryDirectory() as folder:
        places = (Path(folder) / str(number) for number in itertools.count())
        calls: dict[str, Callable[[], object]] = {
            "record": _record(_journal(next(places)), b"x" * 100),
            "megabyte": _record(_journal(next(places)), bytes(effort.size(_MEGABYTE, 100))),
            "poll": _poll(None),
            "poll journal": _poll(_journal(next(places))),
        }
        for clients, count in sizes:
            name = f"{clients}x{count}"
            calls[name] = _federation(clients, count, lambda: None)
            federation = _federation(clients, count, lambda: _journal(next(places)))
            # So long it takes until all journals are as full as they get.
            for _ in range(effort.size(_FILLS, 1) if count == LARGE else 1):
                federation()
            calls[f"{name} journal"] = federation
        return {"sizes": sizes, "seconds": interleave(calls, effort, samples=9)}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    found = [
        Row("", "a record of 100 bytes, to a file", "", shown(times["record"], "us", 1e6)),
        Row("", "a record of 1 MiB, to a file", "", shown(times["megabyte"], "ms", 1e3)),
        Row(
            "",
            "`poll` of a quiet Node with a journal, against one without",
            "",
            f"{shown(times['poll journal'], 'us', 1e6)}; without {shown(times['poll'], 'us', 1e6)}",
            shown_ratio(times["poll journal"], times["poll"]),
        ),
    ]
    for clients, count in result["sizes"]:
        name = f"{clients}x{count}"
        with_, without = times[f"{name} journal"], times[name]
        each = 1e6 / clients
        found.append(
            Row(
                "",
                f"a round of {clients:,} clients with {count:,} parameters with journals of all "
                "Nodes, per client, against one without",
                "",
                f"{shown(with_, 'us', each)}; without {shown(without, 'us', each)}; "
                f"{(median(with_) - median(without)) * each:,.0f} us more",
                shown_ratio(with_, without),
            )
        )
    return found


def _journal(folder: Path) -> FileJournal:
    """Return a journal that forgets, so that measuring for long does not fill the disk."""
    return FileJournal(folder, segments=2, fsync="never")


def _record(journal: FileJournal, body: bytes) -> Callable[[], object]:
    chain = Chain()
    written = 0

    def run() -> None:
        nonlocal written
        # Records that begin anew let the journal drop what was before.
        written += len(body)
        if written > 32 * _MEGABYTE:
            written = 0
            for kind in (Kind.INSTALL, Kind.ARTIFACT, Kind.SNAPSHOT):
                journal.write_parts(chain.parts(kind, b""))
        journal.write_parts(chain.parts(Kind.CALL, body))

    return run


def _poll(journal: FileJournal | None) -> Callable[[], object]:
    artifact = rt.load_artifact(compiler().compile(FederatedAveraging(1).build()))
    Echo.first = parameters(SMALL)
    node = rt.install(PeerId.from_seed(0, 0), [], artifact, [_ROUND], journal=journal)
    return node.poll


def _federation(
    clients: int, count: int, journal: Callable[[], Callable[[bytes], object] | None]
) -> Callable[[], object]:
    artifact = rt.load_artifact(compiler().compile(FederatedAveraging(clients).build()))
    Echo.first = parameters(count)
    server = rt.install(PeerId.from_seed(0, 0), [], artifact, [_ROUND], journal=journal())
    chosen = Everybody.ids[:clients]
    nodes = (
        rt.install(peer, [], artifact, [f"{_ROUND}.client"], journal=journal()) for peer in chosen
    )
    bus = rt.LocalBus(server, *nodes)

    def run_round() -> None:
        server.invoke(_ROUND)
        emitted = [e.step.value for e in bus.run() if isinstance(e.step, rt.Emitted)]
        assert [value["count"] for value in emitted] == [clients], emitted

    return run_round
