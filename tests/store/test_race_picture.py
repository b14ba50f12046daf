"""What the pictures of a race show: geometry to the pixel, texts, colours, and frames kept as golden pictures.

``KD_DRAW_GOLDEN=1 pytest -k golden_frames`` on this file draws the golden pictures anew; look at each before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kdengine.errors import KdError
from store.export.race.bars import Bars, torn
from store.export.race.canvas import Canvas, Palette, Ramp, rgb
from store.export.race.chart import Race
from store.export.race.encode import with_palette
from store.export.race.fonts import BOX, ELLIPSIS, Face, shown
from store.export.race.lines import Lines, apart
from store.export.race.order import Order
from store.export.race.prepare import prepare
from store.export.race.words import THEMES, axis_words, ended_text, epoch_text, epoch_ticks
from tests.store.racing import COLOURS, order

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "race"
LONG = "a method whose name has sixty characters, which is too many"
CHINESE = ["知识蒸馏", "注意力迁移", "因子迁移", "相互学習", "동시 학습"]


def still(race: Order, number: int = -1) -> NDArray[np.uint8]:
    """Return a frame as RGB."""
    drawn = (Lines if race.options.kind == "lines" else Bars)(prepare(race))
    frames = prepare(race).frames
    return np.array(drawn.table[drawn.draw(number % frames)])


def pixels_of(picture: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    """Return where the picture has exactly this colour."""
    return np.asarray((picture == np.array(rgb(colour))).all(axis=2))


def widths(picture: NDArray[np.uint8], colours: tuple[str, ...]) -> list[int]:
    """Return the width of the bar of each colour, in pixels of its own colour, the gaps of a torn axis counted in."""
    columns = [np.flatnonzero(pixels_of(picture, colour).any(axis=0)) for colour in colours]
    return [int(c[-1] - c[0] + 1) if len(c) else 0 for c in columns]


# ---- the canvas -----------------------------------------------------------------------------------------------------------


def test_edges_between_two_pixels_are_mixed() -> None:
    palette = Palette("#ffffff")
    ramp = palette.ramp("#000000", 4)
    canvas = Canvas(8, 6)
    canvas.bar(1.5, 4.25, 1, 3, ramp)
    shades = palette.table()[canvas.pixels][:, :, 0]
    assert shades[1].tolist() == [255, 128, 0, 0, 191, 255, 255, 255]
    assert shades[0].tolist() == shades[3].tolist() == [255] * 8
    canvas.clear()
    canvas.bar(0, 8, 1.5, 9, ramp, below=4)
    assert palette.table()[canvas.pixels][:, 3, 0].tolist() == [255, 128, 0, 0, 255, 255], "nothing from row 4 on"


def test_a_bar_thinner_than_a_pixel_is_there_and_nothing_is_nothing() -> None:
    palette = Palette("#ffffff")
    ramp = palette.ramp("#000000", 4)
    canvas = Canvas(4, 4)
    canvas.bar(1.25, 1.75, 0, 4, ramp)
    assert set(palette.table()[canvas.pixels][:, 1, 0].tolist()) == {128}
    canvas.clear()
    canvas.bar(-5, -1, 0, 4, ramp)
    canvas.bar(2, 2, 0, 4, ramp)
    assert not canvas.pixels.any()


def test_pictures_are_cut_at_every_edge() -> None:
    canvas = Canvas(4, 3)
    stamp = np.full((2, 2), 9, dtype=np.uint8)
    for x, y in ((-1, -1), (3, -1), (-1, 2), (3, 2), (9, 9), (-9, 0)):
        canvas.stamp(stamp, x, y)
    assert [canvas.pixels[0, 0], canvas.pixels[0, 3], canvas.pixels[2, 0], canvas.pixels[2, 3]] == [9] * 4
    assert canvas.pixels.sum() == 36


def test_the_ground_is_seen_through_a_picture_and_letters_win() -> None:
    canvas = Canvas(3, 3)
    canvas.pixels[:] = 5
    canvas.stamp(np.array([[0, 9], [3, 0]], dtype=np.uint8), 0, 0)
    assert canvas.pixels.tolist() == [[5, 9, 5], [5, 5, 5], [5, 5, 5]]
    canvas.clear()
    canvas.stamp(np.full((3, 3), 9, dtype=np.uint8), 0, 0, below=2)
    assert canvas.pixels.tolist() == [[9] * 3, [9] * 3, [0] * 3]


def test_a_palette_is_full_at_256() -> None:
    palette = Palette("#ffffff")
    palette.ramp("#000000", 255)
    with pytest.raises(ValueError, match="257 colours"):
        palette.ramp("#ff0000", 1)


def test_a_line_has_its_width_and_stays_in_its_rows() -> None:
    canvas = Canvas(40, 40)
    canvas.line(Ramp(1, 100), 5, 20, 35, 20, 4)
    column = canvas.pixels[:, 20]
    assert (column == 100).sum() == 4 and np.flatnonzero(column).tolist() == [18, 19, 20, 21]
    canvas.clear()
    canvas.line(Ramp(1, 100), 5, 0, 35, 40, 4, rows=(10, 20))
    assert np.flatnonzero(canvas.pixels.any(axis=1)).tolist() == list(range(10, 20))


# ---- letters --------------------------------------------------------------------------------------------------------------


def test_digits_have_one_width() -> None:
    face = Face(20)
    assert len({face.width(digit * 4) for digit in "0123456789"}) == 1


@pytest.mark.parametrize("text", [LONG, CHINESE[0] * 12, "short", "", "a", "m" * 300])
def test_a_name_never_exceeds_its_room(text: str) -> None:
    face = Face(18)
    for room in (30, 90, 300, 2000):
        cut = face.elided(text, room)
        assert face.width(cut) <= room or len(cut) <= 1
        assert cut == text or ELLIPSIS in cut
        if face.width(text) <= room:
            assert cut == text
    kept = face.elided(LONG, 300)
    assert LONG.startswith(kept.split(ELLIPSIS)[0]) and LONG.endswith(kept.split(ELLIPSIS)[1])


def test_every_script_is_drawn_and_the_rest_is_a_box() -> None:
    face = Face(30)
    for text in (*CHINESE, "Ωμέγα", "Привет", "α → β ± ≤"):
        assert shown(text) == text
        assert not np.array_equal(face.word(text).coverage, face.word(BOX * len(text)).coverage)
    assert shown("a\N{SNOWMAN}\n\N{BRAIN}") == f"a\N{SNOWMAN} {BOX}"
    assert len({face.word(sign).coverage.tobytes() for sign in "知识蒸馏"}) == 4


def test_dollars_are_letters() -> None:
    assert shown("cost_$a$_$b") == "cost_$a$_$b"
    assert Face(20).width("$x^2$") > Face(20).width("x2")


def test_a_caption_breaks_between_words_and_ends_with_dots() -> None:
    face = Face(12)
    lines = face.lines("one two three four five six seven eight nine ten", 80, 2)
    assert len(lines) == 2 and lines[0] == "one two three" and ELLIPSIS in lines[1]
    assert all(face.width(line) <= 80 for line in lines)
    assert face.lines("", 80, 2) == [] and face.lines("one", 80, 2) == ["one"]


# ---- bars -----------------------------------------------------------------------------------------------------------------


def test_lengths_are_the_values_on_the_axis() -> None:
    race = order({"a": [10.0, 80.0], "b": [10.0, 40.0], "c": [10.0, 20.0]}, axis="zero", width=800, height=450)
    lengths = widths(still(race), COLOURS[:3])
    assert lengths[0] / lengths[1] == pytest.approx(2, abs=0.02) and lengths[1] / lengths[2] == pytest.approx(2, abs=0.03)


def test_a_zoomed_axis_says_so_and_its_bars_are_torn() -> None:
    values = {"a": [60.0, 70.1], "b": [60.0, 70.3]}
    zoomed, whole = prepare(order(values)), prepare(order(values, axis="zero"))
    assert "axis starts at" in axis_words(zoomed) and "axis starts" not in axis_words(whole)
    assert zoomed.axis.tick_text(zoomed.axis.low) in axis_words(zoomed)
    gaps = [pixels_of(still(order(values, axis=axis)), COLOURS[1]).sum(axis=0) for axis in ("zoom", "zero")]
    inner = [columns[np.flatnonzero(columns)[0] + 1 : np.flatnonzero(columns)[-1] - 1] for columns in gaps]
    assert inner[0].min() < inner[0].max() and inner[1].min() == inner[1].max()


def test_a_close_race_is_seen_and_read() -> None:
    picture = still(order({"a": [60.0, 70.1], "b": [60.0, 70.3]}))
    first, second = widths(picture, COLOURS[:2])
    assert second > first
    axis = prepare(order({"a": [60.0, 70.12], "b": [60.0, 70.14]})).axis
    assert axis.value_text(70.12) == "70.12 %" and axis.value_text(70.14) == "70.14 %"


def test_the_best_is_on_top_and_for_losses_the_least() -> None:
    values = {"a": [3.0, 2.0], "b": [3.0, 1.0], "c": [3.0, 2.5]}
    for lower, ranked in ((False, (2, 0, 1)), (True, (1, 0, 2))):
        picture = still(order(values, unit="", most=None, lower_is_better=lower))
        tops = [np.flatnonzero(pixels_of(picture, colour).any(axis=1))[0] for colour in COLOURS[:3]]
        assert tuple(np.argsort(tops).tolist()) == ranked


def test_colours_stay_when_a_racer_joins() -> None:
    few, more = order(racers=3), order(racers=5)
    assert [r.colour for r in few.racers] == [r.colour for r in more.racers][:3]
    for race in (few, more):
        assert all(pixels_of(still(race), colour).sum() > 200 for colour in COLOURS[:3])


def test_who_is_behind_the_top_waits_below_the_edge() -> None:
    race = order({f"m{n}": [50.0, 60.0 + n] for n in range(8)}, top=5)
    picture = still(race)
    there = [bool(pixels_of(picture, colour).any()) for colour in COLOURS]
    assert there == [False] * 3 + [True] * 5


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_highlighted_ones_keep_their_colour(kind: str) -> None:
    picture = still(order(racers=4, kind=kind, highlight=("method 2",)))
    assert pixels_of(picture, COLOURS[2]).any() and pixels_of(picture, THEMES["light"].grey).any()
    assert not any(pixels_of(picture, COLOURS[n]).any() for n in (0, 1, 3))


def test_the_size_is_exact_whatever_the_names() -> None:
    for kind in ("bars", "lines"):
        picture = still(order({LONG: [1.0, 2.0], "b" * 80: [1.0, 3.0]}, width=640, height=360, kind=kind))
        assert picture.shape == (360, 640, 3)
        edge = np.concatenate([picture[:, :4].reshape(-1, 3), picture[:, -4:].reshape(-1, 3)])
        assert (edge == np.array(rgb(THEMES["light"].background))).all(), "nothing touches the edge"


def test_a_long_title_leaves_room_for_the_epoch() -> None:
    pictures = [still(order(title=title, subtitle=title)) for title in ("", "W" * 300)]
    right = [picture[:90, -190:] for picture in pictures]  # as wide as the words epoch 6, and some air before them
    assert np.array_equal(right[0][:60], right[1][:60]) and not np.array_equal(*pictures)


def test_too_many_bars_for_a_small_picture_are_refused() -> None:
    with pytest.raises(KdError) as caught:
        still(order(racers=20, width=320, height=180, top=20))
    assert "20 bars in 320 x 180" in str(caught.value) and "up to" in str(caught.value)


def test_a_run_that_ended_says_when() -> None:
    values = {"a": [50.0, 60.0, None, None], "b": [50.0, 55.0, 60.0, 70.0]}
    whole = {"a": [50.0, 60.0, 60.0, 60.0], "b": [50.0, 55.0, 60.0, 70.0]}
    muted = [
        pixels_of(still(order(v, caption="", measure="", subtitle="")), THEMES["light"].muted).sum() for v in (values, whole)
    ]
    assert muted[0] > muted[1]
    assert epoch_text(40.0) == "epoch 40" and epoch_text(2.5) == "epoch 2.5"
    assert ended_text(40.0) == "ended at epoch 40" and ended_text(40.0, short=True) == "until 40"


def test_in_a_narrow_picture_words_are_cut_short_not_bars() -> None:
    early, whole = {LONG: [50.0, 60.0, None], "b": [50.0, 55.0, 70.0]}, {LONG: [50.0, 60.0, 60.0], "b": [50.0, 55.0, 70.0]}
    for size, most in (((540, 960), 0.13), ((1280, 720), 0.25)):
        lost = [widths(still(order(v, width=size[0], height=size[1])), COLOURS[:2])[1] / size[0] for v in (whole, early)]
        assert 0.02 < lost[0] - lost[1] < most
    face = Face(15)
    assert face.width(ended_text(3.0, short=True)) < 0.6 * face.width(ended_text(3.0))


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_any_frame_alone_is_the_frame_in_the_run(kind: str) -> None:
    race = Race(order(epochs=5, racers=5, kind=kind, steps=4, width=480, height=270))
    run = [frame.copy() for frame in race.frames()]
    for number in (16, 3, 9, 0):
        assert np.array_equal(race.fig.draw(number), run[number])
    assert len(run) == 17 and len({frame.tobytes() for frame in run}) > 10


def test_the_mark_of_a_torn_axis_has_two_gaps() -> None:
    row = torn(20, 1.0)[10] < 128
    assert (np.diff(row.astype(int)) == 1).sum() == 2


# ---- lines ----------------------------------------------------------------------------------------------------------------


def test_names_are_pushed_apart_and_stay_inside() -> None:
    rows = apart(np.array([10.0, 10.5, 11.0, 60.0]), 12, 0, 100)
    assert (np.diff(rows) >= 12 - 1e-9).all() and rows[3] == 60 and rows[:3].mean() == pytest.approx(12, abs=1)
    assert apart(np.array([98.0, 99.0]), 12, 0, 100).tolist() == [88, 100]
    assert apart(-np.array([98.0, 99.0])[::-1], 12, 0, 100, flipped=True).tolist() == [100, 88]


def test_epochs_below_the_lines_are_whole_and_have_both_ends() -> None:
    assert epoch_ticks(tuple(range(1, 21))) == [1, 5, 10, 15, 20]
    assert epoch_ticks((1.0, 2.0)) == [1, 2] and epoch_ticks((7.0,)) == [7]
    assert all(float(t).is_integer() for t in epoch_ticks(tuple(range(1, 241))))


def test_lines_stay_in_their_field() -> None:
    race = order({"a": [9.0, 1.0, 0.5, 0.4, 0.4, 0.4], "b": [8.0, 2.0, 1.0, 0.9, 0.8, 0.8]}, unit="", most=None, kind="lines",
                 lower_is_better=True, title="", subtitle="")  # fmt: skip
    head = still(race)[:60, 200:900]
    assert not pixels_of(head, COLOURS[0]).any() and not pixels_of(head, COLOURS[1]).any()


# ---- the package as the model ---------------------------------------------------------------------------------------------


def test_the_package_stays_the_model() -> None:
    from bar_chart_race._make_chart import _BarChartRace

    race = Race(order({"a": [1.0, 5.0], "b": [2.0, 4.0], "c": [3.0, 9.0]}, steps=4, fps=20))
    assert isinstance(race, _BarChartRace) and race.fps == 20 and race.n_bars == 3
    assert race.df_values.values[-1].tolist() == [5.0, 4.0, 9.0] and race.df_ranks.values[-1].tolist() == [2, 3, 1]
    assert race.df_values.shape == race.df_ranks.shape == (5, 3) and race.bar_colors.tolist() == list(COLOURS[:3])


# ---- golden pictures ------------------------------------------------------------------------------------------------------

SMALL = {"width": 480, "height": 270, "steps": 6}
KEPT = {
    "bars-light": (order(racers=5, **SMALL), 17),
    "bars-dark-swap": (order({"a": [50.0, 60.0, 71.0], "b": [52.0, 64.0, 66.0], "c": [40.0, 62.0, 65.0]}, theme="dark",
                             **SMALL), 9),
    "bars-close": (order({"a": [60.0, 65.0, 70.1], "b": [61.0, 64.0, 70.3]}, **SMALL), -1),
    "bars-twenty": (order(racers=20, top=20, width=640, height=480, steps=6), -1),
    "bars-long-dark": (order({f"{LONG} {n}": [50.0, 60.0 + n] for n in range(4)}, theme="dark", **SMALL), -1),
    "bars-chinese": (order({n: [50.0, 60.0 + i] for i, n in enumerate(CHINESE)}, title="哪种方法学得最快？", **SMALL), -1),
    "bars-ended-print": (order({"a": [50.0, 60.0, None], "b": [None, 50.0, 70.0]}, theme="print", **SMALL), -1),
    "lines-light": (order(racers=5, kind="lines", **SMALL), 17),
    "lines-loss-dark": (order({"a": [3.0, 1.0, 0.5], "b": [3.2, 1.5, 0.9]}, kind="lines", theme="dark", unit="", most=None,
                              measure="Test loss", lower_is_better=True, **SMALL), -1),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_golden_frames(name: str) -> None:
    race, number = KEPT[name]
    if os.environ.get("KD_DRAW_GOLDEN"):
        drawn = Race(race)
        GOLDEN.mkdir(exist_ok=True)
        with_palette(drawn.fig.draw(number % drawn.prepared.frames), drawn.table).save(GOLDEN / f"{name}.png", optimize=True)
    kept = np.array(Image.open(GOLDEN / f"{name}.png").convert("RGB")).astype(int)
    now = still(race, number).astype(int)
    assert now.shape == kept.shape
    # another release of FreeType may shade letters otherwise: few pixels, and none of them far from where a letter was
    other = (abs(now - kept) > 48).any(axis=2)
    assert other.mean() < 0.002, f"{other.sum()} pixels differ"
    assert abs(now - kept).mean() < 0.5
