"""The questions that pages and programs ask: one function each, a DataFrame back.

Reads: the store that is passed in. Writes: nothing. Never: run folders, SQL from outside.
Every docstring lists the columns of the answer with their units; a test compares the two. Shares (``_frac``) are 0 to 1,
times are UTC. Column meanings that are those of the tables stand in ``store.columns``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kdengine import catalogue
from kdengine.errors import KdError, Problem, unknown
from store.columns import COLUMNS
from store.db import Store

X_COLUMNS = ("epoch", "images_seen", "elapsed_s")
METRICS = (
    "test_top1_frac", "test_top5_frac", "test_loss", "test_ece_frac", "train_loss", "train_top1_frac", "val_top1_frac",
    "val_loss", "agreement_frac", "teacher_kl", "lr", "epoch_s", "images_per_s", "peak_mib",
)  # fmt: skip
GROUPS = (
    "method", "student", "teacher", "dataset", "recipe", "suite", "setting", "status", "generation", "device", "combine",
    "batch_size", "lr", "epochs", "train_images", "image_size", "precision", "seed", "params",
)  # fmt: skip
_WAITING = "('queued', 'waiting')"
_ETA = """CASE WHEN r.expected_at IS NOT NULL
    THEN greatest(0, (epoch_ms(r.expected_at) - epoch_ms(now())) / 1e3) END AS eta_s"""
_CURVE = "coalesce(c.curve, []::FLOAT[]) AS curve"
_RUN_COLUMNS = f"""
    r.run_id, r.method, r.dataset, r.student, r.teacher, r.seed, r.generation, r.recipe, r.suite, r.tags, r.note, r.status,
    r.epochs, r.epoch, r.phase, c.best_top1_frac, c.last_top1_frac, r.started_at, r.ended_at, r.created_at, r.device,
    {_ETA},
    r.elapsed_s, q.position, r.teacher_run, r.owner, r.reason, {_CURVE}"""
_RUNS = """
WITH q AS (SELECT run_id, row_number() OVER (ORDER BY created_at, run_id) AS position FROM runs WHERE status IN {waiting}),
picked AS (SELECT * FROM runs {where} ORDER BY created_at DESC, run_id DESC {limit}),
c AS (
    SELECT run_id, max(test_top1_frac) AS best_top1_frac, arg_max(test_top1_frac, epoch) AS last_top1_frac,
        list(test_top1_frac::FLOAT ORDER BY epoch) AS curve
    FROM epochs WHERE network = 'student' AND run_id IN (SELECT run_id FROM picked) GROUP BY run_id
)
SELECT {columns} FROM picked r LEFT JOIN c USING (run_id) LEFT JOIN q USING (run_id)
ORDER BY r.created_at DESC, r.run_id DESC
"""
_RESULT_RUN = (
    "method", "dataset", "student", "teacher", "peers", "seed", "recipe", "suite", "tags", "setting", "generation", "params",
    "status", "epochs",
)  # fmt: skip
_RESULT_PROTOCOL = (
    "student_params", "student_macs", "teacher_params", "teacher_macs", "device", "device_name", "precision", "train_images",
    "val_frac", "image_size", "batch_size", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "milestones",
    "gamma", "warmup_frac", "crop_pad", "crop_mode", "flip", "bn_momentum", "combine", "teacher_recipe", "teacher_epochs",
    "teacher_seed", "teacher_weights", "created_at",
)  # fmt: skip
_IN_IDS = "run_id IN (SELECT unnest($ids::VARCHAR[]))"


def runs(
    store: Store,
    *,
    ids: Sequence[str] | None = None,
    status: str | Sequence[str] | None = None,
    method: str | Sequence[str] | None = None,
    dataset: str | Sequence[str] | None = None,
    suite: str | Sequence[str] | None = None,
    tag: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """Return one row per run, newest first. A filter takes one value or several; None or an empty one = all
    (an empty ``ids`` = none); of several tags a run needs one.

    Columns:
        run_id, method, dataset, student, teacher, seed, generation, recipe, suite, tags (list), note, status, epochs (asked for),
        epoch (main epochs done), phase, best_top1_frac (best on test), last_top1_frac (on test), started_at, ended_at,
        created_at (UTC), device, eta_s (s left, now), elapsed_s (s), position (place in the queue from 1), teacher_run,
        owner (who launched it), reason, curve (float32 list: the student's test_top1_frac per epoch).
    """
    where, params = _where(ids=ids, status=status, method=method, dataset=dataset, suite=suite)
    if tag:
        where.append("list_has_any(tags, $tag::VARCHAR[])")
        params["tag"] = [tag] if isinstance(tag, str) else list(tag)
    sql = _RUNS.format(
        waiting=_WAITING,
        columns=_RUN_COLUMNS,
        where="WHERE " + " AND ".join(where) if where else "",
        limit="" if limit is None else f"LIMIT {int(limit)}",
    )
    return store.frame(sql, params)


def run(store: Store, run_id: str) -> pd.DataFrame:
    """Return one run as one row, or no row where it is unknown.

    Columns:
        all of the table ``runs``, then best_top1_frac, last_top1_frac, eta_s (s), position, curve as in ``runs``.
    """
    columns = f"r.*, c.best_top1_frac, c.last_top1_frac, {_ETA}, q.position, {_CURVE}"
    return store.frame(_RUNS.format(waiting=_WAITING, columns=columns, where="WHERE run_id = $id", limit=""), {"id": run_id})


def curves(store: Store, ids: Sequence[str], metric: str, x: str = "epoch", network: str = "student") -> pd.DataFrame:
    """Return one row per run and epoch where ``metric`` was measured, by run and epoch.

    Columns:
        run_id, method, seed, x (epoch, images_seen in images, or elapsed_s in s), value (float32, unit of the metric).

    Raises:
        KdError: no such metric or x.
    """
    _check(metric=metric, x=x)
    sql = f"""SELECT e.run_id, r.method, r.seed, {_x(x)} AS x, e.{metric}::FLOAT AS value
        FROM epochs e JOIN runs r USING (run_id)
        WHERE e.{_IN_IDS} AND e.network = $network AND e.{metric} IS NOT NULL ORDER BY e.run_id, e.epoch"""
    return store.frame(sql, {"ids": list(ids), "network": network})


def mean_curves(
    store: Store,
    ids: Sequence[str],
    metric: str,
    x: str = "epoch",
    group: Sequence[str] = ("method", "student", "teacher", "dataset"),
    network: str = "student",
) -> pd.DataFrame:
    """Return the mean course of each group of runs, aligned by epoch, by group and epoch.

    Columns:
        the columns of ``group``, epoch, x (epoch, images_seen in images, or elapsed_s in s: the group's mean at that epoch),
        mean, low, high (least and greatest of the runs), std (n - 1; NaN for one run), n (seeds that reached the epoch).

    Raises:
        KdError: no such metric, x or group column.
    """
    _check(metric=metric, x=x, group=group)
    names = ", ".join(f"r.{name}" for name in group)
    head, keys = (f"{names}, ", f"{names}, e.epoch") if group else ("", "e.epoch")
    sql = f"""SELECT {head}e.epoch, {"e.epoch" if x == "epoch" else f"avg(e.{x})::FLOAT"} AS x,
        avg(e.{metric})::FLOAT AS mean, min(e.{metric})::FLOAT AS low, max(e.{metric})::FLOAT AS high,
        stddev_samp(e.{metric})::FLOAT AS std, count(DISTINCT r.seed)::INTEGER AS n
        FROM epochs e JOIN runs r USING (run_id)
        WHERE e.{_IN_IDS} AND e.network = $network AND e.{metric} IS NOT NULL GROUP BY {keys} ORDER BY {keys}"""
    return store.frame(sql, {"ids": list(ids), "network": network})


def terms(store: Store, run_id: str) -> pd.DataFrame:
    """Return the loss terms of one run in all phases, earlier phases first.

    Columns:
        phase, epoch, network, term, value (float32, mean over the epoch, weighted).
    """
    sql = """SELECT phase, epoch, network, term, value::FLOAT AS value FROM terms WHERE run_id = $id
        ORDER BY phase = 'main', phase, network, term, epoch"""
    return store.frame(sql, {"id": run_id})


def epochs(store: Store, run_id: str) -> pd.DataFrame:
    """Return the epochs of one run, one row per epoch and network, by network and epoch.

    Columns:
        all of the table ``epochs`` but run_id.
    """
    return store.frame("SELECT * EXCLUDE (run_id) FROM epochs WHERE run_id = $id ORDER BY network DESC, epoch", {"id": run_id})


def leaderboard(store: Store, suite: str | None = None, ids: Sequence[str] | None = None, *, over: bool = True) -> pd.DataFrame:
    """Return mean and spread over seeds, best first. Runs that differ in more than the seed are rows of their own.

    ``over=False`` counts runs that still train, by what they have reached. Of several runs of one seed the newest counts:
    repeating a seed gives no further evidence.

    Columns:
        method, student, teacher, dataset, recipe, params (JSON), generation, best_mean_frac, best_std_frac (best on test),
        last_mean_frac, last_std_frac (last epoch on test; std is n - 1, NaN for one run), val_choice_mean_frac (at the
        epoch that validation chose, NaN without it), n (seeds), images_per_s (images/s, mean of the runs).
    """
    where, params = _where(ids=ids, suite=suite)
    where.append("r.status = 'finished'" if over else "r.status IN ('finished', 'running')")
    sql = f"""WITH own AS (
            SELECT run_id, max(test_top1_frac) AS best, arg_max(test_top1_frac, epoch) AS last,
                arg_max(test_top1_frac, val_top1_frac) AS chosen, median(images_per_s) AS speed
            FROM epochs WHERE network = 'student' GROUP BY run_id)
        SELECT r.method, r.student, r.teacher, r.dataset, r.recipe, r.params, r.generation,
            avg(best) AS best_mean_frac, stddev_samp(best) AS best_std_frac, avg(last) AS last_mean_frac,
            stddev_samp(last) AS last_std_frac, avg(chosen) AS val_choice_mean_frac, count(*)::INTEGER AS n,
            avg(speed) AS images_per_s
        FROM (SELECT * FROM runs r WHERE {" AND ".join(where)}
              QUALIFY row_number() OVER (PARTITION BY setting, seed ORDER BY run_id DESC) = 1) r JOIN own USING (run_id)
        GROUP BY r.method, r.student, r.teacher, r.dataset, r.recipe, r.params, r.generation, r.setting
        ORDER BY best_mean_frac DESC NULLS LAST, r.method"""
    return store.frame(sql, params)


def results(store: Store, ids: Sequence[str]) -> pd.DataFrame:
    """Return what each run reached, under which protocol: one row per run of ``ids`` with an epoch, oldest first.

    Columns:
        run_id, method, dataset, student, teacher, peers (list), seed, recipe, suite, tags (list), setting, generation, params
        (JSON), status, epochs (asked for), epoch (main epochs done), best_frac, last_frac, val_choice_frac (the student's
        top-1 on test: best, last, at the epoch that validation chose), agreement_frac, teacher_kl (nats), ece_frac (on test,
        last epoch), teacher_run, teacher_top1_frac, elapsed_s (s, all phases), images_seen (all phases), images_per_s
        (images/s, median), epoch_s (s, median), peak_mib (MiB, greatest), student_params, student_macs, teacher_params,
        teacher_macs, device, device_name, precision, train_images, val_frac, image_size (pixels), batch_size, optimizer, lr,
        momentum, nesterov, weight_decay, schedule, milestones (list), gamma, warmup_frac, crop_pad (pixels), crop_mode, flip,
        bn_momentum, combine, teacher_recipe, teacher_epochs, teacher_seed, teacher_weights, created_at (UTC).
    """
    runs_, protocol = (", ".join(f"r.{name}" for name in names) for names in (_RESULT_RUN, _RESULT_PROTOCOL))
    sql = f"""WITH own AS (
            SELECT run_id, max(epoch) AS epoch, max(test_top1_frac) AS best_frac, arg_max(test_top1_frac, epoch) AS last_frac,
                arg_max(test_top1_frac, val_top1_frac) AS val_choice_frac, arg_max(agreement_frac, epoch) AS agreement_frac,
                arg_max(teacher_kl, epoch) AS teacher_kl, arg_max(test_ece_frac, epoch) AS ece_frac,
                median(images_per_s) AS images_per_s, median(epoch_s) AS epoch_s
            FROM epochs WHERE {_IN_IDS} AND network = 'student' GROUP BY run_id)
        SELECT r.run_id, {runs_}, own.epoch, best_frac, last_frac, val_choice_frac, agreement_frac, teacher_kl, ece_frac,
            r.teacher_run, r.teacher_top1_frac, r.elapsed_s, r.images_seen, own.images_per_s, own.epoch_s, r.peak_mib, {protocol}
        FROM runs r JOIN own USING (run_id) ORDER BY r.created_at, r.run_id"""
    return store.frame(sql, {"ids": list(ids)})


def stamp(store: Store, ids: Sequence[str]) -> int:
    """Return a number that changes with everything about these runs, and with nothing else: each epoch changes its run's row."""
    frame = store.frame(f"SELECT coalesce(bit_xor(hash(r)), 0) AS n FROM runs r WHERE r.{_IN_IDS}", {"ids": list(ids)})
    return int(frame["n"].iloc[0])


def standing(store: Store, settings: Sequence[str]) -> pd.DataFrame:
    """Return how the runs of these settings stand: one row per run and network, newest run first. A run without an ended epoch
    has one row, its network and accuracies empty.

    Columns:
        run_id, setting, seed, status, suite, phase, epochs (asked for), network, epoch (main epochs done), best_frac,
        last_frac (top-1 on test), elapsed_s (s), teacher_run, created_at (UTC), eta_s (s left, now).
    """
    sql = f"""SELECT r.run_id, r.setting, r.seed, r.status, r.suite, r.phase, r.epochs, b.network, b.epoch,
            b.best_top1_frac AS best_frac, b.last_top1_frac AS last_frac, r.elapsed_s, r.teacher_run, r.created_at, {_ETA}
        FROM (SELECT * FROM runs WHERE setting IN (SELECT unnest($settings::VARCHAR[]))) r LEFT JOIN best b USING (run_id)
        ORDER BY r.created_at DESC, r.run_id DESC, b.network"""
    return store.frame(sql, {"settings": list(settings)})


def speed(store: Store, ids: Sequence[str]) -> pd.DataFrame:
    """Return how fast each run trained: medians over its main epochs, fastest first.

    Columns:
        run_id, method, student, teacher, device_name, precision, batch_size, images_per_s (images/s), epoch_s (s),
        peak_mib (MiB), elapsed_s (s, all phases).
    """
    sql = f"""SELECT r.run_id, r.method, r.student, r.teacher, r.device_name, r.precision, r.batch_size,
            median(e.images_per_s) AS images_per_s, median(e.epoch_s) AS epoch_s, max(e.peak_mib) AS peak_mib, r.elapsed_s
        FROM epochs e JOIN runs r USING (run_id) WHERE e.{_IN_IDS} AND e.network = 'student'
        GROUP BY ALL ORDER BY images_per_s DESC NULLS LAST, r.run_id"""
    return store.frame(sql, {"ids": list(ids)})


def method_costs(store: Store) -> pd.DataFrame:
    """Return what each method costs beside learning from labels alone, measured on the finished runs here, cheapest first.

    A run's time per image is that of its main phase (median over epochs), divided by the median of the runs without a teacher
    of the same student, dataset, image size, batch size, precision, threads and processor. Runs without such a measure are out.

    Columns:
        method, cost_x (times the labels-only time per image, median of the runs), low_x, high_x (least and greatest of the
        runs), n (runs).
    """
    alike = "student, dataset, image_size, batch_size, precision, threads, device_name"
    sql = f"""WITH own AS (
            SELECT run_id, 1 / median(images_per_s) AS image_s FROM epochs
            WHERE network = 'student' AND images_per_s > 0 GROUP BY run_id),
        each AS (SELECT method, {alike}, image_s FROM runs JOIN own USING (run_id) WHERE status = 'finished'),
        alone AS (
            SELECT {alike}, median(image_s) AS alone_s FROM each WHERE method IN (SELECT unnest($plain::VARCHAR[])) GROUP BY ALL)
        SELECT method, median(image_s / alone_s) AS cost_x, min(image_s / alone_s) AS low_x, max(image_s / alone_s) AS high_x,
            count(*)::INTEGER AS n
        FROM each JOIN alone USING ({alike}) GROUP BY method ORDER BY cost_x, method"""
    plain = [label.key for label in catalogue.labels().values() if label.family == "plain"]
    return store.frame(sql, {"plain": plain})


def suites(store: Store) -> pd.DataFrame:
    """Return the suites, the one with the newest run first.

    Columns:
        suite, runs, finished, active (running, queued or waiting), newest (UTC, creation of its newest run).
    """
    sql = f"""SELECT suite, count(*)::INTEGER AS runs, count_if(status = 'finished')::INTEGER AS finished,
            count_if(status = 'running' OR status IN {_WAITING})::INTEGER AS active, max(created_at) AS newest
        FROM runs WHERE suite IS NOT NULL GROUP BY suite ORDER BY newest DESC, suite"""
    return store.frame(sql)


def sizes(store: Store) -> dict[str, int]:
    """Return how many rows each table and view has."""
    counted = " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) AS n FROM {name}" for name in COLUMNS)
    found = store.frame(counted)
    return {str(name): int(n) for name, n in zip(found["name"], found["n"], strict=True)}


def provenance(store: Store, ids: Sequence[str]) -> pd.DataFrame:
    """Return where runs come from, one row per run of ``ids``.

    Columns:
        run_id, suite, created_at (UTC), versions (JSON: package -> version).
    """
    sql = f"SELECT run_id, suite, created_at, versions FROM runs WHERE {_IN_IDS} ORDER BY run_id"
    return store.frame(sql, {"ids": list(ids)})


def choices(store: Store) -> dict[str, list[str]]:
    """Return what filters can offer: the sorted values of status, method, dataset, student, teacher, recipe, suite, tag,
    network; only values that occur."""
    names = ("status", "method", "dataset", "student", "teacher", "recipe", "suite")
    parts = [f"SELECT '{name}' AS name, {name} AS value FROM runs" for name in names]
    parts += ["SELECT 'tag', unnest(tags) FROM runs", "SELECT 'network', network FROM epochs"]
    found = store.frame(f"SELECT DISTINCT name, value FROM ({' UNION ALL '.join(parts)}) WHERE value IS NOT NULL ORDER BY 1, 2")
    offered: dict[str, list[str]] = {name: [] for name in (*names, "tag", "network")}
    for name, value in zip(found["name"], found["value"], strict=True):
        offered[str(name)].append(str(value))
    return offered


def counts(store: Store) -> dict[str, int]:
    """Return status -> number of runs; a status without runs is absent."""
    found = store.frame("SELECT status, count(*)::INTEGER AS n FROM runs GROUP BY status ORDER BY status")
    return {str(status): int(n) for status, n in zip(found["status"], found["n"], strict=True)}


def newest(store: Store, n: int) -> pd.DataFrame:
    """Return the ``n`` newest runs, newest first.

    Columns:
        those of ``runs``.
    """
    return runs(store, limit=n)


def artifacts(store: Store, run_id: str) -> pd.DataFrame:
    """Return the files of one run that may be taken away, by name.

    Columns:
        name, bytes (bytes).
    """
    return store.frame("SELECT name, bytes FROM artifacts WHERE run_id = $id ORDER BY name", {"id": run_id})


def published(store: Store, *, dataset: str | None = None, student: str | None = None) -> pd.DataFrame:
    """Return results from the literature, best first.

    Columns:
        all of the table ``published``.
    """
    where, params = _where(dataset=dataset, student=student)
    condition = "WHERE " + " AND ".join(where) if where else ""
    return store.frame(f"SELECT * FROM published {condition} ORDER BY dataset, student, top1_frac DESC, method", params)


def schema_docs(store: Store) -> pd.DataFrame:
    """Return every column that users may rely on, in the order of the tables.

    Columns:
        table, column, type, unit ("" = none), meaning.
    """
    sql = """SELECT table_name AS "table", column_name AS "column", data_type AS "type" FROM duckdb_columns()
        WHERE schema_name = 'main' AND NOT internal ORDER BY table_name, column_index"""
    found = store.frame(sql)
    order = {name: place for place, name in enumerate(COLUMNS)}
    found = found[found["table"].isin(order)].sort_values("table", key=lambda names: names.map(order), kind="stable")
    documented = [COLUMNS[table].get(column, ("", "")) for table, column in zip(found["table"], found["column"], strict=True)]
    return found.assign(unit=[d[0] for d in documented], meaning=[d[1] for d in documented]).reset_index(drop=True)


def _where(ids: Sequence[str] | None = None, **filters: str | Sequence[str] | None) -> tuple[list[str], dict[str, Any]]:
    where: list[str] = []
    params: dict[str, Any] = {}
    if ids is not None:
        where.append(_IN_IDS)
        params["ids"] = list(ids)
    for name, value in filters.items():
        values = [value] if isinstance(value, str) else list(value or ())
        if values:
            where.append(f"{name} IN (SELECT unnest(${name}::VARCHAR[]))")
            params[name] = values
    return where, params


def _check(metric: str, x: str, group: Sequence[str] = ()) -> None:
    problems: list[Problem] = []
    if metric not in METRICS:
        problems.append(unknown("metric", metric, METRICS))
    if x not in X_COLUMNS:
        problems.append(unknown("x", x, X_COLUMNS))
    problems += [unknown("group", name, GROUPS) for name in group if name not in GROUPS]
    if problems:
        raise KdError(*problems)


def _x(x: str) -> str:
    return "e.elapsed_s::FLOAT" if x == "elapsed_s" else f"e.{x}"
