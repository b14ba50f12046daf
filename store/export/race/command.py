"""``python -m store race``: a race chart from a table in a text file, or from the runs of a suite, without the app.

Reads: the text file, or the results. Writes: the file that ``--out`` names; progress and one closing line on stderr. Never:
NumPy, pandas or DuckDB before a race is asked for: ``--help`` comes at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdengine.errors import KdError, Problem

if TYPE_CHECKING:
    from store.export.race.options import Format, Options
    from store.export.race.order import Order
    from store.export.race.render import Report

ALL = "*"
FORMATS: tuple[Format, ...] = ("mp4", "gif", "png")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # no sum here is worth a second one
CSV_ONLY = {"unit": "--unit", "lower": "--lower", "measure": "--measure"}  # a suite's metric says these
SUITE_ONLY = {"metric": "--metric", "seeds": "--seeds", "column": "--column"}
LOOKS = ("width", "height", "fps", "steps", "top", "axis", "axis_from", "decimals", "easing", "theme", "kind")


def race(
    csv: Annotated[Path | None, typer.Option(help="wide table: first column the epoch, then a column per method")] = None,
    suite: Annotated[str | None, typer.Option(help='the finished runs of a suite; "*" = of all')] = None,
    out: Annotated[Path | None, typer.Option(help="the file to make; it ends in .mp4, .gif, or .png (the last frame)")] = None,
    order: Annotated[str | None, typer.Option(hidden=True)] = None,
    metric: Annotated[str | None, typer.Option(help="column of epochs that races (test_top1_frac)")] = None,
    mode: Annotated[str | None, typer.Option(help="best so far, raw or smooth (a suite: best, a table: raw)")] = None,
    seeds: Annotated[str | None, typer.Option(help="mean, best, or the number of a seed (mean)")] = None,
    column: Annotated[str | None, typer.Option(help="dataset-teacher-student, where a suite has several")] = None,
    width: Annotated[int | None, typer.Option(help="pixels (mp4, png: 1280; gif: 800)")] = None,
    height: Annotated[int | None, typer.Option(help="pixels (mp4, png: 720; gif: 450)")] = None,
    fps: Annotated[int | None, typer.Option(help="frames per second (mp4: 30, gif: 20)")] = None,
    steps: Annotated[int | None, typer.Option(help="frames from one epoch to the next (so that it takes about 20 s)")] = None,
    hold: Annotated[float | None, typer.Option(help="seconds that the last frame stays (2)")] = None,
    top: Annotated[int | None, typer.Option(help="bars in view (12)")] = None,
    axis: Annotated[str | None, typer.Option(help="zoom to the values, or from zero (zoom)")] = None,
    axis_from: Annotated[float | None, typer.Option("--from", help="where the axis begins instead")] = None,
    decimals: Annotated[int | None, typer.Option(help="digits behind the point (as many as tell the values apart)")] = None,
    easing: Annotated[str | None, typer.Option(help="how bars change places: smooth or linear (smooth)")] = None,
    theme: Annotated[str | None, typer.Option(help="light, dark or print (light)")] = None,
    kind: Annotated[str | None, typer.Option(help="bars, lines, or classic: as bar_chart_race draws (bars)")] = None,
    highlight: Annotated[list[str] | None, typer.Option(help="a name that keeps its colour; may be given twice")] = None,
    title: Annotated[str, typer.Option(help="instead of the usual one")] = "",
    subtitle: Annotated[str | None, typer.Option(help="the line below it")] = None,
    measure: Annotated[str | None, typer.Option(help="what is measured, for a table")] = None,
    unit: Annotated[str | None, typer.Option(help='behind a value, with its space, for a table: " %"')] = None,
    lower: Annotated[bool | None, typer.Option("--lower/--higher", help="whether the least value is on top, for a table")] = None,
    no_caption: Annotated[bool, typer.Option("--no-caption", help="without the line that says what was drawn")] = False,
) -> None:  # fmt: skip
    """Draw a race chart of methods over epochs as MP4, GIF or PNG, from --csv TABLE or --suite NAME, into --out FILE."""
    given = dict(locals())
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    if order is not None:
        _ordered(order)
        return
    options = _options(given)
    made = _of_table(given, options) if csv is not None else _of_runs(given, options)
    _draw(made, Path(given["out"]))


def _ordered(key: str) -> None:
    """Draw what the app has put into its queue."""
    from kdengine.home import Home
    from store.export.race.exports import draw_ordered

    draw_ordered(Home.find(), key)


def _options(given: dict[str, Any]) -> Options:
    """Return how it shall look.

    Raises:
        KdError: with every fault of the words given.
    """
    from store.export.race.options import Options

    faults = list(_faults(given))
    ending: Any = given["out"].suffix.lower()[1:] if given["out"] else ""
    try:
        looks = {name: given[name] for name in LOOKS} | {"hold_s": given["hold"], "highlight": tuple(given["highlight"] or ())}
        options = Options.usual(ending if ending in FORMATS else FORMATS[0], caption=not given["no_caption"], **looks)
    except KdError as error:
        faults += error.problems
    if faults:
        raise KdError(*faults)
    return options


def _faults(given: dict[str, Any]) -> Iterator[Problem]:
    sources = [f"--{name}" for name in ("csv", "suite") if given[name] is not None]
    if len(sources) != 1:
        both = " and ".join(sources) or "neither --csv nor --suite"
        yield Problem("", both, "one of --csv TABLE and --suite NAME", "choose one of them")
    else:
        useless = CSV_ONLY if sources == ["--suite"] else SUITE_ONLY
        if words := [word for name, word in useless.items() if given[name] is not None]:
            yield Problem(", ".join(words), f"together with {sources[0]}",
                          f"only with {'--csv' if sources == ['--suite'] else '--suite'}", "leave it out")  # fmt: skip
    yield from _out_faults(given["out"])


def _out_faults(out: Path | None) -> Iterator[Problem]:
    endings = ", ".join(f".{name}" for name in FORMATS)
    if out is None:
        yield Problem("--out", "no file to make", f"a name that ends in {endings}", "add --out race.mp4")
    elif out.suffix.lower()[1:] not in FORMATS:
        yield Problem("--out", f"{out}, which ends in {out.suffix or 'nothing'}", endings,
                      f"for example {out.with_suffix('.mp4')}")  # fmt: skip
    elif not out.parent.is_dir() or out.is_dir():
        yield Problem("--out", f"{out}", "a file in a folder that exists", "name another, or make the folder")


def _of_table(given: dict[str, Any], options: Options) -> Order:
    from store.export.race.wide import from_csv

    return _with_subtitle(from_csv(
        given["csv"], options=options, mode=given["mode"] or "raw", unit=given["unit"] or "", title=given["title"],
        lower_is_better=bool(given["lower"]), measure=given["measure"] or "",
    ), given["subtitle"])  # fmt: skip


def _of_runs(given: dict[str, Any], options: Options) -> Order:
    """Return the race of a suite; the results are read whether the app runs or not, and let go before drawing begins."""
    from kdengine.home import Home
    from store.db import Store
    from store.export.race.gather import of_suite

    with Store.open(Home.find()) as store:
        store.take_in()
        if store.notice:
            typer.echo(store.notice, err=True)
        return _with_subtitle(of_suite(
            store, None if given["suite"] == ALL else given["suite"], metric=given["metric"] or "test_top1_frac",
            mode=given["mode"] or "best", seeds=given["seeds"] or "mean", column=given["column"], options=options,
            title=given["title"],
        ), given["subtitle"])  # fmt: skip


def _with_subtitle(order: Order, subtitle: str | None) -> Order:
    return order if subtitle is None else type(order)(**dict(order) | {"subtitle": subtitle})


def _draw(order: Order, out: Path) -> None:
    """Draw into ``out``, and say what was made."""
    from store.export.race.render import render

    with _shown() as report:
        made = render(order, out, report=report)
    options = order.options
    size = f"{options.width}x{options.height}, {made.bytes / 1e6:.2f} MB"
    length = f"{made.frames} frames, {options.seconds(len(order.epochs)):.1f} s, " if options.format != "png" else ""
    typer.echo(f"{out}: {length}{size}, drawn in {made.seconds:.1f} s", err=True)


@contextmanager
def _shown() -> Iterator[Report | None]:
    """Show a progress bar on a terminal; None where nobody looks."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("drawing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
