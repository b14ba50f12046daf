"""What flows from the teacher to the student, drawn from a method's card: one picture that reads on a phone and in both themes.

Two columns of boxes stand for the two networks, from the image at the top to the answer at the bottom; what the method compares
is in its colour, joined by a line with the sign of the comparison. Text and outlines take the page's colour.
Reads: the label it is given. Writes: nothing. Never: Streamlit, torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kdengine.catalogue import Label
from pages.parts import words
from store.export.colours import style_of

WIDTH, BOX, PITCH, HEIGHT = 380, 102, 36, 26
LEFT, RIGHT, MIDDLE = 20, WIDTH - 20 - BOX, WIDTH // 2
TOP = 92  # where the first box of a column begins
# the boxes of a network from image to answer; those between the first map and the embedding belong together
TAPS = (
    ("stem", "first map"),
    ("1", "maps 1"),
    ("2", "maps 2"),
    ("3", "maps 3"),
    ("embedding", "embedding"),
    ("logits", "answer"),
)
INNER = ("stages", "preacts", "blocks")
STATE = {"frozen": "trained before, frozen", "graph": "trained before, frozen", "trained": "learns along", "none": "learns"}


def draw(label: Label) -> str:
    """Return the diagram of a method as one line of SVG, with a text for those who cannot see it."""
    rows = _rows(label)
    bottom = TOP + PITCH * len(rows)
    alone = not label.matched
    columns = [(MIDDLE - BOX // 2, "network", "learns")] if alone else _columns(label)
    parts = [*_image(label, columns), *(p for column in columns for p in _column(label, rows, *column))]
    parts += [p for place, name, what in _rungs(label, rows) for p in _rung(label, place, name, what)]
    parts += _dashed(label, rows, bottom) if not alone else []
    taught = columns if label.peers else columns[-1:]
    parts += [p for x, _, _ in taught for p in _labels(label, x, bottom)]
    more = _footnotes(label)
    parts += [_text(MIDDLE, bottom + 72 + 18 * i, line, size=12, faint=True) for i, line in enumerate(more)]
    height = bottom + 60 + 18 * len(more)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(describe(label))}" font-family="inherit" '
        f'style="width:100%;max-width:{WIDTH + 60}px;height:auto;display:block;margin:0 auto">{"".join(parts)}</svg>'
    )


def describe(label: Label) -> str:
    """Return the diagram in words."""
    if not label.matched:
        return "The image goes through one network; its answer is compared with the label."
    other, own = (name for _, name, _ in _columns(label))
    compared = words.listed([words.NEEDS[tap] for tap in words.NEEDS if tap in label.matched])
    way = "each learns from the other's" if label.peers else f"the {own} learns from the {other}'s"
    text = f"The same image goes through both networks; {way} {compared}. The label is compared with the {own}'s answer"
    return ". ".join([text + (" and with the peer's" if label.peers else ""), *_footnotes(label)]) + "."


def _columns(label: Label) -> list[tuple[int, str, str]]:
    """Return where each network stands, its name, and whether it learns."""
    if label.peers:
        return [(LEFT, "peer", "learns too"), (RIGHT, "student", "learns")]
    names = ("earlier generation", "next generation") if label.chain else ("teacher", "student")
    return [(LEFT, names[0], STATE[label.teacher_mode]), (RIGHT, names[1], "learns")]


def _rows(label: Label) -> tuple[tuple[str, str], ...]:
    return (("input_gradients", "gradient"), *TAPS) if "input_gradients" in label.matched else TAPS


def _used(label: Label, tap: str) -> bool:
    return tap in label.matched or (tap.isdigit() and bool(label.matched & set(INNER)))


def _rungs(label: Label, rows: tuple[tuple[str, str], ...]) -> list[tuple[float, str, str]]:
    """Return the height of each comparison, which tap it is of, and what is compared in words."""
    found = []
    for place, (tap, _) in enumerate(rows):
        y = TOP + PITCH * place + HEIGHT / 2
        if tap in label.matched:
            found.append((y, tap, words.NEEDS[tap]))
        if tap == "2":
            found += [(y, need, words.NEEDS[need]) for need in INNER if need in label.matched]
    return found


def _column(label: Label, rows: tuple[tuple[str, str], ...], x: int, name: str, state: str) -> list[str]:
    colour = style_of(label.key).colour
    centre = x + BOX / 2
    parts = [_text(centre, 60, name, weight=650, size=14), _text(centre, 77, state, size=12, faint=True)]
    for place, (tap, text) in enumerate(rows):
        y, used = TOP + PITCH * place, _used(label, tap)
        stroke = f'stroke="{colour}" stroke-width="2"' if used else 'stroke="currentColor" stroke-opacity="0.35"'
        fill = f'fill="{colour}" fill-opacity="0.14"' if used else 'fill="none"'
        parts.append(f'<rect x="{x}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="5" {fill} {stroke}/>')
        parts.append(_text(centre, y + 17.5, text, faint=not used and tap != "logits"))
        if place and rows[place - 1][0] in dict(TAPS):  # a gradient is no layer: no line leads on from it
            parts.append(_line([(centre, y - PITCH + HEIGHT), (centre, y)], faint=True))
    if label.matched & set(INNER):  # a bracket at the inner side: these maps count together
        first = next(i for i, (tap, _) in enumerate(rows) if tap == "1")
        top, low, side = TOP + PITCH * first, TOP + PITCH * (first + 2) + HEIGHT, 1 if x == LEFT else -1
        edge = x + BOX if side > 0 else x
        parts.append(_line([(edge, top + 4), (edge + 7 * side, top + 4), (edge + 7 * side, low - 4), (edge, low - 4)], colour))
    return parts


def _rung(label: Label, y: float, tap: str, what: str) -> list[str]:
    colour = style_of(label.key).colour
    gap = 7 if tap in INNER else 0
    start, end = LEFT + BOX + gap, RIGHT - gap
    parts = [_line([(start, y), (end - 6, y)], colour), _head(end, y, "right", colour)]
    parts += [_head(start, y, "left", colour)] if label.peers else []
    parts += [
        f'<circle cx="{MIDDLE}" cy="{y}" r="10" fill="{colour}"/>',
        _text(MIDDLE, y + 5, "≈", fill="#ffffff", weight=700, size=15),
    ]
    parts.append(_text(MIDDLE, y - 14, what, size=12))
    below = [text for need, text in (("index", "kept for all images"), ("norms", "with BatchNorm")) if need in label.needs]
    if tap != "logits" and below:
        parts.append(_text(MIDDLE, y + 25, below[0], size=12, faint=True))
    return parts


def _image(label: Label, columns: list[tuple[int, str, str]]) -> list[str]:
    text = "image, two views" if "views" in label.needs else "image"
    half = 62 if "views" in label.needs else 38
    parts = [_outline(MIDDLE, 4, 2 * half, 5)]
    parts.append(_text(MIDDLE, 21.5, text))
    if len(columns) == 1:
        return [*parts, _line([(MIDDLE, 30), (MIDDLE, 44)], faint=True)]
    for x, _, _ in columns:
        centre, edge = x + BOX / 2, MIDDLE - half if x == LEFT else MIDDLE + half
        parts += [_line([(edge, 17), (centre, 17), (centre, 40)], faint=True), _head(centre, 45, "down")]
    return parts


def _labels(label: Label, x: int, bottom: float) -> list[str]:
    """Return the label under a network's answer, and that they are compared."""
    centre = x + BOX / 2
    return [
        _line([(centre, bottom + 26), (centre, bottom - PITCH + HEIGHT + 6)], faint=True),
        _head(centre, bottom - PITCH + HEIGHT, "up"),
        f'<circle cx="{centre}" cy="{bottom + 9}" r="8" fill="currentColor" fill-opacity="0.55"/>',
        _text(centre, bottom + 13.5, "≈", fill="#ffffff", weight=700, size=13),
        _outline(centre, bottom + 24, 60, 13),
        _text(centre, bottom + 41.5, "label"),
    ]


def _dashed(label: Label, rows: tuple[tuple[str, str], ...], bottom: float) -> list[str]:
    """Return the way back of gradients that the method takes through the networks."""
    start = bottom - PITCH + HEIGHT / 2
    target = TOP + HEIGHT / 2 if "input_gradients" in label.matched else TOP + 2 * PITCH + HEIGHT / 2
    if "input_gradients" in label.needs:
        return [p for x in (LEFT, RIGHT + BOX) for p in _way_back(x, 12 if x > LEFT else -12, start, target)]
    if label.teacher_mode != "graph" or label.matched != {"logits"}:
        return []
    path = [(LEFT, start), (LEFT - 12, start), (LEFT - 12, 9), (MIDDLE - 38 - 6, 9)]
    return [_line(path, dash=True), _head(MIDDLE - 38, 9, "right")]


def _way_back(x: float, aside: float, start: float, end: float) -> list[str]:
    return [
        _line([(x, start), (x + aside, start), (x + aside, end), (x, end)], dash=True),
        _head(x, end, "right" if aside < 0 else "left"),
    ]


def _footnotes(label: Label) -> list[str]:
    notes = []
    if "input_gradients" in label.needs:
        notes.append("dashed: gradients of the answer, taken back")
    elif label.teacher_mode == "graph":
        back = "dashed: gradients through the teacher, back to the image"
        notes.append(back if label.matched == {"logits"} else "gradients pass through the teacher")
    if label.chain:
        notes.append("then the next generation becomes the teacher")
    if len(label.phases) > 1:
        notes.append("phases: " + " → ".join(label.phases))
    return notes


def _outline(centre: float, y: float, width: float, radius: float) -> str:
    shape = f'x="{centre - width / 2}" y="{y}" width="{width}" height="{HEIGHT}" rx="{radius}"'
    return f'<rect {shape} fill="none" stroke="currentColor" stroke-opacity="0.6"/>'


def _text(
    x: float, y: float, text: str, *, size: float = 13, weight: int = 400, faint: bool = False, fill: str = "currentColor"
) -> str:
    how = f'font-size="{size}" font-weight="{weight}" text-anchor="middle" fill="{fill}"' + (
        ' fill-opacity="0.7"' if faint else ""
    )
    return f'<text x="{x}" y="{y}" {how}>{escape(text)}</text>'


def _line(points: Sequence[tuple[float, float]], colour: str = "currentColor", *, faint: bool = False, dash: bool = False) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    more = ' stroke-opacity="0.45"' if faint else ""
    more += ' stroke-dasharray="4 3" stroke-opacity="0.8"' if dash else ""
    width = 2 if colour != "currentColor" else 1.3
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{more}/>'


def _head(x: float, y: float, way: str, colour: str = "currentColor") -> str:
    """Return the head of an arrow whose tip is at (x, y)."""
    dx, dy = {"right": (-8, 0), "left": (8, 0), "down": (0, -8), "up": (0, 8)}[way]
    points = [(x, y), (x + dx + dy / 2, y + dy + dx / 2), (x + dx - dy / 2, y + dy - dx / 2)]
    faint = ' fill-opacity="0.6"' if colour == "currentColor" else ""
    return f'<polygon points="{" ".join(f"{a:g},{b:g}" for a, b in points)}" fill="{colour}"{faint}/>'
