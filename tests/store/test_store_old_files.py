"""Databases of every released schema open, migrate, and take in what is new. Never: a migration that was edited later."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import duckdb
import pytest

from kdengine.errors import KdError
from kdengine.home import Home
from kdengine.rundir import run_dirs
from store import queries, schema
from store.db import Store
from tests.store.killing import epoch

OLD = Path(__file__).parents[1] / "old"
FILES = sorted(OLD.glob("results-schema*.duckdb.gz"))


@pytest.fixture
def old_home(home: Home, request: pytest.FixtureRequest) -> Home:
    """A home as an earlier release left it: its database and its run folder."""
    home.results.write_bytes(gzip.decompress(request.param.read_bytes()))
    shutil.copytree(OLD / "runs", home.runs, dirs_exist_ok=True)
    return home


def test_there_is_a_file_of_every_schema() -> None:
    assert [int(path.name.removeprefix("results-schema").split(".")[0]) for path in FILES] == list(
        range(1, len(schema.MIGRATIONS) + 1)
    )


@pytest.mark.parametrize("old_home", FILES, indirect=True, ids=lambda path: path.name)
def test_an_old_file_opens_and_goes_on(old_home: Home) -> None:
    with Store.open(old_home) as store:
        kept = store.frame("SELECT run_id, status, epoch FROM runs")
        assert len(kept) == 1 and kept.epoch[0] == 2
        assert store.frame("SELECT value FROM intake.state WHERE key = 'schema'").value[0] == str(len(schema.MIGRATIONS))
        run_dirs(old_home)[0].append_event(epoch(3))
        store.take_in()
        assert list(queries.epochs(store, kept.run_id[0]).epoch) == [1, 2, 3]
        assert len(queries.terms(store, kept.run_id[0])) == 6
        assert queries.runs(store).owner.isna().all()


def test_old_run_folders_alone_are_enough(home: Home) -> None:
    shutil.copytree(OLD / "runs", home.runs, dirs_exist_ok=True)
    with Store.open(home) as store:
        store.take_in()
        assert list(queries.runs(store).epoch) == [2]


def test_a_file_of_a_newer_release_is_refused_with_advice(home: Home) -> None:
    Store.open(home).close()
    with duckdb.connect(str(home.results)) as con:
        con.execute("UPDATE intake.state SET value = '99' WHERE key = 'schema'")
    with pytest.raises(KdError, match="rebuild"):
        Store.open(home)


def test_migrations_are_all_or_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(con: duckdb.DuckDBPyConnection) -> None:
        con.execute("CREATE TABLE half (x INTEGER)")
        con.execute("SELECT * FROM nowhere")

    with duckdb.connect() as con:
        schema.migrate(con)
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, half))
        with pytest.raises(duckdb.CatalogException):
            schema.migrate(con)
        assert schema.version_of(con) == len(schema.MIGRATIONS) - 1
        assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'").fetchall() == [(0,)]
