"""The words of the text form of models, shared by printing and parsing."""

from __future__ import annotations

import re
from typing import Final

from bb_ir import keys

__all__ = [
    "BLANK",
    "DOMAINS",
    "KEY",
    "LEFT_OUT",
    "MISLEADING",
    "NUMBER",
    "PRODUCER",
    "SHORT_DOMAINS",
    "STRING",
    "TENSOR_HEAD",
    "VALUE",
    "WORD",
]

PRODUCER: Final = "bytesandbrains"

#: Domains that are written short; every other one stands between quotation marks.
SHORT_DOMAINS = {
    "": "onnx",
    keys.SYSCALL: "syscall",
    keys.WIRE: "wire",
    keys.MODULE: "module",
    keys.FUSED: "fused",
    **{keys.ROLE + role: role for role in keys.ROLES if role != "backend"},
}
DOMAINS = {short: domain for domain, short in SHORT_DOMAINS.items()}

WORD = re.compile(r'[^\s",()=\[\]{}:@%#][^\s",()=\[\]{}:@%]*')
#: Names that would be taken for the word with which a line of a function begins.
MISLEADING = re.compile(r"type|domain|rest|imports.*")
LEFT_OUT = re.compile(r"_(?=\s*[,)=])")
BLANK = re.compile(r"[ \t]*(#[^\n]*)?\n")
KEY = re.compile(r'[^\s"=]+')
VALUE = re.compile(r'[^\s"\[{#][^\s"]*')
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
NUMBER = re.compile(r"-?(?:inf|nan|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)")
TENSOR_HEAD = re.compile(r"[a-z]+[0-9]*(?=\[)")
