"""Bytes of a file, unpacked if they are compressed, up to a size that a table may have."""

from __future__ import annotations

import zipfile
from pathlib import Path

from cascade_bayes.errors import InputError

CODECS = {".gz": "gzip", ".zst": "zstd"}
"""Endings of compressed files, and what pyarrow calls their format."""

MAX_BYTES = 4 << 30
"""Bytes of unpacked text beyond which no table is read."""

MAX_RATIO, FREE_BYTES = 200, 64 << 20
"""How many times its size a file may unpack to, once that is more than the second number of bytes.

Tables of results shrink to a third to a thirtieth; a file made to fill a memory, to a thousandth and less.
"""

_BLOCK = 16 << 20


def limit_of(size: int) -> int:
    """Return to how many bytes a compressed file of some size may unpack.

    Examples
    --------
    >>> limit_of(1000) == FREE_BYTES
    True
    """
    return min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * size))


def read_bytes(path: Path, codec: str | None, place: str) -> bytes:
    """Return what a file holds, unpacked.

    Parameters
    ----------
    path
        The file.
    codec
        A value of `CODECS`; None for a file that is not compressed.
    place
        How messages name it.

    Raises
    ------
    InputError
        If it unpacks to more than a table has.
    OSError, ValueError
        If it is no such file, or cut short.
    """
    if codec is None:
        return path.read_bytes()
    import pyarrow as pa

    limit, parts, size = limit_of(path.stat().st_size), [], 0
    with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, codec) as stream:
        while block := stream.read(_BLOCK):
            parts.append(block)
            size += len(block)
            if size > limit:
                raise too_large(place, limit)
    return b"".join(parts)


def check_zip(path: Path, place: str) -> None:
    """Refuse a ZIP file, such as a workbook, whose members unpack to more than a table has.

    Raises
    ------
    InputError
        If they do.
    ValueError
        If it is no ZIP file.
    """
    limit = limit_of(path.stat().st_size)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"it is no workbook ({error})") from error
    if size > limit:
        raise too_large(place, limit)


def too_large(place: str, limit: int) -> InputError:
    """Return the error of a file that unpacks to more than a table has."""
    return InputError(
        f"the {place} unpacks to more than {limit >> 20:,} MiB, far more than its size makes likely. If it "
        "is sound, unpack it and pass the file that was in it."
    )
