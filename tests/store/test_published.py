"""Results from the literature: every row holds, none misleads, and known cells have the value that their source prints."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kdengine.home import Home
from kdengine.spec import RECIPES
from store import published, queries
from store.columns import COLUMNS
from store.db import Store

Row = dict[str, Any]
METHODS = Path(published.__file__).parents[1] / "kdengine/methods"
PER_SOURCE = {
    "Chen et al. 2024": 19,
    "cls_KD": 4,
    "DIST_KD": 25,
    "He et al. 2016, quoted by pytorch_resnet_cifar10": 5,
    "Knowledge-Distillation-Zoo": 136,
    "logit-standardization-KD": 112,
    "mdistiller": 40,
    "overhaul-distillation": 12,
    "PS-KD-Pytorch": 25,
    "pytorch_resnet_cifar10": 5,
    "RepDistiller": 177,
    "SimKD": 37,
    "SSKD": 134,
    "torchdistill": 22,
}
# methods of the literature that are not built here (yet)
OTHER_METHODS = {
    "cse_l2", "cskd", "ctkd", "ctkd+ls", "dist", "dkd", "dkd+ls", "kd+dot", "label_smoothing", "lskd", "mlkd", "mlkd+ls",
    "nkd", "pad_l2", "pskd", "semckd", "simkd", "srrl", "sskd", "tfkd",
}  # fmt: skip
# networks of other codes; what begins with the name of a code and a colon is never one of ours either
OTHER_NETWORKS = {
    "densenet121", "densenet_bc_100_12", "mobilenetv1", "preact_resnet18", "preact_resnet101", "pyramidnet110", "pyramidnet200",
    "resnext29", "shufflenetv2_x1_5", "wrn_16_4", "wrn_16_8", "wrn_28_2", "wrn_28_4", "wrn_28_10", "wrn_40_4",
}  # fmt: skip
FOREIGN = re.compile(r"^(torchvision|mmcls|mdistiller):\w+$|^resnet\d+:pad$")
ZOO, PAPER, REP = "Knowledge-Distillation-Zoo", "Chen et al. 2024", "RepDistiller"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return published.read()


def one(rows: list[Row], **wanted: Any) -> Row:
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


def test_every_row_holds(rows: list[Row]) -> None:
    for row in rows:
        assert set(row) == set(COLUMNS["published"]), row
        assert all(row[name] for name in ("method", "dataset", "student", "source", "page")), row
        assert row["url"].startswith("https://") and row["dataset"] in {"cifar10", "cifar100", "tiny_imagenet", "imagenet"}, row
        assert 0.5 < row["top1_frac"] < 1 and row["which"] in {None, "best", "last"}, row
        assert row["top1_std_frac"] is None or 0 < row["top1_std_frac"] < 0.01, row
        assert not (row["teacher"] and row["peers"]) and (row["method"] == "dml") == bool(row["peers"]), row
        if row["recipe"] in RECIPES:
            assert row["epochs"] == RECIPES[row["recipe"]].epochs and row["batch_size"] == RECIPES[row["recipe"]].batch_size, row


def test_rows_are_counted_and_sorted_by_source(rows: list[Row]) -> None:
    assert Counter(row["source"] for row in rows) == PER_SOURCE
    order = [row["source"].casefold() for row in rows]
    assert order == sorted(order)


def test_nothing_stands_twice(rows: list[Row]) -> None:
    what = ("source", "page", "method", "dataset", "student", "teacher", "peers", "note")
    assert [key for key, n in Counter(tuple(row[name] for name in what) for row in rows).items() if n > 1] == []
    with published.FILE.open(encoding="utf-8") as text:
        assert not any(value != value.strip() for line in csv.reader(text) for value in line)


def test_keys_are_ours_or_known_to_be_others(rows: list[Row]) -> None:
    from kdengine import models  # here, because it loads torch and the other tests need none

    ours = {path.stem for path in METHODS.glob("[a-z]*.py")} - {"contract"}
    assert {row["method"] for row in rows} <= ours | OTHER_METHODS and not ours & OTHER_METHODS
    networks = {row[side] for row in rows for side in ("student", "teacher", "peers")} - {None}
    assert sorted(n for n in networks if n not in set(models.cards()) | OTHER_NETWORKS and not FOREIGN.match(n)) == []
    assert not OTHER_NETWORKS & set(models.cards())


@pytest.mark.parametrize(
    ("source", "method", "dataset", "student", "teacher", "top1_frac"),
    [
        (ZOO, "ofd", "cifar100", "resnet110", "resnet110", 0.7411),
        (ZOO, "kd", "cifar10", "resnet20", "resnet110", 0.9282),
        (ZOO, "ft", "cifar10", "resnet110", "resnet110", 0.9430),
        (ZOO, "afds", "cifar100", "resnet20", "resnet20", 0.6963),
        (REP, "crd", "cifar100", "resnet20", "resnet110", 0.7146),
        (REP, "kd", "cifar100", "vgg8", "resnet50", 0.7381),
        (REP, "base", "cifar100", "resnet32x4", None, 0.7942),
        ("logit-standardization-KD", "lskd", "cifar100", "resnet8x4", "resnet32x4", 0.7662),
        ("logit-standardization-KD", "ctkd", "cifar100", "resnet20", "resnet56", 0.7119),
        ("SSKD", "sskd", "cifar100", "mobilenetv2", "resnet50", 0.7257),
        ("SimKD", "semckd", "cifar100", "shufflenetv2_x1_5", "resnet32x4", 0.7913),
        ("PS-KD-Pytorch", "pskd", "cifar100", "pyramidnet200", None, 0.8451),
        ("overhaul-distillation", "ofd", "cifar100", "wrn_16_2", "wrn_28_4", 0.7592),
        ("torchdistill", "ft", "imagenet", "torchvision:resnet18", "torchvision:resnet34", 0.7156),
        ("cls_KD", "nkd", "imagenet", "mmcls:resnet18", "mmcls:resnet34", 0.7196),
        ("pytorch_resnet_cifar10", "base", "cifar10", "resnet20:pad", None, 0.9173),
        ("mdistiller", "kd+dot", "tiny_imagenet", "mdistiller:mobilenetv2", "mdistiller:resnet18", 0.6401),
    ],
)
def test_known_cells(
    rows: list[Row], source: str, method: str, dataset: str, student: str, teacher: str, top1_frac: float
) -> None:
    found = one(rows, source=source, method=method, dataset=dataset, student=student, teacher=teacher)
    assert found["top1_frac"] == top1_frac


def test_mean_and_spread(rows: list[Row]) -> None:
    found = one(rows, source="DIST_KD", method="dist", student="mobilenetv2")
    assert (found["top1_frac"], found["top1_std_frac"]) == (0.6866, 0.0023)


def test_the_papers_sentence_on_factor_transfer_stands_as_printed(rows: list[Row]) -> None:
    for student, teacher, printed, zoo in (
        ("resnet110", "resnet110", 0.9298, 0.9430),
        ("resnet20", "resnet110", 0.9301, 0.9301),
        ("resnet20", "resnet20", 0.9430, 0.9298),
    ):
        pair = {"method": "ft", "dataset": "cifar10", "student": student, "teacher": teacher}
        found = one(rows, source=PAPER, **pair)
        assert found["top1_frac"] == printed and one(rows, source=ZOO, **pair)["top1_frac"] == zoo
        assert "as printed" in found["note"] and ZOO in found["note"]
        assert ("changed places" in found["note"]) == (printed != zoo)


def test_both_networks_of_mutual_learning(rows: list[Row]) -> None:
    for source in (PAPER, ZOO):
        found = [row for row in rows if row["source"] == source and row["method"] == "dml" and row["dataset"] == "cifar100"]
        assert [(r["student"], r["peers"], r["top1_frac"], r["note"].split(" ")[0]) for r in found] == [
            ("resnet20", "resnet20", 0.7039, "first"), ("resnet20", "resnet20", 0.7022, "second"),
            ("resnet110", "resnet20", 0.7453, "first"), ("resnet20", "resnet110", 0.7029, "second"),
            ("resnet110", "resnet110", 0.7472, "first"), ("resnet110", "resnet110", 0.7555, "second"),
        ]  # fmt: skip


def test_notes_warn_where_a_comparison_would_mislead(rows: list[Row]) -> None:
    wrong = [r for r in rows if r["source"] == "mdistiller" and r["note"] and "heads this column" in r["note"]]
    assert {(r["student"], r["teacher"], r["top1_frac"]) for r in wrong} == {
        ("shufflenetv2", "resnet32x4", 0.7445), ("shufflenetv2", "resnet32x4", 0.7707),
    }  # fmt: skip
    for source, own in (("SimKD", {"base", "kd", "simkd"}), ("SSKD", {"base", "kd", "sskd"})):
        rivals = [r for r in rows if r["source"] == source and r["method"] not in own]
        assert rivals and all("combined with KD" in r["note"] for r in rivals)
    assert all("error" in r["note"] for r in rows if r["source"] in {"PS-KD-Pytorch", "overhaul-distillation"})
    quoted = one(rows, source="mdistiller", method="kd", student="resnet20")
    assert quoted["note"] == "the same number as in RepDistiller" and quoted["seeds"] is None


def test_the_table_has_what_the_file_has(home: Home, rows: list[Row]) -> None:
    with Store.open(home) as store:
        found = queries.published(store)
        assert len(found) == len(rows) == sum(PER_SOURCE.values())
        kd = found[
            (found.method == "kd") & (found.student == "resnet20") & (found.source == ZOO) & (found.teacher == "resnet110")
        ]
        assert dict(zip(kd.dataset, kd.top1_frac, strict=True)) == {"cifar10": 0.9282, "cifar100": 0.7006}
        assert found.top1_std_frac.notna().sum() == 6
