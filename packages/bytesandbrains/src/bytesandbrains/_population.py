"""Who is in a federation of one process: how many Nodes, their identities, what each is told.

`local` builds Nodes of it; nothing here does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bb_ir.errors import closest
from bb_ir.ids import PeerId
from bb_runtime import Artifact, InstallError
from bb_runtime.artifact import Target

__all__ = ["called", "class_counts", "identities", "main_target"]

#: So many Nodes has a class that does not start the program, unless it is said.
_OTHERS = 2


def main_target(artifact: Artifact, name: str) -> Target:
    """Return the target that an invocation starts: the named one, or the first that can be.

    Raises:
        InstallError: It cannot be invoked, or there is none.
    """
    able = [
        target
        for target in artifact.targets.values()
        if target.phase == "body" and any(not region.opened_in for region in target.regions)
    ]
    chosen = [artifact.target(name)] if name else able[:1]
    if chosen and chosen[0] in able:
        return chosen[0]
    raise InstallError(
        f"target {name!r} cannot be invoked" if name else "the artifact holds nothing to invoke",
        expected=f"one of {', '.join(target.short for target in able) or 'none'}",
        fix="targets of other classes start when an envelope arrives",
    )


def class_counts(
    artifact: Artifact, nodes: Mapping[str, int], *, target: str = "", others: int | None = None
) -> dict[str, int]:
    """Return how many Nodes each class gets: as said, one of the class that starts, else `others`.

    `others` is two when it is left out.

    Raises:
        InstallError: A class is unknown, or the target cannot be invoked.
    """
    main = main_target(artifact, target).cls
    rest = _OTHERS if others is None else others
    defaults = {cls: 1 if cls == main else rest for cls in artifact.classes}
    return _counts(artifact, {**defaults, **nodes}, main)


def _counts(artifact: Artifact, nodes: Mapping[str, int], main: str) -> dict[str, int]:
    for cls, count in nodes.items():
        if cls not in artifact.classes:
            close = closest(cls, artifact.classes)
            raise InstallError(
                f"nodes={{{cls!r}: {count}}}: no class {cls!r} in this program",
                expected=f"a class of {', '.join(artifact.classes)}",
                fix=f"did you mean {close!r}?" if close else "",
            )
        if count < 1:
            raise InstallError(
                f"nodes={{{cls!r}: {count}}}",
                expected=f"at least 1 of a class of {', '.join(artifact.classes)}",
            )
    return {cls: nodes[cls] for cls in (main, *(cls for cls in artifact.classes if cls != main))}


def called(fields: Callable[..., Any], name: str, cls: str, index: int) -> Any:
    """Call a function that gives the configuration of a Node, with as much as it needs to know.

    Raises:
        InstallError: It takes neither an index nor a class and an index.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        signature = inspect.signature(fields)
    except (TypeError, ValueError):  # of a builtin nobody knows
        return fields(index)
    listed = signature.parameters.values()
    needed = [one.name for one in listed if one.kind in kinds and one.default is one.empty]
    given = (cls, index) if len(needed) == 2 else (index,)
    try:
        signature.bind(*given)
    except TypeError as error:
        raise InstallError(
            f"the function for config[{name!r}] takes {', '.join(needed) or 'nothing'}",
            expected="a function of the Node's index in its class, or of class and index",
            fix=f"config={{{name!r}: lambda index: {{...}}}}",
        ) from error
    return fields(*given)


def identities(counts: Mapping[str, int], seed: int) -> dict[str, list[PeerId]]:
    """Return the identities of all Nodes by class; they follow from the seed."""
    numbers = iter(range(sum(counts.values())))
    return {
        cls: [PeerId.from_seed(seed, next(numbers)) for _ in range(count)]
        for cls, count in counts.items()
    }
