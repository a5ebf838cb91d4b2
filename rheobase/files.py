"""Files that are never half written: write beside, then replace."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["replacing", "sweep", "write_atomically"]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a place to write a file to, and put the file at ``path`` once the block has ended well.

    Whoever reads ``path``, at any moment and also after a power cut, finds the old file or the new one, whole.
    The place has the same file name, in a hidden folder of its own beside ``path``: a writer sees the suffix it
    may go by, two that write at once do not meet, and a pattern such as ``*.json`` does not match what a killed
    process leaves behind.

    Args:
        path: of the file; its folder exists.

    Yields:
        Where to write; a block that raises leaves ``path`` as it was, and nothing beside it.

    Raises:
        OSError: the folder does not exist or cannot be written to, or the block wrote no file.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder, "weights.pt")) as place:
        ...         torch.save({"w": torch.ones(2)}, place)
        ...     [file.name for file in Path(folder).iterdir()]
        ['weights.pt']
    """
    path = Path(path)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        place = Path(folder) / path.name
        yield place
        with place.open("r+b") as written:
            os.fsync(written.fileno())
        place.replace(path)


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Write a whole file, so that a failure or a kill at any moment leaves the old file or the new one.

    Args:
        path: of the file; its folder exists.
        data: all it is to hold; text becomes UTF-8, line ends stay as they are.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    with replacing(path) as place:
        place.write_bytes(data.encode() if isinstance(data, str) else data)


def sweep(path: str | Path) -> None:
    """Remove what killed writers of ``path`` left beside it; for a file that no other process is writing now.

    Args:
        path: of the file, which need not exist and is left as it is.
    """
    path = Path(path)
    for folder in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 8}"):  # as `TemporaryDirectory` names them
        shutil.rmtree(folder, ignore_errors=True)
