"""Taking in: every line once, never half a one, whatever happens to the files. Never: a real training."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from kdengine.events import Ended, EpochEnded, Notice, to_line
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from kdengine.status import take_lock
from store import queries
from store.db import Store
from tests.store.conftest import MakeRun
from tests.store.killing import epoch, started


def rows(store: Store, table: str) -> list[dict[str, object]]:
    """All rows of a table, in a fixed order."""
    return json.loads(store.frame(f"SELECT * FROM {table} ORDER BY ALL").to_json(orient="records", date_format="iso"))


def test_a_run_becomes_rows(home: Home, make_run: MakeRun) -> None:
    run = make_run(method="kd", teacher="resnet20", params={"T": 4}, suite="demo", tags=("one",), seed=7, train_images=100)
    with Store.open(home) as store:
        version = store.take_in()
        assert (store.role, store.notice) == ("writer", "")
        row = queries.run(store, run.run_id).iloc[0]
        assert (row.method, row.teacher, row.seed, row.suite, row.status, row.epoch) == (
            "kd",
            "resnet20",
            7,
            "demo",
            "finished",
            3,
        )
        assert (row.train_images, row.device, row.student_params, row.elapsed_s) == (200, "cpu", 78_042, 4.5)
        assert json.loads(row.params) == {"T": 4} and list(row.tags) == ["one"]
        assert [round(float(v), 4) for v in row.curve] == [0.51, 0.52, 0.53]
        assert len(rows(store, "epochs")) == 3 and len(rows(store, "terms")) == 6
        assert store.take_in() == version


def test_half_a_line_is_left_and_a_bad_one_recorded(home: Home, make_run: MakeRun) -> None:
    run = make_run(done=1, end=None)
    half = to_line(epoch(2))
    with run.events_jsonl.open("ab") as file:
        file.write(b'{"kind":"nonsense"}\n\xff\xfe\n' + half[:40])
    with Store.open(home) as store:
        store.take_in()
        assert [row["epoch"] for row in rows(store, "epochs")] == [1]
        assert len(rows(store, "intake.rejects")) == 2
        assert queries.run(store, run.run_id).bad_lines[0] == 2
        with run.events_jsonl.open("ab") as file:
            file.write(half[40:])
        store.take_in()
        assert [row["epoch"] for row in rows(store, "epochs")] == [1, 2]
        with run.events_jsonl.open("ab") as file:
            file.write(half[:25])
        run.append_event(epoch(3))  # a new worker seals the torn line
        store.take_in()
        assert [row["epoch"] for row in rows(store, "epochs")] == [1, 2, 3]
        assert len(rows(store, "intake.rejects")) == 3


def test_a_log_appended_to_itself_doubles_nothing(home: Home, make_run: MakeRun) -> None:
    run = make_run(networks=("student", "peer1"), method="dml", peers=("resnet8",))
    with Store.open(home) as store:
        store.take_in()
        before = {table: rows(store, table) for table in ("runs", "epochs", "terms")}
        content = run.events_jsonl.read_bytes()
        with run.events_jsonl.open("ab") as file:
            file.write(content)
        store.take_in()
        assert {table: rows(store, table) for table in before} == before


def test_a_repeated_epoch_overwrites(home: Home, make_run: MakeRun) -> None:
    run = make_run(done=2, end="failed")
    with Store.open(home) as store:
        store.take_in()
        assert queries.run(store, run.run_id).status[0] == "failed"
        again = epoch(2, top1=0.9, terms={"student": {"ce": 7.0}})
        for event in (started(attempt=2), again, epoch(3, top1=0.95), Ended(how="finished", elapsed_s=9)):
            run.append_event(event)
        store.take_in()
        found = queries.epochs(store, run.run_id)
        assert list(found.test_top1_frac) == [0.51, 0.9, 0.95]
        terms = queries.terms(store, run.run_id)
        assert list(terms[terms.epoch == 2].value) == [7.0]
        row = queries.run(store, run.run_id).iloc[0]
        assert (row.status, row.attempts, row.epoch) == ("finished", 2, 3) and row.isna()["reason"]


def test_earlier_phases_have_terms_but_no_epochs(home: Home) -> None:
    run = RunDir.create(home, RunSpec(method="ft", teacher="resnet20", epochs=3))
    run.append_event(started())
    run.append_event(epoch(1, phase="paraphraser", measures={}, terms={"student": {"reconstruction": 2.0}}))
    run.append_event(epoch(1))
    with Store.open(home) as store:
        store.take_in()
        assert list(queries.epochs(store, run.run_id).epoch) == [1]
        assert set(queries.terms(store, run.run_id).phase) == {"paraphraser", "main"}


def test_replay_after_losing_the_database_equals_before(home: Home, make_run: MakeRun) -> None:
    for seed in range(4):
        make_run(seed=seed, method="kd", teacher="resnet20", end=("finished", "failed", "cancelled", None)[seed])
    tables = ("runs", "epochs", "terms", "artifacts", "best", "leaderboard", "published")
    with Store.open(home) as store:
        store.take_in()
        before = {table: rows(store, table) for table in tables}
    for file in home.root.glob("*.duckdb*"):
        file.unlink()
    with Store.open(home) as store:
        store.take_in()
        assert {table: rows(store, table) for table in tables} == before


def test_another_log_under_the_same_name_replaces_the_rows(home: Home, make_run: MakeRun) -> None:
    run = make_run(done=3)
    with Store.open(home) as store:
        store.take_in()
        run.events_jsonl.write_bytes(to_line(started()) + to_line(epoch(1, top1=0.11)))
        store.take_in()
        assert list(queries.epochs(store, run.run_id).test_top1_frac) == [0.11]
        longer = b"".join(to_line(Notice(text="x" * 37)) for _ in range(90))
        run.events_jsonl.write_bytes(longer + to_line(epoch(2, top1=0.22)))
        store.take_in()
        assert list(queries.epochs(store, run.run_id).test_top1_frac) == [0.22]
        assert len(rows(store, "terms")) == 2


def test_a_deleted_run_takes_its_rows_along(home: Home, make_run: MakeRun) -> None:
    gone, stays = make_run(seed=1), make_run(seed=2)
    with Store.open(home) as store:
        store.take_in()
        shutil.rmtree(gone.path)
        store.take_in()
        assert list(queries.runs(store).run_id) == [stays.run_id]
        for table in ("epochs", "terms", "artifacts", "intake.offsets"):
            assert {row["run_id"] for row in rows(store, table)} == {stays.run_id}


def test_a_broken_folder_does_not_stop_the_others(home: Home, make_run: MakeRun) -> None:
    bad, good = make_run(seed=1), make_run(seed=2)
    content = bad.spec_json.read_bytes()
    bad.spec_json.write_bytes(content[:30])
    (home.runs / "notes.txt").write_text("not a run")
    with Store.open(home) as store:
        store.take_in()
        assert list(queries.runs(store).run_id) == [good.run_id]
        assert rows(store, "intake.rejects")[0]["run_id"] == bad.run_id
        bad.spec_json.unlink()
        bad.spec_json.write_bytes(content)
        store.take_in()
        assert len(queries.runs(store)) == 2 and not rows(store, "intake.rejects")


def test_the_status_is_derived_at_every_poll(home: Home, make_run: MakeRun) -> None:
    teacher = make_run(method="base", student="resnet20", done=0, end=None)
    student = make_run(method="kd", teacher="resnet20", done=0, end=None, teacher_run=teacher.run_id)

    def statuses() -> dict[str, str]:
        store.take_in()
        found = queries.runs(store)
        return dict(zip(found.run_id, found.status, strict=True))

    with Store.open(home) as store:
        assert statuses() == {teacher.run_id: "queued", student.run_id: "waiting"}
        assert sorted(queries.runs(store).position) == [1, 2]
        lock = take_lock(teacher)
        assert lock is not None
        teacher.append_event(started())
        assert statuses()[teacher.run_id] == "running"
        teacher.append_event(epoch(1))
        statuses()
        running = queries.run(store, teacher.run_id).iloc[0]
        assert 0 < running.eta_s <= 4  # two epochs of 1.5 s
        os.close(lock)
        assert statuses()[teacher.run_id] == "lost"
        teacher.append_event(Ended(how="finished"))
        assert statuses() == {teacher.run_id: "finished", student.run_id: "queued"}
        assert queries.counts(store) == {"finished": 1, "queued": 1}


def test_a_chain_is_named_after_its_start(home: Home, make_run: MakeRun) -> None:
    first = make_run(method="base")
    second = make_run(method="ban", generation=1, teacher="resnet8", teacher_run=first.run_id)
    third = make_run(method="ban", generation=2, teacher="resnet8", teacher_run=second.run_id)
    with Store.open(home) as store:
        store.take_in()
        found = store.frame("SELECT run_id, chain FROM runs WHERE chain IS NOT NULL ORDER BY generation")
        assert list(found.run_id) == [second.run_id, third.run_id] and set(found.chain) == {first.run_id}


def test_no_path_reaches_the_database(home: Home, make_run: MakeRun) -> None:
    make_run(student_init="/somewhere/secret/start.safetensors", teacher="resnet20", method="kd",
             teacher_weights="/somewhere/secret/teacher.safetensors")  # fmt: skip
    with Store.open(home) as store:
        store.take_in()
        text = store.frame("SELECT * FROM runs").to_json(date_format="iso")
        assert "secret" not in text and "start.safetensors" in text and "teacher.safetensors" in text


def test_batches_keep_a_large_intake_in_small_transactions(
    home: Home, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.ingest.BATCH_EVENTS", 4)
    for seed in range(5):
        make_run(seed=seed)
    with Store.open(home) as store:
        version = store.data_version
        assert store.take_in() == version + 5
        assert len(rows(store, "epochs")) == 15


def test_every_measure_of_an_event_has_its_column(home: Home, make_run: MakeRun) -> None:
    event = epoch(1, top1=0.123456789)
    run = make_run(done=0, end=None)
    run.append_event(event)
    with Store.open(home) as store:
        store.take_in()
        row = store.frame("SELECT * FROM epochs").iloc[0].to_dict()
    measures = event.measures["student"].model_dump()
    own = event.model_dump(include={"epoch", "images_seen", "elapsed_s", "epoch_s", "images_per_s", "lr", "peak_mib"})
    for name, value in (measures | own).items():
        assert (row[name] != row[name]) if value is None else row[name] == value, name
    assert set(row) == {"run_id", "network", "ended_at", *measures, *own}
    assert isinstance(event, EpochEnded)


def test_the_owner_of_a_run_is_a_column(home: Home) -> None:
    own, nobodys = RunDir.create(home, RunSpec(), owner="ada"), RunDir.create(home, RunSpec(seed=1))
    with Store.open(home) as store:
        store.take_in()
        frame = queries.runs(store).set_index("run_id")
        assert frame.loc[own.run_id, "owner"] == "ada" and frame["owner"].isna()[nobodys.run_id]
