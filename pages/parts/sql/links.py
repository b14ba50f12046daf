"""A statement in a link: as it stands where it is short, packed where it is long, by the name of a saved query where even that
is too long for browsers and proxies.

Reads / writes: nothing. Never: Streamlit; trusts what a link holds.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from urllib.parse import quote

from kdengine.errors import KdError
from store.sandbox import MOST_CHARACTERS

PLAIN = 4000  # characters of a link up to which a statement stands in it as it is
LONGEST = 6000  # and packed: a proxy takes 8 KB for the whole line of a request, the rest of the page's choices included
NAMES = ("q", "z", "saved")  # the statement, packed, or the name of a saved query
PAGE = "sql"  # the page as the URL has it


def packed(sql: str) -> dict[str, str]:
    """Return the parameter that holds a statement whole, whatever its length."""
    return (
        {"q": sql}
        if len(quote(sql)) <= PLAIN
        else {"z": base64.urlsafe_b64encode(zlib.compress(sql.encode(), 9)).decode().rstrip("=")}
    )


def fits(sql: str) -> bool:
    """Say whether a link can hold the statement; else it must be saved under a name."""
    return len(packed(sql).get("z", "")) <= LONGEST


def unpacked(chosen: Mapping[str, str]) -> str | None:
    """Return the statement that a link holds as ``q`` or ``z``; None where it holds none.

    Raises:
        KdError: what it holds is no packed statement, or a longer one than may be asked.
    """
    if chosen.get("q"):
        return chosen["q"]
    return _inflated(chosen["z"]) if chosen.get("z") else None


def _inflated(text: str) -> str:
    try:
        unzip = zlib.decompressobj()
        content = unzip.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), 4 * MOST_CHARACTERS)
        if not unzip.eof:  # cut short, or larger than any statement
            raise ValueError("more than a statement")
        return content.decode()
    except (binascii.Error, zlib.error, ValueError):
        given = text if len(text) < 40 else text[:39] + "…"
        raise KdError.of(given, "a statement packed by this page", "ask for the link again, whole", "z") from None
