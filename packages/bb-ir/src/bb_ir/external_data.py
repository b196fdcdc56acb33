"""Tensors whose data lies in files beside a model: read in, and only from the model's folder.

An artifact says in which file a tensor's data lies. It may come from anybody, so a place outside
of the folder that the artifact lies in is an error: an absolute path, `..`, or a link that leads
out. After `read_in` a model holds all that it says, and needs its folder no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from bb_ir.errors import BytesAndBrainsError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

__all__ = ["ExternalDataError", "has_external_data", "read_in"]


class ExternalDataError(BytesAndBrainsError):
    """The data of a tensor lies where it may not be read, or is not there.

    A model may keep tensors in files, in its own folder or below. Anything else is refused, as
    an artifact must not choose what a machine reads: absolute paths, `..`, and links that
    lead out.
    """


def has_external_data(model: ModelProto) -> bool:
    """Tell whether the data of a tensor lies in another file."""
    return any(True for _ in _external(model))


def read_in(model: ModelProto, folder: Path | None) -> None:
    """Read the data of all tensors of a model that lies in other files; the model is changed.

    Args:
        model: The model.
        folder: Where it lies; `None` when it came without one.

    Raises:
        ExternalDataError: The data is not in the folder, or is not what the model says.
    """
    for tensor in list(_external(model)):
        tensor.raw_data = _data_of(tensor, folder)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _external(message: Any) -> Iterator[TensorProto]:
    """Give all tensors, however deep, whose data lies elsewhere."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        if message.data_location == TensorProto.EXTERNAL:
            yield message
        return
    for _, value in message.ListFields():
        if hasattr(value, "ListFields"):
            yield from _external(value)
        elif not isinstance(value, (str, bytes, int, float)):
            for one in value:
                if not hasattr(one, "ListFields"):
                    break
                yield from _external(one)


def _data_of(tensor: TensorProto, folder: Path | None) -> bytes:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    location = facts.get("location", "")
    if folder is None:
        raise _refused(
            tensor, location, "and the model was not given as a file",
            fix="give the path of the model, so that its folder is known",
        )  # fmt: skip
    path = _inside(tensor, location, folder)
    try:
        offset, length = int(facts.get("offset", "0")), int(facts.get("length", "-1"))
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except (OSError, ValueError, OverflowError) as error:
        raise _refused(tensor, location, f"which cannot be read: {error}") from error
    if len(data) < length:
        raise _refused(
            tensor, location, f"which holds {len(data)} of {length} bytes from {offset} on"
        )
    return data


def _inside(tensor: TensorProto, location: str, folder: Path) -> Path:
    """Return the file that a location names, which is in the folder."""
    parts = PureWindowsPath(location), PurePosixPath(location)
    rooted = any(one.is_absolute() or one.drive or one.root for one in parts)
    if not location or rooted or any(".." in one.parts for one in parts):
        raise _refused(tensor, location, "which is not a place in the model's folder")
    try:
        root = folder.resolve(strict=True)
        path = (root / location).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise _refused(tensor, location, f"which cannot be read: {error}") from error
    if not path.is_relative_to(root):
        raise _refused(tensor, location, "a link that leads out of the model's folder")
    if not path.is_file():
        raise _refused(tensor, location, "which is no file")
    return path


def _refused(tensor: TensorProto, location: str, why: str, *, fix: str = "") -> ExternalDataError:
    return ExternalDataError(
        f"The data of tensor {tensor.name!r} lies in {location!r}, {why}",
        expected="a file in the folder of the model, or below it",
        fix=fix or "Put the file beside the model, under the name that the model says.",
    )
