"""How a segment is compressed, and read again: gzip by the standard library, zstd where there is a module for it.

Which segments are compressed, and when, is the business of `_compression`.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import sys
import zlib
from collections.abc import Iterator
from typing import IO, Any, Protocol, cast

SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}
"""What the name of a compressed segment ends with, by the value of the setting."""

_LEVEL = 6
_GZIP_HEADER = 31


class Compressor(Protocol):
    """Takes bytes and gives fewer; `flush` gives the last of them."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def is_available(how: str) -> bool:
    """True when segments can be compressed so; a module that is needed for it is imported here."""
    return how == "gzip" or _zstd() is not None


def compressor(how: str) -> Compressor:
    """A new compressor; what it makes holds a checksum of what went in."""
    # No file objects: one that is left behind (in a forked child) writes when it is collected.
    if how == "gzip":
        return zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_HEADER)
    zstd = _zstd()
    return cast("Compressor", zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1}))


@contextlib.contextmanager
def reading(descriptor: int, suffix: str = "") -> Iterator[IO[bytes]]:
    """What an open file says, decompressed if its name's *suffix* asks for that.

    Inside of the block a damaged file raises OSError, and so does a missing module.
    """
    damage: list[type[Exception]] = [EOFError, zlib.error]
    with contextlib.ExitStack() as opened:
        file: Any = opened.enter_context(open(descriptor, "rb", closefd=False))
        if suffix == ".gz":
            file = opened.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))
        elif suffix == ".zst":
            zstd = _zstd()
            if zstd is None:
                raise OSError(errno.ENOTSUP, "it takes Python 3.14 or the package backports.zstd to read it")
            damage.append(zstd.ZstdError)
            file = opened.enter_context(zstd.ZstdFile(file, "r"))
        try:
            yield file
        except tuple(damage) as error:
            raise OSError(errno.EIO, f"it is damaged: {error}") from error


def _zstd() -> Any:
    """The module for zstd, None where there is none."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        return None
    return zstd
