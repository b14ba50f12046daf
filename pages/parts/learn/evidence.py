"""What is known of a method: its results here beside labels alone, and what was published, as tables ready to be shown.

Reads: answers of the store's queries. Writes: nothing. Never: Streamlit, the store, torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdengine import catalogue
from pages.parts import tables, words
from pages.parts.tables import Column, Table
from store.compare import groups


@dataclass(frozen=True, slots=True)
class Best:
    """A method's best mean accuracy (share, best epoch on test) on one dataset, of ``n`` seeds, and of which networks."""

    frac: float
    dataset: str
    n: int
    networks: str


def plain_methods() -> list[str]:
    """Return the keys of the methods that learn from labels alone: what the others are compared with."""
    return [label.key for label in catalogue.labels().values() if label.family == "plain"]


def bests(board: pd.DataFrame) -> dict[str, Best]:
    """Return the best result of each method on the dataset that most methods have in common, else on its own best dataset.

    ``board``: as ``queries.leaderboard`` returns it. Networks that only serve others as teachers do not count.
    """
    taught = set(board.loc[board["teacher"].notna(), "student"])
    rows = board[board["student"].isin(taught)] if taught else board
    common = rows.groupby("dataset").agg(methods=("method", "nunique"), seeds=("n", "sum"))
    shared = common.sort_values(["methods", "seeds"], ascending=False).index.tolist()
    order = rows.assign(_rank=rows["dataset"].map(shared.index)).sort_values(["_rank", "best_mean_frac"], ascending=[True, False])
    return {
        str(row["method"]): Best(
            row["best_mean_frac"], row["dataset"], int(row["n"]), words.pair_of(row["teacher"], row["student"])
        )
        for row in order.drop_duplicates("method").to_dict("records")
    }


def own(results: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the groups of the method's finished runs (see ``groups.grouped``), each beside the labels-only group most like it.

    ``results``: as ``queries.results`` returns them, of the method and of those without a teacher. Adds: base_mean_frac,
    base_std_frac, base_n, gain_frac (NaN without such a group, and for a method that is one itself).
    """
    found, _ = groups.grouped(results, "best")
    plain = key in plain_methods()
    mine = found[found["method"] == key].drop_duplicates(["setting", "against"] if not plain else ["setting"])
    beside = found.iloc[[max(0, row) for row in mine["base_row"]]]
    known = (mine["base_row"] >= 0).to_numpy() & (not plain)
    columns = (
        {f"base_{name}": beside[name].where(known).to_numpy() for name in ("mean_frac", "std_frac", "n")} if len(mine) else {}
    )
    empty = dict.fromkeys(("base_mean_frac", "base_std_frac", "base_n"), float("nan"))
    return mine.assign(**(columns or empty)).assign(gain_frac=lambda f: f["mean_frac"] - f["base_mean_frac"])


OWN: dict[str, Column] = {
    "Data": Column("text", "dataset"),
    "Best": Column("wide", "mean ± standard deviation over seeds of the best test accuracy, chosen on the test images, percent"),
    "Labels only": Column("wide", "the same student without a teacher, trained most like it"),
    "Gain": Column("wide", "difference of the two means, in percentage points"),
    "Seeds": Column("number", "n: seeds with a finished run"),
    "Networks": Column("text", "teacher → student"),
    "Setting": Column("text", "recipe, length, and what else sets it apart"),
}


def own_table(mine: pd.DataFrame) -> Table:
    """Return the table of a method's own results, the greatest gain first."""
    mine = mine.sort_values(["gain_frac", "mean_frac"], ascending=False)
    frame = pd.DataFrame(
        {
            "Data": mine["dataset"],
            "Best": _spreads(mine, ""),
            "Labels only": _spreads(mine, "base_"),
            "Gain": [points(v) for v in mine["gain_frac"]],
            "Seeds": mine["n"],
            "Networks": [words.pair_of(t, s) for t, s in zip(mine["teacher"], mine["student"], strict=True)],
            "Setting": [
                ", ".join(part for part in (recipe, words.count(int(epochs), "epoch"), variant) if part)
                for recipe, epochs, variant in zip(mine["recipe"], mine["epochs"], mine["variant"], strict=True)
            ],
        }
    )
    return Table(frame, OWN)


def board_of(mine: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return bars for ``charts.leaderboard``: of each dataset and pair the method's best setting, and labels only beside it."""
    top = mine.sort_values("mean_frac", ascending=False).drop_duplicates(["dataset", "student", "teacher"]).head(6)
    kept = ["method", "student", "teacher", "dataset", "n"]
    own_rows = top[kept].assign(best_mean_frac=top["mean_frac"], best_std_frac=top["std_frac"])
    base = top[top["base_mean_frac"].notna()]
    plain = base[kept].assign(
        method=plain_methods()[0], teacher=None, n=base["base_n"], best_mean_frac=base["base_mean_frac"],
        best_std_frac=base["base_std_frac"],
    )  # fmt: skip
    parts = [part for part in (own_rows, plain.drop_duplicates(["student", "dataset"])) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else own_rows


OURS = ["dataset", "student", "teacher", "peers", "n", "best_mean_frac", "last_mean_frac", "mean_frac", "std_frac"]
PUBLISHED: dict[str, str] = {
    "Data": "dataset",
    "Published": "test accuracy in percent as printed, ± where the source gives it, and its n",
    "Here": "our own mean ± standard deviation of the same method, dataset and networks, in percent, and its n",
    "Here − published": "difference of the two, in percentage points",
    "Networks": "teacher → student",
    "Trained": "recipe or length in the source; ours may be another, see the table above",
    "Source": "who published it, and where",
    "Note": "what to know before comparing",
}


def published_table(published: pd.DataFrame, mine: pd.DataFrame) -> pd.DataFrame:
    """Return published results of a method beside ours, those that we have first; the columns of ours only where there are any.

    ``Source`` is a link with the source's name behind #.

    ``published``: rows of the table of that name; ``mine``: as ``own`` returns it.
    """
    known = tables.rows(mine.sort_values(["n", "mean_frac"], ascending=False)[OURS])
    ours = [_ours(row, known) for row in tables.rows(published)]
    rows = published.assign(_mean=[o[0] if o else float("nan") for o in ours], _text=[o[1] if o else "–" for o in ours])
    rows = rows.sort_values(
        ["_mean", "dataset", "student", "teacher"], key=lambda c: c.isna() if c.name == "_mean" else c, kind="stable"
    )
    shown = pd.DataFrame(
        {
            "Data": rows["dataset"],
            "Published": [_printed(row) for row in tables.rows(rows)],
            "Here": rows["_text"],
            "Here − published": [points(v) for v in rows["_mean"] - rows["top1_frac"]],
            "Networks": [
                words.pair_of(t if not words.missing(t) else p, s)
                for t, p, s in zip(rows["teacher"], rows["peers"], rows["student"], strict=True)
            ],
            "Trained": [_trained(row) for row in tables.rows(rows)],
            "Source": [f"{row['url']}#{row['source']}, {row['page']}" for row in tables.rows(rows)],
            "Note": rows["note"].fillna(""),
        }
    ).reset_index(drop=True)
    return shown if any(ours) else shown.drop(columns=["Here", "Here − published"])


def knobs_table(knobs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the table of a method's knobs, as ``anatomy.knobs`` returns them."""
    rows = [
        {
            "Knob": name,
            "Default": _default(knob),
            "Range": _range(knob),
            "What it does": knob.get("description", ""),
            "Default from": knob.get("source", ""),
        }
        for name, knob in knobs.items()
    ]
    return pd.DataFrame(rows).set_index("Knob") if rows else pd.DataFrame()


def _default(knob: dict[str, Any]) -> str:
    """Return the default, and the others that go with a choice of another knob: ``100 (10 where regressor = linear)``."""
    own, per = knob.get("default"), knob.get("per", {})
    others = [f"{_value(value)} where {choice.replace('=', ' = ')}" for choice, value in per.items()]
    return _value(own) + (f" ({', '.join(others)})" if others else "")


def _range(knob: dict[str, Any]) -> str:
    if "enum" in knob:
        return ", ".join(str(value) for value in knob["enum"])
    if knob.get("type") == "boolean":
        return "yes, no"
    low, high = knob.get("minimum", knob.get("exclusiveMinimum")), knob.get("maximum", knob.get("exclusiveMaximum"))
    if low is None and high is None:
        return "any"
    return (
        f"{_value(low)} to {_value(high)}"
        if None not in (low, high)
        else f"from {_value(low)}"
        if high is None
        else f"to {_value(high)}"
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.10g}" if isinstance(value, int | float) else str(value)


def points(frac: float) -> str:
    """Write a difference of shares in percentage points with its sign: ``+1.3``; a dash where there is none."""
    return "–" if words.missing(frac) else f"{100 * frac:+.1f}".replace("-", "−")


def _ours(row: dict[str, Any], mine: list[dict[str, Any]]) -> tuple[float, str] | None:
    """Return the mean of our runs that a published row can be held against, and how it is written; ``mine``: most seeds first."""
    same = (own for own in mine if all(_same(row[name], own[name]) for name in ("dataset", "student", "teacher")))
    best = next((own for own in same if words.missing(row["peers"]) or list(own["peers"]) == [row["peers"]]), None)
    if best is None:
        return None
    which = "last" if row["which"] == "last" else "best"
    mean = float(best[f"{which}_mean_frac"])
    spread = words.spread(mean, best["std_frac"] if which == "best" else None)
    return mean, f"{spread} ({which}, n = {int(best['n'])})"


def _same(printed: Any, own: Any) -> bool:
    """Say whether two names are one; what is missing is the same as what is missing."""
    return bool(words.missing(own) if words.missing(printed) else printed == own)


def _spreads(frame: pd.DataFrame, prefix: str) -> list[str]:
    return [words.spread(m, s) for m, s in zip(frame[f"{prefix}mean_frac"], frame[f"{prefix}std_frac"], strict=True)]


def _printed(row: dict[str, Any]) -> str:
    seeds = "" if words.missing(row["seeds"]) else f" (n = {int(row['seeds'])})"
    return words.spread(row["top1_frac"], row["top1_std_frac"], digits=2) + seeds


def _trained(row: dict[str, Any]) -> str:
    epochs = "" if words.missing(row["epochs"]) else words.count(int(row["epochs"]), "epoch")
    recipe = "" if words.missing(row["recipe"]) else str(row["recipe"])
    return ", ".join(part for part in (recipe, epochs) if part) or "not said"
