"""`bb plan manifest` and `bb plan swap`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._json import print_json
from bytesandbrains.cli._paths import FOLDER, NEW_FILE, PATH, PICTURE
from bytesandbrains.cli._plan_files import need_free_folder
from bytesandbrains.cli._plan_ranks import RankUse
from bytesandbrains.cli._sizes import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from bb_ir.plan import Plan, WeightManifest
    from bytesandbrains.plans import Bundle

__all__ = ["manifest", "swap"]


@_session.command
@click.argument("folder", type=FOLDER)
@click.option("--model", default="", help="Name of the model; the folder's name if left out.")
@click.option(
    "--version", "label", default="", help="Label of the version; the folder's name if left out."
)
@click.option(
    "--out",
    type=NEW_FILE,
    help="File for the manifest; bb-manifest.json in the folder if left out.",
)
@click.option(
    "--digest",
    "algorithm",
    type=click.Choice(["blake3", "sha256"]),
    default="blake3",
    show_default=True,
    help="How digests are made.",
)
@click.option(
    "--remember",
    is_flag=True,
    help="Keep digests in bb-manifest.index: files that did not change are not read again.",
)
@click.option("--dry-run", is_flag=True, help="Write nothing.")
def manifest(
    *,
    folder: Path,
    model: str,
    label: str,
    out: Path | None,
    algorithm: str,
    remember: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """List what a version of a model is made of, with digests.

    Every file and tensor is in the manifest. Tensors of safetensors, ONNX and npy files have
    entries of their own, so that later a swap moves what changed and nothing else.
    """
    from bb_ir.plan import DigestAlgorithm, content_digest, digest_text, to_json
    from bytesandbrains._files import write_atomically
    from bytesandbrains.plans._files import MANIFEST_NAME

    made = _manifest(
        folder, model, label.strip(), DigestAlgorithm[algorithm.upper()],
        index=folder / "bb-manifest.index" if remember and not dry_run else None, hidden=as_json,
    )  # fmt: skip
    out = out or folder / MANIFEST_NAME
    if not dry_run:
        write_atomically(out, to_json(made).encode())
    facts: dict[str, Any] = {**_facts(made), "root": digest_text(content_digest(made))}
    if as_json:
        print_json({"manifest": {**facts, "file": None if dry_run else str(out)}})
        return
    _print_facts(
        [
            ("version", f"{made.model_id} {made.version}".strip()),
            ("files", f"{facts['files']:,}, {size(facts['nbytes'])}"),
            ("tensors", f"{facts['tensors']:,}"),
            ("root", str(facts["root"])),
            ("written to", "nothing: a dry run" if dry_run else str(out)),
        ]
    )


@_session.command
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@click.option(
    "--out", type=NEW_FILE, help="File for the plan, whose bytes are read from NEW's own files."
)
@click.option(
    "--bundle",
    type=PATH,
    metavar="FOLDER",
    help="Folder for plan.json and all bytes that it needs, as differences from OLD.",
)
@click.option(
    "--link",
    type=click.FloatRange(0, min_open=True),
    default=1000.0,
    show_default=True,
    help="Speed of the link that a bundle crosses, in Mbit/s: decides how differences are made.",
)
@click.option(
    "--into",
    type=click.Choice(["store", "mem", "device"]),
    default="store",
    show_default=True,
    help="Where the bytes go: into a store by digest, or packed into buckets in memory.",
)
@click.option(
    "--bucket",
    type=click.FloatRange(0, min_open=True),
    default=32.0,
    show_default=True,
    help="Size of a bucket in MiB.",
)
@click.option(
    "--order",
    type=click.Choice(["size", "layer"]),
    default="size",
    show_default=True,
    help="Fewest buckets, or what comes first in the model first.",
)
@click.option(
    "--groups",
    "ranks",
    type=PATH,
    metavar="FILE",
    help="How the model is split among ranks, as .toml or .json: report who needs which bucket.",
)
@click.option(
    "--plot", type=PICTURE, help="Draw who needs which bucket as .png or .svg; with --groups."
)
@click.option(
    "--planner", "name", metavar="NAME", default="swap", show_default=True, help="Planner to ask."
)
@click.option("--model", default="", help="Name of the model; a folder's name if left out.")
@click.option("--earlier", is_flag=True, help="Write the JSON of the earlier format (bw.stack).")
@click.option("--dry-run", is_flag=True, help="Write nothing; say what would move.")
def swap(
    *,
    old: Path,
    new: Path,
    out: Path | None,
    bundle: Path | None,
    link: float,
    into: str,
    bucket: float,
    order: str,
    ranks: Path | None,
    plot: Path | None,
    name: str,
    model: str,
    earlier: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Plan how OLD becomes NEW, two folders or manifests.

    OLD may be `none`, to bring everything. The plan says what is added, what is there already,
    under whatever name, and what goes. With --bundle it comes with all it needs, for a machine that
    has OLD in its store; tensors that changed a little are then differences, without loss.
    """
    from bytesandbrains.plans import swap_in_place, write_plan

    if plot is not None and ranks is None:
        raise click.UsageError("--plot draws who needs which bucket: add --groups FILE")
    if bundle is None and out is None and not dry_run:
        raise click.UsageError("say where to write: --out FILE or --bundle FOLDER, or --dry-run")
    if bundle is not None and (earlier or out is not None):
        raise click.UsageError("a bundle has its own plan.json: leave --out and --earlier out")
    if earlier and into == "store":
        raise click.UsageError("the earlier format knows no stores: add --into device")
    if bundle is not None and not dry_run:
        ours = frozenset({"plan.json", "spans.bin", ".spans.bin", "spans.json"})
        need_free_folder(bundle, "--bundle", ours)
    use = RankUse(ranks)
    before = None if str(old) == "none" else _known(old, model, hidden=as_json)
    after = _known(new, model, hidden=as_json)
    settings = {
        "bucket_bytes": max(1, int(bucket * (1 << 20))),
        "destination": into,
        "order": order,
    }
    if bundle is not None:
        made = _bundle(
            None if dry_run else bundle, before, after, old, new, link=link, name=name,
            settings=settings, check=use.look_at, hidden=as_json,
        )  # fmt: skip
    else:
        made = swap_in_place(before, after, name=name, settings=settings, created_ns=time.time_ns())
        use.look_at(made.plan)
        if out is not None and not dry_run:
            write_plan(out, made.plan, earlier=earlier)
    written = None if dry_run else str(bundle or out)
    if plot is not None and not dry_run:
        use.draw(plot)
    if as_json:
        print_json({"swap": {**_swap_facts(made), **use.facts(), "written": written}})
        return
    _print_swap(made, written)
    use.print()
    if plot is not None and not dry_run:
        click.echo(f"wrote {plot}")


def _bundle(
    folder: Path | None,
    before: WeightManifest | None,
    after: WeightManifest,
    old: Path,
    new: Path,
    *,
    link: float,
    name: str,
    settings: dict[str, Any],
    check: Callable[[Plan], None],
    hidden: bool,
) -> Bundle:
    from bytesandbrains.cli._progress import reading
    from bytesandbrains.plans import swap_bundle

    if not new.is_dir():
        raise click.BadParameter(
            f"{str(new)!r} is a manifest; a bundle needs the folder with the files",
            param_hint="NEW",
        )
    total = sum(chunk.length for chunk in after.files)
    with reading("reading what is new", total, hidden=hidden) as at:
        return swap_bundle(
            folder, before, after,
            old_files=old if old.is_dir() else None, new_files=new, link=link * 1e6 / 8, name=name,
            settings=settings, created_ns=time.time_ns(), check=check, progress=at,
        )  # fmt: skip


def _known(path: Path, model: str, *, hidden: bool) -> WeightManifest:
    """Return the manifest of a folder, made now, or that in a file."""
    from bb_ir.plan import DigestAlgorithm
    from bytesandbrains.plans import read_manifest

    if not path.is_dir():
        return read_manifest(path)
    return _manifest(path, model, "", DigestAlgorithm.BLAKE3, index=None, hidden=hidden)


def _manifest(
    folder: Path, model: str, label: str, algorithm: Any, *, index: Path | None, hidden: bool
) -> WeightManifest:
    from bb_plans.manifests import manifest_of_folder
    from bytesandbrains.cli._progress import reading
    from bytesandbrains.plans import BadPlanFile

    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with reading(f"hashing {folder}", total, hidden=hidden) as at:
        name = folder.resolve().name
        made = manifest_of_folder(
            folder, model.strip() or name, label or name, algorithm=algorithm, known=index,
            progress=lambda done, _: at(done),
        )  # fmt: skip
    if not made.files:
        # A version of nothing would be committed like any other, and serve nothing.
        raise BadPlanFile(
            f"there are no files in {str(folder)!r}",
            expected="the files of one version of a model",
            fix="check the path; `none` stands for nothing where OLD is asked for",
        )
    return made


def _facts(made: WeightManifest) -> dict[str, Any]:
    return {
        "model": made.model_id,
        "version": made.version,
        "files": len({chunk.path for chunk in made.files}),
        "chunks": len(made.files),
        "tensors": len({(c.path, c.tensor.name) for c in made.files if c.tensor is not None}),
        "nbytes": sum(chunk.length for chunk in made.files),
    }


def _swap_facts(made: Bundle) -> dict[str, Any]:
    swap = made.plan.swap
    assert swap is not None, "bundles hold swaps"
    parts = {
        part: {"chunks": len(chunks), "nbytes": sum(chunk.length for chunk in chunks)}
        for part, chunks in (
            ("adds", swap.adds),
            ("shared", swap.shared),
            ("deletes", swap.deletes),
        )
    }
    return {
        "plan_id": made.plan.plan_id,
        "ops": len(swap.ops),
        "lanes": len({op.lane or op.dst for op in swap.ops}),
        **parts,
        "moved_bytes": made.new_bytes,
        "read_bytes": made.sent_bytes,
        "codecs": dict(made.codecs),
    }


def _print_swap(made: Bundle, written: str | None) -> None:
    facts = _swap_facts(made)
    codecs = ", ".join(f"{count:,} {codec}" for codec, count in facts["codecs"].items())
    read, moved = facts["read_bytes"], facts["moved_bytes"]
    less = f", {moved / read:.1f} times less" if read and moved >= 1.1 * read else ""
    rows = [
        (label, f"{_count(facts[part]['chunks'], 'chunk')}, {size(facts[part]['nbytes'])}")
        for label, part in (("new", "adds"), ("there already", "shared"), ("goes", "deletes"))
    ]
    rows.append(("to read", f"{size(read)}{less}" if facts["ops"] else "nothing"))
    if facts["ops"]:
        rows.append(
            ("moves", f"{_count(facts['ops'], 'op')} on {_count(facts['lanes'], 'lane')}: {codecs}")
        )
    rows.append(("plan", facts["plan_id"]))
    rows.append(("written to", written or "nothing: a dry run"))
    _print_facts(rows)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s'[: number != 1]}"


def _print_facts(rows: list[tuple[str, str]]) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, table

    Screen().print(table(["", ""], [(label, escape(text)) for label, text in rows]))
