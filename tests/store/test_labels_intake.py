"""Tags and notes given after the launch reach the tables: of settled runs too, through a restart and a rebuild."""

from __future__ import annotations

import os
import time

import pytest

from kdengine import labels
from kdengine.home import Home
from kdengine.rundir import RunDir
from store import queries
from store.db import Store
from store.ingest import SETTLED_NS
from store.rebuild import rebuild
from tests.store.conftest import MakeRun


@pytest.fixture
def run(make_run: MakeRun) -> RunDir:
    return make_run(method="kd", teacher="resnet20", tags=("launched",), note="before")


def said(store: Store, run: RunDir) -> tuple[list[str], str]:
    """Tags and note as the store has them after taking in."""
    store.take_in()
    row = queries.run(store, run.run_id).iloc[0]
    return list(row.tags), row.note


def everything_else(store: Store) -> str:
    found = store.frame("SELECT * EXCLUDE (tags, note) FROM runs ORDER BY run_id").to_json(date_format="iso")
    return found + store.frame("SELECT * FROM epochs ORDER BY ALL").to_json(date_format="iso")


def settle(run: RunDir, ago_ns: int = 3 * SETTLED_NS) -> None:
    """Let the folder look as if nothing had happened in it for long."""
    long_ago = time.time_ns() - ago_ns
    for path in (run.events_jsonl, run.path):
        os.utime(path, ns=(long_ago, long_ago))


def test_labels_of_a_settled_run_are_taken_in(home: Home, run: RunDir) -> None:
    settle(run)
    with Store.open(home) as store:
        assert said(store, run) == (["launched"], "before")
        before, version = everything_else(store), store.take_in()
        labels.write(run, tags=["a", "b"], note="after")
        assert said(store, run) == (["a", "b"], "after")
        assert everything_else(store) == before and store.data_version == version + 1
        labels.write(run, tags=["a", "c"])  # as many bytes, in the same instant
        assert said(store, run)[0] == ["a", "c"]
        assert list(queries.runs(store, tag="c").run_id) == [run.run_id] and not len(queries.runs(store, tag="launched"))
        assert queries.choices(store)["tag"] == ["a", "c"]
        assert store.take_in() == store.data_version, "nothing new, nothing written"


def test_a_run_from_the_future_is_not_read_again_and_again(home: Home, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock was set back: what was written before lies in the future, and changes still show."""
    settle(run, -86_400 * SETTLED_NS)
    with Store.open(home) as store:
        store.take_in()
        with monkeypatch.context() as still:
            still.setattr(RunDir, "read_request", lambda *_: pytest.fail("it was read again"))
            store.take_in()
        labels.write(run, tags=["now"])
        assert said(store, run)[0] == ["now"]


def test_labels_given_while_nobody_takes_in(home: Home, run: RunDir) -> None:
    with Store.open(home) as store:
        said(store, run)
    labels.write(run, tags=[], note="between two starts")
    with Store.open(home) as store:
        assert said(store, run) == ([], "between two starts")
        version = store.data_version
    with Store.open(home) as store:
        assert store.take_in() == version, "a start alone changes nothing"


def test_a_rebuild_keeps_labels(home: Home, run: RunDir) -> None:
    labels.write(run, tags=["kept"], note="of the folder, not of the database")
    for path in home.root.glob("*.duckdb*"):
        path.unlink()
    rebuild(home)
    with Store.open(home) as store:
        assert said(store, run) == (["kept"], "of the folder, not of the database")


def test_the_same_setting_whatever_it_is_called(home: Home, run: RunDir, make_run: MakeRun) -> None:
    other = make_run(method="kd", teacher="resnet20", seed=1)
    labels.write(other, tags=["other"], note="another")
    with Store.open(home) as store:
        store.take_in()
        assert store.frame("SELECT count(DISTINCT setting) AS n FROM runs").n[0] == 1


def test_a_broken_file_leaves_the_run_as_it_was_launched(home: Home, run: RunDir) -> None:
    def faults() -> list[str]:
        return list(store.frame("SELECT line FROM intake.rejects").line)

    with Store.open(home) as store:
        (run.path / "labels.json").write_text("{")
        assert said(store, run) == (["launched"], "before") and faults() == ["labels.json"]
        assert store.take_in() == store.data_version
        labels.write(run, tags=["launched"], note="before")  # sound again, with the same words
        assert said(store, run) == (["launched"], "before") and faults() == []


def test_a_run_under_way_can_be_labelled(home: Home, make_run: MakeRun) -> None:
    run = make_run(done=1, end=None)
    with Store.open(home) as store:
        assert said(store, run) == ([], "")
        labels.retag(run, add=["watch"])
        assert said(store, run) == (["watch"], "")
        assert queries.run(store, run.run_id).epoch[0] == 1
