"""Every action by every kind of person: at the function behind the page, and in the page; and path tricks in every free text."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdengine import access, audit, datasets, errands, fetching, labels, runner, storage, suites, views
from kdengine.access import NotAllowed, Person, Quota, Role
from kdengine.errors import KdError
from kdengine.events import Ended
from kdengine.home import Home
from kdengine.hosting import Hosting, Mode
from kdengine.rundir import RunDir, find_run, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, status_of
from pages.parts import actions, actions_kept, actions_people, actions_server, door, pulse, who
from store.export.race import exports, shelf
from store.export.race.order import Order
from tests.store.racing import order

PEOPLE = {
    "nobody": Person("", Role.NOBODY, session="s0"),
    "visitor": Person("", Role.VIEWER, quota=Quota(), session="s1"),
    "demo": access.visitor(Hosting(mode=Mode.DEMO, exports=False), "s2"),
    "viewer": Person("vera", Role.VIEWER, "vera@example.org", Quota(), session="s3"),
    "own": Person("mia", Role.MEMBER, "mia@example.org", Quota(), session="s4"),
    "foreign": Person("max", Role.MEMBER, "max@example.org", Quota(), session="s5"),
    "admin": Person("ann", Role.ADMIN, "ann@example.org", session="s6"),
    "local": access.local("s7"),
}
READERS = {"visitor", "viewer", "own", "foreign", "admin", "local"}
MEMBERS, ADMINS = {"own", "foreign", "admin", "local"}, {"admin", "local"}
OWNERS = {"own"} | ADMINS


@dataclass
class Scene:
    """A home with runs, a view and an export of mia's, and a pulse that does at once what it is asked."""

    home: Home
    runs: dict[str, str]
    export: str
    order: Order
    pulse: Any


@pytest.fixture
def scene(home: Home, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    monkeypatch.setattr(runner, "tick", lambda home: [])
    monkeypatch.setattr(errands, "start", lambda home, errand: (home.root / f"started-{errand.name}").touch())
    monkeypatch.setattr(errands, "cancel", lambda home, errand, **_: (home.root / f"stopped-{errand.name}").touch())
    monkeypatch.setattr(suites, "demo_suite", lambda: [RunSpec(suite="demo", seed=70)])
    monkeypatch.setattr("kdengine.check.resolve", lambda spec: spec)
    runs = {}
    for seed, (name, how) in enumerate((("queued", None), ("failed", "failed"), ("finished", "finished"))):
        run = RunDir.create(home, RunSpec(seed=seed), owner="mia")
        runs[name] = run.run_id
        if how:
            run.append_event(Ended(how=how))
    views.save(home, "mias view", "compare", "tab=table", "mia")
    wanted = order()
    key = exports.ask(home, wanted, "mia")
    still = SimpleNamespace(
        home=home, pending={}, troubles=deque(), store=SimpleNamespace(take_in=lambda: None),
        ask=lambda key, doing, what, who="": what(),
    )  # fmt: skip
    still.troubles.append(pulse.Trouble(None, "stopping a run", (), "mia"))  # type: ignore[arg-type]
    monkeypatch.setattr(pulse, "of", lambda: still)
    return Scene(home, runs, key, wanted, still)


def become(monkeypatch: pytest.MonkeyPatch, name: str) -> Person:
    monkeypatch.setattr(who, "person", lambda: PEOPLE[name])
    return PEOPLE[name]


def marks(scene: Scene) -> str:
    """Return a hash of everything in the home but lock files, and of the troubles that are remembered."""
    said = hashlib.sha256(repr(list(scene.pulse.troubles)).encode())
    for path in sorted(scene.home.root.rglob("*")):
        if path.is_file() and path.parent != scene.home.locks and path.name != "lock":
            said.update(str(path).encode() + path.read_bytes())
    return said.hexdigest()


# function -> (what it is called with, who may)
CALLS: dict[str, tuple[Callable[[Scene], Any], set[str]]] = {
    "launch": (lambda s: actions.launch([RunSpec(seed=7)]), MEMBERS),
    "run_demo": (lambda s: actions.run_demo(), MEMBERS),
    "launch_missing": (lambda s: actions.launch_missing("k", [RunSpec(seed=7)]), MEMBERS),
    "stop": (lambda s: actions.stop(s.runs["queued"]), OWNERS),
    "stop_all": (lambda s: actions.stop_all("k", [s.runs["queued"]]), OWNERS),
    "resume": (lambda s: actions.resume(s.runs["failed"]), OWNERS),
    "resume_all": (lambda s: actions.resume_all("k", [s.runs["failed"]]), OWNERS),
    "retry": (lambda s: actions.retry(s.runs["failed"]), MEMBERS),
    "remove_run": (lambda s: actions.remove_run(s.runs["finished"]), OWNERS),
    "label": (lambda s: actions_kept.label(s.runs["finished"], ["x"], "n"), OWNERS),
    "tag": (lambda s: actions_kept.tag([s.runs["finished"]], ["x"], []), OWNERS),
    "save_view": (lambda s: actions_kept.save_view("new", "runs", ""), MEMBERS),
    "rename_view": (lambda s: actions_kept.rename_view("mias view", "new"), OWNERS),
    "delete_view": (lambda s: actions_kept.delete_view("mias view"), OWNERS),
    "export_race": (lambda s: actions_kept.export_race(order(title="Another")), READERS),
    "stop_export": (lambda s: actions_kept.stop_export(s.export), OWNERS),
    "fetch_dataset": (lambda s: actions_kept.fetch_dataset("cifar10"), MEMBERS),
    "stop_fetching": (lambda s: actions_kept.stop_fetching("cifar10"), MEMBERS),
    "measure_networks": (lambda s: actions_kept.measure_networks(), ADMINS),
    "stop_measuring": (lambda s: actions_kept.stop_measuring(), ADMINS),
    "put_person": (lambda s: actions_people.put_person("eve@example.org", "member"), ADMINS),
    "limit_all": (lambda s: actions_people.limit_all({"disk_mib": 5}), ADMINS),
    "back_up": (lambda s: actions_server.back_up(), ADMINS),
    "verify_store": (lambda s: actions_server.verify_store(), ADMINS),
}
# function -> what is seen in the home when it was done
DONE: dict[str, Callable[[Scene, Person], bool]] = {
    "launch": lambda s, p: newest(s).spec.seed == 7 and newest(s).owner == p.owner,
    "run_demo": lambda s, p: newest(s).spec.suite == "demo" and newest(s).owner == p.owner,
    "launch_missing": lambda s, p: newest(s).spec.seed == 7 and newest(s).owner == p.owner,
    "stop": lambda s, p: stands(s, "queued", RunStatus.CANCELLED),
    "stop_all": lambda s, p: stands(s, "queued", RunStatus.CANCELLED),
    "resume": lambda s, p: stands(s, "failed", RunStatus.QUEUED),
    "resume_all": lambda s, p: stands(s, "failed", RunStatus.QUEUED),
    "retry": lambda s, p: newest(s).retry_of == s.runs["failed"] and newest(s).owner == p.owner,
    "remove_run": lambda s, p: s.runs["finished"] not in {run.run_id for run in run_dirs(s.home)},
    "label": lambda s, p: labelled(s) == labels.Labels(("x",), "n"),
    "tag": lambda s, p: labelled(s) == labels.Labels(("x",), ""),
    "save_view": lambda s, p: ("new", p.owner) in saved(s),
    "rename_view": lambda s, p: saved(s) == {("new", "mia")},
    "delete_view": lambda s, p: not saved(s),
    "export_race": lambda s, p: (p.asker,) in askers(s) and len(askers(s)) == 2,
    "stop_export": lambda s, p: not askers(s),
    "fetch_dataset": lambda s, p: (s.home.root / "started-fetch-cifar10").exists(),
    "stop_fetching": lambda s, p: (s.home.root / "stopped-fetch-cifar10").exists(),
    "measure_networks": lambda s, p: (s.home.root / "started-latency").exists(),
    "stop_measuring": lambda s, p: (s.home.root / "stopped-latency").exists(),
    "put_person": lambda s, p: [entry.name for entry in access.load(s.home).entries] == ["eve"],
    "limit_all": lambda s, p: access.load(s.home).quota == {"disk_mib": 5},
    "back_up": lambda s, p: (s.home.root / "started-backup").exists(),
    "verify_store": lambda s, p: (s.home.root / "started-verify").exists(),
}


def newest(scene: Scene) -> Any:
    return max((run.read_request() for run in run_dirs(scene.home)), key=lambda request: request.created_at)


def stands(scene: Scene, name: str, status: RunStatus) -> bool:
    return status_of(find_run(scene.home, scene.runs[name]), scene.home) is status


def saved(scene: Scene) -> set[tuple[str, str | None]]:
    return {(view.name, view.owner) for view in views.load(scene.home)}


def labelled(scene: Scene) -> labels.Labels:
    return labels.read(RunDir(scene.home.runs / scene.runs["finished"]))


def askers(scene: Scene) -> list[tuple[str, ...]]:
    return [asked.who for folder in shelf.folders(scene.home) if (asked := shelf.asked(folder))]


def test_every_public_action_is_in_the_table() -> None:
    public = {
        name
        for module in (actions, actions_kept, actions_people, actions_server)
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    }
    elsewhere = {"pending", "only_asker", "asker_of", "remove_export", "remove_person", "dismiss_troubles"}
    assert public == set(CALLS) | elsewhere


@pytest.mark.parametrize(("call", "name"), list(itertools.product(CALLS, PEOPLE)))
def test_the_function_behind(scene: Scene, monkeypatch: pytest.MonkeyPatch, call: str, name: str) -> None:
    (act, allowed), done = CALLS[call], DONE[call]
    person, before = become(monkeypatch, name), marks(scene)
    assert not done(scene, person)
    if name in allowed:
        act(scene)
        assert done(scene, person)
        (line,) = audit.read(scene.home)
        assert line.who == (person.who or ("local" if name == "local" else "a visitor")) and line.action in access.ACTIONS
    else:
        with pytest.raises(NotAllowed):
            act(scene)
        assert marks(scene) == before and not audit.read(scene.home)


@pytest.mark.parametrize("name", PEOPLE)
def test_people_are_removed_by_admins(scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    access.put(scene.home, "eve@example.org", "member")
    become(monkeypatch, name)
    if name in ADMINS:
        actions_people.remove_person("eve@example.org")
        assert not access.load(scene.home).entries
    else:
        with pytest.raises(NotAllowed):
            actions_people.remove_person("eve@example.org")
        assert access.load(scene.home).entries


@pytest.mark.parametrize("name", PEOPLE)
def test_exports_are_removed_by_who_alone_asked(scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    removed: list[str] = []
    monkeypatch.setattr(exports, "remove", lambda home, key: removed.append(key))
    become(monkeypatch, name)
    if name in OWNERS:
        actions_kept.remove_export(scene.export)
        assert removed == [scene.export]
    else:
        with pytest.raises(NotAllowed):
            actions_kept.remove_export(scene.export)
        assert not removed
    exports.ask(scene.home, scene.order, "max")  # another one wants it too
    if name == "own":
        with pytest.raises(NotAllowed):
            actions_kept.remove_export(scene.export)


def test_an_export_goes_on_for_others(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, "visitor")
    assert actions_kept.export_race(scene.order) == scene.export
    actions_kept.stop_export(scene.export)
    assert askers(scene) == [("mia",)]


@pytest.mark.parametrize("name", PEOPLE)
def test_troubles_are_dismissed_by_whom_they_concern(scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    scene.pulse.troubles.append(pulse.Trouble(None, "taking in results", ()))  # type: ignore[arg-type]
    become(monkeypatch, name)
    if name == "nobody":
        with pytest.raises(NotAllowed):
            actions_people.dismiss_troubles()
    else:
        actions_people.dismiss_troubles()
    left = [trouble.who for trouble in scene.pulse.troubles]
    assert left == ([] if name in ADMINS else [""] if name == "own" else ["mia", ""])


def test_nobody_takes_their_own_role_away(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    access.put(scene.home, "ann@example.org", "admin", "ann")
    become(monkeypatch, "admin")
    for act in (
        lambda: actions_people.remove_person("ANN@example.org"), lambda: actions_people.remove_person("ann"),
        lambda: actions_people.put_person("Ann@example.org", "member"),
    ):  # fmt: skip
        with pytest.raises(KdError, match="own role"):
            act()
    assert access.load(scene.home).entries[0].role is Role.ADMIN


def test_several_runs_are_acted_on_together_or_not_at_all(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    own = RunDir.create(scene.home, RunSpec(seed=9), owner="max").run_id
    become(monkeypatch, "foreign")
    before = marks(scene)
    for act in (
        lambda: actions.stop_all("k", [own, scene.runs["queued"]]), lambda: actions.resume_all("k", [own, scene.runs["failed"]]),
        lambda: actions_kept.tag([own, scene.runs["finished"]], ["x"], []),
    ):  # fmt: skip
        with pytest.raises(NotAllowed):
            act()
    assert marks(scene) == before


def test_what_nobody_owns_is_for_admins(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the command line, and runs whose request cannot be read."""
    shell = RunDir.create(scene.home, RunSpec(seed=9))
    become(monkeypatch, "own")
    with pytest.raises(NotAllowed):
        actions.stop(shell.run_id)
    shell.spec_json.write_text("{")
    with pytest.raises(NotAllowed):
        actions_kept.label(shell.run_id, ["x"], "")


# ---- limits -----------------------------------------------------------------------------------------------------------------


def limited(monkeypatch: pytest.MonkeyPatch, **quota: Any) -> None:
    person = Person("mia", Role.MEMBER, "mia@example.org", Quota(**quota), session="s4")
    monkeypatch.setattr(who, "person", lambda: person)


def test_the_queue_of_one_member_has_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, queued_runs=3)
    actions.launch([RunSpec(seed=5)])
    before = len(run_dirs(scene.home))
    with pytest.raises(KdError) as caught:
        actions.launch([RunSpec(seed=6), RunSpec(seed=7)])
    (problem,) = caught.value.problems
    assert problem.given == "4 runs in the queue, 2 of them there already" and problem.allowed == "3 of one person at once"
    assert "admin" in problem.do and len(run_dirs(scene.home)) == before
    with pytest.raises(KdError, match="queue"):  # its teacher counts too
        actions.launch([RunSpec(method="kd", teacher="resnet20")])
    actions.launch([RunSpec(seed=6)])
    for act in (lambda: actions.resume(scene.runs["failed"]), lambda: actions.retry(scene.runs["failed"])):
        with pytest.raises(KdError, match="queue"):
            act()


def test_limits_of_one_are_not_those_of_another(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, queued_runs=1)
    with pytest.raises(KdError, match="queue"):
        actions.launch([RunSpec(seed=6)])
    become(monkeypatch, "foreign")
    actions.launch([RunSpec(seed=6)])
    become(monkeypatch, "admin")
    actions.launch([RunSpec(seed=n) for n in range(10, 70)])


def test_disk_and_gpu_hours_have_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, disk_mib=0.0001, gpu_hours=0)
    with pytest.raises(KdError) as caught:
        actions.launch([RunSpec(seed=6)])
    assert [problem.field for problem in caught.value.problems] == ["GPU hours", "disk"]


def test_exports_that_wait_have_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of mia's is drawn (or waits): with a limit of one, a second and third are too many."""
    limited(monkeypatch, exports=1)
    with pytest.raises(KdError, match="yours wait"):
        for seed in (1, 2, 3):
            actions_kept.export_race(order(title=f"Another {seed}"))
    become(monkeypatch, "visitor")
    actions_kept.export_race(order(title="Another"))


# ---- files of the server ----------------------------------------------------------------------------------------------------

NAMES_A_FILE = (
    {"teacher": "resnet20", "method": "kd", "teacher_weights": "/etc/passwd"}, {"student_init": "/etc/passwd"},
    {"method": "dml", "peers": ("resnet8",), "peer_inits": ("../../secrets.toml",)},
)  # fmt: skip


@pytest.mark.parametrize("fields", NAMES_A_FILE, ids=["teacher", "student", "peer"])
@pytest.mark.parametrize("name", PEOPLE)
def test_only_admins_name_files_of_the_server(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str, fields: dict[str, Any]
) -> None:
    become(monkeypatch, name)
    shell = RunDir.create(scene.home, RunSpec(**fields))
    shell.append_event(Ended(how="failed"))
    before = len(run_dirs(scene.home))
    for act in (
        lambda: actions.launch([RunSpec(**fields)]), lambda: actions.launch_missing("k", [RunSpec(**fields)], again=True),
        lambda: actions.retry(shell.run_id),
    ):  # fmt: skip
        if name in ADMINS:
            act()
        else:
            with pytest.raises(NotAllowed):
                act()
    assert (len(run_dirs(scene.home)) > before) == (name in ADMINS)


# ---- path tricks ------------------------------------------------------------------------------------------------------------

TRICKS = {
    "up": "../../outside", "absolute": "/etc/passwd", "nul": "a\x00b", "long": "x" * 5000, "rtl": "a\u202egpj.exe",
    "newline": "a\nb", "home": "~/x", "dots": "..", "dot": ".", "slash": "a/b", "backslash": "..\\..\\x", "empty": "",
    "url": "file:///etc/passwd", "percent": "%2e%2e%2fx", "glob": "*", "shell": "$(touch outside)", "template": "{0.__class__}",
    "surrogate": "a\udcffb",
}  # fmt: skip
FIELDS: dict[str, Callable[[Scene, str], Any]] = {
    "run id: stop": lambda s, t: actions.stop(t),
    "run id: retry": lambda s, t: actions.retry(t),
    "run id: remove": lambda s, t: actions.remove_run(t),
    "run id: label": lambda s, t: actions_kept.label(t, [], ""),
    "suite": lambda s, t: actions.launch([RunSpec(suite=t)]),
    "tags": lambda s, t: actions_kept.label(s.runs["finished"], [t], ""),
    "tags of many": lambda s, t: actions_kept.tag([s.runs["finished"]], [t], [t]),
    "note": lambda s, t: actions_kept.label(s.runs["finished"], [], t),
    "view": lambda s, t: actions_kept.save_view(t, "runs", ""),
    "page of a view": lambda s, t: actions_kept.save_view("v", t, ""),
    "query of a view": lambda s, t: actions_kept.save_view("v", "runs", t),
    "new name of a view": lambda s, t: actions_kept.rename_view("mias view", t),
    "view to delete": lambda s, t: actions_kept.delete_view(t),
    "export: stop": lambda s, t: actions_kept.stop_export(t),
    "export: remove": lambda s, t: actions_kept.remove_export(t),
    "dataset": lambda s, t: actions_kept.fetch_dataset(t),
    "dataset: stop": lambda s, t: actions_kept.stop_fetching(t),
    "dataset of a run": lambda s, t: actions.launch([RunSpec(dataset=t)]),
    "student": lambda s, t: actions.launch([RunSpec(student=t)]),
    "teacher's run": lambda s, t: actions.launch([RunSpec(method="kd", teacher="resnet20", teacher_run=t)]),
    "method": lambda s, t: actions.launch([RunSpec(method=t)]),
    "who": lambda s, t: actions_people.put_person(t, "member", "eve"),
    "name": lambda s, t: actions_people.put_person("eve@example.org", "member", t),
    "role": lambda s, t: actions_people.put_person("eve@example.org", t),
    "who to remove": lambda s, t: actions_people.remove_person(t),
}
FILES_OF_A_HOME = {"audit.jsonl", "views.json", "people.json"}


def folders(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


@pytest.mark.parametrize(("field", "trick"), list(itertools.product(FIELDS, TRICKS)))
def test_path_tricks_reach_no_path(scene: Scene, monkeypatch: pytest.MonkeyPatch, field: str, trick: str) -> None:
    """Refused in three parts, or kept as a text inside a file of the home; never a path, never another kind of error."""
    become(monkeypatch, "admin")
    root = scene.home.root.parent
    before, runs = folders(root), {run.run_id for run in run_dirs(scene.home)}
    try:
        FIELDS[field](scene, TRICKS[trick])
    except KdError as error:
        assert error.problems and all(problem.given and problem.do for problem in error.problems)
    after = {path.removeprefix("kd/") for path in folders(root) - before}
    fresh = {run.run_id for run in run_dirs(scene.home)} - runs
    after = {path for path in after if path.split("/")[0] != "locks" and not any(path.startswith(f"runs/{run}") for run in fresh)}
    assert after <= {*FILES_OF_A_HOME, ".new", f"runs/{scene.runs['finished']}/labels.json"}
    assert scene.runs["finished"] in {run.run_id for run in run_dirs(scene.home)} and folders(root) >= before


def test_datasets_are_those_that_an_admin_registered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, "own")
    with pytest.raises(KdError, match="dataset"):
        actions_kept.fetch_dataset("theirs")
    with pytest.raises(KdError, match="dataset"):
        actions.launch([RunSpec(dataset="theirs")])
    assert fetching.view(scene.home, "cifar10").state == "absent" and "theirs" not in datasets.cards(scene.home)


# ---- when nothing can be noted ----------------------------------------------------------------------------------------------


def test_without_a_log_nothing_begins_but_work_can_be_stopped(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit, "note", full)
    become(monkeypatch, "own")
    before = marks(scene)
    with pytest.raises(OSError, match="space"):
        actions.launch([RunSpec(seed=8)])
    assert marks(scene) == before
    actions.stop(scene.runs["queued"])
    actions.remove_run(scene.runs["finished"])
    assert stands(scene, "queued", RunStatus.CANCELLED) and scene.runs["finished"] not in {r.run_id for r in run_dirs(scene.home)}


def test_the_log_says_who_by_identity(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, said in (("own", "mia@example.org"), ("local", "local")):
        become(monkeypatch, name)
        door.passed("launch", "x")
        assert audit.read(scene.home, 1)[0].who == said


def test_a_removed_run_leaves_nothing(scene: Scene) -> None:
    assert storage.remove_run(scene.home, scene.runs["finished"]) > 0
    assert not list((scene.home.root / ".removed").iterdir())
