"""Sizes: the bytes of a file or a folder, as it is and compressed."""

import gzip
import io
import os
import pathlib
import tarfile


def size(path: "str | os.PathLike[str]") -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(each.stat().st_size for each in _files(pathlib.Path(path)))


def gzip_size(path: "str | os.PathLike[str]") -> int:
    """Bytes that gzip at level 9 makes of a file, or of a tar of a folder.

    Names, content and their order alone count, not when or by whom they were written.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return len(gzip.compress(path.read_bytes(), 9))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for each in _files(path):
            entry = tarfile.TarInfo(each.relative_to(path).as_posix())
            entry.size = each.stat().st_size
            with open(each, "rb") as file:
                archive.addfile(entry, file)
    return len(gzip.compress(buffer.getvalue(), 9))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    return [path] if path.is_file() else sorted(each for each in path.rglob("*")
                                                if each.is_file())
