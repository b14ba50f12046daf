"""The tables that can be replicated: Chen et al. 2024 (the library's own paper) and the benchmark of CRD.

Reads / writes: nothing. Never: the printed numbers (``store/published.csv`` holds them), results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdengine.errors import UnknownKey, unknown
from kdengine.replications import FEW_DEEP, Claim, Column, Params, Place, Replication, Row

CHEN = "Chen et al. 2024"
CHEN_URL = "https://doi.org/10.30564/jcsr.v6i4.7344"
ZOO = "Knowledge-Distillation-Zoo"
ZOO_URL = "https://github.com/AberHu/Knowledge-Distillation-Zoo"
REP = "RepDistiller"
REP_URL = "https://github.com/HobbitLong/RepDistiller"
SMALLER = {"resnet110": "resnet20", "resnet20": "resnet8"}
CIFAR = (Column("cifar10", "CIFAR-10", "cifar10"), Column("cifar100", "CIFAR-100", "cifar100"))
TAUGHT_CIFAR = tuple(Column(c.key, c.title, c.dataset, "resnet110", "resnet20") for c in CIFAR)
SHORT: Params = {"paraphraser_epochs": 3}
# knobs of the library behind the paper; what is not named has the same default there and here
FT = Row(
    "ft", "Factor transfer (FT)", "ft", params={"beta": 200.0}, on={"cifar10": {"batchnorm": True}},
    quick={**SHORT, "beta": 500.0},
)  # fmt: skip
ZOO_ROWS = (
    Row("kd", "Soft targets (KD)", "kd", params={"lambda_ce": 1.0, "lambda_kd": 0.1}),
    FT,
    Row("dml", "Mutual learning (DML)", "dml", "student"),
    Row("crd", "Contrast (CRD)", "crd", params={"nce_t": 0.1}, on={"cifar10": {"beta": 0.2}, "cifar100": {"beta": 0.8}}),
    Row("bss", "Boundary samples (BSS)", "bss", params={"form": "zoo"}),
)
BAN = Row("ban", "Born-again (BAN)", "ban", "student")
TAUGHT = ("kd", "ft", "dml", "crd", "bss")


def _each(rows: Iterable[str], other: str) -> tuple[tuple[Place, Place], ...]:
    return tuple(((row, "student"), (other, "student")) for row in rows)


FIG7 = Replication(
    key="fig7", title="Ten-epoch race (figure 7)", source=CHEN, where="figure 7", url=CHEN_URL, recipe="paper", epochs=10,
    smaller=SMALLER, images=600, teacher_images=600,  # who sees less than the teacher cannot reach it
    shows="How close students come to their teacher within ten epochs, with each way of teaching.",
    columns=TAUGHT_CIFAR[:1],
    rows=(
        Row("teacher", "The teacher", "base", "teacher"),
        Row("base", "Labels alone", "base", "student"),
        *ZOO_ROWS,
        BAN,
    ),
    claims=(
        Claim("After ten epochs every student has reached the accuracy of the teacher.",
              _each((*TAUGHT, "ban"), "teacher"), "reaches"),
        Claim("Students of BSS, FT and KD are even better than the teacher.", _each(("bss", "ft", "kd"), "teacher")),
    ),
    notes=(
        "The figure is an animation and prints no numbers; these are the two things that the text says of it.",
        "What the paper calls BSS is born-again training in its words and boundary samples in its code: both are here.",
        "The paper does not say how long its teacher was trained; here it has all epochs of the recipe.",
    ),
)  # fmt: skip

BOTH = ("student", "peer1")
FIG8 = Replication(
    key="fig8", title="Learning from one another (figure 8)", source=CHEN, where="figure 8", page="figure 8", url=CHEN_URL,
    recipe="paper",
    shows="Whether two networks that learn from one another do better than each alone, and what depth adds.",
    columns=CIFAR, smaller=SMALLER,
    rows=(
        Row("alone20", "resnet20 alone", "base", "student", student="resnet20"),
        Row("alone110", "resnet110 alone", "base", "student", student="resnet110"),
        Row("20+20", "20 and 20", "dml", "student", student="resnet20", peers=("resnet20",), networks=BOTH),
        Row("110+20", "110 and 20", "dml", "student", student="resnet110", peers=("resnet20",), networks=BOTH),
        Row("110+110", "110 and 110", "dml", "student", student="resnet110", peers=("resnet110",), networks=BOTH),
    ),
    claims=(
        Claim(
            "Two networks that learn from one another are both better than each alone.",
            (
                (("20+20", "student"), ("alone20", "student")), (("20+20", "peer1"), ("alone20", "student")),
                (("110+20", "student"), ("alone110", "student")), (("110+20", "peer1"), ("alone20", "student")),
                (("110+110", "student"), ("alone110", "student")), (("110+110", "peer1"), ("alone110", "student")),
            ),
        ),
        Claim(
            "Deeper pairs are better: 110 and 110 above 110 and 20 above 20 and 20.",
            (
                (("110+110", "student"), ("110+20", "student")),
                (("110+20", "student"), ("20+20", "student")),
            ),
        ),
    ),
    notes=("All its numbers are also those of Knowledge-Distillation-Zoo's table.",),
)  # fmt: skip

NETWORKS = Replication(
    key="networks", title="Impact of networks", source=CHEN, where="section 3, impact of networks", url=CHEN_URL,
    page="section 3, Impact of Networks", recipe="paper", columns=CIFAR[:1], smaller=SMALLER,
    shows="What the depth of teacher and student does to factor transfer.",
    rows=tuple(
        Row(f"{t}-{s}", f"resnet{t} → resnet{s}", "ft", student=f"resnet{s}", teacher=f"resnet{t}",
            params=FT.params, on=FT.on, quick=FT.quick)
        for t, s in ((110, 110), (110, 20), (20, 20))
    ),
    claims=(
        Claim("The deeper, the better: 110 → 110 above 110 → 20 above 20 → 20.",
              ((("110-110", "student"), ("110-20", "student")), (("110-20", "student"), ("20-20", "student")))),
    ),
    notes=(
        "The numbers are shown as the paper prints them. Knowledge-Distillation-Zoo has 94.30 for 110 → 110 and 92.98 for "
        "20 → 20: the two seem to have changed places; the other way round the sentence and its numbers agree.",
    ),
)  # fmt: skip

DATASETS = Replication(
    key="datasets", title="Influence of datasets", source=ZOO, where="README, results", page="README, Results", url=ZOO_URL,
    recipe="paper",
    shows="How much harder a hundred classes are than ten, for five ways of teaching.",
    columns=TAUGHT_CIFAR, rows=ZOO_ROWS, smaller=SMALLER,
    claims=(
        Claim("All five are less accurate where there are more classes.", _each(TAUGHT, "*"), across=True),
        Claim("DML is better than the other four.", tuple((("dml", "student"), (m, "student")) for m in TAUGHT if m != "dml")),
    ),
    notes=("The claims are those of Chen et al. 2024, section 3, which prints no table; the numbers are those of the library "
           "that its code follows.",),
)  # fmt: skip

SAME_KIND = (("wrn_40_2", "wrn_16_2"), ("wrn_40_2", "wrn_40_1"), ("resnet56", "resnet20"), ("resnet110", "resnet20"),
             ("resnet110", "resnet32"), ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"))  # fmt: skip
OTHER_KIND = (("vgg13", "mobilenetv2"), ("resnet50", "mobilenetv2"), ("resnet50", "vgg8"), ("resnet32x4", "shufflenetv1"),
              ("resnet32x4", "shufflenetv2"), ("wrn_40_2", "shufflenetv1"))  # fmt: skip
LOWER_RATE = ("mobilenetv2", "shufflenetv1", "shufflenetv2")  # trained with learning rate 0.01 there
REP_METHODS: tuple[Row, ...] = (
    Row("kd", "KD", "kd"),
    Row("fitnet", "FitNet", "fitnet", params={"form": "joint"}),
    Row("at", "AT", "at"),
    Row("sp", "SP", "sp"),
    Row("cc", "CC", "cc", params={"form": "adjacent"}),
    Row("vid", "VID", "vid"),
    Row("rkd", "RKD", "rkd"),
    Row("pkt", "PKT", "pkt"),
    Row("ab", "AB", "ab", quick={"init_epochs": 3}),
    Row("ft", "FT", "ft", params={"form": "attention"}, quick=SHORT),
    Row("fsp", "FSP", "fsp", params={"init_epochs": 30}, quick={"init_epochs": 3},
        only=tuple(f"{t}-{s}" for t, s in SAME_KIND if s != "wrn_40_1")),
    Row("nst", "NST", "nst"),
    Row("crd", "CRD", "crd"),
)  # fmt: skip


def _crd_table(key: str, title: str, page: str, pairs: Sequence[tuple[str, str]], first: str, shows: str) -> Replication:
    columns = tuple(Column(f"{t}-{s}", f"{t} → {s}", "cifar100", t, s, {"lr": 0.01} if s in LOWER_RATE else {}) for t, s in pairs)
    kept = {column.key for column in columns}
    taught = tuple(row for row in REP_METHODS if not row.only or kept & set(row.only))
    others = [row.key for row in taught if row.key != "crd"]
    return Replication(
        key=key, title=title, source=REP, where=page, page=page, url=REP_URL, recipe="crd", shows=shows,
        columns=columns, first=(first,), images=FEW_DEEP,
        rows=(Row("teacher", "The teacher", "base", "teacher"), Row("base", "Labels alone", "base", "student"), *taught),
        claims=(
            Claim("CRD is the best of all methods, on every pair.", tuple((("crd", "student"), (m, "student")) for m in others)),
            Claim("Soft targets (KD) are better than nearly all methods that came between it and CRD.",
                  tuple((("kd", "student"), (m, "student")) for m in others if m != "kd")),
        ),
        notes=("FitNet, CC and FT have that code's losses (form joint, adjacent, attention), not those of their papers.",),
    )  # fmt: skip


CRD = _crd_table(
    "crd", "CRD table: networks of one kind", "README, table 1", SAME_KIND, "resnet56-resnet20",
    "Which of thirteen ways of teaching helps most when teacher and student are networks of one kind.",
)  # fmt: skip
CRD_OTHER = _crd_table(
    "crd-other", "CRD table: networks of different kinds", "README, table 2", OTHER_KIND, "vgg13-mobilenetv2",
    "Which of twelve ways of teaching helps most when teacher and student are networks of different kinds.",
)  # fmt: skip

TABLES: dict[str, Replication] = {table.key: table for table in (FIG8, FIG7, NETWORKS, DATASETS, CRD, CRD_OTHER)}


def find(key: str) -> Replication:
    """Return the table called ``key``.

    Raises:
        UnknownKey: there is none of that name; the nearest one is suggested.
    """
    if key not in TABLES:
        raise UnknownKey(unknown("table", key, list(TABLES)))
    return TABLES[key]
