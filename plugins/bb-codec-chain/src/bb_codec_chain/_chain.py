"""A row of codecs that is one codec.

Encoding passes through them from the first to the last, decoding back. They are installed plugins,
found by name when the configuration is checked, and types are followed through the row, so a chain
that cannot work is refused before anything runs. The chain adds nothing to what the last one
encodes, and checks nothing when it decodes: each codec refuses what it did not encode.

Only names of installed plugins are taken, never `module:Class`: a configuration may come with an
artifact from elsewhere, and must not choose what is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple, cast

from bb_codec_chain.errors import ChainMisfit, ChainStateMisfit
from bb_ir.types import ANY, Type, meet, parse_type
from bb_roles import Codec, Context, Environment, State
from bb_roles.config import build_config
from bb_roles.registry import component_class, component_spec

__all__ = ["Chain", "ChainConfig"]

_MOST: Final = 8


@dataclass(frozen=True)
class ChainConfig:
    """Which codecs, in the order in which they encode.

    Attributes:
        codecs: Names of installed codecs, such as `quantize` and `zstd`; one to eight.
        configs: The configuration of each by its name; those left out have their defaults. Codecs
            of one name in a chain share it.
    """

    codecs: tuple[str, ...]
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def __post_init__(self) -> None:
        if not 1 <= len(self.codecs) <= _MOST:
            raise ChainMisfit(
                f"a chain of {len(self.codecs)} codecs",
                expected=f"1 to {_MOST} of them",
                fix='name them: codecs=("quantize", "zstd")',
                where="codecs",
            )
        odd = sorted(set(self.configs) - set(self.codecs))
        if odd:
            raise ChainMisfit(
                f"there is a configuration for {odd[0]!r}, which is not in the chain",
                expected=f"one of {', '.join(self.codecs)}",
                fix="remove it, or add the codec",
                where="configs",
            )
        links = _links(self)
        _followed(links, "Encode", "value", "encoded")
        _followed(links[::-1], "Decode", "encoded", "value")


class _Link(NamedTuple):
    """One codec of a chain."""

    name: str
    cls: type[Codec]
    config: Any
    #: `<Op>.<port>` to what is known of it.
    types: Mapping[str, Type]

    def known(self, port: str) -> Type:
        return self.types.get(port, ANY)


class Chain(Codec):
    """Several codecs as one: each encodes what the one before it returned.

    It loses what its codecs lose, and refuses what they refuse, with their own errors. Ops that a
    codec has beside those of its role, such as those with a memory, are not reached through a
    chain: give such a codec a slot of its own. Codecs that draw random numbers draw the same ones.

    Its state is theirs.

    Args:
        config: A `ChainConfig`.
        env: Where it is being built; each codec is built as `<slot>.<its place>`.
    """

    Config: ClassVar[type] = ChainConfig

    def __init__(self, config: ChainConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._codecs = [
            link.cls(link.config, Environment(env.peer, f"{env.slot}.{at}", env.seed, {}, env.pool))
            for at, link in enumerate(_links(config))
        ]

    @classmethod
    def value_types(cls, config: ChainConfig) -> Mapping[str, str]:
        """Return what the first codec says of values, and the last one of what is encoded."""
        links = _links(config)
        first, last = links[0], links[-1]
        return {
            "Encode.value": str(first.known("Encode.value")),
            "Encode.encoded": str(last.known("Encode.encoded")),
            "Decode.encoded": str(last.known("Decode.encoded")),
            "Decode.value": str(first.known("Decode.value")),
        }

    @classmethod
    def infer_types(
        cls, config: ChainConfig, op: str, inputs: tuple[Type, ...]
    ) -> Mapping[str, Type] | None:
        """Return what follows through the row from the type of what is given."""
        links = _links(config)
        if op == "Encode":
            given, result = "value", "encoded"
        elif op == "Decode":
            given, result, links = "encoded", "value", links[::-1]
        else:
            return None
        return {result: _followed(links, op, given, result, inputs[0])}

    def encode(self, ctx: Context, value: Any) -> Any:
        """Return what the last codec returns.

        Args:
            ctx: The call's context, as each codec gets it.
            value: What the first codec takes.
        """
        for codec in self._codecs:
            value = codec.encode(ctx, value)
        return value

    def decode(self, ctx: Context, encoded: Any) -> Any:
        """Return what the first codec decodes.

        Args:
            ctx: The call's context, as each codec gets it.
            encoded: What `encode` returned, of a chain of the same codecs.
        """
        for codec in reversed(self._codecs):
            encoded = codec.decode(ctx, encoded)
        return encoded

    def train(self, ctx: Context, samples: list[Any]) -> None:
        """Let each codec learn from what the trained ones before it make of the samples."""
        for codec in self._codecs:
            codec.train(ctx, samples)
            samples = [codec.encode(ctx, sample) for sample in samples]

    def abandon(self, ctx: Context) -> None:
        """Tell each codec."""
        for codec in self._codecs:
            codec.abandon(ctx)

    def close(self) -> None:
        """Close each codec."""
        for codec in self._codecs:
            codec.close()

    def save(self) -> State:
        """Return the states of all codecs, and their names."""
        states = [codec.save() for codec in self._codecs]
        return State(
            tensors={f"{at}.{n}": t for at, s in enumerate(states) for n, t in s.tensors.items()},
            data={"codecs": list(self.config.codecs), "data": [dict(s.data) for s in states]},
        )

    def load(self, state: State) -> None:
        """Give each codec the state that it saved.

        Raises:
            ChainStateMisfit: It was saved by a chain of other codecs.
        """
        names, data = state.data.get("codecs"), state.data.get("data")
        told = cast("list[Mapping[str, Any]]", data if isinstance(data, list) else [])
        if names != list(self.config.codecs) or len(told) != len(self._codecs):
            raise ChainStateMisfit(
                f"a state of the codecs {names!r:.200} was to be loaded",
                expected=f"one of {', '.join(self.config.codecs)}",
                fix="load the state of a chain of the same codecs",
            )
        for at, codec in enumerate(self._codecs):
            head = f"{at}."
            tensors = {n[len(head) :]: t for n, t in state.tensors.items() if n.startswith(head)}
            codec.load(State(tensors=tensors, data=told[at]))


def _links(config: ChainConfig) -> list[_Link]:
    """Find the codecs that a configuration names, with their configurations."""
    return [_link(name, config.configs.get(name)) for name in config.codecs]


def _link(name: str, given: Mapping[str, Any] | None) -> _Link:
    if name == "chain":
        raise _misfit("a chain stands in a chain", "write its codecs in its place")
    spec = component_spec("codec", name)
    cls = cast("type[Codec]", component_class(spec))
    if spec.depends or cls.depends:
        needed = ", ".join(sorted({*spec.depends, *cls.depends}))
        raise _misfit(f"codec {name!r} needs the slots {needed}", "give it a slot of its own")
    if cls.defers:
        raise _misfit(f"codec {name!r} defers its work", "give it a slot of its own")
    own = build_config(cls.Config, given, f"{name} of the chain")
    texts = {**spec.types, **cls.value_types(own)}
    return _Link(name, cls, own, {port: parse_type(text) for port, text in texts.items()})


def _followed(links: list[_Link], op: str, given: str, result: str, known: Type = ANY) -> Type:
    """Return what is known of the result of the last one.

    Raises:
        ChainMisfit: A codec does not take what it is given.
    """
    before = ""
    for link in links:
        taken = meet(known, link.known(f"{op}.{given}"))
        if taken is None:
            told = f"codec {before!r} gives" if before else "it is given"
            raise _misfit(
                f"codec {link.name!r} takes {link.known(f'{op}.{given}')}, and {told} {known}",
                "put the codecs in another order",
            )
        inferred = link.cls.infer_types(link.config, op, (taken,)) or {}
        declared = link.known(f"{op}.{result}")
        known = meet(declared, inferred.get(result, ANY)) or declared
        before = link.name
    return known


def _misfit(found: str, fix: str) -> ChainMisfit:
    return ChainMisfit(
        found, expected="codecs of which each takes what the one before it gives", fix=fix
    )
