"""Questions worth asking of the results, ready to run: each a statement to read, to change and to learn from.

Reads / writes: nothing. Never: runs them (``questions`` does). Tests run each on a finished demo suite.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """A question: ``title`` and one ``sentence`` for people, the statement, and the chart that shows its answer best.

    ``chart``: line, bar, scatter or heat; ``x``, ``y``, ``colour``: columns of the answer, "" = none.
    """

    key: str
    title: str
    sentence: str
    sql: str
    chart: str
    x: str
    y: str
    colour: str = ""


# all that somebody new to it needs, in markdown
PRIMER = (
    "A question names columns, a table, and what to do with its rows: "
    "`SELECT method, avg(best_top1_frac) FROM best GROUP BY method`.",
    "`runs` has one row per run (what was asked for, how it went), `epochs` one per run and epoch (accuracy, loss, speed), "
    "`terms` one per part of the loss, `artifacts` one per file of a run, `published` one per result of the literature.",
    "`best` and `leaderboard` are made of these: the best and the last accuracy of each run, and their mean and spread over "
    "seeds.",
    "`JOIN runs USING (run_id)` puts what belongs to a run beside its epochs; of a run of several networks, "
    "`network = 'student'` is the one that counts.",
    "Names end with their unit: `_frac` is a fraction from 0 to 1 (the table shows percent), `_s` seconds, `_mib` MiB; times "
    "are UTC; NULL means not measured, or that there is no such thing.",
)

EXAMPLES = (
    Example(
        "seeds",
        "Mean and spread over seeds",
        "How good is each method, and how much of that is chance?",
        """\
-- Runs that differ in nothing but the seed are one group, one row here.
SELECT method,
       dataset,
       best_mean_frac,   -- mean over seeds of the best test accuracy
       best_std_frac,    -- its standard deviation
       last_mean_frac,   -- the same after the last epoch
       n                 -- seeds behind these numbers
FROM leaderboard
WHERE student IN (SELECT student FROM runs WHERE teacher IS NOT NULL)
ORDER BY best_mean_frac DESC
""",
        "bar", "method", "best_mean_frac", "dataset",
    ),
    Example(
        "gain",
        "Gain over training alone",
        "What does each method add to the same student, data and seed without a teacher?",
        """\
WITH alone AS (          -- students that learnt from the labels only
    SELECT suite, dataset, student, seed, avg(best_top1_frac) AS alone_frac
    FROM best
    WHERE method = 'base' AND network = 'student' AND status = 'finished'
    GROUP BY ALL
)
SELECT method,
       dataset,
       avg(best_top1_frac - alone_frac)         AS gain_mean_frac,
       stddev_samp(best_top1_frac - alone_frac) AS gain_std_frac,
       count(*)                                 AS n
FROM best JOIN alone USING (suite, dataset, student, seed)  -- seed by seed
WHERE method <> 'base' AND network = 'student' AND status = 'finished'
GROUP BY ALL
ORDER BY gain_mean_frac DESC
""",
        "bar", "method", "gain_mean_frac", "dataset",
    ),
    Example(
        "gap",
        "Share of the gap to the teacher",
        "How far does each method bring the student from its own level (0 %) to the teacher's (100 %)?",
        """\
WITH alone AS (
    SELECT suite, dataset, student, avg(last_top1_frac) AS alone_frac
    FROM best
    WHERE method = 'base' AND network = 'student' AND status = 'finished'
    GROUP BY ALL
)
SELECT b.method,
       b.dataset,
       avg(a.alone_frac)        AS start_frac,
       avg(b.last_top1_frac)    AS student_frac,
       avg(r.teacher_top1_frac) AS teacher_frac,
       (student_frac - start_frac)
           / (teacher_frac - start_frac) AS gap_closed_frac
FROM best b
JOIN runs r USING (run_id)
JOIN alone a
  ON (a.suite, a.dataset, a.student) = (b.suite, b.dataset, b.student)
WHERE b.network = 'student' AND b.status = 'finished'
  AND r.teacher <> r.student              -- no student is its own teacher
GROUP BY ALL
HAVING teacher_frac > start_frac          -- else there is no gap to close
ORDER BY gap_closed_frac DESC
""",
        "bar", "method", "gap_closed_frac", "dataset",
    ),
    Example(
        "curves",
        "Learning curves",
        "Who leads when? The test accuracy of each method by epoch, mean over seeds.",
        """\
SELECT r.method,
       e.epoch,
       avg(e.test_top1_frac) AS test_top1_frac,
       count(*)              AS n
FROM epochs e JOIN runs r USING (run_id)
WHERE e.network = 'student'
  AND (r.dataset, r.student) = (  -- those of the newest run with a teacher,
    SELECT (dataset, student)     -- or name them: ('cifar100', 'resnet8')
    FROM runs
    WHERE teacher IS NOT NULL
    ORDER BY created_at DESC
    LIMIT 1
  )
GROUP BY ALL
ORDER BY r.method, e.epoch
""",
        "line", "epoch", "test_top1_frac", "method",
    ),
    Example(
        "speed",
        "Speed and cost of training",
        "How fast is each method, how much memory does it take, how much longer than labels alone?",
        """\
WITH speeds AS (
    SELECT r.method, r.dataset, r.student,
           median(e.images_per_s) AS images_per_s,
           max(e.peak_mib)        AS peak_mib,
           median(r.elapsed_s)    AS elapsed_s
    FROM epochs e JOIN runs r USING (run_id)
    WHERE e.network = 'student' AND r.status = 'finished'
    GROUP BY ALL
)
SELECT s.method,
       s.dataset,
       s.images_per_s,
       s.peak_mib,
       s.elapsed_s,
       b.images_per_s / s.images_per_s AS times_as_long  -- 1 = labels alone
FROM speeds s
JOIN speeds b
  ON b.method = 'base' AND (b.dataset, b.student) = (s.dataset, s.student)
WHERE s.student IN (SELECT student FROM runs WHERE teacher IS NOT NULL)
ORDER BY times_as_long
""",
        "bar", "method", "times_as_long", "dataset",
    ),
    Example(
        "reach",
        "Seconds to 90 % of the final accuracy",
        "Which method is nearly there first, by the clock?",
        """\
WITH reached AS (        -- when each run had 90 % of its last accuracy
    SELECT e.run_id, min(e.elapsed_s) AS reached_s
    FROM epochs e JOIN best b USING (run_id, network)
    WHERE e.network = 'student' AND b.status = 'finished'
      AND e.test_top1_frac >= 0.9 * b.last_top1_frac
    GROUP BY e.run_id
)
SELECT method, dataset,
       avg(reached_s)         AS reached_mean_s,
       stddev_samp(reached_s) AS reached_std_s,
       avg(elapsed_s)         AS whole_training_s,
       count(*)               AS n
FROM reached JOIN runs USING (run_id)
WHERE student IN (SELECT student FROM runs WHERE teacher IS NOT NULL)
GROUP BY ALL
ORDER BY reached_mean_s
""",
        "bar", "method", "reached_mean_s", "dataset",
    ),
    Example(
        "published",
        "Published against measured",
        "Does a method gain here what the literature says it gains elsewhere?",
        """\
WITH literature AS (     -- gain over labels alone in the same printed table
    SELECT m.method,
           avg(m.top1_frac - b.top1_frac) AS published_gain_frac,
           count(*)                       AS published_results
    FROM published m JOIN published b USING (source, page, dataset, student)
    WHERE b.method = 'base' AND m.method <> 'base'
    GROUP BY m.method
),
here AS (                -- gain over labels alone in the same suite
    SELECT m.method,
           avg(m.best_mean_frac - b.best_mean_frac) AS measured_gain_frac,
           sum(m.n)                                 AS measured_runs
    FROM leaderboard m JOIN leaderboard b USING (suite, dataset, student)
    WHERE b.method = 'base' AND m.method <> 'base'
    GROUP BY m.method
)
SELECT method, published_gain_frac, measured_gain_frac,
       published_results, measured_runs
FROM literature JOIN here USING (method)
ORDER BY published_gain_frac DESC
""",
        "scatter", "published_gain_frac", "measured_gain_frac", "method",
    ),
    Example(
        "selection",
        "Best epoch against last",
        "How much better does a method look when its best epoch is chosen on the test images?",
        """\
-- 0 = the last epoch is the best one
SELECT method,
       dataset,
       avg(best_top1_frac - last_top1_frac)         AS flattered_mean_frac,
       stddev_samp(best_top1_frac - last_top1_frac) AS flattered_std_frac,
       avg(best_epoch)                              AS best_epoch,
       count(*)                                     AS n
FROM best
WHERE network = 'student' AND status = 'finished'
  AND student IN (SELECT student FROM runs WHERE teacher IS NOT NULL)
GROUP BY ALL
ORDER BY flattered_mean_frac DESC
""",
        "bar", "method", "flattered_mean_frac", "dataset",
    ),
    Example(
        "agreement",
        "Agreement and accuracy",
        "Is a student that says what its teacher says also right more often? One point per run.",
        """\
SELECT r.method,
       arg_max(e.agreement_frac, e.epoch) AS agreement_frac,  -- last epoch
       arg_max(e.test_top1_frac, e.epoch) AS test_top1_frac,
       r.seed,
       r.run_id
FROM epochs e JOIN runs r USING (run_id)
WHERE e.network = 'student' AND r.status = 'finished'
  AND r.teacher IS NOT NULL
  AND r.dataset = (
    SELECT dataset FROM runs ORDER BY created_at DESC LIMIT 1
  )
GROUP BY ALL
ORDER BY agreement_frac DESC
""",
        "scatter", "agreement_frac", "test_top1_frac", "method",
    ),
    Example(
        "calibration",
        "Calibration",
        "Whose confidence can be believed? The lower the calibration error, the more.",
        """\
WITH ends AS (           -- each run at its last epoch
    SELECT run_id,
           arg_max(test_ece_frac, epoch)  AS ece_frac,
           arg_max(test_top1_frac, epoch) AS top1_frac
    FROM epochs
    WHERE network = 'student'
    GROUP BY run_id
)
SELECT method, dataset,
       avg(ece_frac)         AS ece_mean_frac,
       stddev_samp(ece_frac) AS ece_std_frac,
       avg(top1_frac)        AS top1_mean_frac,
       count(*)              AS n
FROM ends JOIN runs USING (run_id)
WHERE status = 'finished'
  AND student IN (SELECT student FROM runs WHERE teacher IS NOT NULL)
GROUP BY ALL
ORDER BY ece_mean_frac
""",
        "bar", "method", "ece_mean_frac", "dataset",
    ),
    Example(
        "terms",
        "Share of the labels in the loss",
        "How much of its loss does a method spend on the labels, and does that change while it trains?",
        """\
-- Terms stand here as they enter the loss, weighted; ce is of the labels.
SELECT r.method,
       t.epoch,
       sum(CASE WHEN t.term = 'ce' THEN abs(t.value) ELSE 0 END)
           / sum(abs(t.value)) AS labels_share_frac
FROM terms t JOIN runs r USING (run_id)
WHERE t.phase = 'main' AND t.network = 'student'
GROUP BY ALL
ORDER BY r.method, t.epoch
""",
        "heat", "epoch", "method", "labels_share_frac",
    ),
    Example(
        "ended",
        "How runs ended, and why",
        "What failed, what was stopped, and with which reason?",
        """\
SELECT status,
       coalesce(reason, 'no reason needed') AS reason,
       count(*)                             AS runs,
       max(run_id)                          AS newest_run_id,
       max(ended_at)                        AS last_time
FROM runs
GROUP BY ALL
ORDER BY max(status) = 'finished', runs DESC  -- trouble first
""",
        "bar", "status", "runs", "",
    ),
    Example(
        "hours",
        "Hours of training",
        "Where did the time go: by suite, by who launched it, on which device?",
        """\
SELECT coalesce(suite, 'no suite')           AS suite,
       coalesce(owner, 'nobody signed in')   AS owner,
       if(device LIKE 'cuda%', 'GPU', upper(device)) AS device,
       sum(elapsed_s) / 3600                 AS hours,
       count(*)                              AS runs,
       count(*) FILTER (status = 'finished') AS finished
FROM runs
WHERE elapsed_s IS NOT NULL
GROUP BY ALL
ORDER BY hours DESC
""",
        "bar", "suite", "hours", "device",
    ),
    Example(
        "spread",
        "Every seed of every method",
        "How far apart are runs that differ in nothing but the seed? One point per run.",
        """\
SELECT method,
       best_top1_frac,
       seed,
       dataset,
       run_id
FROM best
WHERE network = 'student' AND status = 'finished'
  AND dataset = (SELECT dataset FROM runs ORDER BY created_at DESC LIMIT 1)
  AND student IN (SELECT student FROM runs WHERE teacher IS NOT NULL)
ORDER BY median(best_top1_frac) OVER (PARTITION BY method) DESC, seed
""",
        "scatter", "best_top1_frac", "method", "",
    ),
)  # fmt: skip
