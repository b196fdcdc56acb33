"""What install is told about trust: whose artifacts, which programs, which classes, what secret."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bb_ir import keys
from bb_ir.errors import BytesAndBrainsError, did_you_mean
from bb_ir.ids import PeerId
from bb_ir.signing import full_hash, signatures, verify
from bb_runtime.artifact import Artifact, Target, load_artifact
from bb_runtime.errors import InvalidTrust, NotAllowed, NotTrusted

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Trusted", "check_open", "check_ops", "check_secret", "check_signed", "programs_of"]

#: Who may sign artifacts: a peer id or its text, or the 32 raw bytes of a public key.
Trusted = PeerId | str | bytes

#: Domains of ops that need no plugin but the one of the project.
_OWN_DOMAINS: Final = frozenset({keys.ONNX, keys.FUSED, keys.SYSCALL, keys.WIRE})
_SHORTEST_SECRET: Final = 16
_LONGEST_SECRET: Final = 64
_HASH_DIGITS: Final = 64


def check_secret(secret: object) -> None:
    """Check that a secret can be used as one.

    Raises:
        InvalidTrust: It is no bytes, too short or too long.
    """
    if secret is None:
        return
    size = len(secret) if isinstance(secret, bytes) else -1
    if _SHORTEST_SECRET <= size <= _LONGEST_SECRET:
        return
    what = f"{size} bytes" if size >= 0 else f"a {type(secret).__name__}"
    raise InvalidTrust(
        f"the secret is {what}",
        expected=f"{_SHORTEST_SECRET} to {_LONGEST_SECRET} random bytes",
        fix="secret=secrets.token_bytes(32)",
    )


def check_signed(artifact: Artifact, trusted: Iterable[Trusted]) -> None:
    """Check that somebody who is trusted signed an artifact as it is.

    Raises:
        InvalidTrust: What is trusted is no key.
        NotTrusted: Nobody of them did.
    """
    from onnx import ModelProto

    wanted = [_key_of(one) for one in trusted]
    model = ModelProto.FromString(artifact.data)
    claimed = signatures(model)
    content = full_hash(model) if claimed else ""
    if any(one in claimed and verify(content, one, claimed[one]) for one in wanted):
        return
    known = [str(one) for one in wanted]
    if not claimed:
        found = "the artifact is not signed"
    elif not any(one in claimed for one in wanted):
        found = f"the artifact is signed by {', '.join(map(str, claimed))}"
    else:
        found = "the artifact is not what was signed: it was changed afterwards, or not signed by "
        found += " or ".join(str(one) for one in wanted if one in claimed)
    raise NotTrusted(
        found,
        expected=f"a signature of {' or '.join(known) or 'somebody, but trusted is empty'}",
        fix="bb sign FILE --key KEY, by somebody who is trusted here",
    )


def _key_of(trusted: Trusted) -> PeerId:
    try:
        if isinstance(trusted, PeerId):
            peer = trusted
        elif isinstance(trusted, str):
            peer = PeerId.parse(trusted)
        else:
            peer = PeerId.from_public_key(trusted)
    except BytesAndBrainsError as error:
        raise InvalidTrust(
            f"trusted={trusted!r} is no key: {error.found}",
            expected="a peer id such as 12D3KooW..., or the 32 bytes of an Ed25519 public key",
            fix="`bb keys show KEY` prints the id of a key",
        ) from error
    if peer.public_key() is None:
        raise InvalidTrust(
            f"trusted={trusted!r} is an id that holds no key",
            expected="the id of an Ed25519 key; it begins with 12D3KooW",
        )
    return peer


def programs_of(
    accept: Iterable[Artifact | ModelProto | Path | str], own: Artifact
) -> tuple[str, ...]:
    """Return the hashes of programs that are accepted beside a Node's own.

    Raises:
        InvalidTrust: A text is no hash.
        InstallError: Something is no artifact.
    """
    found = dict.fromkeys(map(_program_of, accept))
    return tuple(one for one in found if one != own.program)


def _program_of(accepted: Artifact | ModelProto | Path | str) -> str:
    if not isinstance(accepted, str):
        return load_artifact(accepted).program
    text = accepted.lower()
    if len(text) == _HASH_DIGITS and set(text) <= set("0123456789abcdef"):
        return text
    raise InvalidTrust(
        f"accept={accepted!r} is no hash of a program",
        expected=f"{_HASH_DIGITS} hexadecimal digits, or the artifact itself",
        fix="`bb explain FILE` shows the hash; name a file as Path(...)",
    )


def check_open(artifact: Artifact, classes: Collection[str]) -> None:
    """Check that classes which are open to all are classes that may send something unasked.

    Raises:
        InvalidTrust: One is not.
    """
    if not classes:
        return
    known = {edge.source_class for edge in artifact.edges.values() if not edge.parent}
    for name in sorted(classes):
        if name not in known:
            raise InvalidTrust(
                f"open_classes names {name!r}, and no edge is sent unasked by such peers",
                expected=f"classes of {', '.join(sorted(known)) or 'none'}",
                fix=did_you_mean(name, sorted(known)) or "answers need no class",
            )


def check_ops(targets: Iterable[Target], allow: Collection[str] | None) -> None:
    """Check that ops which a plugin carries out are of a plugin that is allowed.

    Raises:
        NotAllowed: One is not.
    """
    if allow is None:
        return
    for op in (op for target in targets for op in target.ops):
        point = f"op.{op.domain.removeprefix(keys.PREFIX)}"
        own = op.schema is not None or op.domain in _OWN_DOMAINS
        if not own and point not in allow:
            raise NotAllowed(
                f"op {op.name} is carried out by plugin {point}, which is not allowed",
                expected=f"one of {', '.join(sorted(allow)) or 'none'}",
                fix="allow it, or install another artifact",
                where=() if op.source is None else op.source,
            )
