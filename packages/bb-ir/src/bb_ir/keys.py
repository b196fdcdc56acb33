"""Every name that stands in an artifact: domains, op names, metadata keys, versions.

One home for these strings, so that the recorder, the compiler and the runtime cannot drift apart.
This module holds constants and the grammar of binding keys, and imports nothing.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "ai.bytesandbrains."

# Domains
ONNX: Final = "ai.onnx"
ROLE: Final = PREFIX + "role."
SYSCALL: Final = PREFIX + "syscall"
WIRE: Final = PREFIX + "wire"
MODULE: Final = PREFIX + "module"
FUSED: Final = PREFIX + "fused"  # functions of tensor ops that became one call; no targets

# Versions
OPSET: Final = 23
IR_VERSION: Final = 11
OWN_OPSET: Final = 1
COMPILED_VERSION: Final = "v1"

# Ops of the wire and syscall domains that the engine itself carries out
SEND: Final = "Send"
RECEIVE: Final = "Receive"
SENDER: Final = "Sender"
GATHER: Final = "Gather"
OUTPUT: Final = "Output"
PEERS: Final = "Peers"
TURN: Final = "Turn"  # what a block's region begins with: number or item, and captured values
UNTIL: Final = "Until"
LAST: Final = "Last"
PASS_THROUGH: Final = "PassThrough"  # noqa: S105  # no password
PUBLISH: Final = "Publish"
SLEEP: Final = "Sleep"
METRIC: Final = "Metric"

# Ops of the syscall domain that are given the context of their frame
NOW: Final = "Now"
RANDOM: Final = "Random"
CHOICE: Final = "Choice"
ME: Final = "Me"

# Blocks. The turns of some are children of the frame that stands around them, and it goes on when
# the last has ended; those of others are root frames.
CHILD_BLOCKS: Final = ("Each", "Loop", "When")
ROOT_BLOCKS: Final = ("Every", "On", "Rounds")
BLOCKS: Final = (*CHILD_BLOCKS, *ROOT_BLOCKS)

# Metadata of nodes
SLOT: Final = PREFIX + "slot"  # name of the slot an op runs on
SOURCE: Final = PREFIX + "source"  # the user's file and line
AFTER: Final = PREFIX + "after"  # values that must exist first, comma separated
ORDER: Final = PREFIX + "order"  # effect edges: first outputs of ops that must have run
AT: Final = PREFIX + "at"  # explicit place: `class:<name>` or `value:<name>`
SCOPE: Final = PREFIX + "scope"  # sub-module calls that led here, joined by `.`
SCHEMA: Final = PREFIX + "schema"  # JSON: the schema of an op that a component or plugin adds
TAKES: Final = PREFIX + "takes"  # types of a role op's inputs as its component has them, by `;`
ENTER: Final = PREFIX + "enter"  # inputs of the sub-module call whose body begins here
CLASS: Final = PREFIX + "class"  # home class
REGION: Final = PREFIX + "region"
PLACED: Final = PREFIX + "placed"  # how: `inputs`, `away`, `cursor` or `at`
EDGE: Final = PREFIX + "edge"  # compile-time name of a network edge
BLOCK: Final = PREFIX + "block"  # innermost block in which an op was recorded
OPENS: Final = PREFIX + "opens"  # of a block, and of its `Turn`: the region that it opens

# Metadata of functions
PHASE: Final = PREFIX + "phase"  # `body` or `bootstrap`
OWN_CLASS: Final = PREFIX + "own_class"
SLOTS: Final = PREFIX + "slots"  # JSON: slot name -> role
REGIONS: Final = PREFIX + "regions"  # JSON: region name -> class, parent, edge, frame deadline

# Metadata of the model
COMPILED: Final = PREFIX + "compiled"
BINDING: Final = PREFIX + "binding."
CONFIG: Final = PREFIX + "config."  # + target/slot: JSON of what `bind` was given as configuration
VALUE_TYPES: Final = PREFIX + "value_types."  # + target/slot: JSON of the types that follow from it
INFERRED: Final = PREFIX + "inferred."  # + target/slot: JSON: op -> [[input types, output types]]
EDGES: Final = PREFIX + "edges"  # JSON list of edges
PROGRAM: Final = PREFIX + "program"  # hex of the program hash
SIGNATURE: Final = PREFIX + "signature."  # + peer id: base64 of its signature over the full hash
HASH: Final = PREFIX + "hash."  # + function name: full content hash
BINDINGS: Final = PREFIX + "bindings"  # JSON, between passes only: what the user bound
STAGES: Final = PREFIX + "stages"  # names of the passes that ran, comma separated
STAGE: Final = PREFIX + "stage."  # + name of a plugin's stage that ran: distribution and version
RESOLVED: Final = PREFIX + "resolved"  # JSON, between passes only: class -> slot -> row
ROOT: Final = PREFIX + "root"  # name of the recorded Module

# Domain in ONNX opaque types
TYPE_DOMAIN: Final = "ai.bytesandbrains"

SELF_CLASS: Final = "@self"

#: Most times that an edge may have an envelope sent again.
MAX_RETRIES: Final = 16
#: Most answers on one edge that one peer may give.
MAX_REPLIES: Final = 1_000

ROLES: Final = (
    "backend",
    "model",
    "index",
    "aggregator",
    "codec",
    "data_source",
    "peer_selector",
    "protocol",
)


def role_domain(role: str) -> str:
    """Return the op domain of a role."""
    return ONNX if role == "backend" else ROLE + role


def role_of(domain: str) -> str:
    """Return the role whose ops live in `domain`, or an empty text."""
    if domain in ("", ONNX):
        return "backend"
    return domain.removeprefix(ROLE) if domain.startswith(ROLE) else ""
