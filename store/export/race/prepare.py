"""From values per epoch to what is drawn in each frame: value and place of every racer, and the axis for the whole race.

Places follow the values: in every frame a racer with a better value stands above one with a worse, or, while they change
places, beside it. Equal values keep the order they had. Values between two epochs lie on the line between them.

Reads: an order. Writes: nothing. Never: pixels, files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.export.race.options import Options
from store.export.race.order import Order

Floats = NDArray[np.float64]
SWAP_S = 0.6  # how long a change of places takes
ENTER_S = 0.3  # how long one that starts late takes to appear
LEAD_IN = 0.2  # share of the epochs that a zoomed axis need not show: the first rise
TICKS = 6


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high``, in the unit drawn; ``broken``: it does not begin at zero. ``decimals`` of the racers' values."""

    low: float
    high: float
    ticks: tuple[float, ...]
    tick_decimals: int
    decimals: int
    unit: str

    @property
    def broken(self) -> bool:
        """Whether lengths must not be compared, because the axis does not begin at zero."""
        return self.low != 0

    def share(self, values: Floats) -> Floats:
        """Return where values lie on the axis, 0 to 1; beyond its ends they stay at the end."""
        return np.clip((values - self.low) / (self.high - self.low), 0.0, 1.0)

    def value_text(self, value: float) -> str:
        """Write the value of a racer."""
        return f"{value:,.{self.decimals}f}{self.unit}"

    def tick_text(self, value: float) -> str:
        """Write the value at a tick."""
        return f"{value:,.{self.tick_decimals}f}{self.unit}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Every frame of a race in numbers.

    ``filled`` (epochs, racers): values with gaps closed, NaN only before a start. ``epoch`` (frames,): the epoch last reached.
    ``at`` (frames,): the same with its fraction, in places of ``order.epochs``. ``values``, ``places``, ``presence`` (frames,
    racers): value (NaN before the start), place (1 = top; who has not started stands behind all others), and how far it has
    appeared, 0 to 1. ``ended`` (racers,): epoch of the last value of one's own where others go on, else NaN; ``over``
    (frames, racers): whether that is behind it.
    """

    order: Order
    filled: Floats
    at: Floats
    epoch: Floats
    values: Floats
    places: Floats
    presence: Floats
    ended: Floats
    over: NDArray[np.bool_]
    axis: Axis

    @property
    def frames(self) -> int:
        """Number of frames that differ; those that are held count once."""
        return len(self.at)

    @property
    def shown(self) -> int:
        """Number of places in view."""
        return min(self.order.options.top, len(self.order.racers))


def prepare(order: Order) -> Prepared:
    """Return the frames of ``order`` in numbers."""
    options, epochs = order.options, np.array(order.epochs)
    filled, started, ended = _filled(order.table(), epochs)
    steps = options.steps_for(len(epochs))
    moments = np.arange((len(epochs) - 1) * steps + 1) / steps
    values = between(filled, moments)
    ranks = ranked(values, lower_is_better=order.lower_is_better)
    places = eased(ranks, window(options, steps), smooth=options.easing == "smooth")
    frames = np.arange(len(moments))
    begun = started * steps
    entering = np.minimum(max(1.0, ENTER_S * options.fps), len(frames) - begun)  # whoever starts last is there at the end
    presence = np.where(begun == 0, 1.0, np.clip((frames[:, None] + 1 - begun) / entering, 0.0, 1.0)) * ~np.isnan(values)
    over = epochs[moments.astype(int)][:, None] >= np.where(np.isnan(ended), np.inf, ended)[None, :]
    keep = slice(-1, None) if options.format == "png" else slice(None)
    return Prepared(
        order, filled, moments[keep], epochs[moments.astype(int)][keep], values[keep], places[keep], presence[keep], ended,
        over[keep], axis_of(order, filled),
    )  # fmt: skip


def window(options: Options, steps: int) -> int:
    """Return the half width, in frames, of a change of places: never so wide that an epoch's change reaches over the next."""
    return max(1, min(round(SWAP_S / 2 * options.fps), max(steps, round(SWAP_S / 4 * options.fps))))


def _filled(table: Floats, epochs: Floats) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Hold the last value through gaps and after the end; return it with the row of each start and the epoch of each end."""
    has = ~np.isnan(table)
    rows = np.arange(len(table))[:, None]
    last = np.maximum.accumulate(np.where(has, rows, -1), axis=0)
    filled = np.where(last >= 0, np.take_along_axis(table, np.maximum(last, 0), axis=0), np.nan)
    end = np.max(np.where(has, rows, -1), axis=0)
    ended = np.where(end < len(table) - 1, epochs[end], np.nan)
    return filled, has.argmax(axis=0), ended


def between(filled: Floats, moments: Floats) -> Floats:
    """Return the values at ``moments`` (in rows of ``filled``), on the line between two rows; a plateau stays exactly one."""
    row = np.minimum(moments.astype(int), max(0, len(filled) - 2))
    later = filled[np.minimum(row + 1, len(filled) - 1)]
    share = (moments - row)[:, None]
    # both ends exactly as given, so that equal values stay equal
    return np.where(share == 0, filled[row], np.where(share == 1, later, filled[row] + (later - filled[row]) * share))


def ranked(values: Floats, *, lower_is_better: bool = False) -> NDArray[np.int64]:
    """Return the rank of each racer in each frame, 1 = best; equals keep the order they had, NaN comes last."""
    loss = np.where(np.isnan(values), np.inf, values if lower_is_better else -values)
    ranks = np.empty(values.shape, dtype=np.int64)
    order = np.arange(values.shape[1])
    for frame, losses in enumerate(loss):
        order = order[np.argsort(losses[order], kind="stable")]
        ranks[frame, order] = np.arange(1, len(order) + 1)
    return ranks


def eased(ranks: NDArray[np.int64], half: int, *, smooth: bool = True) -> Floats:
    """Return places that glide from rank to rank, half way at the very frame where two racers are equal.

    The mean of the ranks over ``2 * half + 1`` frames glides so; where several change places at once, it could put one above
    a better one for a moment: those share their mean place then.
    """
    frames = np.arange(len(ranks))
    # narrower towards the ends: the first and the last frame are at rest
    reach = np.minimum(half, np.minimum(frames, frames[::-1]))
    places = np.zeros(ranks.shape)
    for width in range(half + 1):
        kernel = np.hanning(2 * width + 3)[1:-1] if smooth else np.ones(2 * width + 1)
        rows = frames[reach == width]
        for weight, shift in zip(kernel / kernel.sum(), range(-width, width + 1), strict=True):
            places[rows] += weight * ranks[rows + shift]
    order = np.argsort(ranks, axis=1)
    sorted_ = np.take_along_axis(places, order, axis=1)
    for frame in np.flatnonzero((np.diff(sorted_, axis=1) < 0).any(axis=1)).tolist():
        sorted_[frame] = rising(sorted_[frame])
    np.put_along_axis(places, order, sorted_, axis=1)
    still = places.round()
    return np.where(abs(places - still) < 1e-9, still, places)  # sums of shares of a rank are that rank


def rising(values: Floats) -> Floats:
    """Return the nearest row that never falls (least squares): neighbours in the wrong order get their mean."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        total, size = value, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / size:
            before = blocks.pop()
            total, size = total + before[0], size + before[1]
        blocks.append((total, size))
    return np.concatenate([np.full(size, total / size) for total, size in blocks])


def axis_of(order: Order, filled: Floats) -> Axis:
    """Return the axis that serves the whole race: it stands still."""
    options = order.options
    late = filled[int(LEAD_IN * (len(filled) - 1)) :]
    least, most = float(np.nanmin(late)), float(np.nanmax(late))
    lowest = float(np.nanmin(filled))
    low = least - 0.05 * ((most - least) or abs(most) or 1.0)
    if options.axis == "zero" or 0 <= low < 0.2 * most:
        low, most = min(0.0, lowest), max(0.0, most)
    elif low < 0 <= lowest:  # nothing is below zero
        low = 0.0
    low = low if options.axis_from is None else options.axis_from
    span = (most - low) or 1.0
    step = nice(span / TICKS)
    low = low if options.axis_from is not None else math.floor(low / step + 1e-9) * step
    high = low + 1.02 * max(span, most - low)
    high = high if order.most is None else max(min(high, order.most), most)
    ticks = tuple(round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1))
    return Axis(low, high, ticks, max(0, -math.floor(math.log10(step) + 1e-9)), decimals_of(order, filled, span), order.unit)


def nice(step: float) -> float:
    """Return the 1, 2 or 5 times a power of ten that is nearest above ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next((factor * power for factor in (1, 2, 5) if step <= factor * power * (1 + 1e-9)), 10 * power)


def decimals_of(order: Order, filled: Floats, span: float) -> int:
    """Return how many decimals the values need: enough for the span, one more where the last values would look equal."""
    if order.options.decimals is not None:
        return order.options.decimals
    percent = order.unit.strip() == "%"
    enough = min(4, max(int(percent), 2 - percent - math.floor(math.log10(span) + 1e-9)))
    last = sorted(set(filled[-1][~np.isnan(filled[-1])].tolist()))
    texts = [f"{value:.{enough}f}" for value in last]
    return min(4, enough + 1) if len(set(texts)) < len(texts) else enough
