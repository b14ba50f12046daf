"""Tables of the literature as suites: every cell is a training that the checks let pass, and the printed protocol is kept."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdengine import check, datasets, replications, runner
from kdengine.cli import app
from kdengine.errors import UnknownKey
from kdengine.home import Home
from kdengine.literature import CRD, CRD_OTHER, DATASETS, FIG7, FIG8, NETWORKS, TABLES
from kdengine.replications import Scale
from kdengine.rundir import run_dirs
from kdengine.spec import RECIPES

PUBLISHED = Path(__file__).resolve().parents[2] / "store/published.csv"


@pytest.mark.parametrize("recipe", replications.SCALES)
@pytest.mark.parametrize("key", TABLES)
def test_every_cell_can_be_trained(home: Home, key: str, recipe: str) -> None:
    table, scale = TABLES[key], Scale(recipe, seeds=1)
    light = replications.trials(table, scale, home)
    found = replications.complete(light)
    assert [problem for trial in found for problem in check.check(trial.spec, home)] == []
    alone = [t.spec.but(params={}, peers=(), generation=0, teacher=None) for t in found]
    assert alone == [t.spec.but(params={}, peers=(), generation=0, teacher=None) for t in light], "only knobs are filled in"
    assert {t.spec.suite for t in found} == {replications.suite_of(table, scale)}
    assert {t.spec.recipe.removesuffix("+") for t in found} == {recipe}


def test_rows_and_claims_fit_together() -> None:
    for key, table in TABLES.items():
        places = {(row.key, network) for row in table.rows for network in row.networks}
        assert table.key == key and len(table.rows) == len({row.key for row in table.rows})
        assert set(table.first) <= {c.key for c in table.columns} and table.recipe in RECIPES
        for claim in table.claims:
            named = {place for pair in claim.pairs for place in pair if place[0] != "*"}
            assert claim.pairs and named <= places, (key, claim.text)


def test_quick_needs_no_download_and_small_networks_stand_for_large_ones(home: Home) -> None:
    found = replications.trials(FIG8, Scale(), home)
    assert {t.column for t in found} == {"digits"} and {t.spec.train_images for t in found} == {replications.FEW}
    assert len(found) == 3 * 5 and [t.seed for t in found] == sorted(t.seed for t in found)
    assert {(t.spec.student, t.spec.peers) for t in found} == {
        ("resnet8", ()), ("resnet20", ()), ("resnet8", ("resnet8",)), ("resnet20", ("resnet8",)), ("resnet20", ("resnet20",)),
    }  # fmt: skip
    printed = replications.trials(FIG8, Scale(printed_networks=True), home)
    assert {t.spec.student for t in printed} == {"resnet20", "resnet110"}
    assert {t.spec.train_images for t in printed} == {replications.FEW_DEEP}
    assert replications.suite_of(FIG8, Scale()) == "fig8-quick" != replications.suite_of(FIG8, Scale(printed_networks=True))
    assert replications.suite_of(FIG8, Scale(data=("a", "b"))) == "fig8-quick-a-b"
    with pytest.raises(UnknownKey, match="digit"):
        replications.trials(FIG8, Scale(data=("digit",)), home)


def test_the_printed_protocol_is_kept(home: Home) -> None:
    found = replications.trials(FIG8, Scale("paper", seeds=1), home)
    assert {(t.column, t.spec.dataset) for t in found} == {("cifar10", "cifar10"), ("cifar100", "cifar100")}
    assert {(t.spec.epochs, t.spec.batch_size, t.spec.train_images) for t in found} == {(200, 128, None)}
    race = {t.row: t.spec for t in replications.trials(FIG7, Scale("paper", seeds=2), home) if t.seed == 0}
    assert race["kd"].epochs == 10 and race["teacher"].epochs == 200 and race["teacher"].student == "resnet110"
    taught = replications.complete(replications.trials(FIG7, Scale("paper", seeds=1), home))
    assert replications.teachers(taught) == [], "the teacher stands in the table; born-again students begin as labels alone"
    ft = [t.spec for t in replications.trials(DATASETS, Scale("paper", seeds=1), home) if t.row == "ft"]
    assert [(s.dataset, s.params.get("batchnorm")) for s in ft] == [("cifar10", True), ("cifar100", None)]


def test_a_lower_rate_is_the_students_alone(home: Home) -> None:
    column = ("vgg13-mobilenetv2",)
    found = {t.row: t.spec for t in replications.trials(CRD_OTHER, Scale("crd", 1, columns=column), home)}
    assert found["kd"].lr == found["base"].lr == 0.01 and found["teacher"].lr == RECIPES["crd"].lr
    taught = found["kd"].teacher_spec()
    assert taught is not None and taught.identity() == found["teacher"].identity()


def test_teachers_that_no_row_shows_are_named(home: Home) -> None:
    found = replications.complete(replications.trials(NETWORKS, Scale("paper", seeds=2), home))
    assert {(t.row, t.seed, t.spec.student) for t in replications.teachers(found)} == {("", 0, "resnet20"), ("", 0, "resnet110")}


def test_every_printed_number_of_the_benchmark_has_a_cell(home: Home) -> None:
    """And every cell a printed number: the grid is the table's."""
    lines = PUBLISHED.read_text(encoding="utf-8").splitlines()
    rows = [row for row in csv.DictReader(lines) if row["source"] == CRD.source]
    for table in (CRD, CRD_OTHER):
        printed = Counter((r["method"], r["student"], r["teacher"]) for r in rows if r["page"] == table.page and r["teacher"])
        cells = [t.spec for t in replications.trials(table, Scale("crd", 1), home) if t.row not in ("teacher", "base")]
        assert printed == Counter((s.method, s.student, s.teacher) for s in cells)


def test_racers_see_what_their_teacher_sees(home: Home) -> None:
    assert len({t.spec.train_images for t in replications.trials(FIG7, Scale(), home)}) == 1


def test_a_table_can_be_queued_from_the_command_line(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "tick", lambda home: [])
    said = CliRunner().invoke(app, ["replicate", "fig8", "--seeds", "1", "--no-follow", "--json"])
    assert said.exit_code == 0, said.output
    assert {row["spec"]["suite"] for row in json.loads(said.stdout)} == {"fig8-quick"} and len(run_dirs(home)) == 5
    again = CliRunner().invoke(app, ["replicate", "fig8", "--seeds", "1", "--no-follow", "--json"])
    assert again.exit_code == 0 and len(run_dirs(home)) == 5, "nothing is trained twice"
    for words in (["fig9"], ["fig8", "--scale", "fast"], ["crd", "--column", "resnet56-resnet8"]):
        assert CliRunner().invoke(app, ["replicate", *words]).exit_code == 2


def test_stand_ins_are_here_already(home: Home) -> None:
    assert datasets.is_here(home, replications.STAND_IN)
