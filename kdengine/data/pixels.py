"""From encoded or odd-sized images to uint8 arrays of one size with three channels.

Reads: image files. Writes: nothing. Never: labels, a path in an error.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from kdengine.data.contract import Report
from kdengine.errors import KdError, Problem

BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error,
          Image.DecompressionBombError)  # fmt: skip
CHUNK = 1024  # images between two reports
MOST_NAMED = 10


def decode(source: Path | bytes, size: int) -> np.ndarray:
    """Return one image as ``(3, size, size)`` uint8: the largest centred square, scaled (bilinear, antialiased).

    That equals scaling the shorter side to ``size`` and cropping the centre. Grey is repeated, transparency shows white,
    16-bit grey loses its low bits, a camera's orientation mark is obeyed.

    Raises:
        one of BROKEN: it is no readable image.
    """
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
        image = _rgb(ImageOps.exif_transpose(opened))
    width, height = image.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(image).transpose(2, 0, 1)


def decode_all(
    count: int,
    item: Callable[[int], tuple[str, Path | bytes]],
    out: np.ndarray,
    report: Report | None,
    start: int = 0,
    total: int = 0,
) -> list[Problem]:
    """Decode ``item(0..count-1)`` (name, image) into ``out[start:start + count]``, several at once.

    Returns one problem per broken image, with its name, at most ten. ``report(done, total)`` after every 1,024 images.
    """
    size = out.shape[-1]

    def one(i: int) -> Problem | None:
        name, source = item(i)
        try:
            out[start + i] = decode(source, size)
        except BROKEN as error:
            why = "" if os.sep in str(error) else f": {error}"[:120]  # some messages hold the whole path
            return Problem(name, f"a broken image ({type(error).__name__}{why})", "a readable image file", "replace or remove it")
        return None

    problems: list[Problem] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for first in range(0, count, CHUNK):
            last = min(first + CHUNK, count)
            problems += [p for p in pool.map(one, range(first, last)) if p is not None]
            if report is not None:
                report(start + last, total or count)
    return problems


def refuse_broken(problems: Sequence[Problem]) -> None:
    """Raise one error that names the broken images, if there are any.

    Raises:
        KdError: with at most ten problems.
    """
    if problems:
        raise KdError(*problems[:MOST_NAMED])


def resize(images: np.ndarray, out: np.ndarray) -> None:
    """Scale ``(N, C, h, w)`` uint8 into ``out (N, 3, H, W)`` (bilinear, antialiased when smaller); one channel is repeated."""
    if images.shape[-2:] == out.shape[-2:]:
        out[:] = images
        return
    for first in range(0, len(images), CHUNK):
        x = torch.from_numpy(np.ascontiguousarray(images[first : first + CHUNK])).float()
        y = F.interpolate(x, size=out.shape[-2:], mode="bilinear", align_corners=False, antialias=True)
        out[first : first + CHUNK] = y.round().clamp(0, 255).to(torch.uint8).numpy()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey would be cut off at 255 by convert
        grey = np.asarray(image).astype(np.float32)
        image = Image.fromarray((grey / 257.0 if grey.max() > 255 else grey).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layers = image.convert("RGBA")
        white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layers)
    return image.convert("RGB")
