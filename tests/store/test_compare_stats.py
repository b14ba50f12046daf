"""Statistics against SciPy and against their own definition; verdicts, ranks and the words for them. Never: a store."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy

from kdengine.errors import KdError
from store.compare import groups, stats, wording
from tests.store.comparing import PLAIN, results, runs, setting_of
from tests.store.test_store_queries import documented

RNG = np.random.default_rng(7)


def test_the_made_up_frame_has_the_columns_of_the_query() -> None:
    assert {*PLAIN, "setting", "run_id", "created_at"} == set(documented("results"))


# ---- against SciPy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 4, 5, 8, 10])
def test_paired_difference_against_scipy(n: int) -> None:
    a, b = RNG.normal(0.7, 0.02, (20, n)), RNG.normal(0.69, 0.01, (20, n))
    found = stats.differences(a, b)
    low, high = stats.bootstrap(a - b)
    for row in range(len(a)):
        test = scipy.ttest_rel(a[row], b[row])
        span = test.confidence_interval(0.95)
        assert found.frac[row] == pytest.approx((a[row] - b[row]).mean()) and found.p[row] == pytest.approx(test.pvalue, rel=1e-7)
        assert found.low_frac[row] == pytest.approx(min(span.low, low[row]))
        assert found.high_frac[row] == pytest.approx(max(span.high, high[row]))
    assert set(found.how) == {"paired"} and set(found.n) == {n}


@pytest.mark.parametrize("n", [3, 5, 7, 12])
def test_bootstrap_is_that_of_all_its_resamples(n: int) -> None:
    """Counting equal resamples once changes nothing: NumPy's percentiles of all 10,000; SciPy's but for luck."""
    values = RNG.normal(size=(6, n))
    draws = np.random.default_rng(stats._DRAW_SEED).integers(0, n, (stats.RESAMPLES, n))
    low, high = stats.bootstrap(values)
    means = values[:, draws].mean(2)
    assert low == pytest.approx(np.percentile(means, 2.5, axis=1)) and high == pytest.approx(np.percentile(means, 97.5, axis=1))
    for row in range(len(values)):
        other = scipy.bootstrap((values[row],), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
        room = 0.06 * np.ptp(values[row])
        assert low[row] == pytest.approx(other.low, abs=room) and high[row] == pytest.approx(other.high, abs=room)


def test_the_wider_interval_counts_on_either_side() -> None:
    skewed = np.array([[0.0] * 38 + [1.0, 1.0]])  # t reaches further below, the bootstrap further above
    mean, half = skewed.mean(), scipy.t.ppf(0.975, 39) * scipy.sem(skewed[0])
    low, high = stats.bootstrap(skewed)
    assert mean - half < low[0] and high[0] > mean + half
    for sign in (1, -1):
        found = stats.differences(sign * skewed, np.zeros((1, 40)))
        ends = sorted((sign * (mean - half), sign * high[0]))
        assert [found.low_frac[0], found.high_frac[0]] == pytest.approx(ends)


def test_seeds_not_shared_give_welch_and_say_so() -> None:
    a, b = np.full((15, 9), np.nan), np.full((15, 9), np.nan)
    a[:, :4], b[:, 4:] = RNG.normal(0.7, 0.03, (15, 4)), RNG.normal(0.69, 0.004, (15, 5))
    found = stats.differences(a, b)
    for row in range(len(a)):
        test = scipy.ttest_ind(a[row, :4], b[row, 4:], equal_var=False)
        span = test.confidence_interval(0.95)
        assert (found.low_frac[row], found.high_frac[row]) == (pytest.approx(span.low), pytest.approx(span.high))
        assert found.p[row] == pytest.approx(test.pvalue, rel=1e-7)
    assert set(found.how) == {"welch"} and set(found.n) == {0}
    assert "Welch" in wording.difference(found.iloc[0], "a", "b")


def test_holm_is_its_definition() -> None:
    assert stats.holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005])) == pytest.approx([0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True)
    for _ in range(20):
        p = RNG.uniform(size=12) ** 3
        slow, before = np.empty(12), 0.0
        for step, place in enumerate(np.argsort(p)):
            before = slow[place] = max(before, min(1.0, (12 - step) * p[place]))
        assert stats.holm(p) == pytest.approx(slow)
    assert stats.holm(np.array([])).size == 0


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_luck_of_a_clean_sweep(n: int) -> None:
    assert stats.luck(n) == pytest.approx(scipy.binomtest(n, n, 0.5).pvalue)


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(n: int) -> None:
    noise = RNG.normal(size=(4000, n))
    found = stats.differences(noise, np.zeros_like(noise))
    wrong = 1 - (found.verdict == "tie").mean()
    assert 0.03 < wrong <= 0.062  # the bootstrap alone is wrong in 11 to 20 %
    low, high = stats.bootstrap(noise)
    assert ((low > 0) | (high < 0)).mean() > 0.1


# ---- groups ----------------------------------------------------------------------------------------------------------------


def test_of_a_repeated_seed_the_newest_counts() -> None:
    frame = results(runs("kd", [0.5, 0.6]), runs("kd", [0.9]), runs("kd", [0.1], status="failed"))
    assert list(stats.newest_per_seed(frame)["best_frac"]) == [0.6, 0.9]
    assert list(stats.newest_per_seed(frame, finished=False)["best_frac"]) == [0.6, 0.1]
    found, values = groups.grouped(frame, "best")
    assert len(found) == 1 and found.n[0] == 2 and found.mean_frac[0] == pytest.approx(0.75)
    assert values.tolist() == [[0.9, 0.6]] and found.seeds[0] == (0, 1) and found.ids[0] == ("0002-kd", "0001-kd")


def test_mean_and_spread_of_a_group_are_those_of_numpy() -> None:
    drawn = {method: RNG.uniform(0.4, 0.9, n) for method, n in (("kd", 5), ("at", 4), ("base", 1))}
    found, _ = groups.grouped(results(*(runs(m, list(a)) for m, a in drawn.items())), "last")
    for row in found.itertuples():
        own = drawn[row.method] - 0.01
        assert row.mean_frac == pytest.approx(own.mean()) and (row.min_frac, row.max_frac) == pytest.approx(
            (own.min(), own.max())
        )
        assert (len(own) == 1 and np.isnan(row.std_frac)) or row.std_frac == pytest.approx(own.std(ddof=1))


def test_runs_without_a_teacher_stand_in_every_column_of_their_student() -> None:
    frame = results(
        runs("base", [0.5]), runs("dml", [0.5], teacher=None, peers=["resnet8"]), runs("kd", [0.6]),
        runs("kd", [0.6], teacher="resnet32"), runs("ban", [0.4], teacher="resnet8", generation=1),
        runs("kd", [0.9], teacher="resnet8"), runs("base", [0.7], student="resnet14"),
    )  # fmt: skip
    columns = groups.in_columns(frame).groupby("column")["method"].agg(sorted).to_dict()
    assert columns == {
        "digits · resnet20 → resnet8": ["ban", "base", "dml", "kd"],
        "digits · resnet32 → resnet8": ["ban", "base", "dml", "kd"],
        "digits · resnet8 → resnet8": ["ban", "base", "dml", "kd"],
        "digits · resnet14": ["base"],
    }


def test_variants_are_named_by_what_differs() -> None:
    frame = results(
        runs("kd", [0.5], params='{"T": 4.0}'), runs("kd", [0.5], params='{"T": 8.0}'), runs("at", [0.5]),
        runs("at", [0.5], epochs=30, recipe="quick+"), runs("sp", [0.5]), runs("sp", [0.5], dataset="cifar10", epochs=240),
        runs("rkd", [0.5], recipe="quick"), runs("rkd", [0.5], recipe="paper"),
    )  # fmt: skip
    found, _ = groups.grouped(frame, "best")
    assert sorted(found.name) == ["at 15 epochs", "at 30 epochs", "kd T=4.0", "kd T=8.0", "rkd paper", "rkd quick", "sp", "sp"]


def test_settings_that_no_column_tells_apart_are_numbered() -> None:
    frame = results(runs("kd", [0.5]), runs("kd", [0.6]))
    frame["setting"] = ["a", "b"]
    assert sorted(groups.grouped(frame, "best")[0].name) == ["kd", "kd #2"]


def test_base_is_the_student_alone_that_was_trained_most_alike() -> None:
    frame = results(
        runs("base", [0.5]), runs("base", [0.8], epochs=30), runs("kd", [0.6], epochs=30), runs("at", [0.6], epochs=20),
    )  # fmt: skip
    found, _ = groups.grouped(frame, "best")
    by = found.set_index("name")
    assert found.mean_frac[by.base_row["kd"]] == 0.8 and by.base_differs["kd"] == ()
    assert by.base_differs["at"] == ("epochs",)
    lonely, _ = groups.grouped(results(runs("kd", [0.5])), "best")
    assert lonely.base_row[0] == -1 and lonely.base_differs[0] == ()


# ---- verdicts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "verdict", "said"),
    [
        ([0.80, 0.81, 0.79], [0.70, 0.712, 0.69], "better", "better beyond seed noise"),
        ([0.70, 0.712, 0.69], [0.80, 0.81, 0.79], "worse", "worse beyond seed noise"),
        ([0.80, 0.70, 0.75], [0.75, 0.76, 0.74], "tie", "within seed noise"),
        ([0.80, 0.80], [0.70, 0.70], "too few", "one more shared seed would give"),
        ([0.80], [0.70], "too few", "two more shared seeds would give"),
        ([0.80, 0.80, 0.80], [0.80, 0.80, 0.80], "tie", "within seed noise"),
    ],
)
def test_verdicts(a: list[float], b: list[float], verdict: str, said: str) -> None:
    frame = results(runs("kd", a), runs("at", b))
    found = stats.paired(frame, setting_of(frame, "kd"), setting_of(frame, "at"), "best")
    assert found.verdict == verdict and said in found.sentence and found.n == min(len(a), len(b))
    assert found.difference_frac == pytest.approx(np.mean(a) - np.mean(b))
    assert np.isnan(found.low_frac) == (verdict == "too few")


def test_unknown_settings_and_selections_are_explained() -> None:
    frame = results(runs("kd", [0.5]))
    with pytest.raises(KdError) as caught:
        stats.paired(frame, "nothing", setting_of(frame, "kd"), "best")
    assert "nothing" in str(caught.value)
    with pytest.raises(KdError):
        stats.ranking(frame, "worst")


def test_only_shared_seeds_are_paired() -> None:
    frame = results(runs("kd", [0.9, 0.6, 0.7, 0.8]), runs("at", [0.5, 0.6, 0.7], seed=1))
    found = stats.paired(frame, setting_of(frame, "kd"), setting_of(frame, "at"), "best")
    assert (found.n, found.how, found.difference_frac) == (3, "paired", pytest.approx(0.1))


# ---- ranking ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ranked() -> pd.DataFrame:
    """Two ties at the top, base clearly below, one group with a single, lucky seed."""
    return stats.ranking(
        results(
            runs("kd", [0.80, 0.82, 0.81, 0.80]), runs("at", [0.81, 0.80, 0.80, 0.81]), runs("base", [0.70, 0.71, 0.70, 0.71]),
            runs("sp", [0.95]),
        ),
        "best",
    )  # fmt: skip


def test_ties_share_a_rank_and_few_seeds_do_not_lead(ranked: pd.DataFrame) -> None:
    by = ranked.set_index("method")
    assert dict(by["rank"]) == {"sp": 1, "kd": 1, "at": 1, "base": 3}
    assert list(by.index[by.leads]) == ["kd"] and not by.enough["sp"] and by.to_leader_verdict["sp"] == "too few"
    assert by.to_leader_verdict["at"] == "tie" and by.to_leader_verdict["base"] == "worse" and by.to_leader_verdict["kd"] == ""
    assert by.to_base_verdict["kd"] == "better" and by.to_base_verdict["base"] == "" and np.isnan(by.to_base_frac["base"])
    assert by.to_base_frac["kd"] == pytest.approx(0.1025) and by.to_base_n["kd"] == 4
    assert by.to_leader_holm_p["base"] == pytest.approx(min(1, 2 * by.to_leader_p["base"]))


def test_rank_counts_every_clear_defeat() -> None:
    frame = results(
        *(runs(m, list(a + RNG.normal(0, 0.004, 5))) for m, a in (("kd", 0.8), ("at", 0.79), ("sp", 0.7), ("rkd", 0.79)))
    )
    found = stats.ranking(frame, "best").set_index("method")
    for method in found.index:
        others = [m for m in found.index if m != method]
        beaten = sum(
            stats.paired(frame, found.setting[m], found.setting[method], "best").verdict == "better" for m in others
        )  # fmt: skip
        assert found["rank"][method] == 1 + beaten


def test_versus_compares_a_column_with_any_group(ranked: pd.DataFrame) -> None:
    frame = results(runs("kd", [0.8, 0.81, 0.82]), runs("at", [0.7, 0.72, 0.71]), runs("kd", [0.5], dataset="cifar10"))
    found = stats.versus(frame, "best", "digits · resnet20 → resnet8", frame["setting"][3])
    assert list(found.method) == ["kd", "at"] and list(found.to_verdict) == ["better", ""]


def test_the_sentence_names_ties_and_luck(ranked: pd.DataFrame) -> None:
    said = stats.sentence(ranked, "best")
    assert "kd has the highest mean with enough seeds, 80.8 ± 1.0" in said and "(best on test, n = 4)" in said
    assert "ties with at (+0.2 points" in said
    assert "Higher, but with too few seeds to count: sp (95.0\N{NO-BREAK SPACE}%, n = 1)" in said
    assert "Against the student alone: +10.3 points" in said and "1 of 8 cases" in said


def test_the_sentence_of_a_clear_lead_and_of_none() -> None:
    lead = stats.ranking(results(runs("kd", [0.8, 0.81, 0.79]), runs("base", [0.7, 0.712, 0.69])), "best")
    said = stats.sentence(lead, "best")
    assert "kd leads with 80.0 ± 1.0" in said and "9.9 points over base (95" in said and "1 of 4 cases" in said
    assert "Against the student alone" not in said, "that is what base says already"
    few = stats.sentence(stats.ranking(results(runs("kd", [0.8, 0.81]), runs("base", [0.7, 0.7])), "last"), "last")
    assert "Two seeds cannot tell this from luck: one more seed of each" in few and "last epoch on test" in few
    assert "Only kd has finished runs here" in stats.sentence(stats.ranking(results(runs("kd", [0.8])), "best"), "best")
    assert stats.sentence(stats.ranking(results(), "best"), "best") == "No finished runs to rank yet."


@pytest.mark.parametrize(("n", "luck"), [(5, False), (15, True)])
def test_many_comparisons_are_said_to_be_many(n: int, luck: bool) -> None:
    frame = results(*(runs("kd", list(0.7 + RNG.normal(0, 0.01, 5)), params=f'{{"T": {t}}}') for t in range(n + 1)))
    said = stats.sentence(stats.ranking(frame, "best"), "best")
    assert f"{n} comparisons with the leader" in said and "Holm" in said and ("by luck alone" in said) == luck


def test_two_settings_of_one_method_have_their_names() -> None:
    frame = results(runs("kd", [0.8, 0.8, 0.81], params='{"T": 4}'), runs("kd", [0.7, 0.7, 0.7], params='{"T": 8}'))
    found = stats.paired(frame, *frame["setting"].unique(), "best")
    assert found.sentence.startswith("kd T=4 is 10.3 points above kd T=8")


@pytest.mark.parametrize(
    ("frac", "signed", "text"), [(0.005, False, "0.5"), (-0.005, True, "−0.5"), (0.0004, True, "+0.04"), (0.0, True, "+0.00")]
)
def test_points(frac: float, signed: bool, text: str) -> None:
    assert wording.points(frac, sign=signed) == text
