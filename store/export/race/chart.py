"""The package bar_chart_race as the model: its class with our preparation, drawing and encoder, and its unchanged picture.

What it decides stays with it: the checks of its options, bars and their number, colours, frames per second. What breaks or looks
bad in 0.1.0 is overridden: unequal lengths, ties, the size, the drawing (a figure drawn anew for every frame), the writer.

Reads: what is prepared. Writes: the file it is given. Never: rcParams for longer than a call, and never in the app's process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from bar_chart_race import bar_chart_race
from bar_chart_race._make_chart import _BarChartRace

from kdengine.errors import KdError
from store.export.race.bars import Bars
from store.export.race.canvas import Bytes
from store.export.race.encode import NO_FFMPEG, ffmpeg_exe
from store.export.race.lines import Lines
from store.export.race.order import Order
from store.export.race.prepare import Prepared, prepare


class Race(_BarChartRace):
    """A race as the package knows it, drawn by ``Bars`` or ``Lines``.

    ``df_values``, ``df_ranks``: value and place in every frame, as in the package, but 1 is the best place.
    ``table``: the colours of the pixels of ``frames``.
    """

    def __init__(self, order: Order) -> None:
        options, racers = order.options, order.racers
        self._order = order
        frame = pd.DataFrame(order.table(), index=list(order.epochs), columns=[racer.name for racer in racers])
        steps = options.steps_for(len(order.epochs))
        super().__init__(
            frame, f"race.{options.format}", orientation="h", sort="asc" if order.lower_is_better else "desc",
            n_bars=min(options.top, len(racers)), fixed_order=False, fixed_max=True, steps_per_period=steps,
            period_length=1000 * steps / options.fps, interpolate_period=True, label_bars=True, bar_size=0.74,
            period_label=True, period_fmt=None, period_summary_func=None, perpendicular_bar_func=None,
            figsize=(options.width / 100, options.height / 100), cmap=[racer.colour for racer in racers], title=order.title,
            title_size=None, bar_label_size=7, tick_label_size=7, shared_fontdict=None, scale="linear", writer="ffmpeg",
            fig=None, dpi=100, bar_kwargs={"alpha": 1.0}, filter_column_colors=False,
        )  # fmt: skip

    def prepare_data(self, df: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Prepare every frame; see ``prepare``."""
        self.prepared: Prepared = prepare(self._order)
        prepared = self.prepared
        return pd.DataFrame(prepared.values, columns=df.columns), pd.DataFrame(prepared.places, columns=df.columns)

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
    frame = pd.DataFrame(order.table(), index=list(order.epochs), columns=[racer.name for racer in order.racers])
    steps = options.steps_for(len(order.epochs))
    wanted: dict[str, Any] = {
        "n_bars": min(options.top, len(order.racers)), "steps_per_period": steps, "period_length": 1000 * steps / options.fps,
        "interpolate_period": True, "title": order.title or None,
    }  # fmt: skip
    report(0, 0)
    with warnings.catch_warnings(), mpl.rc_context({"animation.ffmpeg_path": exe or "ffmpeg"}):
        warnings.simplefilter("ignore")  # of matplotlib and pandas, several at every call
        bar_chart_race(frame, str(out), sort="asc" if order.lower_is_better else "desc", **wanted)
    return (len(order.epochs) - 1) * steps + 1
