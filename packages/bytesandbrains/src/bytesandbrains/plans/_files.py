"""Plans and manifests in files: canonical JSON, protobuf, and the earlier JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bb_ir.plan import (
    CachePlan,
    Plan,
    PlanFormatError,
    SwapPlan,
    WeightManifest,
    from_bytes,
    from_earlier_json,
    from_json,
    to_bytes,
    to_earlier_json,
    to_json,
)
from bytesandbrains._files import write_atomically
from bytesandbrains.plans._errors import BadPlanFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MANIFEST_NAME", "PLAN_NAME", "read_manifest", "read_plan", "write_plan"]

T = TypeVar("T")

#: What a folder's manifest and plan are called.
MANIFEST_NAME = "bb-manifest.json"
PLAN_NAME = "plan.json"


def read_plan(path: Path) -> Plan | SwapPlan | CachePlan:
    """Read a plan: a file, or a folder with `plan.json`.

    The file holds a `Plan` as canonical JSON or protobuf, or a plan in the earlier JSON.

    Raises:
        BadPlanFile: It holds something else, or cannot be read.
    """
    if path.is_dir():
        path = _inside(path, PLAN_NAME, "a plan, or a bundle from `bb plan swap --bundle`")
    data = _bytes(path)
    ways: list[Callable[[], Plan | SwapPlan | CachePlan]] = [lambda: from_bytes(Plan, data)]
    if data.lstrip()[:1] == b"{":
        text = _text(path, data)
        ways = [
            lambda: from_json(Plan, text),
            lambda: from_earlier_json(SwapPlan, text),
            lambda: from_earlier_json(CachePlan, text),
        ]
        # What is written in the earlier form says what it is by its keys.
        if '"prefetch"' in text and '"manifest_to"' not in text:
            ways[1:] = ways[:0:-1]
        if '"schemaVersion"' in text:
            ways = ways[:1]
        elif '"ops"' in text:
            ways = ways[1:]
    return _first(path, ways, "a plan as `bb plan swap` or `bb plan cache` writes it")


def read_manifest(path: Path) -> WeightManifest:
    """Read a manifest that `bb plan manifest` wrote: a file, or a folder with `bb-manifest.json`.

    Raises:
        BadPlanFile: It holds something else, or cannot be read.
    """
    if path.is_dir():
        path = _inside(path, MANIFEST_NAME, "a manifest from `bb plan manifest`")
    text = _text(path, _bytes(path))
    return _first(
        path, [lambda: from_json(WeightManifest, text)], "a manifest from `bb plan manifest`"
    )


def write_plan(path: Path, plan: Plan, *, earlier: bool = False) -> None:
    """Write a plan: protobuf if the name ends in `.pb`, else canonical JSON.

    Args:
        path: The file.
        plan: The plan in its envelope.
        earlier: Whether to write the earlier JSON, which leaves out what was added since.

    Raises:
        CannotWrite: The file cannot be written.
        PlanFormatError: The earlier form has no word for what the plan says.
    """
    if earlier:
        content = plan.swap or plan.cache
        assert content is not None, "plans in envelopes are not empty"
        data = to_earlier_json(content).encode()
    elif path.suffix == ".pb":
        data = to_bytes(plan)
    else:
        data = to_json(plan).encode()
    write_atomically(path, data)


def _inside(folder: Path, name: str, expected: str) -> Path:
    """Return a file of a folder that has to be there."""
    if not (folder / name).exists():
        found = f"there is no {name} in the folder {str(folder)!r}"
        raise BadPlanFile(found, expected=expected, fix="check the path")
    return folder / name


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadPlanFile(
            f"{str(path)!r} cannot be read: {error.strerror or error}", fix="check the path"
        ) from error


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadPlanFile(f"{str(path)!r} is no text: {error.reason}", fix="check the path") from (
            error
        )


def _first(path: Path, ways: Sequence[Callable[[], T]], expected: str) -> T:
    errors: list[str] = []
    for way in ways:
        try:
            return way()
        except PlanFormatError as error:
            errors.append(error.found)
    raise BadPlanFile(
        f"{str(path)!r} cannot be read: {errors[0]}",
        expected=expected,
        fix="write it again with `bb plan`",
    )
