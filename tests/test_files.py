"""A file is the old one or the new one, whole."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rheobase.files import replacing, sweep, write_atomically


@pytest.mark.parametrize(("data", "expected"), [("é\r\n", b"\xc3\xa9\r\n"), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_a_file_holds_what_was_written(data: bytes | str, expected: bytes, tmp_path: Path) -> None:
    for _ in range(2):
        write_atomically(tmp_path / "file.txt", data)
        assert (tmp_path / "file.txt").read_bytes() == expected
        assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(
    error: type[BaseException], old: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)

    def write() -> None:
        with replacing(path) as place:
            place.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == ({} if old is None else {"file": old})


@pytest.mark.parametrize("stage", ["write_bytes", "open", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    path = tmp_path / "file"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, stage, full)
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"file": "old"}


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as place:
        place.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_writer_sees_the_name_and_a_pattern_does_not_see_the_place(tmp_path: Path) -> None:
    with replacing(tmp_path / "figure.png") as place:
        place.write_text("pixels")
        assert place.name == "figure.png"
        assert not list(tmp_path.glob("*.png"))


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # which ended last
    assert os.listdir(tmp_path) == ["file"]


def test_many_writers_of_one_file_leave_one_of_their_files_whole(tmp_path: Path) -> None:
    texts = [str(i) * 50_000 for i in range(10)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_atomically(tmp_path / "file", text), texts * 3))
    assert (tmp_path / "file").read_text() in texts
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_atomically(tmp_path / "file", "x")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", "x")


def test_a_block_that_wrote_nothing_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("name", ["last.ckpt", "net[1].json"])
def test_sweeping_removes_what_killed_writers_of_this_file_left_and_nothing_else(name: str, tmp_path: Path) -> None:
    with replacing(tmp_path / name) as place:  # it is killed here: what it has written stays
        place.write_text("half")
        for kept in (name, f".{name}.bak", f".other.{place.parent.name[-8:]}"):
            (tmp_path / kept).touch()
        sweep(tmp_path / name)
        assert not place.parent.exists()
        place.parent.mkdir()
        place.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == sorted([name, f".{name}.bak", kept])
