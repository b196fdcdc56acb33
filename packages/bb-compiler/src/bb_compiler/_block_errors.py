"""What `_placement` has to say to users about blocks: one function for each thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import NodeProto

from bb_compiler._placement_errors import lines_of
from bb_compiler._wording import label_of, starts, value_text
from bb_compiler.errors import (
    AnswersTwice,
    BlockEscape,
    CompileError,
    GatherOutsideFanOut,
    OutsideBlock,
)
from bb_ir import keys, onnx_tools

if TYPE_CHECKING:
    from bb_compiler._placement import Region

__all__ = [
    "answers_every_turn",
    "escapes_block",
    "gathers_turns",
    "inside_its_block",
    "no_last_turn",
    "odd_options",
    "outside_block",
    "placed_in_block",
    "turns_are_no_peers",
]

#: Options of a gather that only answers of peers have, and what stands for "not given".
_OF_PEERS = {"quorum": "1", "wait": "quorum", "on_short": "fail", "on_late": "drop"}


def escapes_block(
    node: NodeProto, name: str, block: NodeProto, maker: NodeProto | None, *, replies: bool
) -> CompileError:
    """Complain about a value of a turn that is read after the block."""
    kind = block.op_type.lower()
    label = label_of(name, maker)
    if node.op_type == keys.UNTIL:
        return BlockEscape(
            f"until is recorded outside the {kind} block that it is to end",
            expected=f"{label}.until(flag) among what every turn does",
            fix="indent it to where the block's turns are recorded",
            where=lines_of(node, maker, block),
        )
    if replies:
        fix = "gather the replies inside the block first"
    elif block.op_type == "When":
        fix = f"bring it out: g.last({label}, default), where the default stands in otherwise"
    elif block.op_type in keys.CHILD_BLOCKS:
        fix = (
            f"bring it out: g.last({label}) takes the last one, g.gather({label}, values=True) all"
        )
    else:
        fix = "use it inside, or publish it there: g.output(...)"
    exists = "if its condition holds" if block.op_type == "When" else "once for every turn"
    return BlockEscape(
        f"{node.op_type} reads {value_text(name, maker, node)} outside the {kind} block, where it "
        f"exists {exists}",
        expected="a value that exists where the op runs",
        fix=fix,
        where=lines_of(node, maker, block),
    )


def outside_block(
    node: NodeProto, block: NodeProto, stray: str, region: Region, maker: NodeProto | None
) -> CompileError:
    """Complain about an op that would not do what its indentation says."""
    kind = block.op_type.lower()
    why = f", where {value_text(stray, maker, node)} stands" if stray else ""
    return OutsideBlock(
        f"{node.op_type} is recorded inside the {kind} block, but runs on class {region.cls!r} "
        f"(region {region.name!r}, {starts(region)}){why}, which nothing inside the block reaches",
        expected="ops that run where the block runs, or where a send inside it leads",
        fix="move it out of the block, put `with g.at(...):` around the block, or send inside the "
        "block what it needs",
        where=lines_of(node, block, maker),
    )


def placed_in_block(node: NodeProto, block: NodeProto) -> CompileError:
    """Complain about `with g.at(value)` that puts an op into a block that has ended."""
    kind = block.op_type.lower()
    return BlockEscape(
        f"{node.op_type} is recorded outside the {kind} block, but placed into its turns by "
        "`with g.at(...)`",
        expected="a place where the frame around the block is",
        fix="indent it into the block, or name a class: `with g.at('class'):`",
        where=lines_of(node, block),
    )


def no_last_turn(
    node: NodeProto, value: str, region: Region, maker: NodeProto | None
) -> CompileError:
    """Complain about `g.last`, or a gather, of something that this frame has no turns of."""
    call = "g.last" if node.op_type == keys.LAST else "g.gather"
    label = label_of(value, maker)
    if region.kind:
        found = f"in frames of its own, which the {region.kind} block starts"
        fix = "use it inside, or publish it there: g.output(...)"
    elif region.parent:
        found, fix = "once for every reply", f"gather the replies: g.gather({label}, values=True)"
    else:
        found, fix = "once", "use the value itself"
    return BlockEscape(
        f"{call}({label}): {value_text(value, maker, node)} exists {found}, so there is no turn of "
        "this frame to take it from",
        expected="a value of an each, loop or when block",
        fix=fix,
        where=lines_of(node, maker),
    )


def inside_its_block(
    node: NodeProto, value: str, region: Region, maker: NodeProto | None
) -> CompileError:
    """Complain about `g.last`, or a gather, inside the block whose turns it is to wait for."""
    call = "g.last" if node.op_type == keys.LAST else "g.gather"
    label = label_of(value, maker)
    return BlockEscape(
        f"{call}({label}) is recorded inside the {region.kind} block whose turns give "
        f"{value_text(value, maker, node)}",
        expected="the call after the block, when its turns have ended"
        if region.parent
        else "the value itself: inside the block it exists once",
        fix="move it out of the `with`, or use the value itself here",
        where=lines_of(node, maker),
    )


def odd_options(node: NodeProto) -> str:
    """Return the options of a gather that only make sense for answers of peers, as one text."""
    facts = onnx_tools.attributes(node)
    given = [name for name, usual in _OF_PEERS.items() if facts.get(name, usual) != usual]
    given += ["deadline"] if "deadline_ns" in facts or facts.get("auto") else []
    return ", ".join(f"{name}=" for name in given)


def gathers_turns(node: NodeProto, block: NodeProto, options: str) -> CompileError:
    """Complain about options of a gather that turns of a block do not have."""
    kind = block.op_type.lower()
    return GatherOutsideFanOut(
        f"gather over the turns of the {kind} block with {options}, which is about answers of "
        "peers",
        expected="g.gather(value) or g.gather(value, values=True): it waits for all turns",
        fix=f"leave it out; g.{kind}(..., deadline=...) says how long the turns may take"
        if block.op_type != "When"
        else "leave it out",
        where=lines_of(node, block),
    )


def turns_are_no_peers(node: NodeProto, gather: NodeProto, what: str) -> CompileError:
    """Complain about the use of `missing` or `senders` of a gather over turns."""
    return GatherOutsideFanOut(
        f"{node.op_type} uses `{what}` of a gather over the turns of a block, which no peers "
        "answered",
        expected="its count, or its values",
        where=lines_of(node, gather),
    )


def answers_every_turn(node: NodeProto, block: NodeProto) -> CompileError:
    """Complain about an answer that would be sent once for every turn."""
    edge, kind = onnx_tools.get_meta(node, keys.EDGE), block.op_type.lower()
    return AnswersTwice(
        f"edge {edge!r} answers a question that came before the {kind} block, but is sent in every "
        "turn of it",
        expected="one answer to one question: the first counts, and later turns would wait in vain",
        fix="answer after the block, with what g.last or g.gather brings out; ask inside it; or "
        "say how often a peer answers, with replies=",
        where=lines_of(node, block),
    )
