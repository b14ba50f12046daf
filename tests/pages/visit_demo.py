"""Visits every page of a demo in a process that cannot load what trains, and prints what it saw as JSON.

``python tests/pages/visit_demo.py`` with ``KD_MODE=demo``; test_demo_mode.py reads the answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BARRED = {  # what requirements.txt asks for and requirements-demo.txt does not, by the names under which it is imported
    "torch", "torchvision", "sklearn", "safetensors", "pynvml", "typer", "bar_chart_race", "matplotlib", "ffmpeg",
    "imageio_ffmpeg", "authlib", "httpx",
}  # fmt: skip


class Barrier:
    """Lets nobody import what requirements-demo.txt leaves out."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise for a barred package, pass on everything else."""
        if name.partition(".")[0] in BARRED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def digest(root: Path) -> dict[str, str]:
    """Return what every file under ``root`` holds, and when it was changed."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {p.relative_to(root).as_posix(): f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.stat().st_mtime_ns}" for p in files}


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the names of files that came, went or changed."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def seen(app: Any) -> dict[str, Any]:
    """Return what a visitor of a page reads, and what they can press."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "metric", "code", "error", "warning", "exception")
    text = {kind: [str(getattr(e, "value", "")) for e in getattr(app, kind)] for kind in kinds}
    text["metric"] = [f"{m.label} {m.value}" for m in app.metric]
    text["progress"] = [bar.proto.text for bar in app.get("progress")]
    links = [link.proto for link in app.get("page_link")]
    return text | {
        "buttons": [b.label for b in app.button if not b.disabled],
        "links": [link.label for link in links],
        "pages": sorted({link.page for link in links}),
        "charts": len(app.get("plotly_chart")),
        "tables": [len(t.value) for t in app.dataframe] + [len(t.value) for t in app.table],
    }


def visits(states: dict[str, tuple[str, dict[str, str]]]) -> dict[str, Any]:
    """Return what was seen in each state, page by page."""
    from streamlit.testing.v1 import AppTest

    found = {}
    for name, (page, query) in states.items():
        app = AppTest.from_file(str(Path(__file__).resolve().parents[2] / "app.py"), default_timeout=60).run()
        if page != "home":
            app.switch_page(f"pages/{page}.py")
        for key, value in query.items():
            app.query_params[key] = value
        found[name] = seen(app.run())
    return found


def attempts(run: str) -> dict[str, str]:
    """Call every action of the pages as a visitor would who found a way round the buttons; return what came of each."""
    from kdengine.spec import RunSpec
    from pages.parts import actions, actions_kept, actions_people  # noqa: F401 - found below

    known = {
        "run_id": run, "run_ids": [run], "specs": [RunSpec()], "key": "cifar10", "quota": {}, "add": ["a"],
        "identity": "ada@example.org",
        "order": SimpleNamespace(title="a", subtitle="b"), "name": "24 ways of teaching, ranked", "page": "compare",
    }  # fmt: skip
    found = {}
    for place in (sys.modules[name] for name in sorted(sys.modules) if name.startswith("pages.parts.actions")):
        for name, action in inspect.getmembers(place, inspect.isfunction):
            if action.__module__ == place.__name__ and not name.startswith("_"):
                found[f"{place.__name__.rpartition('.')[2]}.{name}"] = _came_of(action, known)
    return found


def _came_of(action: Callable[..., Any], known: dict[str, Any]) -> str:
    required = [p.name for p in inspect.signature(action).parameters.values() if p.default is p.empty]
    try:
        action(**{name: known.get(name, "x") for name in required})
    except Exception as error:
        return type(error).__name__
    return "done"


def main() -> None:
    """Visit, try, and say what was found."""
    sys.meta_path.insert(0, Barrier())  # type: ignore[arg-type]
    states = json.loads(sys.stdin.read())
    from pages.parts import pulse

    noise = io.StringIO()
    with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
        heart = pulse.of()
        run = heart.store.frame("SELECT run_id FROM runs WHERE method = 'kd' ORDER BY created_at LIMIT 1")["run_id"][0]
        states = {name: (page, {k: run if v == "RUN" else v for k, v in query.items()}) for name, (page, query) in states.items()}
        first = digest(heart.home.root)
        found = visits(states)
        heart.beat()
        second = digest(heart.home.root)
        tried = attempts(run)
        third = digest(heart.home.root)
        loaded = sorted(BARRED & {name.partition(".")[0] for name in sys.modules})
        pulse.close_all()
    changed = {"by looking": differences(first, second), "by trying": differences(second, third)}
    said = {"found": found, "tried": tried, "loaded": loaded, "changed": changed, "root": str(heart.home.root)}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
