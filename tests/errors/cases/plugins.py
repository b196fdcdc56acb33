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
