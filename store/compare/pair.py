"""Teacher and student image by image: who says what, who is right, how sure, how alike they see.

Reads: ``predictions.npz`` and ``features.npz`` of run folders, through ``RunDir``. Writes: nothing. Never: torch, pixels,
the database.

``said (N,)`` is a network's answer to each test image, ``labels (N,)`` the true class. The files are written when a training
ends: they hold the student of its last epoch, and the teacher as it taught (its best epoch).
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kdengine.errors import KdError
from kdengine.rundir import RunDir
from kdengine.spec import TEACHER_FIELDS, RunSpec

BINS = 15  # as in the engine's calibration error
ROUNDING = 0.002  # what half-precision logits may change in a calibration error
CLEAR = 0.05  # chance that any class of a chart looks clear though nothing is there
STUDENT, TEACHER = "student", "teacher"
FATES = ("both right", "only teacher", "only student", "same mistake", "different mistakes")


@dataclass(frozen=True, slots=True)
class Answers:
    """What the networks of one run answered to the test images.

    ``labels (N,)``; per network ``said (N,)`` and ``sure (N,)``, the softmax probability of that answer, 0 to 1; ``tied``:
    images with two classes exactly level on top, where the first class counts.
    """

    run_id: str
    labels: np.ndarray
    classes: int
    said: dict[str, np.ndarray]
    sure: dict[str, np.ndarray]
    tied: dict[str, int]

    @property
    def partner(self) -> str | None:
        """Return the network to hold the student against: its teacher, else its first peer; None where it learnt alone."""
        return TEACHER if TEACHER in self.said else next((name for name in sorted(self.said) if name != STUDENT), None)

    def right(self, network: str) -> np.ndarray:
        """Return for each image whether ``network`` names it correctly, bool ``(N,)``."""
        return np.asarray(self.said[network] == self.labels)


@dataclass(frozen=True, slots=True)
class Gap:
    """How much of the way from the student alone to its teacher is covered: ``frac`` of the mean accuracies over ``n`` seeds.

    ``frac`` None: the teacher is no better than the student alone. ``std``: over the seeds' own values, None for one seed.
    """

    frac: float | None
    std: float | None
    n: int
    student_frac: float
    alone_frac: float
    teacher_frac: float


# ---- files ---------------------------------------------------------------------------------------------------------------


def answers(run: RunDir) -> Answers | None:
    """Return what the networks of ``run`` answered; None where the run has left no predictions.

    Raises:
        KdError: the file is damaged.
    """
    arrays = _arrays(run.predictions_npz)
    if arrays is None:
        return None
    logits = {key.removeprefix("logits_"): values for key, values in arrays.items() if key.startswith("logits_")}
    labels = arrays.get("labels")
    if labels is None or STUDENT not in logits or any(z.ndim != 2 or len(z) != len(labels) for z in logits.values()):
        raise _damaged(run.predictions_npz)
    found = Answers(run.run_id, labels, logits[STUDENT].shape[1], {}, {}, {})
    for name, values in logits.items():
        found.said[name], found.sure[name], found.tied[name] = _answer(values)
    return found


def layers(run: RunDir, network: str) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Return (places of the images, layer -> features ``(M, D)`` fp32): the stages in order, then the embedding.

    None where the run has left no features of ``network``.

    Raises:
        KdError: the file is damaged.
    """
    arrays = _arrays(run.features_npz)
    if arrays is None:
        return None
    count = sum(key.startswith("stage") and key.endswith(f"_{network}") for key in arrays)
    keys = {f"stage {i}": f"stage{i}_{network}" for i in range(1, count + 1)} | {"embedding": f"embedding_{network}"}
    if "index" not in arrays or (count and any(key not in arrays for key in keys.values())):
        raise _damaged(run.features_npz)
    found = {name: arrays[key].reshape(len(arrays[key]), -1).astype(np.float32) for name, key in keys.items() if key in arrays}
    return (arrays["index"], found) if found else None


def likeness(run: RunDir, other: RunDir, network: str) -> pd.DataFrame | None:
    """Return the CKA of the student's layers of ``run`` (rows) with those of ``network`` of ``other`` (columns), see ``cka``.

    None where one of the two has left no features.

    Raises:
        KdError: a file is damaged, or the two were not shown the same images.
    """
    files = ((run.features_npz, STUDENT), (other.features_npz, network))
    if not all(file.exists() for file, _ in files):
        return None
    ours, theirs = (_seen(file.parent, file.stat().st_mtime_ns, name) for file, name in files)
    if ours is None or theirs is None:
        return None
    if not np.array_equal(ours[0], theirs[0]):
        raise _other_images(run.run_id, len(ours[0]), other.run_id, len(theirs[0]))
    return _cosines(ours[1], theirs[1])


def check_same_images(runs: Sequence[Answers]) -> None:
    """Raise ``KdError`` unless all ``runs`` answered to the same test images: labels equal in number and value."""
    for other in runs[1:]:
        if not np.array_equal(runs[0].labels, other.labels):
            raise _other_images(runs[0].run_id, len(runs[0].labels), other.run_id, len(other.labels))


def alone(spec: RunSpec) -> RunSpec:
    """Return the training of the same student without any help: same data, recipe and seed, no teacher, no peers."""
    plain = {name: RunSpec.model_fields[name].get_default() for name in (*TEACHER_FIELDS, "method", "teacher", "generation")}
    return spec.but(params={}, combine=None, peers=(), peer_inits=(), **plain)


def alone_runs(wanted: Mapping[str, RunSpec], known: Mapping[str, RunSpec]) -> dict[str, str]:
    """Return run id -> id of the run of ``known`` that trained the same student alone; of several the first.

    ``known``: finished runs of plain training, the newest first.
    """
    by_training: dict[str, str] = {}
    for run_id, spec in known.items():
        by_training.setdefault(alone(spec).identity(), run_id)
    keys = {run_id: alone(spec).identity() for run_id, spec in wanted.items()}
    return {run_id: by_training[key] for run_id, key in keys.items() if key in by_training}


# ---- counts --------------------------------------------------------------------------------------------------------------


def confusion(labels: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Return ``(K, K)`` counts: row = true class, column = answer."""
    return np.bincount(labels * classes + said, minlength=classes * classes).reshape(classes, classes)


def fates(labels: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> dict[str, int]:
    """Count what became of the images between a teacher that said ``theirs`` and a student that said ``ours``; see ``FATES``."""
    t, s, same = theirs == labels, ours == labels, theirs == ours
    counted = (t & s, t & ~s, ~t & s, ~t & ~s & same, ~t & ~s & ~same)
    return {name: int(mask.sum()) for name, mask in zip(FATES, counted, strict=True)}


def told(found: Answers) -> dict[str, float]:
    """Return in numbers how a student stands to its partner, as one row; only the first two where it has none.

    ``top1_frac, ece_frac`` of the student, ``partner_top1_frac, partner_ece_frac``; ``agreement_frac`` and ``chance_frac``, the
    agreement of two networks that have nothing in common but how often each says what about images of a class; ``wrong``,
    images that the partner gets wrong; ``copied``, those of them where the answer is the same; ``copied_chance``,
    ``copied_std``: expected number and standard deviation without anything in common.
    """
    partner = found.partner
    row = {"top1_frac": float(found.right(STUDENT).mean()), "ece_frac": ece(reliability(found, STUDENT))}
    if partner is None:
        return row
    theirs, ours = found.said[partner], found.said[STUDENT]
    counts = confusion(found.labels, theirs, found.classes)
    habits = _shares(confusion(found.labels, ours, found.classes))
    mistakes = counts * (1 - np.eye(found.classes, dtype=int))
    return row | {
        "partner_top1_frac": float(found.right(partner).mean()),
        "partner_ece_frac": ece(reliability(found, partner)),
        "agreement_frac": float((theirs == ours).mean()),
        "chance_frac": float((counts * habits).sum() / len(ours)),
        "wrong": int(mistakes.sum()),
        "copied": fates(found.labels, theirs, ours)["same mistake"],
        "copied_chance": float((mistakes * habits).sum()),
        "copied_std": float(np.sqrt((mistakes * habits * (1 - habits)).sum())),
    }


def agreement_by_class(runs: Sequence[Answers]) -> pd.DataFrame:
    """Return how often student and partner say the same, by true class, mean over ``runs`` (all with a partner).

    Columns:
        class (0 to K - 1; classes without an image are left out), n (images), agreement_frac.
    """
    labels, classes = runs[0].labels, runs[0].classes
    same = np.mean([run.said[STUDENT] == run.said[str(run.partner)] for run in runs], axis=0)
    n = np.bincount(labels, minlength=classes)
    frame = pd.DataFrame({"class": np.arange(classes), "n": n, "total": np.bincount(labels, same, classes)})[n > 0]
    return frame.assign(agreement_frac=frame["total"] / frame["n"]).drop(columns="total").reset_index(drop=True)


# ---- calibration ---------------------------------------------------------------------------------------------------------


def reliability(found: Answers, network: str) -> pd.DataFrame:
    """Return the reliability diagram of one network: 15 bins of equal width, open below and closed above.

    Columns:
        low, high (bounds of the confidence), n (images), confidence_frac, accuracy_frac (means in the bin; NaN without images).
    """
    sure, right = found.sure[network], found.right(network)
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], sure, side="left")
    n = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        confidence, accuracy = (np.bincount(place, values, BINS) / n for values in (sure, right))
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": n, "confidence_frac": confidence, "accuracy_frac": accuracy})


def pooled(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one reliability diagram of several: the images of all in common bins. Columns: those of ``reliability``."""
    n = sum(frame["n"] for frame in frames)
    names = ("confidence_frac", "accuracy_frac")
    means = {name: sum(frame[name].fillna(0) * frame["n"] for frame in frames) / n for name in names}
    return frames[0][["low", "high"]].assign(n=n, **means)


def ece(frame: pd.DataFrame) -> float:
    """Return the expected calibration error of a reliability diagram: the mean gap, weighted by images, 0 to 1."""
    gaps = (frame["confidence_frac"] - frame["accuracy_frac"]).abs().fillna(0)
    return float((gaps * frame["n"]).sum() / frame["n"].sum())


def fits_log(found: Answers, logged_ece_frac: float) -> bool:
    """Say whether the student's predictions have the calibration error that its last epoch logged, within rounding."""
    own = ece(reliability(found, STUDENT))
    return abs(own - logged_ece_frac) <= ROUNDING + found.tied[STUDENT] / len(found.labels)


# ---- gains ---------------------------------------------------------------------------------------------------------------


def gap_closed(frame: pd.DataFrame) -> Gap | None:
    """Return how much of the gap is closed; None for no row.

    ``frame``: one row per seed, columns student_frac, alone_frac, teacher_frac. The means over the seeds are compared, because
    the ratio of one seed alone explodes where the gap is small.
    """
    if frame.empty:
        return None
    student, alone_, teacher = (float(frame[f"{name}_frac"].mean()) for name in ("student", "alone", "teacher"))
    widths = frame["teacher_frac"] - frame["alone_frac"]
    std = None
    if len(frame) > 1 and (widths > 0).all():
        std = float(((frame["student_frac"] - frame["alone_frac"]) / widths).std())
    frac = (student - alone_) / (teacher - alone_) if teacher > alone_ else None
    return Gap(frac, std, len(frame), student, alone_, teacher)


def gains(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, classes: int) -> pd.DataFrame:
    """Return by true class how much more often ``ours`` is right than ``theirs``, and what chance alone would do.

    ``ours``, ``theirs``: bool ``(S, N)``, right or not, row by row the same seed. Under chance each image's difference is as
    likely to have the other sign: an exact test, McNemar's for one seed; the images of several seeds are not counted twice.
    ``band_frac``: the widest difference that is still like chance when all K classes are looked at (5 % in all, Bonferroni).

    Columns:
        class (those without an image are left out), n (images), gain_frac, band_frac, p (of this class alone), clear.
    """
    net = ours.astype(int).sum(axis=0) - theirs.astype(int).sum(axis=0)
    rows = []
    for place in np.unique(labels):
        own = net[labels == place]
        band, p = _by_chance(own, CLEAR / classes)
        scale = len(own) * len(ours)
        total = int(own.sum())
        rows.append((int(place), len(own), total / scale, band / scale, p, abs(total) > band))
    return pd.DataFrame(rows, columns=["class", "n", "gain_frac", "band_frac", "p", "clear"])


def _by_chance(net: np.ndarray, level: float) -> tuple[int, float]:
    """Return the largest |sum| that signs drawn at random exceed or reach with more than ``level``, and the p of ``net``."""
    values, counts = np.unique(np.abs(net[net != 0]), return_counts=True)
    chances = np.ones(1)
    for value, count in zip(values, counts, strict=True):
        step = np.zeros(2 * value * count + 1)
        step[:: 2 * value] = _coin(int(count))
        chances = np.convolve(chances, step)
    middle = len(chances) // 2
    tail = np.cumsum((chances[middle:] + chances[middle::-1])[::-1])[::-1]  # P(|sum| >= k); more than 1 at k = 0
    return int(np.flatnonzero(tail > level).max()), min(1.0, float(tail[abs(int(net.sum()))]))


def _coin(n: int) -> np.ndarray:
    """Return the chances of 0 to ``n`` heads."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return np.asarray(np.exp(logs[n] - logs - logs[::-1] - n * np.log(2)))


# ---- images --------------------------------------------------------------------------------------------------------------


def only(labels: np.ndarray, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the places of the images that only the first gets, the second's surest mistakes first.

    Each is (said ``(N,)``, sure ``(N,)``).
    """
    places = np.flatnonzero((first[0] == labels) & (second[0] != labels))
    return np.asarray(places[np.argsort(-second[1][places], kind="stable")])


# ---- likeness ------------------------------------------------------------------------------------------------------------


def cka(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the unbiased linear CKA of every layer of ``ours`` (rows) with every layer of ``theirs`` (columns).

    Features ``(M, D)`` of the same M images, M >= 4. 1 = the same up to rotation and scale, about 0 = nothing in common; the
    unbiased estimate (Song et al. 2012; Nguyen et al. 2021) may fall slightly below 0, and unlike the plain one does not come
    near 1 by itself where D is larger than M. NaN where a layer says the same about every image.
    """
    return _cosines(_grams(ours), _grams(theirs))


@functools.lru_cache(maxsize=8)
def _seen(folder: Path, _mtime_ns: int, network: str) -> tuple[np.ndarray, pd.DataFrame] | None:
    """Return (places of the images, Gram matrices) of a run's network: kept, because many students share one teacher."""
    found = layers(RunDir(folder), network)
    return None if found is None else (found[0], _grams(found[1]))


def _grams(features: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the U-centred Gram matrix of every layer as one row of length 1 (all NaN where it says the same of every image)."""
    rows = np.stack([_centred_gram(x).ravel() for x in features.values()])
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(rows / np.linalg.norm(rows, axis=1, keepdims=True), index=list(features))


def _cosines(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(ours.to_numpy() @ theirs.to_numpy().T, index=ours.index, columns=theirs.index)


def _centred_gram(x: np.ndarray) -> np.ndarray:
    """Return the U-centred Gram matrix of ``x (M, D)``: inner products of such matrices are M(M-3) times the unbiased HSIC."""
    x = x - x.mean(axis=0)
    x /= max(float(np.abs(x).max(initial=0.0)), 1e-30)  # half-precision maps may be huge; scale does not count
    gram, m = x @ x.T, len(x)
    np.fill_diagonal(gram, 0.0)
    rows = gram.sum(axis=0, dtype=np.float64) / (m - 2)
    gram = gram - rows[:, None] - rows + rows.sum() / (m - 1)
    np.fill_diagonal(gram, 0.0)
    return np.asarray(gram)


# ---- reading -------------------------------------------------------------------------------------------------------------


def _arrays(file: Path) -> dict[str, np.ndarray] | None:
    try:
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(file) from error


def _damaged(file: Path) -> KdError:
    return KdError.of(f"{file.parent.name}/{file.name}, which cannot be read", "the file that the training wrote at its end",
                      "repeat the run, or choose another one", file.stem)  # fmt: skip


def _other_images(run: str, n: int, other: str, m: int) -> KdError:
    return KdError.of(f"{run} with {n:,} test images and {other} with {m:,} others", "runs that were tested on the same images",
                      "choose runs of one dataset, trained since it was last changed", "test images")  # fmt: skip


def _answer(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    z = logits.astype(np.float64)
    said = z.argmax(axis=1)
    top = z.max(axis=1, keepdims=True)
    sure = 1.0 / np.exp(z - top).sum(axis=1)
    return said, sure, int(((z == top).sum(axis=1) > 1).sum())


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return each row divided by its sum; zeros where a class has no image."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
