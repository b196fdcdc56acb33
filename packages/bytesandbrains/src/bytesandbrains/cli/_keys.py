"""`bb keys`: key pairs, which say who a peer or a signer is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import EXIT_CODES
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._paths import FILE

if TYPE_CHECKING:
    from bb_ir.ids import KeyPair

__all__ = ["command", "password_option", "read_key"]

#: Permissions of everybody but the owner.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

password_option = click.option(
    "--password-file",
    "password",
    type=FILE,
    metavar="FILE",
    help="A file whose first line is the password of the key.",
)


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make key pairs, and show whose they are.

    A key pair is an Ed25519 key in a PEM file. Its peer id holds the public key: give it to
    whoever is to trust what the key signs.
    """


def read_key(path: Path, password: Path | None, *, quiet: bool) -> KeyPair:
    """Return the key pair in a file; unless `quiet`, tell when others can read it.

    Raises:
        IdError: It holds none, or the password does not belong to it.
    """
    from bb_ir.errors import IdError
    from bb_ir.ids import KeyPair

    try:
        keypair = KeyPair.from_pem(path.read_bytes(), password=_password(password))
    except IdError as error:
        error.where = (str(path),)
        error.fix = "`bb keys new FILE` makes a key"
        if b"ENCRYPTED" in path.read_bytes():
            error.fix = "--password-file FILE, with the password that the key was made with"
        raise
    if not quiet and os.name != "nt" and path.stat().st_mode & _OTHERS:
        click.echo(f"{path} can be read by others: chmod 600 {path}", err=True)
    return keypair


def _password(path: Path | None) -> bytes | None:
    if path is None:
        return None
    lines = path.read_bytes().splitlines()
    if lines and lines[0]:
        return lines[0]
    raise click.BadParameter(
        f"the first line of {str(path)!r} is the password, and it is empty",
        click.get_current_context(silent=True),
        param_hint="'--password-file'",
    )


def _print(path: Path, keypair: KeyPair, *, as_json: bool, done: str) -> None:
    told: dict[str, Any] = {"file": str(path), "id": str(keypair.peer_id)}
    if as_json:
        print_json({**told, "public_key": keypair.public_key.hex()})
        return
    click.echo(f"{done}{told['id']}")


@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@password_option
def _new(*, file: Path, password: Path | None, as_json: bool) -> None:
    """Make a new key pair and write it to FILE, which only you can read.

    A file that is there already is never overwritten. Keep a copy: nobody can make this key again.

    \b
    bb keys new alice.pem
    """  # noqa: D301  # click's mark for lines that stay
    from bb_ir.ids import KeyPair
    from bytesandbrains._files import CannotWrite, write_atomically

    if file.exists():
        raise CannotWrite(
            f"{str(file)!r} is there already, and keys are not overwritten",
            fix="choose another name, or move the old key away first",
        )
    keypair = KeyPair.generate()
    pem = keypair.to_pem(password=_password(password))
    write_atomically(file, pem, durable=True, private=True)
    _print(file, keypair, as_json=as_json, done=f"wrote {file}, the key of ")


@click.argument("file", type=FILE)
@password_option
def _show(*, file: Path, password: Path | None, as_json: bool) -> None:
    """Show the peer id of the key pair in FILE: what others trust.

    \b
    bb keys show alice.pem
    """  # noqa: D301  # click's mark for lines that stay
    _print(file, read_key(file, password, quiet=as_json), as_json=as_json, done="")


command.add_command(_session.command(_new), "new")
command.add_command(_session.command(_show), "show")
