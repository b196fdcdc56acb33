"""What it costs to import modules, in interpreters that were started for it.

All modules are imported in one interpreter first, which tells whether anything is wrong at all; it
hides what two of them share. Only if it is, each gets one of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bb_roles.light import HEAVY

__all__ = ["Cost", "import_costs"]

#: A module that does not come back is stopped.
_PATIENCE = 60.0
_TRIES = 3

# What is the contract's own is imported before anything is measured. Whoever imports a heavy
# library first is the one to blame: what that library imports itself comes later.
_SCRIPT = """
import builtins, importlib, json, sys, time

told = json.load(sys.stdin)
sys.path[:] = told["path"]
import bb_roles, bb_roles._hooks, bb_roles.spec

real, heavy, blame = builtins.__import__, set(told["heavy"]), {}

def watching(name, globals=None, locals=None, fromlist=(), level=0):
    top = name.partition(".")[0]
    if level == 0 and top in heavy and top not in blame:
        blame[top] = (globals or {}).get("__name__") or "?"
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = watching
seconds = {}
for module in told["modules"]:
    before = time.process_time()
    try:
        importlib.import_module(module)
    except Exception:
        pass
    seconds[module] = time.process_time() - before
first = next(iter(blame.items()), None)
loaded = heavy & set(sys.modules)
found = {"seconds": seconds, "blame": first, "loaded": sorted(loaded)}
sys.__stdout__.write("\\n" + json.dumps(found))
"""


class Cost(NamedTuple):
    """What importing one module costs.

    Attributes:
        seconds: Of CPU, beyond what the contract costs; the least of some tries.
        heavy: Large libraries that it imports, to the module that does: the first one only, as
            that may bring the others.
    """

    seconds: float
    heavy: Mapping[str, str]


def import_costs(modules: Sequence[str], limit: float) -> dict[str, Cost]:
    """Return what each module costs to import.

    Args:
        modules: Their names.
        limit: In seconds of CPU. What seems to cost more is measured again.
    """
    if not modules:
        return {}
    together = _measure(modules)
    seconds: Mapping[str, float] = together["seconds"]
    if len(modules) > 1 and together["loaded"]:
        return {one: _cost(one, limit) for one in modules}
    return {
        one: _cost(one, limit) if together["loaded"] or seconds[one] > limit
        else Cost(seconds[one], {})
        for one in modules
    }  # fmt: skip


def _cost(module: str, limit: float) -> Cost:
    least = float("inf")
    for _ in range(_TRIES):
        found = _measure([module])
        least = min(least, found["seconds"][module])
        if found["loaded"]:
            library, importer = found["blame"] or (found["loaded"][0], module)
            return Cost(least, {library: importer})
        if least <= limit:
            break
    return Cost(least, {})


def _measure(modules: Sequence[str]) -> dict[str, Any]:
    """Import modules in a new interpreter; one that never ends counts as very slow."""
    told = {"path": sys.path, "modules": list(modules), "heavy": HEAVY}
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and script
            [sys.executable, "-c", _SCRIPT],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError):
        # One that ends the interpreter, or waits for ever, hides what all others cost.
        return {"seconds": dict.fromkeys(modules, _PATIENCE), "blame": None, "loaded": []}
    return found
