"""Teacher and student image by image, held against SciPy, scikit-learn, and counts made by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from kdengine.errors import KdError
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from store.compare import pair


def leave(folder: Path, labels: np.ndarray, **logits: np.ndarray) -> RunDir:
    """Write predictions as a training does."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "predictions.npz", labels=labels, **{f"logits_{n}": z.astype(np.float16) for n, z in logits.items()})
    return RunDir(folder)


def logits_of(said: list[int], classes: int = 3, height: float = 4.0) -> np.ndarray:
    return height * np.eye(classes)[said]


@pytest.fixture
def random_pair(tmp_path: Path) -> pair.Answers:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, 800)
    truth = 2.5 * np.eye(10)[labels]
    teacher, student = truth + rng.normal(size=(800, 10)), truth + 1.6 * rng.normal(size=(800, 10))
    found = pair.answers(leave(tmp_path / "run", labels, student=student, teacher=teacher))
    assert found is not None
    return found


# ---- files ---------------------------------------------------------------------------------------------------------------


def test_answers_of_half_precision_with_ties(tmp_path: Path) -> None:
    z = np.array([[1.0, 1.0, 0.0], [0.0, 3.0, 1.0], [2.0, 2.0004, 0.0]])  # the last two are level in half precision
    found = pair.answers(leave(tmp_path / "run", np.array([1, 1, 0]), student=z))
    assert found is not None and found.partner is None and found.classes == 3
    assert found.said["student"].tolist() == [0, 1, 0] and found.tied == {"student": 2}
    np.testing.assert_allclose(found.sure["student"], softmax(z.astype(np.float16).astype(float), axis=1).max(axis=1))


def test_the_partner_is_the_teacher_else_a_peer(tmp_path: Path) -> None:
    y, z = np.array([0, 1]), logits_of([0, 1])
    taught = pair.answers(leave(tmp_path / "a", y, student=z, teacher=z, peer1=z))
    peers = pair.answers(leave(tmp_path / "b", y, student=z, peer2=z, peer1=z))
    assert taught is not None and peers is not None and (taught.partner, peers.partner) == ("teacher", "peer1")


def test_what_is_missing_is_none_and_what_is_damaged_is_said(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    assert pair.answers(run) is None and pair.layers(run, "student") is None
    run.predictions_npz.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(KdError, match=r"run/predictions.npz, which cannot be read"):
        pair.answers(run)
    np.savez(run.predictions_npz, labels=np.zeros(3), logits_student=np.zeros((2, 4)))
    with pytest.raises(KdError, match="cannot be read"):
        pair.answers(run)
    np.savez(run.features_npz, index=np.arange(4), stage1_student=np.zeros((4, 2, 2, 2)))
    with pytest.raises(KdError, match="features.npz"):
        pair.layers(run, "student")
    assert pair.layers(run, "teacher") is None


def test_layers_come_in_order(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    maps = {f"stage{i}_student": np.full((5, i, 2, 2), i, dtype=np.float16) for i in (2, 1)}
    np.savez(
        run.features_npz, index=np.arange(5), embedding_student=np.ones((5, 3)), attention1_student=np.ones((5, 4, 4)), **maps
    )
    found = pair.layers(run, "student")
    assert found is not None
    index, layers = found
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert {name: x.shape for name, x in layers.items()} == {"stage 1": (5, 4), "stage 2": (5, 8), "embedding": (5, 3)}
    assert list(layers) == ["stage 1", "stage 2", "embedding"] and layers["stage 2"].dtype == np.float32


def test_runs_with_other_test_images_are_refused(tmp_path: Path) -> None:
    one = pair.answers(leave(tmp_path / "one", np.array([0, 1]), student=logits_of([0, 1])))
    other = pair.answers(leave(tmp_path / "other", np.array([0, 1, 2]), student=logits_of([0, 1, 2])))
    assert one is not None and other is not None
    pair.check_same_images([one, one])
    with pytest.raises(KdError, match="one with 2 test images and other with 3 others"):
        pair.check_same_images([one, other])


def test_alone_is_the_same_training_without_help() -> None:
    base = RunSpec(student="resnet8", seed=3, lr=0.01, train_images=100, suite="s")
    kd = RunSpec(method="kd", params={"T": 4.0}, teacher="resnet20", teacher_epochs=8, teacher_seed=2, student="resnet8", seed=3,
                 lr=0.01, train_images=100, suite="s")  # fmt: skip
    peers = base.but(method="dml", peers=("resnet8",))
    born_again = base.but(method="ban", generation=1, teacher="resnet8")
    assert {pair.alone(spec).identity() for spec in (kd, peers, born_again, base)} == {base.identity()}
    assert pair.alone(kd.but(seed=4)).identity() != base.identity() != pair.alone(kd.but(lr=0.02)).identity()


# ---- counts --------------------------------------------------------------------------------------------------------------

#          0  1  2  3  4  5  6  7   true classes 0 0 0 0 1 1 1 2
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
TEACHER = [0, 0, 1, 1, 1, 0, 2, 2]
STUDENT = [0, 1, 1, 0, 1, 0, 0, 1]


@pytest.fixture
def by_hand(tmp_path: Path) -> pair.Answers:
    found = pair.answers(leave(tmp_path / "run", LABELS, student=logits_of(STUDENT), teacher=logits_of(TEACHER)))
    assert found is not None
    return found


def test_fates_by_hand() -> None:
    found = pair.fates(LABELS, np.array(TEACHER), np.array(STUDENT))
    assert list(found.values()) == [2, 2, 1, 2, 1] and sum(found.values()) == len(LABELS)


def test_copied_mistakes_by_hand(by_hand: pair.Answers) -> None:
    row = pair.told(by_hand)
    assert (row["wrong"], row["copied"]) == (4, 2)
    # class 0: the teacher says 1 twice, the student says 1 in 2 of 4; class 1: 0 once (student 2/3), 2 once (student 0/3)
    assert row["copied_chance"] == pytest.approx(2 * 1 / 2 + 2 / 3)
    assert row["copied_std"] == pytest.approx(np.sqrt(2 * 1 / 4 + 2 / 9))
    assert row["agreement_frac"] == pytest.approx(4 / 8)
    # beside the mistakes: class 0 right 2 x 1/2, class 1 right 1 x 1/3, class 2 right 1 x 0
    assert row["chance_frac"] == pytest.approx((2 * 1 / 2 + 2 / 3 + 2 * 1 / 2 + 1 / 3) / 8)


def test_chance_is_what_shuffled_answers_share(random_pair: pair.Answers) -> None:
    """The expectation is the mean over networks that keep their habits per class and share nothing else."""
    row, rng = pair.told(random_pair), np.random.default_rng(0)
    y, theirs, ours = random_pair.labels, random_pair.said["teacher"], random_pair.said["student"].copy()
    shared, agreed = [], []
    for _ in range(600):
        for k in range(10):
            ours[y == k] = rng.permutation(ours[y == k])
        shared.append(int(((ours == theirs) & (theirs != y)).sum()))
        agreed.append(float((ours == theirs).mean()))
    assert row["copied_chance"] == pytest.approx(np.mean(shared), abs=4 * np.std(shared) / np.sqrt(600))
    assert row["chance_frac"] == pytest.approx(np.mean(agreed), abs=4 * np.std(agreed) / np.sqrt(600))
    assert row["copied_std"] == pytest.approx(np.std(shared), rel=0.2)


def test_confusion_is_sklearns(random_pair: pair.Answers) -> None:
    ours = pair.confusion(random_pair.labels, random_pair.said["student"], 10)
    np.testing.assert_array_equal(ours, confusion_matrix(random_pair.labels, random_pair.said["student"], labels=range(10)))


def test_agreement_by_class(by_hand: pair.Answers) -> None:
    frame = pair.agreement_by_class([by_hand])
    assert frame["n"].tolist() == [4, 3, 1]
    np.testing.assert_allclose(frame["agreement_frac"], [2 / 4, 2 / 3, 0])
    total = (frame["agreement_frac"] * frame["n"]).sum() / frame["n"].sum()
    assert total == pytest.approx(pair.told(by_hand)["agreement_frac"])


def test_alone_there_is_no_partner(tmp_path: Path) -> None:
    found = pair.answers(leave(tmp_path / "run", LABELS, student=logits_of(STUDENT)))
    assert found is not None and set(pair.told(found)) == {"top1_frac", "ece_frac"}


# ---- calibration ---------------------------------------------------------------------------------------------------------


def test_reliability_is_sklearns(random_pair: pair.Answers) -> None:
    frame = pair.reliability(random_pair, "student")
    filled = frame[frame["n"] > 0]
    accuracy, confidence = calibration_curve(random_pair.right("student"), random_pair.sure["student"], n_bins=15)
    np.testing.assert_allclose(filled["accuracy_frac"], accuracy)
    np.testing.assert_allclose(filled["confidence_frac"], confidence)
    assert frame["n"].sum() == 800 and len(frame) == 15
    assert pair.ece(frame) == pytest.approx((abs(accuracy - confidence) * filled["n"] / 800).sum())


def test_the_calibration_error_is_that_of_the_engine(random_pair: pair.Answers, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from kdengine.evaluate import ece_frac

    z = np.load(tmp_path / "run" / "predictions.npz")["logits_student"].astype(np.float32)
    logged = ece_frac(torch.from_numpy(z), torch.from_numpy(random_pair.labels))
    assert pair.ece(pair.reliability(random_pair, "student")) == pytest.approx(logged, abs=1e-9)
    assert pair.fits_log(random_pair, logged) and not pair.fits_log(random_pair, logged + 0.01)


def test_ties_may_shift_the_calibration_error() -> None:
    found = pair.Answers("r", np.zeros(10, dtype=int), 2, {"student": np.zeros(10, dtype=int)}, {"student": np.full(10, 0.6)},
                         {"student": 1})  # fmt: skip
    assert pair.fits_log(found, 0.4 - 0.1) and not pair.fits_log(found, 0.4 - 0.11)


def test_bins_are_closed_above(tmp_path: Path) -> None:
    found = pair.Answers("r", np.zeros(3, dtype=int), 2, {"student": np.zeros(3, dtype=int)},
                         {"student": np.array([8 / 15, 8 / 15 + 1e-9, 1.0])}, {"student": 0})  # fmt: skip
    assert pair.reliability(found, "student")["n"].to_numpy().nonzero()[0].tolist() == [7, 8, 14]


def test_pooled_diagrams_hold_all_images(random_pair: pair.Answers) -> None:
    both = pair.pooled([pair.reliability(random_pair, name) for name in ("student", "teacher")])
    sure = np.concatenate([random_pair.sure[n] for n in ("student", "teacher")])
    right = np.concatenate([random_pair.right(n) for n in ("student", "teacher")])
    accuracy, confidence = calibration_curve(right, sure, n_bins=15)
    filled = both[both["n"] > 0]
    np.testing.assert_allclose(filled["accuracy_frac"], accuracy)
    np.testing.assert_allclose(filled["confidence_frac"], confidence)


# ---- gains ---------------------------------------------------------------------------------------------------------------


def test_gap_closed_compares_the_means() -> None:
    frame = pd.DataFrame({"student_frac": [0.80, 0.70], "alone_frac": [0.60, 0.62], "teacher_frac": [0.90, 0.90]})
    gap = pair.gap_closed(frame)
    assert gap is not None and gap.n == 2
    assert gap.frac == pytest.approx((0.75 - 0.61) / (0.90 - 0.61))
    assert gap.std == pytest.approx(np.std([0.2 / 0.3, 0.08 / 0.28], ddof=1))
    single = pair.gap_closed(frame[:1])
    assert single is not None and single.std is None and single.frac == pytest.approx(2 / 3)
    none = pair.gap_closed(frame.assign(teacher_frac=0.6))
    assert none is not None and none.frac is None and none.std is None
    assert pair.gap_closed(frame[:0]) is None


def test_gains_of_one_seed_are_mcnemars(random_pair: pair.Answers) -> None:
    y, ours, theirs = random_pair.labels, random_pair.right("teacher"), random_pair.right("student")
    frame = pair.gains(y, ours[None], theirs[None], 10).set_index("class")
    for k in range(10):
        own = y == k
        wins, losses = int((ours & ~theirs & own).sum()), int((theirs & ~ours & own).sum())
        exact = stats.binomtest(wins, wins + losses, 0.5).pvalue
        assert frame.loc[k, "p"] == pytest.approx(exact)
        assert frame.loc[k, "gain_frac"] == pytest.approx((wins - losses) / own.sum())
        assert frame.loc[k, "clear"] == (exact <= 0.05 / 10)
        inside = round(frame.loc[k, "band_frac"] * own.sum())  # the band ends where the test begins to speak
        m = wins + losses
        assert stats.binomtest((m + inside) // 2, m, 0.5).pvalue > 0.005
        if inside + 2 <= m:
            assert stats.binomtest((m + inside) // 2 + 1, m, 0.5).pvalue <= 0.005


def test_gains_over_seeds_flip_whole_images() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.random((3, 9)) < 0.8, rng.random((3, 9)) < 0.4
    row = pair.gains(np.zeros(9, dtype=int), ours, theirs, 2).iloc[0]
    net = ours.astype(int).sum(0) - theirs.astype(int).sum(0)
    sums = [abs(int(np.dot(signs, net))) for signs in itertools.product((-1, 1), repeat=9)]
    assert row["p"] == pytest.approx(np.mean(np.array(sums) >= abs(net.sum())))
    assert row["gain_frac"] == pytest.approx(net.sum() / 27)


def test_equal_networks_gain_nothing_and_are_never_clear() -> None:
    right = np.ones((2, 6), dtype=bool)
    frame = pair.gains(np.array([0, 0, 0, 2, 2, 2]), right, right, 3)
    assert frame["class"].tolist() == [0, 2] and not frame["clear"].any()
    assert (frame["gain_frac"] == 0).all() and (frame["band_frac"] == 0).all() and (frame["p"] == 1).all()


def test_chance_seldom_looks_clear() -> None:
    rng, wrong = np.random.default_rng(5), 0
    labels = np.repeat(np.arange(10), 40)
    for _ in range(200):
        wrong += bool(pair.gains(labels, rng.random((1, 400)) < 0.7, rng.random((1, 400)) < 0.7, 10)["clear"].any())
    assert wrong <= 18  # at most 5 % of the charts, and a little more by luck


# ---- images --------------------------------------------------------------------------------------------------------------


def test_only_lists_the_surest_mistakes_first() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    first = (np.array([0, 0, 0, 1, 0]), np.ones(5))
    second = (np.array([1, 0, 1, 0, 0]), np.array([0.4, 0.9, 0.8, 0.6, 0.9]))
    assert pair.only(labels, first, second).tolist() == [2, 3, 0]
    assert pair.only(labels, second, first).tolist() == []


# ---- likeness ------------------------------------------------------------------------------------------------------------


def hsic_of_song(k: np.ndarray, other: np.ndarray) -> float:
    """Unbiased HSIC as Song et al. write it, with traces and vectors of ones."""
    n, one = len(k), np.ones(len(k))
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    middle = (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ other) + middle - 2 / (n - 2) * one @ k @ other @ one) / (n * (n - 3)))


def hsic_by_centring(k: np.ndarray, other: np.ndarray) -> float:
    """Plain HSIC: tr(KHLH) / (n - 1)^2."""
    n = len(k)
    h = np.eye(n) - 1 / n
    return float(np.trace(k @ h @ other @ h) / (n - 1) ** 2)


def ratio(hsic, k: np.ndarray, other: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


@pytest.fixture
def features() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(60, 12))
    return x, x @ rng.normal(size=(12, 9)) + 2 * rng.normal(size=(60, 9)) + 3


def test_cka_is_the_ratio_of_unbiased_hsics(features: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = features
    frame = pair.cka({"a": x, "b": x[:, :5]}, {"c": y})
    assert frame.loc["a", "c"] == pytest.approx(ratio(hsic_of_song, x @ x.T, y @ y.T), abs=1e-9)
    assert frame.loc["b", "c"] == pytest.approx(ratio(hsic_of_song, x[:, :5] @ x[:, :5].T, y @ y.T), abs=1e-9)
    assert frame.index.tolist() == ["a", "b"] and frame.columns.tolist() == ["c"]


@pytest.mark.slow
def test_cka_comes_near_the_centring_matrices_where_images_are_many() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(1500, 4))
    y = x @ rng.normal(size=(4, 4)) + rng.normal(size=(1500, 4))
    plain = ratio(hsic_by_centring, x @ x.T, y @ y.T)
    assert pair.cka({"a": x}, {"b": y}).iloc[0, 0] == pytest.approx(plain, abs=0.01)


def test_cka_of_what_is_turned_scaled_and_moved_is_one(features: tuple[np.ndarray, np.ndarray]) -> None:
    x, _ = features
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    assert pair.cka({"a": x}, {"b": 40 * x @ turn - 5}).iloc[0, 0] == pytest.approx(1, abs=1e-9)


def test_cka_of_unrelated_wide_layers_is_about_nothing() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(200, 2000)).astype(np.float32), rng.normal(size=(200, 2000)).astype(np.float32)
    assert abs(pair.cka({"a": x}, {"b": y}).iloc[0, 0]) < 0.05
    assert ratio(hsic_by_centring, x @ x.T, y @ y.T) > 0.8  # why the plain estimate is not used


def test_cka_bears_half_precision_extremes_and_constant_layers() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 6)).astype(np.float32)
    frame = pair.cka({"huge": 60_000 * x, "constant": np.ones((30, 4), dtype=np.float32)}, {"own": x})
    assert frame.loc["huge", "own"] == pytest.approx(1, abs=1e-4) and np.isnan(frame.loc["constant", "own"])
