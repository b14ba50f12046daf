"""Small images as parts of a page: arrays become PNG files inside the HTML, pixel by pixel, nothing is smoothed.

Reads: arrays it is given. Writes: nothing. Never: Streamlit, torch.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image
from plotly.colors import sample_colorscale

SMALL = "font-size:.75rem;opacity:.75;line-height:1.4"
HEAT, SIGNED = "Inferno", "RdBu_r"  # of brightness, and of values on both sides of zero


def thumbnail(pixels: np.ndarray) -> str:
    """Return an image ``(H, W, 3)`` uint8 as the address of a PNG that holds it."""
    held = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(held, "PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def rgb(x: np.ndarray) -> np.ndarray:
    """Turn ``(3, H, W)`` in 0 to 1 into ``(H, W, 3)`` uint8."""
    return (255 * np.clip(x, 0, 1)).round().astype(np.uint8).transpose(1, 2, 0)


def grey(x: np.ndarray) -> np.ndarray:
    """Paint ``(H, W)`` in 0 to 1 from black to white."""
    return np.repeat((255 * np.clip(x, 0, 1)).round().astype(np.uint8)[:, :, None], 3, axis=2)


def painted(x: np.ndarray, top: float, *, signed: bool) -> np.ndarray:
    """Paint ``(H, W)`` from 0 to ``top``, or from minus to plus ``top``."""
    share = (x / top + 1) / 2 if signed else x / top
    return _palette(SIGNED if signed else HEAT)[(255 * np.clip(share, 0, 1)).round().astype(np.uint8)]


def over(image: np.ndarray, x: np.ndarray, top: float) -> np.ndarray:
    """Lay a map ``(h, w)`` over the image, which turns grey; each cell of the map stays one block."""
    rows = np.arange(image.shape[0]) * x.shape[0] // image.shape[0]
    columns = np.arange(image.shape[1]) * x.shape[1] // image.shape[1]
    heat = painted(x, top, signed=bool(x.min() < -0.02 * top))[rows][:, columns]
    return (0.35 * image.mean(2, keepdims=True) + 0.65 * heat).round().astype(np.uint8)


@functools.cache
def _palette(scale: str) -> np.ndarray:
    colours = sample_colorscale(scale, np.linspace(0, 1, 256).tolist(), colortype="tuple")
    return (255 * np.array(colours)).round().astype(np.uint8)


def grid(rows: Mapping[str, Sequence[tuple[str, np.ndarray]]], width: int) -> str:
    """Return rows of captioned tiles, each under its name, as HTML; tiles shrink on a narrow screen, a row stays a row."""
    lines = []
    for name, row in rows.items():
        tiles = "".join(
            f'<figure style="margin:0;flex:0 1 {width}px;min-width:0"><img src="{thumbnail(x)}" alt="{escape(name)} '
            f'{escape(caption)}" style="width:100%;image-rendering:pixelated;border-radius:4px;display:block;'
            'outline:1px solid rgba(125,130,139,.35)">'
            f'<figcaption style="{SMALL}">{escape(caption)}</figcaption></figure>'
            for caption, x in row
        )
        head = f'<div style="{SMALL};font-weight:600">{escape(name)}</div>' if name else ""
        lines.append(f'{head}<div style="display:flex;gap:8px;margin-bottom:8px">{tiles}</div>')
    return "".join(lines)
