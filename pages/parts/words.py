"""The words of the app: statuses, measures, and how numbers, spans of time and sizes are written.

Reads: the catalogue of methods. Writes: nothing. Never: Streamlit, torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kdengine import catalogue
from kdengine.errors import Problem

FIXED_SPACE = "\N{NO-BREAK SPACE}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Status:
    """A status in words: ``word`` for people, ``mark`` before it, ``colour`` as Streamlit names it, ``meaning`` in a sentence."""

    word: str
    mark: str
    colour: str
    meaning: str


STATUSES: dict[str, Status] = {
    "queued": Status("queued", "○", "gray", "waits for a free slot"),
    "waiting": Status("waiting", "◌", "gray", "waits for its teacher, which is being trained first"),
    "running": Status("running", "●", "blue", "is being trained now"),
    "finished": Status("finished", "✓", "green", "went through all its epochs"),
    "failed": Status("failed", "✕", "red", "ended with a fault; its page says which"),
    "cancelled": Status("cancelled", "–", "gray", "was stopped by a person"),
    "lost": Status("lost", "!", "orange", "its process is gone without a last word; it can be resumed"),
}
ABOUT_CURVES = (
    "Accuracy is the share of images named correctly. Training loss is the weighted sum of the method's terms, test loss that of "
    "the labels alone, so the gap between the two is no overfitting."
)
ACTIVE = ("running", "waiting", "queued")
RESUMABLE = ("failed", "cancelled", "lost")
OVER = (*RESUMABLE, "finished")
PAUSE = "Off: the curves stand still, so that you can zoom in"


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of ``epochs`` in words. ``unit``: percent (stored as a fraction), loss, seconds, mib, or speed."""

    title: str
    unit: str
    note: str


MEASURES: dict[str, Measure] = {
    "test_top1_frac": Measure("Test accuracy", "percent", "share of test images named correctly (top-1)"),
    "test_loss": Measure("Test loss", "loss", "cross-entropy on the test images, nats"),
    "train_loss": Measure("Training loss", "loss", "mean of all loss terms over the epoch"),
    "train_top1_frac": Measure("Training accuracy", "percent", "share of training images named correctly"),
    "test_top5_frac": Measure("Test accuracy, top 5", "percent", "the right class is among the five likeliest"),
    "test_ece_frac": Measure("Calibration error", "percent", "how far confidence is from accuracy (ECE, 15 bins)"),
    "agreement_frac": Measure("Agreement with the teacher", "percent", "share of test images where both say the same"),
    "teacher_kl": Measure("Distance from the teacher", "loss", "mean KL(teacher || student) on the test images, nats"),
    "images_per_s": Measure("Training speed", "speed", "training images per second"),
}
AXES: dict[str, str] = {"epoch": "Epoch", "images_seen": "Training images seen", "elapsed_s": "Training time"}
FIELDS: dict[str, str] = {
    "lr": "Learning rate",
    "generation": "Generations",
    "val_frac": "Validation share",
    "gamma": "Drop factor",
    "warmup_frac": "Warm-up share",
    "crop_pad": "Crop padding",
    "crop_mode": "Padding shows",
    "bn_momentum": "BatchNorm momentum",
}
FAMILIES: dict[str, str] = {
    "response": "soft answers",
    "feature": "inner maps",
    "relation": "relations",
    "online": "peers",
    "self": "self-taught",
    "plain": "no teacher",
}

# what a card needs -> what that is, in a few plain words; the first eight can be compared, in the order from image to answer
NEEDS: dict[str, str] = {
    "input_gradients": "gradients",
    "stem": "first maps",
    "stages": "inner maps",
    "preacts": "maps before ReLU",
    "blocks": "maps of all blocks",
    "embedding": "embeddings",
    "logits": "answers",
    "views": "a second view",
    "index": "a memory of all images",
    "norms": "BatchNorm values",
}
# fidelity of a card -> (in plain words, what that means)
FIDELITY: dict[str, tuple[str, str]] = {
    "golden": ("as the authors' code", "its loss gives the numbers of the authors' code on fixed inputs; tests hold that"),
    "paper": (
        "from the formulas",
        "written from the published formulas; there is no code of the authors to compare with",
    ),
    "abstract": ("reconstructed", "only a summary of the paper was at hand; parts of it are ours and the page says which"),
}


def missing(value: Any) -> bool:
    """Say whether ``value`` is None, NaN or NaT."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or value != value


def title_of(method: str) -> str:
    """Return the method's title, such as "Knowledge distillation"."""
    return catalogue.label_of(method).title


def pair_of(teacher: Any, student: Any) -> str:
    """Return the pair of networks in words: ``resnet20 → resnet8``, or the student alone."""
    return str(student) if missing(teacher) or not teacher else f"{teacher} → {student}"


def seed_of(row: Mapping[str, Any]) -> str:
    """Return a run's seed in words, with its place in a chain of generations where it has one."""
    generation = row.get("generation")
    place = "" if missing(generation) or not generation else f"generation {int(generation)} · "
    return f"{place}seed {row['seed']}"


def percent(frac: Any, digits: int = 1) -> str:
    """Write a fraction as percent, ``74.9 %``; a dash where there is none."""
    return "–" if missing(frac) else f"{100 * frac:.{digits}f} %"


def spread(mean: Any, std: Any, digits: int = 1) -> str:
    """Write mean and standard deviation of fractions in percent: ``74.9 ± 0.2``."""
    if missing(mean):
        return "–"
    tail = "" if missing(std) else f"{FIXED_SPACE}{PLUS_MINUS}{FIXED_SPACE}{100 * std:.{digits}f}"
    return f"{100 * mean:.{digits}f}{tail}"


def number(value: Any) -> str:
    """Write a number in at most four significant digits, thousands separated."""
    if missing(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(seconds: Any) -> str:
    """Write a span of time in its two leading units: ``8 s``, ``4 min``, ``1 h 20 min``, ``2 d 3 h``."""
    if missing(seconds):
        return "–"
    s = max(0, round(seconds))
    if s < 60:
        return f"{s} s"
    if s < 600:
        return f"{s // 60} min {s % 60} s" if s % 60 else f"{s // 60} min"
    if s < 3600:
        return f"{round(s / 60)} min"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60} min"
    return f"{s // 86400} d {s % 86400 // 3600} h"


def roughly(seconds: Any) -> str:
    """Write a guess of a span of time: ``less than a minute``, ``about 4 min``, ``about 3 h``."""
    if missing(seconds):
        return "unknown"
    if seconds < 45:
        return "less than a minute"
    if seconds < 5400:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {round(seconds / 3600)} h" if seconds < 172_800 else f"about {round(seconds / 86400)} days"


def ago(moment: Any, now: datetime | None = None) -> str:
    """Write how long ago a UTC moment was: ``just now``, ``5 min ago``, ``3 d ago``."""
    if missing(moment):
        return "–"
    then = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def size(mib: Any) -> str:
    """Write a size given in MiB: ``340 KiB``, ``12 MiB``, ``1.4 GiB``."""
    if missing(mib):
        return "–"
    if mib < 1:
        return f"{max(1, round(mib * 1024))} KiB"
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def count(n: int, noun: str) -> str:
    """Write a number of things: ``1 run``, ``6 runs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(items: list[str]) -> str:
    """Join words with commas and a final ``and``."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def pulse_line(counts: dict[str, int], left_s: float | None) -> str:
    """Say what is going on: ``2 running, 3 queued, about 4 min left``; "" when nothing is."""
    running, queued = counts.get("running", 0), counts.get("queued", 0) + counts.get("waiting", 0)
    parts = ([f"{running} running"] if running else []) + ([f"{queued} queued"] if queued else [])
    if parts and not missing(left_s):
        parts.append(f"{roughly(left_s)} left")
    return ", ".join(parts)


def leads(board: Any) -> str:
    """Say who is ahead in a leaderboard, best first: ``kd leads with 94.4 %``; "" for an empty one."""
    if not len(board):
        return ""
    first = board.iloc[0]
    return f"{first['method']} leads with {percent(first['best_mean_frac'])}"


def escaped(text: str) -> str:
    """Escape what markdown would interpret."""
    return "".join("\\" + c if c in r"\`*_[]<>$:#|~" else c for c in text)


def verbatim(text: str) -> str:
    """Write what somebody typed as it is, such as an address, which Markdown would make a link."""
    return f"`{text.replace('`', chr(0x2019))}`"


def problem_list(found: Iterable[Problem], title: str) -> str:
    """List problems in Markdown below a title, each with what was given, what is allowed, what to do."""
    lines = (
        f"- **{escaped(p.field or 'this')}**: given {escaped(p.given)}; allowed: {escaped(p.allowed)}. *{escaped(p.do)}*"
        for p in found
    )
    return f"{title}\n\n" + "\n".join(lines)


def notices(texts: Any) -> str:
    """Join what the worker found worth saying."""
    return "" if texts is None or isinstance(texts, float) else " ".join(str(t).rstrip(".") + "." for t in texts)
