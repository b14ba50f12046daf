"""The frames of a race in numbers: thousands of random races against an oracle of their own, and what options may be.

The oracle knows nothing of how ``prepare`` ranks or glides. It takes the order of two racers from their values, from one frame to
the next; a racer is *swapping* where the order between it and any other changes within the window around a frame. It demands that
a better value never stands below a worse one, and that all who do not swap stand on whole places of their own.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdengine.errors import KdError
from store.export.race.options import Options
from store.export.race.order import Order, Racer
from store.export.race.prepare import Prepared, prepare
from tests.store.racing import order

CASES, PARTS, QUICK = 10_000, 8, 300
KINDS = ("curves", "best so far", "ties", "plateaus", "near", "huge", "negative", "falling")
Random = np.random.Generator


# ---- random races ----------------------------------------------------------------------------------------------------------


def values_of(kind: str, random: Random, epochs: int, racers: int) -> NDArray[np.float64]:
    """Return (epochs, racers) of one kind of course."""
    shape, rows = (epochs, racers), np.arange(1, epochs + 1)[:, None]
    curves = random.uniform(55, 80, racers) * (1 - np.exp(-rows * random.uniform(0.05, 1, racers))) + random.normal(0, 0.5, shape)
    drawn = {
        "curves": lambda: curves,
        "best so far": lambda: np.maximum.accumulate(curves, axis=0),
        "ties": lambda: random.integers(0, 4, shape).astype(float),
        "plateaus": lambda: np.maximum.accumulate(random.integers(0, 9, shape).astype(float), axis=0),
        "near": lambda: random.choice([70.1, 70.2, 70.3], shape),
        "huge": lambda: 10.0 ** random.uniform(-3, 9, shape) * random.choice([-1, 1], shape),
        "negative": lambda: -np.abs(curves),
        "falling": lambda: 3 / rows + random.uniform(0, 0.3, shape),
    }
    return drawn[kind]()


def with_gaps(values: NDArray[np.float64], random: Random) -> NDArray[np.float64]:
    """Return the values with late starts, gaps and early ends; every racer keeps one value at least."""
    epochs, racers = values.shape
    rows = np.arange(epochs)[:, None]
    starts = np.where(random.random(racers) < 0.3, random.integers(0, epochs, racers), 0)
    ends = np.where(random.random(racers) < 0.3, random.integers(0, epochs, racers), epochs - 1)
    kept = (rows >= np.minimum(starts, ends)) & (rows <= ends) & (random.random(values.shape) > random.choice([0, 0.2]))
    kept[ends, np.arange(racers)] = True
    return np.where(kept, values, np.nan)


def random_order(number: int) -> Order:
    """Return the race with this number: always the same one."""
    random = np.random.default_rng([5, number])
    racers, epochs = int(random.integers(1, 26)), 1 + round(float(np.exp(random.uniform(0, np.log(29)))))
    table = values_of(KINDS[number % len(KINDS)], random, epochs, racers)
    if random.random() < 0.5:
        table = with_gaps(table, random)
    options = Options(
        fps=int(random.choice([5, 10, 20, 25, 30, 50, 60])), steps=round(float(np.exp(random.uniform(0, np.log(20))))),
        easing=str(random.choice(["smooth", "linear"])), axis=str(random.choice(["zoom", "zero"])),
    )  # fmt: skip
    runners = tuple(Racer(name=f"m{n}", colour="#1d60bc", values=tuple(own)) for n, own in enumerate(table.T.tolist()))
    lower = bool(random.integers(2))
    return Order(epochs=tuple(range(1, epochs + 1)), racers=runners, lower_is_better=lower, options=options)


# ---- the oracle ------------------------------------------------------------------------------------------------------------


def expected_values(table: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Return (frames, racers): each value on the line between its epochs, the last one held, NaN before the first."""
    epochs, racers = table.shape
    moments = np.arange((epochs - 1) * steps + 1) / steps
    found = np.full((len(moments), racers), np.nan)
    for racer in range(racers):
        known = np.flatnonzero(~np.isnan(table[:, racer]))
        filled = table[known[np.searchsorted(known, np.arange(known[0], epochs), side="right") - 1], racer]
        here = moments >= known[0]
        found[here, racer] = np.interp(moments[here], np.arange(known[0], epochs), filled)
    return found


def precedence(values: NDArray[np.float64], lower: bool) -> NDArray[np.bool_]:
    """Return (frames, a, b): whether a stands before b. Equals keep what they had, at first the order they were given in; who
    has not started is worse than everybody."""
    loss = np.where(np.isnan(values), np.inf, values if lower else -values)
    before, after = loss[:, :, None] < loss[:, None, :], loss[:, :, None] > loss[:, None, :]
    decided = before | after
    frames, racers = values.shape
    last = np.maximum.accumulate(np.where(decided, np.arange(frames, dtype=np.int16)[:, None, None], -1), axis=0)
    given = np.arange(racers)[:, None] < np.arange(racers)[None, :]
    return np.where(last < 0, given, np.take_along_axis(before, np.maximum(last, 0), axis=0))


def swapping(first: NDArray[np.bool_], half: int) -> NDArray[np.bool_]:
    """Return (frames, racers): whose order with anybody changes within ``half`` frames before or behind."""
    changed = np.zeros(first.shape[:2], dtype=int)
    changed[1:] = (first[1:] != first[:-1]).any(axis=2)
    total = np.cumsum(changed, axis=0)
    frames = np.arange(len(total))
    return total[np.minimum(frames + half, len(total) - 1)] > total[np.maximum(frames - half, 0)]


def window(options: Options) -> int:
    """Half of the time that a change of places takes: 0.3 s, less where an epoch is shorter, but never under 0.15 s."""
    assert options.steps is not None
    return max(1, min(round(0.3 * options.fps), max(options.steps, round(0.15 * options.fps))))


def check_values(made: Prepared, table: NDArray[np.float64]) -> None:
    steps = made.order.options.steps_for(len(table))
    expected = expected_values(table, steps)
    np.testing.assert_allclose(made.values, expected, rtol=1e-9, atol=1e-12)
    assert np.array_equal(made.values[::steps], expected[::steps], equal_nan=True), "at an epoch exactly what was given"
    moments = np.arange(len(expected))
    assert np.array_equal(made.epoch, np.array(made.order.epochs)[moments // steps]) and made.frames == len(expected)


def check_places(made: Prepared) -> None:
    first = precedence(made.values, made.order.lower_is_better)
    ranks = 1 + first.sum(axis=1)
    swaps = swapping(first, window(made.order.options))
    in_order = np.take_along_axis(made.places, np.argsort(ranks, axis=1), axis=1)
    assert (np.diff(in_order, axis=1) >= -1e-9).all(), "a better one never stands below"
    assert (made.places >= 1 - 1e-9).all() and (made.places <= ranks.shape[1] + 1e-9).all()
    assert np.array_equal(made.places[~swaps], ranks[~swaps]), "a whole place of one's own outside a swap"
    gaps, still = np.diff(in_order, axis=1), ~np.take_along_axis(swaps, np.argsort(ranks, axis=1), axis=1)
    assert (gaps[still[:, 1:] | still[:, :-1]] >= 1 - 1e-6).all(), "nobody comes near who does not swap"
    assert not swaps[[0, -1]].any() or np.array_equal(made.places[[0, -1]], ranks[[0, -1]]), "at rest at both ends"


def check_presence(made: Prepared) -> None:
    started = ~np.isnan(made.values)
    assert (made.presence[~started] == 0).all() and (np.diff(made.presence, axis=0) >= 0).all()
    assert ((made.presence >= 0) & (made.presence <= 1)).all()
    soon = math.ceil(0.3 * made.order.options.fps)
    assert (made.presence[soon:][started[:-soon]] == 1).all(), "all there 0.3 s after the start"
    assert (made.presence[:, started[0]] == 1).all(), "who starts with the race is there from the first frame"


def check_ends(made: Prepared, table: NDArray[np.float64]) -> None:
    steps, epochs = made.order.options.steps_for(len(table)), np.array(made.order.epochs)
    for racer, column in enumerate(table.T):
        end = int(np.flatnonzero(~np.isnan(column))[-1])
        if end == len(table) - 1:
            assert math.isnan(made.ended[racer]) and not made.over[:, racer].any()
        else:
            assert made.ended[racer] == epochs[end]
            assert np.array_equal(np.flatnonzero(made.over[:, racer]), np.arange(end * steps, len(made.over)))


def check_axis(made: Prepared) -> None:
    axis, late = made.axis, made.values[math.ceil(0.2 * len(made.values)) :]
    late = late[~np.isnan(late)]
    spread = 1e-9 * (axis.high - axis.low)
    assert axis.low < axis.high and late.min() >= axis.low - spread and late.max() <= axis.high + spread
    if made.order.options.axis == "zero":
        assert axis.low <= 0 and (axis.low == 0 or np.nanmin(made.values) < 0)
    assert 2 <= len(axis.ticks) <= 12
    assert all(axis.low - spread <= tick <= axis.high + spread for tick in axis.ticks)
    steps = np.diff(axis.ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    for tick in axis.ticks:
        written = float(axis.tick_text(tick).removesuffix(axis.unit).replace(",", ""))
        assert math.isclose(written, tick, rel_tol=1e-12, abs_tol=1e-9 * steps[0]), "the text of a tick is where it stands"


def check(number: int) -> None:
    """Prepare one race and hold it against the oracle."""
    race = random_order(number)
    made, table = prepare(race), race.table()
    check_values(made, table)
    check_places(made)
    check_presence(made)
    check_ends(made, table)
    check_axis(made)


def test_random_races() -> None:
    for number in range(QUICK):
        try:
            check(number)
        except AssertionError as error:
            error.add_note(f"race {number}")
            raise


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_thousands_of_random_races(part: int) -> None:
    for number in range(part, CASES, PARTS):
        try:
            check(number)
        except AssertionError as error:
            error.add_note(f"race {number}")
            raise


@pytest.mark.slow
@pytest.mark.parametrize("number", range(0, QUICK, 10))
def test_the_oracle_notices_when_places_are_wrong(number: int) -> None:
    """Two racers that stand exchanged for one frame, a value off by a hair, a place held too long: each is found."""
    made = prepare(random_order(number))
    places = made.places.copy()
    if places.shape[1] == 1:
        return
    first, last = places[-1].argmin(), places[-1].argmax()
    places[-1, [first, last]] = places[-1, [last, first]]
    with pytest.raises(AssertionError):
        check_places(replace(made, places=places))
    with pytest.raises(AssertionError):
        check_places(replace(made, places=np.roll(made.places, 1, axis=1)))
    values = made.values.copy()
    values[-1] += 1e-6 * np.abs(values[-1]) + 1e-9
    with pytest.raises(AssertionError):
        check_values(replace(made, values=values), made.order.table())


# ---- swaps -----------------------------------------------------------------------------------------------------------------


def test_two_change_places_half_way_where_they_are_equal() -> None:
    made = prepare(order({"a": [60.0, 60.0, 60.0], "b": [50.0, 70.0, 70.0]}, fps=20, steps=10))
    assert made.places[[0, -1]].tolist() == [[1, 2], [2, 1]]
    assert made.values[5].tolist() == [60, 60] and made.places[5, 0] < 1.5 < made.places[6, 0], "half way as one gets ahead"
    glide = made.places[:, 0]
    assert (np.diff(glide) >= 0).all() and 0 < np.abs(np.diff(glide)).max() < 0.35, "no jump"
    assert ((glide == 1) | (glide == 2)).sum() >= len(glide) - 12, "a swap takes 0.6 s"
    np.testing.assert_allclose(made.places.sum(axis=1), 3, atol=1e-9)


def test_equals_keep_their_order_to_the_end() -> None:
    made = prepare(order({"a": [1.0, 5.0, 5.0, 5.0], "b": [2.0, 5.0, 5.0, 6.0]}, steps=4))
    assert made.places[[4, 8]].round().tolist() == [[2, 1], [2, 1]] and made.places[-1].tolist() == [2, 1]
    tied = prepare(order({"a": [1.0, 5.0, 5.0], "b": [1.0, 5.0, 5.0]}, steps=4))
    assert np.unique(tied.places, axis=0).tolist() == [[1, 2]]


def test_who_has_not_started_waits_behind_all_others() -> None:
    made = prepare(order({"a": [None, None, 9.0, 9.0], "b": [1.0, 2.0, 3.0, 4.0], "c": [0.0, 1.0, 2.0, 3.0]}, steps=10, fps=10))
    assert made.places[0].tolist() == [3, 1, 2] and made.places[-1].tolist() == [1, 2, 3]
    assert np.isnan(made.values[19, 0]) and made.values[20, 0] == 9 and made.presence[[19, 20, 21, 23], 0].round(2).tolist() == [
        0, 0.33, 0.67, 1,
    ]  # fmt: skip


def test_a_picture_is_the_last_frame() -> None:
    film, still = (prepare(order(format=name)) for name in ("mp4", "png"))
    assert (
        still.frames == 1
        and still.values.tolist() == film.values[-1:].tolist()
        and still.places.tolist() == film.places[-1:].tolist()
    )
    one = prepare(order({"a": [70.0], "b": [71.0]}, format="png"))
    assert one.frames == 1 and one.places.tolist() == [[2, 1]] and one.epoch.tolist() == [1]


def test_the_epoch_is_the_one_last_reached() -> None:
    made = prepare(order(epochs=3, steps=4))
    assert made.epoch.tolist() == [1] * 4 + [2] * 4 + [3] and made.at[5] == 1.25 and made.frames == 9


# ---- the axis --------------------------------------------------------------------------------------------------------------


def test_values_that_nearly_agree_differ_in_print_and_length() -> None:
    axis = prepare(order({"a": [70.0, 70.1], "b": [70.0, 70.3]})).axis
    texts = [axis.value_text(value) for value in (70.1, 70.3)]
    assert len(set(texts)) == 2 and all(text.endswith(" %") for text in texts)
    short, long = axis.share(np.array([70.1, 70.3]))
    assert axis.broken and long - short > 0.3
    given = prepare(order({"a": [70.0, 70.1], "b": [70.0, 70.3]}, decimals=0)).axis
    assert given.value_text(70.1) == "70 %"
    close = prepare(order({"a": [10.0, 70.12], "b": [60.0, 70.14]})).axis
    assert close.value_text(70.12) != close.value_text(70.14)


def test_the_axis_zooms_begins_at_zero_or_where_it_is_told() -> None:
    values = {"a": [20.0, 60.0, 70.0, 72.0, 74.0, 75.0], "b": [10.0, 58.0, 65.0, 66.0, 66.0, 67.0]}
    zoomed = prepare(order(values)).axis
    assert zoomed.broken and 40 <= zoomed.low < 58 and 75 < zoomed.high <= 80
    zero = prepare(order(values, axis="zero")).axis
    assert zero.low == 0 and not zero.broken and zero.ticks[0] == 0
    told = prepare(order(values, axis_from=62.5)).axis
    assert told.low == 62.5 and told.ticks[0] > 62.5 and told.share(np.array([60.0, 62.5]))[0] == 0
    assert prepare(order(values, axis_from=0.0)).axis.low == 0


def test_nothing_exceeds_what_is_possible() -> None:
    assert prepare(order({"a": [98.0, 99.9], "b": [97.0, 99.0]})).axis.high <= 100
    assert prepare(order({"a": [98.0, 99.9], "b": [97.0, 99.0]}, most=None)).axis.high > 99.9
    assert prepare(order({"a": [98.0, 101.0], "b": [97.0, 99.0]})).axis.high >= 101, "a wrong bound hides nothing"


def test_losses_and_negative_values() -> None:
    losses = prepare(order({"a": [2.3, 0.5, 0.4], "b": [2.2, 0.45, 0.38]}, lower_is_better=True, unit=" nats", most=None))
    assert losses.places[-1].tolist() == [2, 1] and losses.axis.low == 0 and losses.axis.value_text(0.4).endswith(" nats")
    below = prepare(order({"a": [-30.0, -20.0], "b": [-25.0, -24.0]}, unit="", most=None))
    assert below.places[-1].tolist() == [1, 2] and below.axis.low < -24 and below.axis.high >= -20
    assert below.axis.value_text(-20.0).startswith("-20")


@pytest.mark.parametrize("values", [[5.0, 5.0], [0.0, 0.0], [-5.0, -5.0], [1e-6, 1e-6], [1e9, 1e9]])
def test_an_axis_for_one_value_only(values: list[float]) -> None:
    axis = prepare(order({"a": values}, unit="", most=None)).axis
    assert axis.low < axis.high and axis.low <= values[0] <= axis.high and axis.ticks


@pytest.mark.parametrize("value", [0.0, -5.0])
def test_an_axis_from_zero_for_one_value_that_is_not_above_it(value: float) -> None:
    axis = prepare(order({"a": [value, value]}, axis="zero", unit="", most=None)).axis
    assert axis.low <= value <= axis.high and axis.low < axis.high and axis.low <= 0 <= axis.high


@pytest.mark.parametrize("least", [0.0, 1.0, 3.0])
def test_an_axis_does_not_begin_below_zero_where_no_value_is(least: float) -> None:
    axis = prepare(order({"a": [least, least, least], "b": [30.0, 60.0, 75.0]})).axis
    assert axis.low >= 0


@pytest.mark.parametrize("format", ["mp4", "png"])
def test_who_starts_with_the_last_epoch_is_on_the_last_picture(format: str) -> None:
    made = prepare(order({"a": [1.0, 2.0], "b": [None, 3.0]}, format=format))
    assert made.presence[-1].tolist() == [1, 1] and made.places[-1].tolist() == [2, 1]


def test_an_axis_that_begins_behind_all_values_is_refused() -> None:
    with fault("axis_from", "80", "less than the greatest value, 71"):
        order({"a": [60.0, 70.0], "b": [60.0, 71.0]}, axis_from=80)
    assert prepare(order({"a": [60.0, 70.0], "b": [60.0, 71.0]}, axis_from=65)).axis.low == 65


# ---- what may be asked for -------------------------------------------------------------------------------------------------


def fault(*parts: str) -> Any:
    return pytest.raises(KdError, match="(?s)" + ".*".join(re.escape(part) for part in parts))


def test_all_faults_of_options_come_at_once() -> None:
    with fault(
        "kind", "format", "width", "even", "height", "fps", "steps", "hold_s", "top", "decimals", "theme", "highlight"
    ) as caught:
        Options(kind="pie", format="webm", width=801, height=10, fps=500, steps=0, hold_s=-1, top=0, decimals=9, theme="pink",
                highlight=("a", "b", "c"))  # fmt: skip
    assert len(caught.value.problems) == 11 and all(p.given and p.allowed and p.do for p in caught.value.problems)
    with fault("60", "up to 50 for a GIF", "choose 50"):
        Options(format="gif", fps=60)
    with fault("xyz", "fields: kind", "remove it"):
        Options(xyz=3)


def test_all_faults_of_an_order_come_at_once() -> None:
    racer = Racer(name="a", colour="#000000", values=(1.0, 2.0, 3.0))
    empty = Racer(name="c", colour="#000000", values=(None, math.nan))
    with fault("do not rise", "a more than once", "a with 3 values", "2, one per epoch", "c without any value", "highlight", "z"):
        Order(epochs=(2, 1), racers=(racer, racer, empty), options=Options(highlight=("z",)))
    with fault("one epoch", "take the PNG"):
        Order(epochs=(1,), racers=(Racer(name="a", colour="#000000", values=(1.0,)),))
    with fault("racers", "at least 1"):
        Order(epochs=(1, 2), racers=())
    with fault("racers.0.colour"):
        Order(epochs=(1, 2), racers=({"name": "a", "colour": "red", "values": (1.0, 2.0)},))


def test_the_key_follows_everything_that_is_drawn_and_nothing_else() -> None:
    first = order()
    assert first.key({"x": "1"}) == order().key({"x": "1"}) and len(first.key({})) == 20
    changed = [order(theme="dark"), order(title="Other"), order(epochs=7), order(racers=3), order(source="s"), order(fps=25)]
    assert len({o.key({"x": "1"}) for o in changed} | {first.key({"x": "1"}), first.key({"x": "2"})}) == len(changed) + 2
    hair = [racer.model_copy(update={"values": tuple(v + 1e-9 for v in racer.values if v)}) for racer in first.racers]
    again = Order(**dict(first) | {"racers": tuple(Racer(**dict(racer)) for racer in hair)})
    assert again.key({}) == first.key({}), "what cannot be seen makes no other file"


@pytest.mark.parametrize(("epochs", "steps"), [(2, 60), (4, 40), (7, 20), (10, 20), (60, 10), (240, 3), (2000, 2)])
def test_an_animation_takes_about_twenty_seconds(epochs: int, steps: int) -> None:
    options = Options()
    assert options.steps_for(epochs) == steps and options.moving_frames(epochs) == (epochs - 1) * steps + 1
    assert Options(steps=7).steps_for(epochs) == 7


def test_frames_and_seconds_count_what_is_held() -> None:
    mp4, gif, png = (Options.usual(name, steps=10) for name in ("mp4", "gif", "png"))
    assert mp4.frames(3) == 21 + 15 + 60 and gif.frames(3) == 21 and png.frames(3) == 1
    assert mp4.seconds(3) == pytest.approx(96 / 30) and gif.seconds(3) == pytest.approx((21 + 10 + 40) / 20)
    assert Options(hold_s=0, steps=10).frames(60) == 591, "nothing held: each frame once"
    assert (gif.width, gif.height, gif.fps) == (800, 450, 20) and Options.usual("gif", width=944, fps=None).width == 944
