"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from bytesandbrains._files import CannotWrite, prepare_folder, write_atomically


def test_file_is_replaced(tmp_path):
    path = tmp_path / "a"
    for data in (b"one", b"two"):
        write_atomically(path, data)

    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, b"one")

    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")

    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_file_has_ordinary_permissions(tmp_path):
    path, plain = tmp_path / "a", tmp_path / "b"
    plain.write_bytes(b"")

    write_atomically(path, b"")

    assert path.stat().st_mode == plain.stat().st_mode


def test_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"")

    with pytest.raises(CannotWrite, match="File exists"):
        prepare_folder(path)


def test_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CannotWrite) as caught:
        write_atomically(tmp_path / "no" / "a", b"")

    assert f"make the folder {str(tmp_path / 'no')!r}" in caught.value.fix


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_may_not_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CannotWrite, match="Permission"):
            prepare_folder(tmp_path / "a")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_what_finds_no_room_says_so(tmp_path, monkeypatch, number):
    def full(self, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(CannotWrite, match=os.strerror(number)) as caught:
        write_atomically(tmp_path / "big.bin", b"much")

    assert caught.value.fix.startswith("make room there")
    assert list(tmp_path.iterdir()) == []
