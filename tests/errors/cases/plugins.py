"""Plugins and configurations.

What binding, `bb plugins --check` and the authors of plugins meet. The compiler and `install` say
the same in errors of their own, with the slot.
"""

from dataclasses import dataclass

import bytesandbrains as bb
from bb_roles import Aggregator, ComponentSpec
from bb_roles.config import build_config
from bb_roles.registry import component_class


@dataclass(frozen=True)
class Config:
    path: str
    size: int = 1


# %% ConfigError: `size` of slot 'model' is 'big'
build_config(Config, {"path": "here", "size": "big"}, "model")


# %% MissingConfigError: 'model'; path
build_config(Config, {"size": 3}, "model")


# %% PluginError: Half; aggregate
class Half(Aggregator):
    """An aggregator whose author forgot a method."""

    def contribute(self, ctx, params, metrics): ...


component_class(ComponentSpec(role="aggregator", name="half", cls="program:Half"))


# %% RefusedByStage: 'house_rules'; 'Silent'
from bb_ir.errors import BytesAndBrainsError


class Unlisted(BytesAndBrainsError):
    """An error of a plugin's own."""


class Silent(bb.Module):
    def body(self, g):
        g.output("same", g.input("x", "tensor(float32)"))


def house_rules(model):
    """A stage that objects to what nobody listed."""
    name = model.graph.name
    raise Unlisted(f"program {name!r} is not on the list", fix="ask to have it listed")


bb.Compiler().insert_stage(house_rules, before="solve_types").compile(Silent().build())


# %% UnknownPluginError: model.mpl
bb.Compiler().bind_model("model", "mpl")


# %% UnplannableRequest: a SwapRequest
from bb_roles import Planner
from bb_roles.errors import UnplannableRequest


class Pages(Planner):
    """A planner that knows nothing of weights."""

    def plan(self, request):
        raise UnplannableRequest(
            f"a {type(request).__name__} is not about pages", expected="a CacheRequest"
        )


from bb_ir.plan import WeightManifest
from bb_roles import SwapRequest

Pages(None).plan(SwapRequest(to=WeightManifest("m", "2")))


# %% AmbiguousPlugin: 'krum' is the name of several
# file: acme_krum.py
# """Never imported: the name is enough."""
# file: acme_krum-1.0.dist-info/METADATA
# Name: acme-krum
# Version: 1.0
# file: acme_krum-1.0.dist-info/entry_points.txt
# [bytesandbrains.v1]
# codec.krum = acme_krum

# $ bb plugins show krum


# %% BadName: 'My_Agg'
# $ bb new aggregator My_Agg


# %% BrokenCommand: 'greet' of acme-greetings 1.0; KeyError
# file: acme_greetings.py
# import click
# from bb_roles import CommandSpec, hookimpl
#
#
# @click.command()
# @click.option("--json", is_flag=True)
# def greet(json):
#     click.echo("hello " + {}["name"])
#
#
# @hookimpl
# def bb_command():
#     return CommandSpec("greet", "acme_greetings:greet")
# file: acme_greetings-1.0.dist-info/METADATA
# Name: acme-greetings
# Version: 1.0
# Requires-Dist: bb-roles~=0.1.0
# file: acme_greetings-1.0.dist-info/entry_points.txt
# [bytesandbrains.v1]
# command.greet = acme_greetings

# $ bb greet


# %% CannotCreate: notes.txt/deeper/my-agg
# file: notes.txt
# A file, and no folder.

# $ bb new aggregator my-agg --into notes.txt/deeper


# %% ConnectionLost: closed
import asyncio

from bb_testing import MemoryTransport
from bb_testing.memory_transport import MemoryConfig


async def talk():
    here = MemoryTransport(MemoryConfig(), bb.KeyPair.derive(1))
    listener = await here.listen(bb.Address.parse("/memory/7"))
    connection = await here.dial(listener.address)
    await connection.close()
    await connection.send([b"too late"])


asyncio.run(talk())


# %% FolderTaken: 'my-agg'
# file: my-agg/notes.txt
# What is here stays here.

# $ bb new aggregator my-agg


# %% NameTaken: aggregator.krum
# $ bb new aggregator krum


# %% NoRange: acme-peers does not say; peer_selector.acme
# file: acme_peers.py
# from bb_roles import ComponentSpec, PeerSelector, hookimpl
#
#
# class Nobody(PeerSelector):
#     def current_view(self, ctx): ...
#     def sample(self, ctx, *, n): ...
#
#
# @hookimpl
# def bb_component():
#     return ComponentSpec("peer_selector", "acme", "acme_peers:Nobody")
# file: acme_peers-1.0.dist-info/METADATA
# Name: acme-peers
# Version: 1.0
# file: acme_peers-1.0.dist-info/entry_points.txt
# [bytesandbrains.v1]
# peer_selector.acme = acme_peers

# $ bb plugins peer_selector.acme --check


# %% SlowPlugin: peer_selector.heavy imports numpy; acme_heavy does
# file: acme_heavy.py
# import numpy as np
# from bb_roles import ComponentSpec, PeerSelector, hookimpl
#
#
# class Random(PeerSelector):
#     def current_view(self, ctx): ...
#     def sample(self, ctx, *, n): ...
#
#
# @hookimpl
# def bb_component():
#     return ComponentSpec("peer_selector", "heavy", "acme_heavy:Random")
# file: acme_heavy-1.0.dist-info/METADATA
# Name: acme-heavy
# Version: 1.0
# Requires-Dist: bb-roles~=0.1.0
# file: acme_heavy-1.0.dist-info/entry_points.txt
# [bytesandbrains.v1]
# peer_selector.heavy = acme_heavy

# $ bb plugins peer_selector.heavy --check


# %% TakenName: command.doctor of acme-doctors
# file: acme_doctors.py
# import click
# from bb_roles import CommandSpec, hookimpl
#
#
# @click.command()
# def doctor(): ...
#
#
# @hookimpl
# def bb_command():
#     return CommandSpec("doctor", "acme_doctors:doctor")
# file: acme_doctors-1.0.dist-info/METADATA
# Name: acme-doctors
# Version: 1.0
# Requires-Dist: bb-roles~=0.1.0
# file: acme_doctors-1.0.dist-info/entry_points.txt
# [bytesandbrains.v1]
# command.doctor = acme_doctors

# $ bb plugins command.doctor --check


# %% Unreachable: /memory/7
import asyncio

from bb_testing import MemoryTransport
from bb_testing.memory_transport import MemoryConfig

transport = MemoryTransport(MemoryConfig(), bb.KeyPair.derive(1))
asyncio.run(transport.dial(bb.Address.parse("/memory/7")))


# %% WrongPeer: /memory/7
import asyncio

from bb_testing import MemoryTransport
from bb_testing.memory_transport import MemoryConfig


async def look():
    here = MemoryTransport(MemoryConfig(), bb.KeyPair.derive(1))
    listener = await here.listen(bb.Address.parse("/memory/7"))
    await here.dial(listener.address, bb.PeerId.from_seed(2))


asyncio.run(look())
