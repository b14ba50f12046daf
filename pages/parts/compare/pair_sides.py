"""The students that the tab on teacher and student holds against one another, and what is computed of them.

Reads: the store and what finished runs left in their folders, through ``fetch``. Writes: nothing. Never: Streamlit's widgets,
statistics (``store.compare.pair`` does them), arrays in the session's state.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdengine.spec import RunSpec
from pages.parts import charts, fetch, words
from pages.parts.compare.pair_figures import Picture, Saying, Way, styles
from store.compare import groups, pair
from store.export.colours import Style

ALONE = "alone"


@dataclass(frozen=True)
class Side:
    """One student to look at: its ``name``, how it is drawn, its runs that left predictions (rows of ``queries.results``, one per
    seed), and what each of them answered, in the same order."""

    name: str
    style: Style
    rows: pd.DataFrame
    answers: tuple[pair.Answers, ...]
    short: str  # the name where room is scarce

    @property
    def partner(self) -> str | None:
        """Name of the network that the student is held against; None where it learnt alone."""
        return self.answers[0].partner if self.answers else None

    @property
    def partner_title(self) -> str:
        """What that network is called: teacher, or peer."""
        return "teacher" if self.partner == pair.TEACHER else "peer"

    @property
    def seeds(self) -> str:
        """Say that numbers are means, where there are several seeds."""
        return f"Mean over {len(self.answers)} seeds." if len(self.answers) > 1 else ""

    @property
    def labels(self) -> np.ndarray:
        """True class of every test image."""
        return self.answers[0].labels

    @functools.cached_property
    def told(self) -> pd.DataFrame:
        """One row of numbers per seed, see ``pair.told``."""
        return pd.DataFrame([pair.told(found) for found in self.answers])

    def reliability(self) -> pd.DataFrame:
        """Return the student's reliability diagram, the images of all seeds in common bins."""
        return pair.pooled([pair.reliability(found, pair.STUDENT) for found in self.answers])


def together(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the finished runs by what differs in nothing but the seed: short name -> rows, by seed."""
    rows = groups.newest_per_seed(results)
    if rows.empty:
        return {}
    named = rows.assign(name=charts.line_names(rows)).sort_values(["name", "seed"])
    return {str(name): part.drop(columns="name") for name, part in named.groupby("name", sort=True)}


def others(name: str, offered: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return what may stand beside the student ``name``, but what "alone" stands for already: key -> title."""
    alone = set(rows_beside(offered[name], ALONE, offered)["run_id"])
    return {other: other for other, rows in offered.items() if other != name and not set(rows["run_id"]) <= alone}


def default_of(offered: dict[str, pd.DataFrame], which: str) -> str:
    """Return the student to begin with: the best that has a teacher, else the best."""
    taught = {name: rows for name, rows in offered.items() if rows["teacher"].notna().all()} or offered
    return max(taught, key=lambda name: float(taught[name][f"{which}_frac"].mean()))


def side(name: str, rows: pd.DataFrame, style: Style | None = None, short: str = "") -> Side:
    """Return the runs of ``rows`` that left predictions, with these.

    Raises:
        KdError: a file is damaged.
    """
    found = {run_id: answers for run_id in rows["run_id"] if (answers := fetch.answers(run_id)) is not None}
    method = str(rows["method"].iloc[0])
    kept = rows[rows["run_id"].isin(list(found))]
    return Side(name, style or styles(method, method)[0], kept, tuple(found[run_id] for run_id in kept["run_id"]), short or name)


def rows_beside(rows: pd.DataFrame, name: str, offered: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the runs of what stands beside those of ``rows``: a group of ``offered``, or the same student trained alone; on the
    same seeds where it has them."""
    if name == ALONE:
        alone = fetch.alone(tuple(rows["run_id"]))
        found: pd.DataFrame = fetch.ask("results", tuple(sorted(set(alone.values()) - set(rows["run_id"]))))
        return found
    shared = offered[name][offered[name]["seed"].isin(rows["seed"])]
    return shared if len(shared) else offered[name][: len(rows)]


def beside(ours: Side, name: str, rows: pd.DataFrame) -> Side | None:
    """Return what stands beside ``ours``; None where one of the two left nothing.

    Raises:
        KdError: a file is damaged.
    """
    if rows.empty or not ours.answers:
        return None
    title = f"{rows['student'].iloc[0]} alone" if name == ALONE else name
    style = styles(str(ours.rows["method"].iloc[0]), str(rows["method"].iloc[0]))[1]
    found = side(title, rows, style, short=name)
    return found if found.answers else None


def paired(mine: Side, ours: Side) -> list[tuple[pair.Answers, pair.Answers]]:
    """Return the answers of both sides by shared seed; in their order where they share none."""
    left, right = (dict(zip(s.rows["seed"], s.answers, strict=True)) for s in (mine, ours))
    shared = [(left[seed], right[seed]) for seed in left if seed in right]
    return shared or list(zip(mine.answers, ours.answers, strict=False))


def way(of: Side, which: str) -> Way | None:
    """Return the side's way from the student alone to its teacher, over the seeds that have all three; None without any."""
    alone = fetch.alone(tuple(of.rows["run_id"]))
    rows = of.rows.assign(alone=of.rows["run_id"].map(alone)).dropna(subset=["alone", "teacher_top1_frac"])
    rows = rows[rows["alone"] != rows["run_id"]]
    if rows.empty:
        return None
    bases = fetch.ask("results", tuple(sorted(set(rows["alone"])))).set_index("run_id")[f"{which}_frac"]
    student, teacher = rows[f"{which}_frac"], rows["teacher_top1_frac"]
    frame = pd.DataFrame({"student_frac": student, "alone_frac": rows["alone"].map(bases), "teacher_frac": teacher})
    gap = pair.gap_closed(frame)
    return None if gap is None else Way(of.name, of.style, gap, tuple(frame["student_frac"]))


def gap_sentence(of: Way, student: str, which: str) -> str:
    """Say the gap in one sentence with its numbers; ``which`` accuracy they are, in words."""
    gap, n = of.gap, words.count(of.gap.n, "seed")
    if gap.frac is None:
        return (
            f"The teacher ({words.percent(gap.teacher_frac)}) is no better than {student} alone "
            f"({words.percent(gap.alone_frac)}; {which}, {n}): there is no gap to close."
        )
    lead, gain = 100 * (gap.teacher_frac - gap.alone_frac), 100 * (gap.student_frac - gap.alone_frac)
    spread = "" if gap.std is None else f" {words.PLUS_MINUS} {100 * gap.std:.0f}"
    share = f"{100 * gap.frac:.0f}{spread} % of the gap"
    told = f"{which}, {n}" + ("; more seeds would say how much of it is luck" if gap.n == 1 else "")
    alone = f"{student} trained alone"
    if gap.frac < 0:
        return f"**{of.name} falls {-gain:.1f} points behind {alone}**; its teacher leads by {lead:.1f} ({told})."
    if gap.frac > 1:
        return f"**{of.name} passes its teacher**: {gain:.1f} points over {alone}, the teacher {lead:.1f} ({share}; {told})."
    return f"**{of.name} closes {share}**: {gain:.1f} of the {lead:.1f} points between {alone} and its teacher ({told})."


def missing_alone(ours: Side) -> list[RunSpec]:
    """Return the trainings of the student alone that the gap lacks, each once."""
    known = fetch.alone(tuple(ours.rows["run_id"]))
    requests = [fetch.folder(run_id).request_or_none() for run_id in ours.rows["run_id"] if run_id not in known]
    specs = [pair.alone(request.spec) for request in requests if request]
    return list({spec.identity(): spec for spec in specs}.values())


def fates(of: Side, ours: Side) -> dict[str, float]:
    """Return what became of the images between the side's students and the partners of ``ours``, mean over the seeds."""
    counted = [
        pair.fates(mine.labels, partner.said[str(partner.partner)], mine.said[pair.STUDENT]) for mine, partner in paired(of, ours)
    ]
    return {str(fate): float(n) for fate, n in pd.DataFrame(counted).mean().items()}


def copied_by_chance(ours: Side, other: Side | None) -> str:
    """Say how many mistakes would be the partner's by chance, and how many are those of what stands beside it."""
    told = ours.told
    noise = float((told["copied_std"] ** 2).sum() ** 0.5)
    parts = [f"the same wrong answer; by chance {told['copied_chance'].sum():.1f} {words.PLUS_MINUS} {noise:.1f}"]
    if other:
        both = paired(other, ours)
        parts += [f"{other.name} {fates(other, ours)['same mistake'] * len(both):.0f}"] if len(both) == len(told) else []
    return ", ".join(parts) + (f" ({len(told)} seeds together)" if len(told) > 1 else "")


def likeness(of: Side, ours: Side) -> pd.DataFrame | None:
    """Return the CKA of the side's students with the partners of ``ours``, mean over the seeds; None without features.

    Raises:
        KdError: a file is damaged, or the networks were not shown the same images.
    """
    teachers = dict(zip(ours.rows["run_id"], ours.rows["teacher_run"], strict=True))
    frames = []
    for mine, partner in paired(of, ours):
        run = teachers[partner.run_id]
        found = fetch.likeness(mine.run_id, partner.run_id, str(partner.partner))
        if found is None and partner.partner == pair.TEACHER and not words.missing(run):
            found = fetch.likeness(mine.run_id, str(run), pair.STUDENT)  # a run of ours left them in its own folder
        if found is not None:
            frames.append(found)
    return sum(frames[1:], frames[0]) / len(frames) if frames else None


def gains(ours: Side, other: Side) -> pd.DataFrame:
    """Return the gain of ``ours`` over ``other`` by class, see ``pair.gains``."""
    both = paired(ours, other)
    mine, theirs = (np.stack([found[i].right(pair.STUDENT) for found in both]) for i in range(2))
    return pair.gains(ours.labels, mine, theirs, ours.answers[0].classes)


def split(ours: Side, other: Side | None) -> dict[str, tuple[str, np.ndarray]]:
    """Return the groups of images that only one of two gets, of the first seed: key -> (title, places)."""
    first, found = ours.answers[0], {}
    student, labels = (first.said[pair.STUDENT], first.sure[pair.STUDENT]), first.labels
    if ours.partner:
        partner, title = (first.said[ours.partner], first.sure[ours.partner]), ours.partner_title
        found["teacher"] = (f"{title} yes, {ours.name} no", pair.only(labels, partner, student))
        found["student"] = (f"{ours.name} yes, {title} no", pair.only(labels, student, partner))
    if other:
        theirs = paired(other, ours)[0][0]
        against = (theirs.said[pair.STUDENT], theirs.sure[pair.STUDENT])
        found["gained"] = (f"{ours.name} yes, {other.short} no", pair.only(labels, student, against))
        found["lost"] = (f"{other.short} yes, {ours.name} no", pair.only(labels, against, student))
    return {key: (f"{title} ({len(places):,})", places) for key, (title, places) in found.items()}


def pictures(ours: Side, other: Side | None, places: np.ndarray, names: Sequence[str]) -> list[Picture]:
    """Return the test images at ``places`` with what every network said of them, of the first seed."""
    first, row = ours.answers[0], ours.rows.iloc[0]
    pixels = fetch.test_images(str(row["dataset"]), places, int(row["image_size"]))
    sources = [(ours.partner_title, first, ours.partner)] if ours.partner else []
    sources += [(ours.name, first, pair.STUDENT)]
    sources += [(other.short, paired(other, ours)[0][0], pair.STUDENT)] if other else []
    return [
        Picture(
            None if pixels is None else pixels[i],
            int(place),
            class_name(first.labels[place], names),
            tuple(_saying(who, found, network, place, names) for who, found, network in sources),
        )
        for i, place in enumerate(places)
    ]


def class_name(label: int, names: Sequence[str]) -> str:
    """Return the name of a class, or its number where names are not known."""
    return names[label] if label < len(names) else f"class {label}"


def _saying(who: str, found: pair.Answers, network: str, place: int, names: Sequence[str]) -> Saying:
    said = int(found.said[network][place])
    return Saying(who, class_name(said, names), float(found.sure[network][place]), said == found.labels[place])
