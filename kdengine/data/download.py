"""One file from the network onto the disk, with progress and checksum.

Reads: a URL. Writes: the file, complete and checked or not at all. Never: another file.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from kdengine.data.contract import Report
from kdengine.errors import KdError

PIECE = 1 << 18
TIMEOUT_S = 30  # of silence, not of the whole download


def download(url: str, path: Path, md5: str, report: Report | None = None) -> None:
    """Write the file at ``url`` to ``path``; ``report(done, total)`` in bytes, ``total`` 0 where the server does not say.

    Raises:
        KdError: no connection, a wrong answer, a full disk, or a checksum other than ``md5``.
    """
    part = path.with_name(path.name + ".part")
    try:
        found = _save(url, part, report)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        part.unlink(missing_ok=True)
        raise _explained(url, error) from error
    if found != md5:
        size = part.stat().st_size
        part.unlink()
        raise KdError.of(
            f"{url}: {size:,} bytes with MD5 {found}",
            f"MD5 {md5}",
            "try again; if it stays so, the file at the source has changed or something between alters it",
            "download",
        )
    part.replace(path)


def _save(url: str, part: Path, report: Report | None) -> str:
    """Write the answer to ``part`` and return its MD5."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    request = urllib.request.Request(url, headers={"User-Agent": "kdengine"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer, part.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        while piece := answer.read(PIECE):
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            if report is not None:
                report(done, total)
    if done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")
    return digest.hexdigest()


def _explained(url: str, error: Exception) -> KdError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return KdError.of(
            f"{url}: the disk is full", "room for the download and its contents", "free some space and try again", "download"
        )
    if isinstance(error, urllib.error.HTTPError):
        error.close()
    why = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
    return KdError.of(
        f"{url}: {type(error).__name__} ({why})"[:300],
        "a connection to that server (HTTPS_PROXY is obeyed)",
        "check the network and try again, or fetch it on another machine and copy the dataset's folder from data/ of its KD_HOME",
        "download",
    )
