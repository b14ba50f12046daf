"""Comparisons in plain words: one place for how the answer is said on a page, in a caption, in a report.

Reads / writes: nothing. Never: a computation that is not said here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from store.compare.groups import WHICH

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
SEEDS_NEEDED = 3
_MANY = 4  # from so many comparisons on, their number is worth a word
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def percent(frac: float, digits: int = 1) -> str:
    """Write a fraction as percent: ``74.9 %``."""
    return f"{100 * frac:.{digits}f}{NBSP}%"


def points(frac: float, *, sign: bool = False) -> str:
    """Write a difference of fractions in points of percent: ``0.5``, or ``+0.5`` and ``−0.5`` with ``sign``."""
    text = f"{100 * frac:+.2f}" if abs(frac) < 0.00095 else f"{100 * frac:+.1f}"
    return text.replace("-", MINUS) if sign or frac < 0 else text.removeprefix("+")


def interval(low: float, high: float) -> str:
    """Write the 95 % interval of a difference: ``95 % interval +0.2 to +0.8``."""
    return f"95{NBSP}% interval {points(low, sign=True)} to {points(high, sign=True)}"


def counted(n: int, noun: str) -> str:
    """Write a number of things: ``one shared seed``, ``three shared seeds``, ``15 runs``."""
    return f"{_NUMBERS[n] if n < len(_NUMBERS) else n} {noun}{'' if n == 1 else 's'}"


def listed(items: Sequence[str]) -> str:
    """Join words with commas and a final ``and``."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def name_of(row: Any) -> str:
    """Return the name of a group: its method, and its variant where it has one."""
    return f"{row['method']} {row['variant']}".strip()


def difference(found: Any, a: str, b: str) -> str:
    """Say how far ``a`` is above ``b``. ``found``: a row of ``stats.differences``."""
    if pd.isna(found["frac"]):
        return f"{a} and {b} cannot be compared: one of them has no finished run."
    n = int(found["n"])
    head = f"{a} is {points(abs(found['frac']))} points {'above' if found['frac'] >= 0 else 'below'} {b}"
    if found["verdict"] == "too few":
        more = SEEDS_NEEDED - n
        return f"{head}, but they share {counted(n, 'seed')}: {counted(more, 'more shared seed')} would give a first interval."
    seeds = counted(n, "shared seed") if found["how"] == "paired" else "seeds not shared, so Welch's interval"
    said = {
        "better": f"{a} is better beyond seed noise",
        "worse": f"{a} is worse beyond seed noise",
        "tie": "a tie: the difference is within seed noise",
    }
    return f"{head} ({interval(found['low_frac'], found['high_frac'])}, {seeds}): {said[found['verdict']]}."


def sweep(n: int) -> str:
    """Say how little ``n`` shared seeds prove by themselves; "" from six on: a clean sweep by luck is then rarer than 1 in 20."""
    cases = 2 ** (n - 1)
    if n < 2 or cases > 20:
        return ""
    return f"With {counted(n, 'shared seed')} even a clean sweep happens by luck in 1 of {cases} cases."


def top(ranked: pd.DataFrame, which: str) -> str:
    """Say who leads one column of ``stats.ranking``, by how much over whom, and whether it is more than luck."""
    if not len(ranked):
        return "No finished runs to rank yet."
    leader, others = ranked[ranked["leads"]].iloc[0], ranked[~ranked["leads"]]
    spread = "" if pd.isna(leader["std_frac"]) else f" ± {100 * leader['std_frac']:.1f}"
    value = f"{100 * leader['mean_frac']:.1f}{spread}{NBSP}% ({WHICH[which]}, n = {int(leader['n'])})"
    if not len(others):
        return f"Only {name_of(leader)} has finished runs here: {value}."
    if not leader["enough"]:
        return _too_few(ranked, leader, others, value)
    parts = [
        _lead(leader, others, value),
        _higher(leader, others),
        _gain(leader, others),
        sweep(int(others["to_leader_n"].max())),
        many(others),
    ]
    return " ".join(part for part in parts if part)


def many(others: pd.DataFrame) -> str:
    """Say what many comparisons with the leader do to each of them; "" for few. ``others``: all but the leader."""
    tests = int(others["to_leader_p"].notna().sum())
    if tests < _MANY:
        return ""
    worse = others["to_leader_verdict"] == "worse"
    clear, firm = int(worse.sum()), int((worse & (others["to_leader_holm_p"] < 0.05)).sum())
    luck = f"; about {counted(round(tests / 20), 'such verdict')} would come by luck alone" if tests >= 10 else ""
    return (
        f"Of {tests} comparisons with the leader {clear} {'is' if clear == 1 else 'are'} clear{luck}. "
        f"Corrected for their number (Holm), {firm} of them {'holds' if firm == 1 else 'hold'}."
    )


def _lead(leader: Any, others: pd.DataFrame, value: str) -> str:
    ties = others[others["to_leader_verdict"] == "tie"]
    highest = (others["mean_frac"] > leader["mean_frac"]).any()
    name = f"{name_of(leader)} has the highest mean{' with enough seeds' if highest else ''}, {value}"
    if len(ties):
        nearest = ties.sort_values("mean_frac", ascending=False).iloc[0]
        rest = "" if len(ties) == 1 else f", and {counted(len(ties) - 1, 'other')}"
        span = interval(-nearest["to_leader_high_frac"], -nearest["to_leader_low_frac"])
        gap = points(-nearest["to_leader_frac"], sign=True)
        return f"{name}, but ties with {name_of(nearest)} ({gap} points, {span}){rest}."
    tested = others[others["to_leader_verdict"].isin(["worse", "better"])].sort_values("mean_frac", ascending=False)
    if not len(tested):
        return f"{name}; no other method has enough seeds to compare."
    second = tested.iloc[0]
    span = interval(-second["to_leader_high_frac"], -second["to_leader_low_frac"])
    untested = int((others["to_leader_verdict"] == "too few").sum())
    rest = f" {counted(untested, 'other').capitalize()} cannot be judged: too few seeds." if untested else ""
    over = f"{points(-second['to_leader_frac'])} points over {name_of(second)} ({span})"
    return f"{name_of(leader)} leads with {value}, {over}: more than seed noise.{rest}"


def _higher(leader: Any, others: pd.DataFrame) -> str:
    """Name those above the leader that have too few seeds to lead."""
    above = others[~others["enough"] & (others["mean_frac"] > leader["mean_frac"])].to_dict("records")
    shown = [f"{name_of(row)} ({percent(row['mean_frac'])}, n = {int(row['n'])})" for row in above[:3]]
    more = f" and {counted(len(above) - 3, 'other')}" if len(above) > 3 else ""
    return f"Higher, but with too few seeds to count: {listed(shown) if not more else ', '.join(shown) + more}." if above else ""


def _gain(leader: Any, others: pd.DataFrame) -> str:
    tested = others[others["to_leader_verdict"].isin(["worse", "better", "tie"])]
    said = len(tested) == 1 and tested.iloc[0]["family"] == "plain"
    if said or leader["to_base_verdict"] not in ("better", "worse", "tie"):
        return ""
    span = interval(leader["to_base_low_frac"], leader["to_base_high_frac"])
    end = ", which is within seed noise" if leader["to_base_verdict"] == "tie" else ""
    return f"Against the student alone: {points(leader['to_base_frac'], sign=True)} points ({span}){end}."


def _too_few(ranked: pd.DataFrame, leader: Any, others: pd.DataFrame, value: str) -> str:
    second = others.sort_values("mean_frac", ascending=False).iloc[0]
    gap = points(leader["mean_frac"] - second["mean_frac"])
    most = int(ranked["n"].max())
    seeds = "One seed cannot tell" if most == 1 else f"{counted(most, 'seed').capitalize()} cannot tell"
    more = counted(SEEDS_NEEDED - most, "more seed")
    return (
        f"{name_of(leader)} has the highest mean, {value}, {gap} points above {name_of(second)}. "
        f"{seeds} this from luck: {more} of each would give a first interval."
    )
