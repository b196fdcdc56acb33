"""`bb sign`: vouch for an artifact."""

from __future__ import annotations

from pathlib import Path

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._keys import password_option, read_key
from bytesandbrains.cli._paths import FILE
from bytesandbrains.cli._signers import signers_of

__all__ = ["command"]


@_session.command
@click.argument("file", type=FILE)
@click.option(
    "--key",
    required=True,
    type=FILE,
    metavar="KEY",
    help="The key pair to sign with, as `bb keys new` makes it.",
)
@password_option
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the signed artifact; over FILE when left out.",
)
def command(
    *, file: Path, key: Path, password: Path | None, out: Path | None, as_json: bool
) -> None:
    """Sign the artifact FILE: all of it, with its bindings and configuration.

    Nodes that are installed with `trusted=[...]` take it if they name the signer. Signatures of
    others stay; each holds until the artifact is changed.

    \b
    bb sign fedavg.onnx --key alice.pem
    """  # noqa: D301  # click's mark for lines that stay
    from onnx import ModelProto

    from bb_ir.signing import add_signature, full_hash
    from bb_runtime import load_artifact
    from bytesandbrains._files import write_atomically

    keypair = read_key(key, password, quiet=as_json)
    artifact = load_artifact(file)
    path = out or file
    whole = ModelProto.FromString(artifact.data)
    content = full_hash(whole)
    beside = path.parent.resolve() == file.parent.resolve()
    # What lies beside the artifact is found from the new place only if that is the same one.
    model = ModelProto.FromString(file.read_bytes()) if beside else whole
    add_signature(model, content, keypair)
    data = model.SerializeToString(deterministic=True)
    write_atomically(path, data)
    signers = signers_of(model, content)
    if as_json:
        told = {"file": str(path), "bytes": len(data), "hash": content}
        told |= {"signers": signers.held, "broken_signatures": signers.broken}
        print_json({**told, "program": artifact.program, "signer": str(keypair.peer_id)})
        return
    click.echo(f"signed {path} as {keypair.peer_id}")
    others = [one for one in signers.held if one != str(keypair.peer_id)]
    for line in signers._replace(held=others).lines():
        click.echo(line.replace("signed by", "also signed by"))
