"""The package bar_chart_race as the model: its class with our preparation, drawing and encoder, and its unchanged picture.

What it decides stays with it: the checks of its options, bars and their number, colours, frames per second. What breaks or looks
bad in 0.1.0 is overridden: unequal lengths, ties, the size, the drawing (a figure drawn anew for every frame), the writer.

Reads: what is prepared. Writes: the file it is given. Never: rcParams for longer than a call, and never in the app's process.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdengine.errors import KdError
from store.export.race.bars import Bars
from store.export.race.canvas import Bytes
from store.export.race.encode import NO_FFMPEG, ffmpeg_exe
from store.export.race.lines import Lines
from store.export.race.order import Order
from store.export.race.prepare import Floats, Prepared, prepare

SLOW = ("pandas", "matplotlib.pyplot")  # the package imports them, and nearly a second of every export went into it


class Late(types.ModuleType):
    """Stands for a module that is imported when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def imported_late(*names: str) -> Iterator[None]:
    """Let modules that are imported in this context have these ones only when they use them."""
    stood_in = {name: Late(name) for name in names if name not in sys.modules}
    sys.modules.update(stood_in)
    try:
        yield
    finally:
        for name in stood_in:
            del sys.modules[name]


with imported_late(*SLOW):
    from bar_chart_race import bar_chart_race
    from bar_chart_race._make_chart import _BarChartRace


@dataclass(frozen=True)
class Table:
    """As much of a data frame as the package asks for: ``values`` (rows, racers), ``index`` (rows,)."""

    values: Floats
    index: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and racers."""
        return self.values.shape


class Race(_BarChartRace):
    """A race as the package knows it, drawn by ``Bars`` or ``Lines``.

    ``df_values``, ``df_ranks``: value and place in every frame, as in the package, but 1 is the best place.
    ``table``: the colours of the pixels of ``frames``.
    """

    def __init__(self, order: Order) -> None:
        options, racers = order.options, order.racers
        self._order = order
        steps = options.steps_for(len(order.epochs))
        given = Table(order.table(), np.array(order.epochs))
        super().__init__(
            given, f"race.{options.format}", orientation="h", sort="asc" if order.lower_is_better else "desc",
            n_bars=min(options.top, len(racers)), fixed_order=False, fixed_max=True, steps_per_period=steps,
            period_length=1000 * steps / options.fps, interpolate_period=True, label_bars=True, bar_size=0.74,
            period_label=True, period_fmt=None, period_summary_func=None, perpendicular_bar_func=None,
            figsize=(options.width / 100, options.height / 100), cmap=[racer.colour for racer in racers], title=order.title,
            title_size=27, bar_label_size=7, tick_label_size=7, shared_fontdict=None, scale="linear", writer="ffmpeg",
            fig=None, dpi=100, bar_kwargs={"alpha": 1.0}, filter_column_colors=False,
        )  # fmt: skip

    def prepare_data(self, df: Table) -> tuple[Table, Table]:
        """Prepare every frame; see ``prepare``."""
        self.prepared: Prepared = prepare(self._order)
        return Table(self.prepared.values, self.prepared.at), Table(self.prepared.places, self.prepared.at)

    def get_col_filt(self) -> NDArray[np.bool_]:
        """Return which racers are ever in view: colours belong to names, so all keep theirs."""
        return np.ones(self.df_values.shape[1], dtype=bool)

    def set_shared_fontdict(self, shared_fontdict: None) -> None:
        """Leave matplotlib's settings alone; the package copies and changes them for the whole process."""

    def get_fig(self, fig: object, dpi: int) -> tuple[Bars | Lines, None]:
        """Return what draws, in place of a figure and its axes."""
        return (Lines if self._order.options.kind == "lines" else Bars)(self.prepared), None

    @property
    def table(self) -> Bytes:
        """The 256 colours, (256, 3)."""
        table: Bytes = self.fig.table
        return table

    def frames(self) -> Iterator[Bytes]:
        """Yield the picture of each frame that differs; each overwrites the one before."""
        for number in range(self.prepared.frames):
            yield self.fig.draw(number)


def classic(order: Order, out: Path, report: Callable[[float, float], None]) -> int:
    """Let the package draw as it does by itself, and return the number of frames.

    Only what it needs to run at all is given: epochs as numbers (it cannot fill in names with pandas 3), where ffmpeg is.

    Raises:
        KdError: there is no ffmpeg for an MP4, or it draws no such format.
    """
    options, exe = order.options, ffmpeg_exe()
    if options.format == "png":
        raise KdError.of("png", "mp4 or gif: the package draws no picture of one frame", "choose bars or lines", "format")
    if exe is None and options.format == "mp4":
        raise NO_FFMPEG
    import matplotlib
    import pandas as pd

    frame = pd.DataFrame(order.table(), index=list(order.epochs), columns=[racer.name for racer in order.racers])
    steps = options.steps_for(len(order.epochs))
    wanted: dict[str, Any] = {
        "n_bars": min(options.top, len(order.racers)), "steps_per_period": steps, "period_length": 1000 * steps / options.fps,
        "interpolate_period": True, "title": order.title or None,
    }  # fmt: skip
    report(0, 0)
    with warnings.catch_warnings(), matplotlib.rc_context({"animation.ffmpeg_path": exe or "ffmpeg"}):
        warnings.simplefilter("ignore")  # of matplotlib and pandas, several at every call
        bar_chart_race(frame, str(out), sort="asc" if order.lower_is_better else "desc", **wanted)
    return (len(order.epochs) - 1) * steps + 1
