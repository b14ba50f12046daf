"""The shape of the database: its migrations, in order, and what every column means.

Reads / writes: only the connection it is given. Never: run folders; an old migration is never edited, a new one is added.
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from kdengine.errors import KdError

M001 = """
CREATE SCHEMA intake;
CREATE TABLE intake.state (key VARCHAR PRIMARY KEY, value VARCHAR);
CREATE TABLE intake.offsets (run_id VARCHAR PRIMARY KEY, position BIGINT);
CREATE TABLE intake.rejects (run_id VARCHAR, position BIGINT, line VARCHAR, fault VARCHAR, PRIMARY KEY (run_id, position));
CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY, method VARCHAR, dataset VARCHAR, student VARCHAR, teacher VARCHAR, seed BIGINT,
    recipe VARCHAR, suite VARCHAR, tags VARCHAR[], note VARCHAR, status VARCHAR, reason VARCHAR, epochs INTEGER,
    epoch INTEGER, phase VARCHAR, created_at TIMESTAMP, started_at TIMESTAMP, ended_at TIMESTAMP, expected_at TIMESTAMP,
    elapsed_s DOUBLE, images_seen BIGINT, peak_mib DOUBLE, attempts INTEGER, device VARCHAR, device_name VARCHAR,
    precision VARCHAR, threads INTEGER, cpu_capability VARCHAR, versions JSON,
    params JSON, combine VARCHAR, combine_weight DOUBLE, combine_params JSON, image_size INTEGER, train_images BIGINT,
    val_images BIGINT, test_images BIGINT, classes INTEGER, val_frac DOUBLE, student_options JSON, student_init VARCHAR,
    peers VARCHAR[], generation INTEGER, chain VARCHAR, retry_of VARCHAR,
    teacher_run VARCHAR, teacher_weights VARCHAR, teacher_method VARCHAR, teacher_recipe VARCHAR, teacher_epochs INTEGER,
    teacher_train_images BIGINT, teacher_seed BIGINT, teacher_options JSON, teacher_top1_frac DOUBLE,
    batch_size INTEGER, optimizer VARCHAR, lr DOUBLE, momentum DOUBLE, nesterov BOOLEAN, weight_decay DOUBLE,
    schedule VARCHAR, milestones DOUBLE[], gamma DOUBLE, warmup_frac DOUBLE, crop_pad INTEGER, crop_mode VARCHAR,
    flip BOOLEAN, bn_momentum DOUBLE,
    student_params BIGINT, student_macs BIGINT, teacher_params BIGINT, teacher_macs BIGINT,
    setting VARCHAR, notices VARCHAR[], problems JSON, bad_lines INTEGER, spec JSON
);
CREATE TABLE epochs (
    run_id VARCHAR, epoch INTEGER, network VARCHAR, images_seen BIGINT, elapsed_s DOUBLE, train_loss DOUBLE,
    train_top1_frac DOUBLE, test_loss DOUBLE, test_top1_frac DOUBLE, test_top5_frac DOUBLE, test_ece_frac DOUBLE,
    val_loss DOUBLE, val_top1_frac DOUBLE, agreement_frac DOUBLE, teacher_kl DOUBLE, lr DOUBLE, epoch_s DOUBLE,
    images_per_s DOUBLE, peak_mib DOUBLE, ended_at TIMESTAMP, PRIMARY KEY (run_id, epoch, network)
);
CREATE TABLE terms (run_id VARCHAR, phase VARCHAR, epoch INTEGER, network VARCHAR, term VARCHAR, value DOUBLE);
CREATE TABLE artifacts (run_id VARCHAR, name VARCHAR, bytes BIGINT);
CREATE TABLE published (
    method VARCHAR, dataset VARCHAR, student VARCHAR, teacher VARCHAR, peers VARCHAR, top1_frac DOUBLE,
    top1_std_frac DOUBLE, which VARCHAR, seeds INTEGER, epochs INTEGER, batch_size INTEGER, recipe VARCHAR, source VARCHAR,
    page VARCHAR, url VARCHAR, note VARCHAR
);
CREATE VIEW best AS
SELECT e.run_id, e.network, any_value(r.method) AS method, any_value(r.dataset) AS dataset, any_value(r.student) AS student,
    any_value(r.teacher) AS teacher, any_value(r.seed) AS seed, any_value(r.recipe) AS recipe, any_value(r.suite) AS suite,
    any_value(r.setting) AS setting, any_value(r.status) AS status, max(e.epoch) AS epoch,
    max(e.test_top1_frac) AS best_top1_frac, arg_max(e.epoch, e.test_top1_frac) AS best_epoch,
    arg_max(e.test_top1_frac, e.epoch) AS last_top1_frac,
    arg_max(e.test_top1_frac, e.val_top1_frac) AS val_choice_top1_frac
FROM epochs e JOIN runs r USING (run_id) GROUP BY e.run_id, e.network;
CREATE VIEW leaderboard AS
SELECT b.suite, b.dataset, b.method, b.student, b.teacher, b.recipe, b.setting,
    avg(b.best_top1_frac) AS best_mean_frac, stddev_samp(b.best_top1_frac) AS best_std_frac,
    avg(b.last_top1_frac) AS last_mean_frac, stddev_samp(b.last_top1_frac) AS last_std_frac,
    avg(b.val_choice_top1_frac) AS val_choice_mean_frac, count(*) AS n
FROM (SELECT * FROM best WHERE network = 'student' AND status = 'finished'
      QUALIFY row_number() OVER (PARTITION BY suite, setting, seed ORDER BY run_id DESC) = 1) b GROUP BY ALL;
"""


def m001(con: duckdb.DuckDBPyConnection) -> None:
    """The tables and views of the first release."""
    con.execute(M001)


def m002(con: duckdb.DuckDBPyConnection) -> None:
    """Runs have an owner. There are files of the first schema that have the column already."""
    con.execute("ALTER TABLE runs ADD COLUMN IF NOT EXISTS owner VARCHAR")


MIGRATIONS: tuple[Callable[[duckdb.DuckDBPyConnection], None], ...] = (m001, m002)


def version_of(con: duckdb.DuckDBPyConnection) -> int:
    """Return the schema version of an open database; 0 when it is empty."""
    found = con.execute("SELECT 1 FROM duckdb_tables() WHERE schema_name = 'intake' AND table_name = 'state'").fetchone()
    row = con.execute("SELECT value FROM intake.state WHERE key = 'schema'").fetchone() if found else None
    return int(row[0]) if row else 0


def migrate(con: duckdb.DuckDBPyConnection) -> int:
    """Bring the database to the newest version, one transaction per step; return the version it had before.

    Raises:
        KdError: the file was written by a newer release.
    """
    before = version_of(con)
    if before > len(MIGRATIONS):
        raise KdError.of(
            f"a results database of schema {before}",
            f"schema 1 to {len(MIGRATIONS)}",
            "update KD Explorer, or run `python -m store rebuild` with this release",
        )
    for number, step in enumerate(MIGRATIONS[before:], start=before + 1):
        con.execute("BEGIN")
        try:
            step(con)
            con.execute("INSERT OR REPLACE INTO intake.state VALUES ('schema', ?)", [str(number)])
            con.execute("COMMIT")
        except duckdb.Error:
            con.execute("ROLLBACK")
            raise
    return before
