"""What the tests of plugins share: one plugin of each kind that is found by a name of its own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from bb_roles import registry
from bb_roles.errors import PluginError

COMMAND = """
from bb_roles import CommandSpec, hookimpl

NUMBER = 3

class Command:
    def invoke(self, ctx): ...

look = Command()

@hookimpl
def bb_command():
    return CommandSpec({name!r}, __name__ + ":{named}"{more})
"""

EXECUTOR = """
from bb_roles import Executor, ExecutorSpec, hookimpl

class Mover(Executor):
    def submit(self, plan, *, resume=None): ...
    def close(self): ...

class Half(Executor):
    pass

@hookimpl
def bb_executor():
    return ExecutorSpec({name!r}, __name__ + ":{named}", {listed}{more})
"""

PLANNER = """
from bb_roles import Planner, PlannerSpec, hookimpl

class Swaps(Planner):
    def plan(self, request): ...

class Half(Planner):
    pass

@hookimpl
def bb_planner():
    return PlannerSpec({name!r}, __name__ + ":{named}", {listed}{more})
"""

STAGE = """
from bb_roles import StageSpec, hookimpl

NUMBER = 3

class Look:
    pass

def look(model):
    return model

@hookimpl
def bb_stage():
    return StageSpec({name!r}, __name__ + ":{named}", {place}{more})
"""

TRANSPORT = """
from bb_roles import Transport, TransportSpec, hookimpl

class Pigeons(Transport):
    async def listen(self, address): ...
    async def dial(self, address, peer=None): ...
    async def close(self): ...

class Half(Transport):
    async def close(self): ...

@hookimpl
def bb_transport():
    return TransportSpec({name!r}, __name__ + ":{named}", {listed}{more})
"""

TYPE = """
from bb_roles import TypeCodec, TypeSpec, hookimpl

class Word:
    def __init__(self, text):
        self.text = text

class WordCodec(TypeCodec):
    def encode(self, value):
        return value.text.encode()
    def decode(self, data):
        return Word(str(data, "utf-8"))

class Capitals(WordCodec):
    def is_instance(self, value):
        return value.text.isupper()

class Half(TypeCodec):
    def encode(self, value): ...

class Demanding(WordCodec):
    def __init__(self, size): ...

@hookimpl
def bb_type():
    return TypeSpec({name!r}, cls=__name__ + ":{named}", codec=__name__ + ":{codec}"{more})
"""


class Added(NamedTuple):
    """A kind of plugin, and one of it.

    Attributes:
        kind: The kind.
        name: The plugin's name.
        other: A name that is nearly the same.
        text: Its module, with holes.
        parts: What is in the holes, unless a test says otherwise.
        spec: Gives the declaration of a name.
        load: Imports what a declaration names.
    """

    kind: str
    name: str
    other: str
    text: str
    parts: Mapping[str, str]
    spec: Callable[[str], Any]
    load: Callable[[Any], Any]

    @property
    def point(self) -> str:
        return self.point_of(self.name)

    def point_of(self, name: str) -> str:
        return f"{self.kind}.{name.replace('/', '.')}"

    def source(self, **parts: str) -> str:
        return self.text.format(**{"name": self.name, "more": "", **self.parts, **parts})


KINDS = (
    Added(
        "command", "look", "lock", COMMAND, {"named": "look"},
        registry.command_spec, registry.command_object,
    ),
    Added(
        "executor", "mover", "move", EXECUTOR, {"named": "Mover", "listed": '("H2H",)'},
        registry.executor_spec, registry.executor_class,
    ),
    Added(
        "planner", "swaps", "swapss", PLANNER, {"named": "Swaps", "listed": '("swap",)'},
        registry.planner_spec, registry.planner_class,
    ),
    Added(
        "stage", "look", "lock", STAGE, {"named": "look", "place": 'after="solve_types"'},
        registry.stage_spec, registry.stage_function,
    ),
    Added(
        "transport", "pigeons", "pigeon", TRANSPORT,
        {"named": "Pigeons", "listed": '("unix", "tcp/tls/ws")'},
        registry.transport_spec, registry.transport_class,
    ),
    Added(
        "type", "acme.word/1", "acme.word/2", TYPE, {"named": "Word", "codec": "WordCodec"},
        registry.type_spec, registry.value_codec,
    ),
)  # fmt: skip


@pytest.fixture
def plugins():
    """Return the plugins by their kinds."""
    return {one.kind: one for one in KINDS}


@pytest.fixture(params=[one.kind for one in KINDS])
def added(request, plugins):
    """Return a plugin: one of each kind in turn, or of those that a test parametrizes `added` with.

    A test of one kind says `@pytest.mark.parametrize("added", ["stage"], indirect=True)`.
    """
    return plugins[request.param]


@pytest.fixture
def refused():
    """Return a function that checks which error a call ends in, and what that says."""

    def check(call, *texts, kind=PluginError):
        with pytest.raises(kind) as caught:
            call()
        assert type(caught.value) is kind
        for text in texts:
            assert text in str(caught.value), str(caught.value)

    return check
