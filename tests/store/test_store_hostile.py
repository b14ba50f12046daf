"""Every hostile input, asked as the page asks it: each ends as expected and in time, and nothing is read, written or left."""

from __future__ import annotations

import gc
import hashlib
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from kdengine.home import Home
from store import sandbox, sandbox_process
from store.db import Store
from store.questions import Question, Questions
from store.sandbox import QueryError
from tests.store.conftest import write_run
from tests.store.hostile import CLASSES, A, Attack, K, R

pytestmark = pytest.mark.slow

LIMITS_S = {"memory": 1.0, "time": 1.0, "depth and length": 2.0, "large answers, strange types, talking errors": 2.0}
LONGEST_S = 30.0  # generous: the start of a process on a busy machine is in it
GROWTH_MIB = 250  # two of the largest answers are read at once, 75 MiB each; the allocator keeps some of it
LEAK_MIB = 120  # a third of what six pairs of the largest answers would add
PROGRAM = (  # what a process runs with some of what keeps it in switched off
    "import sys; sys.path += sys.argv[1:]; from store import sandbox_child as child, sandbox_walls as walls; {}; child.main()"
)
KILLED = ("a statement that ran longer", "a statement whose process", "a statement that needs more than 512 MB")


@dataclass
class Scene:
    """A home with results, the app's writer and questions, and what must not be read or reached."""

    home: Home
    questions: Questions
    tmp: Path
    secret: str
    port: int
    mark: str
    visits: list[object]

    def statement(self, attack: Attack) -> str:
        """Return the text with its places filled in."""
        places = {
            "home": self.home.root, "tmp": self.tmp, "secret": self.tmp / "secret.txt", "port": self.port, "mark": self.mark,
        }  # fmt: skip
        text = attack.sql
        for name, value in places.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The app as it runs, without pages: a home, its writer, its questions."""
    tmp = tmp_path_factory.mktemp("everybody")
    tmp.chmod(0o777)
    secret = f"canary-{uuid.uuid4().hex}"
    (tmp / "secret.txt").write_text(secret)
    home = Home(tmp_path_factory.mktemp("hostile") / "kd").made()
    for seed in range(3):
        write_run(home, seed=seed, method="kd", teacher="resnet20")
    visits: list[object] = []
    os.environ["KD_SECRET"] = secret
    with socket.create_server(("127.0.0.1", 0)) as server, Store.open(home) as store:
        threading.Thread(target=_count_visits, args=(server, visits), daemon=True).start()
        store.take_in()
        questions = Questions(home)
        mark = f"kdhostile{uuid.uuid4().hex[:12]}"
        yield Scene(home, questions, tmp, secret, server.getsockname()[1], mark, visits)
        questions.close()
    del os.environ["KD_SECRET"]


def _count_visits(server: socket.socket, visits: list[object]) -> None:
    while True:
        try:
            visits.append(server.accept())
        except OSError:
            return


@pytest.mark.parametrize("name", CLASSES)
def test_hostile(scene: Scene, name: str) -> None:
    _attack(scene, CLASSES[name], LIMITS_S.get(name, 10.0))


@pytest.mark.parametrize("name", ["reading files", "writing within a select", "network, extensions, secrets"])
def test_duckdb_holds_without_the_walls_of_the_kernel(scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    off = "walls.only_this_file = walls.few_calls = walls.step_down = child._close_off = lambda *_: False"
    monkeypatch.setattr(sandbox_process, "PROGRAM", PROGRAM.format(off))
    _attack(scene, CLASSES[name])


@pytest.mark.parametrize("wall", ["files", "calls", "nothing new"])
def test_each_wall_holds_without_the_settings_of_duckdb(scene: Scene, wall: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened by the wall that is left; ``calls`` leaves reading to the others."""
    if not sandbox.isolation(scene.home).get(wall):
        pytest.skip(f"this kernel lacks the wall: {wall}")
    off = {"files": "walls.only_this_file", "calls": "walls.few_calls", "nothing new": "child._close_off"}
    others = "; ".join(f"{name} = lambda *_: False" for key, name in off.items() if key != wall)
    plain = "child._open = lambda request: child.duckdb.connect(request['snapshot'], read_only=True)"
    monkeypatch.setattr(sandbox_process, "PROGRAM", PROGRAM.format(f"{others}; {plain}; walls.step_down = lambda: False"))
    reading = tuple(attack for attack in CLASSES["reading files"] if "{secret}" in attack.sql or "results.duckdb" in attack.sql)
    writing = tuple(attack for attack in CLASSES["writing within a select"] if "copy" in attack.sql)
    _attack(scene, writing if wall == "calls" else (*reading, *writing))


def _attack(scene: Scene, attacks: tuple[Attack, ...], limit_s: float = 10.0) -> None:
    before, others = _state(scene), _children()
    memory = _rss_mib()
    ended = _ask_all(scene, attacks, limit_s)
    wrong = [
        f"{_end(q)} instead of {attack.ends}: {attack.sql[:90]!r}: {q.problems}"
        for attack, q in ended
        if _end(q) not in attack.ends
    ]
    assert wrong == []
    assert [(round(q.took_s, 1), attack.sql[:90]) for attack, q in ended if q.took_s > LONGEST_S] == []
    leaks = [(attack.sql[:90], text) for attack, q in ended for text in _leaks(scene, q)]
    assert leaks == []
    assert _state(scene) == before and scene.visits == []
    assert _children() - others == set()
    del ended
    gc.collect()
    assert _rss_mib() - memory < GROWTH_MIB


def test_many_of_the_largest_answers_take_no_more_than_a_few(scene: Scene) -> None:
    largest = Attack("select range as a, repeat('x', 3000) as t from range(10000)", (A,))
    memory = []
    for _ in range(12):
        ended = _ask_all(scene, (largest, largest), 30.0)
        assert [len(q.frame) for _, q in ended if q.frame is not None] == [10_000] * 2
        del ended
        memory.append(_rss_mib())
    assert max(memory[6:]) - max(memory[:6]) < LEAK_MIB  # the first ones fill what is kept for those who asked


def test_afterwards_all_is_as_before(scene: Scene) -> None:
    frame = _wait(scene.questions, scene.questions.ask("select count(*) as n, min(status) as s from runs", "ada")).frame
    assert frame is not None and frame.n[0] == 3 and frame.s[0] == "finished"


def _ask_all(scene: Scene, attacks: tuple[Attack, ...], limit_s: float) -> list[tuple[Attack, Question]]:
    """Ask everything, two at a time, as two people."""
    waiting, asked, ended = list(attacks), {}, []
    while waiting or asked:
        for who in ("ada", "bob"):
            if waiting and who not in asked:
                attack = waiting.pop(0)
                try:
                    asked[who] = attack, scene.questions.ask(scene.statement(attack), who, timeout_s=limit_s)
                except QueryError as error:
                    ended.append((attack, Question("", "failed", problems=error.problems)))
        for who, (attack, key) in list(asked.items()):
            if (seen := scene.questions.look(key)).over:
                ended.append((attack, seen))
                del asked[who]
        time.sleep(0.01)
    return ended


def _wait(questions: Questions, key: str) -> Question:
    while not (seen := questions.look(key)).over:
        time.sleep(0.02)
    return seen


def _end(question: Question) -> str:
    if question.state == "done":
        return A
    (problem,) = question.problems
    assert problem.allowed and problem.do, problem
    return K if problem.given.startswith(KILLED) else R


def _leaks(scene: Scene, question: Question) -> list[str]:
    """Return what of the server shows in an answer or in what is said of a fault."""
    texts = [part for problem in question.problems for part in (problem.given.split("\n")[0], problem.allowed, problem.do)]
    if question.frame is not None:
        texts.append(question.frame.to_csv())
    return [word for word in (scene.secret, str(scene.home.root), os.fspath(Path.home()) + "/") for text in texts if word in text]


def _state(scene: Scene) -> dict[str, str]:
    """Return every file that a statement could have changed or made, with what it holds."""
    home = {path for path in scene.home.root.rglob("*") if path.is_file()}
    found = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in (*home, scene.tmp / "secret.txt")}
    everywhere = (Path.cwd(), scene.tmp, Path("/"), Path.home(), Path(tempfile.gettempdir()), Path("/dev/shm"), Path("/var/tmp"))
    found |= {str(path): "" for folder in everywhere for path in folder.glob("*") if scene.mark in path.name}
    found |= {str(path): "" for folder in (Path.cwd(), Path("/"), scene.tmp) for path in folder.iterdir()}
    return found


def _children() -> set[psutil.Process]:
    """Return all processes below this one, ended ones that nobody waited for too: other tests may have left some."""
    return set(psutil.Process().children(recursive=True))


def _rss_mib() -> float:
    return psutil.Process().memory_info().rss / (1 << 20)
