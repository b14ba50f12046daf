"""The rules that keep the rooms apart, read from the sources; each exception stands here with its reason.

Reads: every source file of the repository. Writes: nothing.
"""

from __future__ import annotations

import ast
import os
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIGHT = {
    "kdengine", "kdengine.errors", "kdengine.home", "kdengine.spec", "kdengine.events", "kdengine.eventlog", "kdengine.rundir",
    "kdengine.status", "kdengine.slots", "kdengine.runner", "kdengine.suites", "kdengine.datasets", "kdengine.datasets_inspect",
    "kdengine.catalogue", "kdengine.terminal", "kdengine.cli", "kdengine.cli_frame", "kdengine.cli_catalogue",
    "kdengine.errands", "kdengine.__main__", "kdengine.torch_pair", "kdengine.serve", "kdengine.startup",
    "kdengine.doctor", "kdengine.doctor_facts", "kdengine.cli_doctor", "kdengine.classic",
    "kdengine.classic_flags", "kdengine.pictures", "kdengine.fetching", "kdengine.labels", "kdengine.views",
    "kdengine.replications", "kdengine.literature", "kdengine.hosting", "kdengine.access", "kdengine.audit",
    "kdengine.storage", "kdengine.cli_people", "kdengine.processes", "kdengine.durable",
    "kdengine.anatomy", "kdengine.completion", "kdengine.sizes",
    "kdengine.latency",
}  # fmt: skip
LIGHT_MAY = {"pydantic", "filelock", "psutil", "pynvml", "typer", "click", "rich"}
# the command line is light to start with and loads the heavy rooms inside the commands that need them;
# datasets_inspect opens images and parquet files when a dataset is registered
LIGHT_LATE = {
    "kdengine.cli": {"kdengine.check", "kdengine.methods"},
    "kdengine.cli_catalogue": {"kdengine.methods", "kdengine.models", "kdengine.data"},
    "kdengine.classic": {"kdengine.check", "kdengine.data", "kdengine.networks", "kdengine.weights"},  # as the command line
    "kdengine.runner": {"kdengine.check"},  # only to complete the spec of a teacher that has knobs
    "kdengine.datasets_inspect": {"numpy", "pyarrow", "PIL"},
    "kdengine.pictures": {"numpy", "PIL"},  # pixels of the decoded cache
    "kdengine.sizes": {"kdengine.models"},  # of the catalogue; recorded ones need none
    "kdengine.latency": {"torch", "kdengine.devices", "kdengine.models"},  # only to measure, in a process of its own
}
PAGES_WITH_TORCH = {"pages.train"}
TORCH_ROOMS = {
    "kdengine.check",
    "kdengine.methods",
    "kdengine.models",
    "kdengine.losses",
    "kdengine.data",
    "kdengine.playground",
}
PURE_PARTS = {
    "pages.parts.charts", "pages.parts.room", "pages.parts.words", "pages.parts.tables", "pages.parts.compare.figures",
    "pages.parts.compare.pair_figures", "pages.parts.learn.pictures", "pages.parts.learn.diagram", "pages.parts.learn.figures",
    "pages.parts.sql.axes", "pages.parts.sql.values", "pages.parts.sql.figures", "pages.parts.sql.planes",
    "pages.parts.sql.links", "pages.parts.sql.mending",
}  # fmt: skip

FILE_LINES, PAGE_LINES, APP_LINES, FUNCTION_P90 = 400, 120, 60, 30
LONG_FILES: dict[str, str] = {}  # path -> why it is one piece
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
# a method's key as a string outside its file: which keys may stand where, and why
KEYS_ALLOWED: dict[str, tuple[set[str], str]] = {
    "kdengine/suites.py": ({"base", "kd", "fitnet", "ft", "dml", "ban"}, "the demo suite names its methods"),
    "kdengine/classic.py": (
        {
            "base",
            "kd",
            "ft",
            "dml",
            "crd",
            "bss",
            "logits",
            "at",
            "fitnet",
            "nst",
            "pkt",
            "fsp",
            "rkd",
            "ab",
            "sp",
            "sobolev",
            "cc",
            "lwm",
            "irg",
            "vid",
            "ofd",
            "afd",
            "afds",
        },
        "the paper's own flags name the methods",
    ),
    "kdengine/literature.py": (
        {"base", "kd", "ft", "dml", "crd", "bss", "ban", "fitnet", "at", "sp", "cc", "vid", "rkd", "pkt", "ab", "fsp", "nst"},
        "the tables of the literature name their methods",
    ),
    "kdengine/replications.py": ({"crd"}, "the recipe named after that paper"),
    "kdengine/spec.py": ({"base", "crd"}, "base: default of method and teacher_method; crd: the recipe named after that paper"),
}
# words that are keys of methods and also something else of ours
HOMONYMS: dict[str, str] = {
    "logits": "what a network says last: a tap of every network",
    "at": "the moment of an event, in the event log",
    "ab": "a way to open a file: append bytes",
}


# ---- reading the sources --------------------------------------------------------------------------------------------------


@cache
def sources() -> tuple[Path, ...]:
    """Every Python file of the rooms."""
    rooms = [p for room in ("kdengine", "store", "pages") for p in sorted((ROOT / room).rglob("*.py"))]
    return (*(p for p in [ROOT / "app.py"] if p.exists()), *rooms)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _is_typing_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _statements(body: list[ast.stmt], inside: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield every statement that runs, with whether it stands inside a function (so, runs late)."""
    for node in body:
        if _is_typing_only(node):
            continue
        yield node, inside
        late = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for block in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, block, []), late)
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body, late)


def imports(path: Path) -> Iterator[tuple[str, bool, int]]:
    """Yield (module, late, line) of each import; ``from kdengine import x`` counts as ``kdengine.x`` where x is a module."""
    for node, late in _statements(tree(path).body, False):
        if isinstance(node, ast.Import):
            yield from ((alias.name, late, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if is_module(inner) else base), late, node.lineno


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def within(module: str, rooms: set[str]) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


def breaches(path: Path) -> Iterator[str]:
    """Yield every import of ``path`` that its room may not make, in words."""
    name = name_of(path)
    for module, late, line in imports(path):
        reason = forbidden(name, module, late)
        if reason:
            yield f"{shown(path)}:{line} imports {module}: {reason}"


def forbidden(name: str, module: str, late: bool) -> str | None:
    """Return why module ``name`` may not import ``module`` (``late``: inside a function), None when it may."""
    if module.split(".")[0] == "tests" or module == "app":
        return "nobody imports the tests or app"
    if within(module, {"pages"}) and not (name == "app" or within(name, {"pages"})):
        return "only app and pages import pages"
    if within(name, {"kdengine"}):
        return _forbidden_in_engine(name, module, late)
    if within(name, {"store"}):
        if within(module, {"torch", "torchvision", "streamlit"}):
            return "the store knows neither torch nor Streamlit"
        if within(module, {"kdengine"}) and module not in LIGHT:
            return "the store imports the light contract only"
        return None
    if within(module, {"duckdb", "sqlite3", "subprocess", "multiprocessing"}):
        return "pages know neither SQL nor processes"
    if name in PURE_PARTS and within(module, {"streamlit"}):
        return "a pure part draws without Streamlit"
    warm_up = late and within(name, {"pages.parts"})
    if within(module, {"torch"} | TORCH_ROOMS) and name not in PAGES_WITH_TORCH and not warm_up:
        return "only the page that trains loads torch, and parts of pages late"
    return None


def _forbidden_in_engine(name: str, module: str, late: bool) -> str | None:
    if within(module, {"streamlit", "duckdb", "store", "plotly"}):
        return "the engine knows neither app nor store"
    if name in LIGHT:
        if late and within(module, LIGHT_LATE.get(name, set())):
            return None
        top = module.split(".")[0]
        known = module in LIGHT if top == "kdengine" else top in sys.stdlib_module_names or top in LIGHT_MAY
        return None if known else "a light module stays light"
    if name.startswith("kdengine.methods.") and name.split(".")[-1] not in {"contract", "_math", "_adapters"}:
        pieces = {"kdengine.methods._math", "kdengine.methods._adapters"}
        allowed = pieces | {"kdengine.methods.contract", "kdengine.models.contract"}
        return None if not within(module, {"kdengine"}) or module in allowed else "a method imports its contract and pieces only"
    if name.startswith("kdengine.models.") and name != "kdengine.models.contract":
        return (
            None
            if not within(module, {"kdengine"}) or module == "kdengine.models.contract"
            else "a family imports its contract only"
        )
    return None


# ---- rooms ----------------------------------------------------------------------------------------------------------------


def test_imports_go_one_way() -> None:
    assert [line for path in sources() for line in breaches(path)] == []


def test_the_rule_sees_a_breach() -> None:
    assert forbidden("kdengine.spec", "torch", False) and forbidden("kdengine.train", "store.db", True)
    assert forbidden("store.queries", "kdengine.train", False) and forbidden("pages.runs", "duckdb", True)
    assert forbidden("kdengine.methods.kd", "kdengine.methods.dkd", False) and forbidden("pages.runs", "kdengine.check", False)
    assert not forbidden("kdengine.train", "torch", False) and not forbidden("pages.train", "kdengine.check", False)


@pytest.mark.parametrize(
    "command",
    [
        ["-c", "import kdengine; from kdengine import runner, status, rundir, suites, datasets, cli, classic"],
        ["-c", "import store; from store import db, queries, sandbox"],
        ["-m", "kdengine", "--help"],
    ],
    ids=["kdengine", "store", "help"],
)
def test_light_stays_light(command: list[str]) -> None:
    """``-X importtime`` names every module that a process loads, also one that ends by itself."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        capture_output=True, text=True, timeout=50, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "pydantic" in loaded or command[0] == "-c", "the list of modules was not read"
    assert not loaded & {"torch", "torchvision", "streamlit", "sklearn"}
    if "store" not in command[-1]:
        assert not loaded & {"pandas", "duckdb"}


# ---- the one door ---------------------------------------------------------------------------------------------------------

# what changes something, by module; pages reach it through pages/parts/actions*.py alone
CHANGES = {
    "kdengine.runner": {"launch", "launch_suite", "cancel", "resume", "retry", "tick"},
    "kdengine.labels": {"write", "retag"},
    "kdengine.views": {"save", "rename", "delete"},
    "kdengine.fetching": {"start", "cancel", "Recorder"},
    "kdengine.errands": {"start", "cancel", "forget", "erase", "Recorder"},
    "kdengine.datasets": {"add"},
    "kdengine.access": {"put", "remove", "limit_all"},
    "kdengine.audit": {"note"},
    "kdengine.storage": {"remove_run"},
    "kdengine.processes": {"start"},
    "kdengine.durable": {"write_aside", "flush_folder", "for_us_alone"},
    "store.export.race.exports": {"ask", "cancel", "remove", "tick", "draw_ordered"},
    "store.nightly": {"start", "tick"},
    "store.verify": {"start", "keep"},
    "store.backup": {"make", "rotate"},
    "store.restore": {"restore"},
}
CHANGING_METHODS = {"append_event", "write_attempt", "write_resume_ask", "write_progress", "create"}  # of a run's folder
MAY_CHANGE = {
    # moves the queues on, and makes backups, for nobody
    "pages.parts.pulse": {"kdengine.runner.tick", "store.export.race.exports.tick", "store.nightly.tick"},
    "pages.parts.door": {"kdengine.audit.note"},  # notes who passed
}
DOORS = {"passed", "passed_with"}
ASKS = {"who.may", "who.demand", "access.may", "access.demand", *(f"door.{name}" for name in DOORS)}
ONLY_READS = {"pending", "only_asker", "asker_of"}  # public functions of actions that change nothing


def is_action(path: Path) -> bool:
    return shown(path).startswith("pages/parts/actions")


def named(path: Path) -> dict[str, str]:
    """Return what the names of a module stand for: ``runner`` -> ``kdengine.runner``, ``go`` -> ``kdengine.runner.launch``."""
    found = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def changes(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (what, line) of all that changes something, by its full name; ``*.create`` for a method of a run's folder."""
    known = named(path)
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        text = ast.unparse(node)
        first, dot, rest = text.partition(".")
        full = f"{known.get(first, first)}{dot}{rest}"
        module, _, name = full.rpartition(".")
        if name in CHANGES.get(module, ()):
            yield full, node.lineno
        elif isinstance(node, ast.Attribute) and node.attr in CHANGING_METHODS:
            yield f"*.{node.attr}", node.lineno
        elif text.endswith(("troubles.clear", "troubles.extend", "troubles.append")) and name_of(path) != "pages.parts.pulse":
            yield "pulse.troubles", node.lineno


def pages() -> list[Path]:
    return [path for path in sources() if shown(path).startswith("pages/") or path.name == "app.py"]


def test_pages_change_things_through_one_door() -> None:
    found = [
        f"{shown(path)}:{line} uses {what}"
        for path in pages()
        if not is_action(path)
        for what, line in changes(path)
        if what not in MAY_CHANGE.get(name_of(path), set())
    ]
    assert found == []


def test_pages_ask_who_asks_before_anything_else() -> None:
    """Streamlit may run the file of a page without app.py, which would have asked."""
    for path in (path for path in pages() if re.fullmatch(r"pages/\w+\.py", shown(path))):
        does = [node for node in tree(path).body if not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef)]
        does = [node for node in does if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
        constant = re.compile(r"[A-Z_]+(: .*)? = ")
        first = next(text for node in does if not constant.match(text := ast.unparse(node)))
        assert re.match(r"(\w+ = )?(frame\.ensure|blocks\.say)\(", first), f"{shown(path)} begins with {first[:80]}"


def test_what_changes_something_is_still_there() -> None:
    """A function that was renamed would slip past the list."""
    for module, names in CHANGES.items():
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        gone = {name for name in names if not re.search(rf"^(def|class) {name}\b", text, re.M) and f'"{name}"' not in text}
        assert not gone, (module, gone)


def test_every_action_demands_before_it_acts() -> None:
    actions = [path for path in pages() if is_action(path)]
    assert len(actions) >= 3
    for path in actions:
        changing = {line for _, line in changes(path)}
        for node in tree(path).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or node.name in ONLY_READS:
                continue
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
            doors = [call.lineno for call in calls if ast.unparse(call.func) in {f"door.{name}" for name in DOORS}]
            assert doors, f"{shown(path)}: {node.name} demands nothing"
            acts = [line for line in changing if node.lineno <= line <= (node.end_lineno or 0)]
            acts += [call.lineno for call in calls if ast.unparse(call.func) in ("_soon", "_launch", "pulse.of().ask")]
            assert all(min(doors) <= line for line in acts), f"{shown(path)}: {node.name} acts before it demands"


def test_actions_are_in_the_table() -> None:
    from kdengine.access import ACTIONS

    asked = set()
    for path in pages():
        for call in (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) in (
                "who.may",
                "who.demand",
                "door.passed",
                "door.passed_with",
                "access.may",
                "access.demand",
            ):
                asked |= {arg.value for arg in call.args if isinstance(arg, ast.Constant) and arg.value in ACTIONS}
                named_first = [arg for arg in call.args[:2] if isinstance(arg, ast.Constant)]
                assert not named_first or any(arg.value in ACTIONS for arg in named_first), ast.unparse(call)
    assert set(ACTIONS) - asked <= {"ask"}, "an action that no page asks about"


# ---- names ----------------------------------------------------------------------------------------------------------------


def method_keys() -> set[str]:
    """Keys of the methods: their file names."""
    files = (ROOT / "kdengine/methods").glob("[a-z]*.py")
    return {p.stem for p in files} - {"contract"}


def test_no_method_is_named_outside_its_file() -> None:
    found = []
    for path in sources():
        where = shown(path)
        if where.startswith("kdengine/methods/"):
            continue
        allowed = KEYS_ALLOWED.get(where, (set(), ""))[0] | set(HOMONYMS)
        keys = method_keys() - allowed
        strings = (n for n in ast.walk(tree(path)) if isinstance(n, ast.Constant) and n.value in keys)
        found += [f"{where}:{n.lineno} names {n.value!r}" for n in strings]
    assert found == []


def test_exceptions_still_have_a_use() -> None:
    """An exception whose reason has gone is removed."""
    for where, (keys, _) in KEYS_ALLOWED.items():
        text = (ROOT / where).read_text(encoding="utf-8")
        assert all(f'"{key}"' in text for key in keys), where
    for where in LONG_FILES:
        assert len((ROOT / where).read_text(encoding="utf-8").splitlines()) > FILE_LINES, where


def test_no_file_is_a_drawer_for_everything() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [p for p in tracked if FORBIDDEN_NAMES & set(Path(p).with_suffix("").parts)] == []


def test_no_path_of_a_machine() -> None:
    pattern = re.compile(r"(?<![\w.~<])/(?:home/[a-z]\w*|Users/\w+|root|work|mnt|content)/\w")
    found = []
    listed = subprocess.run(
        ["git", "grep", "-lIE", "/(home|Users|root|work|mnt|content)/"], cwd=ROOT, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        found += [f"{name}:{i}" for i, line in enumerate(lines, 1) if pattern.search(line)]
    assert found == []


# ---- sizes ----------------------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def budget(path: Path) -> int:
    where = shown(path)
    if where == "app.py":
        return APP_LINES
    return PAGE_LINES if re.fullmatch(r"pages/\w+\.py", where) else FILE_LINES


def test_files_keep_their_budget() -> None:
    long = {shown(p): lines_of(p) for p in sources() if lines_of(p) > budget(p) and shown(p) not in LONG_FILES}
    assert long == {}


@pytest.mark.parametrize("room", ["kdengine", "store", "pages"])
def test_functions_stay_short(room: str) -> None:
    paths = [p for p in sources() if shown(p).startswith(room)]
    functions = [n for p in paths for n in ast.walk(tree(p)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = [(n.end_lineno or n.lineno) - n.lineno + 1 for n in functions]
    assert statistics.quantiles(lengths, n=10)[-1] <= FUNCTION_P90


def test_ruff_holds_complexity_and_bans() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert {"C90", "TID", "F", "B"} <= set(lint["select"])
    assert lint["mccabe"]["max-complexity"] <= 10


def test_light_rooms_are_typed_strictly() -> None:
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["overrides"]
    strict = next(set(o["module"]) for o in overrides if o.get("disallow_untyped_defs"))
    assert strict == LIGHT - {"kdengine.__main__"} | {"store.*"}


# ---- documents ------------------------------------------------------------------------------------------------------------


def test_every_module_says_what_it_reads_and_writes() -> None:
    silent = []
    for path in sources():
        doc = ast.get_docstring(tree(path)) or ""
        exempt = shown(path).startswith("kdengine/methods/") and path.stem in method_keys()  # their docstring has its own form
        if lines_of(path) and not exempt and not ("Reads" in doc and re.search("writes", doc, re.I)):
            silent.append(shown(path))
    assert silent == []


def test_readme_lists_the_methods() -> None:
    from kdengine.methods import entries  # here, because it loads torch and the other tests need none

    cards = sorted((entry.card for entry in entries().values()), key=lambda card: (card.year, card.key))
    expected = [f"| `{card.key}` | {card.title} | {card.family} | {card.year} |" for card in cards]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("<!-- methods") : text.index("<!-- end of methods -->")].splitlines()
    assert [line for line in table if line.startswith("| `")] == expected, "put these lines into README.md:\n" + "\n".join(
        expected
    )


def test_readme_opens_with_picture_and_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.startswith("![") and "(docs/app.png)" in text.splitlines()[0]
    first = [text.index(part) for part in ("docs/app.png", "make demo", "make test", "RunSpec -> check", "To add one")]
    assert first == sorted(first)


def test_links_of_the_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]
    links = [(path, link) for path in documents for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))]
    assert [f"{shown(p)}: {link}" for p, link in links if "://" not in link and not (p.parent / link).exists()] == []


def test_makefile_offers_what_is_promised() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("setup", "demo", "app", "show", "check", "test", "bench", "clean"):
        assert re.search(rf"^{target}:.*##", text, re.M), target
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_requirements_all_have_a_reason() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-demo.txt"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        wanted = [line for line in lines if line and not line.startswith(("#", "-r"))]
        assert all(re.match(r"[\w-]+[<>=,.\d]+ +# \w", line) for line in wanted), name


def test_the_demo_needs_nothing_else_than_the_app() -> None:
    """A line of requirements-demo.txt asks for the same versions as requirements.txt, and none of them is what trains."""

    def asked(name: str) -> set[str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return {line.split()[0] for line in lines if line and not line.startswith(("#", "-r"))}

    assert asked("requirements-demo.txt") <= asked("requirements.txt")
    assert not [line for line in asked("requirements-demo.txt") if re.match(r"torch|scikit|matplotlib", line)]
