"""What `_placement` has to say to users: one function for each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from onnx import NodeProto

from bb_compiler._wording import label_of, value_text, where_it_stands
from bb_compiler.errors import (
    AmbiguousPlacement,
    CompileError,
    CrossClassDataflow,
    FanOutEscape,
    GatherOutsideFanOut,
    SenderOutsideMessage,
    SiblingRegions,
    UnknownPeerClass,
)
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine, did_you_mean
from bb_ir.types import Type

if TYPE_CHECKING:
    from bb_compiler._placement import Region

__all__ = [
    "Clash",
    "ambiguous",
    "cross_class",
    "escape_by_at",
    "escape_by_mixing",
    "escape_of_round",
    "lines_of",
    "meant_sender",
    "no_message",
    "no_such_class",
    "not_a_fan_out",
    "siblings",
    "unknown_peers",
]


class Clash(NamedTuple):
    """An op that reads a value of another region than its own, and what holds it in its own."""

    node: NodeProto
    name: str
    region: Region
    maker: NodeProto | None
    partner: str
    own_region: Region
    partner_maker: NodeProto | None

    @property
    def lines(self) -> tuple[SourceLine, ...]:
        """Lines of the op and of both ends."""
        return lines_of(self.node, self.maker, self.partner_maker)

    @property
    def read(self) -> str:
        """The value of the other region, as users know it."""
        return value_text(self.name, self.maker, self.node)

    @property
    def end(self) -> str:
        """The value of the other region, and where that is."""
        return f"{self.read} of {where_it_stands(self.region)}"

    @property
    def other_end(self) -> str:
        """The end at which the op stands."""
        place = where_it_stands(self.own_region)
        if not self.partner:
            return f"is placed on {place}"
        return f"{value_text(self.partner, self.partner_maker, self.node)} of {place}"

    @property
    def both(self) -> str:
        """What the op reads, and what holds it elsewhere, in one sentence."""
        joined = "and" if self.partner else "but"
        return f"{self.node.op_type} reads {self.end} {joined} {self.other_end}"


def lines_of(*nodes: NodeProto | None) -> tuple[SourceLine, ...]:
    """Return the users' lines of ops, each once."""
    found = (onnx_tools.source_of(node) for node in nodes if node is not None)
    return tuple(dict.fromkeys(line for line in found if line is not None))


def no_such_class(node: NodeProto, wanted: str, known: Iterable[str]) -> CompileError:
    """Complain about `with g.at("class")`."""
    classes = list(dict.fromkeys(known))
    return UnknownPeerClass(
        f"{node.op_type} is placed on class {wanted!r}, on which nothing runs here",
        expected=f"one of {', '.join(classes)}",
        fix=did_you_mean(wanted, classes) or "reach the class by g.net_out first",
        where=lines_of(node),
    )


def unknown_peers(
    node: NodeProto, to: str, known: Type | None, maker: NodeProto | None
) -> CompileError:
    """Complain about a send to nobody knows whom."""
    edge = onnx_tools.get_meta(node, keys.EDGE)
    peers = known is not None and known.kind == "peers"
    what = (
        "peers of a class that is not known" if peers else f"{known or 'any'}, which are no peers"
    )
    return UnknownPeerClass(
        f"edge {edge!r} is sent to {value_text(to, maker, node)}: {what}",
        expected="peers of a PeerSelector(of=...) slot or of g.peers(name, of=...), or return "
        "addresses of g.sender(received)",
        fix=f"g.net_out({edge!r}, peers, value, ...): the peers come first",
        where=lines_of(node, maker),
    )


def not_a_fan_out(
    node: NodeProto, value: str, region: Region, maker: NodeProto | None
) -> CompileError:
    """Complain about a gather over something that exists once."""
    return GatherOutsideFanOut(
        f"gather over {value_text(value, maker, node)} of {where_it_stands(region)}, where it "
        "exists once: no replies arrive there",
        expected="a value that exists once per reply: one that g.net_out sent to a "
        "g.sender(received), or what was made of it",
        fix="let the peers answer: reply = g.net_out('reply', g.sender(received), value), then "
        "gather the reply",
        where=lines_of(node, maker),
    )


def no_message(
    node: NodeProto, value: str, region: Region, maker: NodeProto | None
) -> CompileError:
    """Complain about the sender of a local value."""
    return SenderOutsideMessage(
        f"g.sender({label_of(value, maker)}): {value_text(value, maker, node)} stands on "
        f"{where_it_stands(region)}; no message brought it, so nobody sent it",
        expected="a value that g.net_out brought, or what was made of it",
        fix="received = g.net_out('edge', peers, value), then g.sender(received)",
        where=lines_of(node, maker),
    )


def escape_by_at(clash: Clash) -> CompileError:
    """Complain about `with g.at(parent)` around a reader of a reply."""
    return FanOutEscape(
        f"{clash.node.op_type} is placed on {where_it_stands(clash.own_region)}, but reads "
        f"{clash.read}, which exists once for every reply on edge {clash.region.name!r}",
        expected="one value for the whole fan-out",
        fix=f"gather it: done = g.gather({label_of(clash.name, clash.maker)}, values=True), then "
        "use done.values",
        where=clash.lines,
    )


def escape_by_mixing(
    node: NodeProto,
    name: str,
    own: str,
    region: str,
    makers: tuple[NodeProto | None, NodeProto | None],
) -> CompileError:
    """Complain about an op of a reply that needs all replies to be gathered."""
    why = f", since {value_text(own, makers[1], node)} stands there" if own else ""
    return FanOutEscape(
        f"{node.op_type} runs once for every reply on edge {region!r}{why}, but needs "
        f"{value_text(name, makers[0], node)}, which exists only after those replies were gathered",
        expected="values of the reply alone, or values of the round alone",
        fix="gather both (values=True), or make the first before the replies arrive or under "
        "`with g.at(...)`",
        where=lines_of(node, *makers),
    )


def escape_of_round(
    node: NodeProto, reads: str, region: str, maker: NodeProto | None
) -> CompileError:
    """Complain about an aggregate that would run for each reply."""
    given = "" if maker is None else f"what {maker.op_type} gives, "
    why = (
        f"it waits for {given}{value_text(reads, maker, node)}"
        if reads
        else "the op before it stands there"
    )
    return FanOutEscape(
        f"{node.op_type} takes the result of a whole round, but runs once for every reply on "
        f"edge {region!r}, because {why}",
        expected="to run once, after the replies were gathered",
        fix="done = g.gather(value, ...) first, then after=done",
        where=lines_of(node, maker),
    )


def ambiguous(clash: Clash, loose: str, came_by: Region | None = None) -> CompileError:
    """Complain about an op without inputs whose use stands elsewhere.

    Args:
        clash: The op that uses it.
        loose: What the op without inputs gives.
        came_by: The region whose message the use may have been meant to answer.
    """
    maker = clash.maker if loose == clash.name else clash.partner_maker
    assert maker is not None  # inputs of a function are never placed by the cursor
    user = f"{clash.node.op_type} uses its {label_of(loose, maker)!r}"
    stands = where_it_stands(clash.region)
    if loose != clash.name:
        stands = where_it_stands(clash.own_region)
        use = f"{user} beside {clash.end}"
    elif clash.partner:
        use = f"{user} beside {clash.other_end}"
    else:
        use = f"{user} on {where_it_stands(clash.own_region)}"
    slot = onnx_tools.get_meta(maker, keys.SLOT)
    return AmbiguousPlacement(
        f"{maker.op_type}{f' of slot {slot!r}' if slot else ''} reads nothing that says where it "
        f"runs, so it stands where the op recorded before it stands, on {stands}; but {use}",
        fix=f"to answer whoever sent {came_by.name!r}, send to g.sender(received); to send from "
        "where the peers are known, move it up there, or say where it runs: `with g.at(value):`"
        if came_by
        else "move it to where its use stands, or say where it runs: `with g.at(value):` or "
        "`with g.at('class'):`",
        where=lines_of(maker, clash.node, clash.maker, clash.partner_maker),
    )


def cross_class(clash: Clash) -> CompileError:
    """Complain about values of two classes in one op."""
    return CrossClassDataflow(
        clash.both,
        expected="inputs of one class; only g.net_out carries a value to another",
        fix="send one of the values to where the other stands, in one net_out with what is sent "
        "there already",
        where=clash.lines,
    )


def meant_sender(clash: Clash, came_by: Region, opener: NodeProto) -> CompileError:
    """Complain about an answer that is sent to the peers that were asked, not to who asked."""
    node = clash.node
    edge, asked = onnx_tools.get_meta(node, keys.EDGE), node.input[0]
    peers = clash.maker if asked == clash.name else clash.partner_maker
    return CrossClassDataflow(
        f"edge {edge!r} is sent from {where_it_stands(came_by)} to "
        f"{value_text(asked, peers, node)}, which is known on the other side only",
        expected=f"the return address of what {came_by.name!r} brought, to answer whoever sent it",
        fix=f"g.net_out({edge!r}, g.sender(received), ...), where received is what "
        f"g.net_out({came_by.name!r}, ...) returned",
        where=lines_of(node, opener, peers),
    )


def siblings(clash: Clash) -> CompileError:
    """Complain about values of two frames that never meet."""
    return SiblingRegions(
        f"{clash.both}; different events start the two regions, so no frame has both",
        expected="values of one region, or of one and those it is a part of",
        fix="bring both over in one net_out, make one of them where the other stands, or gather "
        "the replies first",
        where=clash.lines,
    )
