"""The recorded runs that the repository ships: small, real, whole, and without a trace of the machine; their home in a demo."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kdengine import datasets, latency, pictures, views
from kdengine.errors import HomeError, KdError
from kdengine.home import Home
from kdengine.rundir import RunDir, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, status_of
from store import queries
from store.compare import pair
from store.db import Store
from store.demo import pack, place
from store.demo.unpack import ARCHIVE, SCANS, enlarged, unpack
from store.examples import EXAMPLES
from tests.pages.seed import play

RUNS, EPOCHS = 213, 2993
TRACES = (
    rb"(?<![\w.:/<])/(home|Users|root|tmp|work|mnt|srv|opt|var|usr|content)/",  # paths of a machine
    rb"[\w.+-]+@[\w-]+\.\w",  # addresses of people
    rb'"(host|hostname|boot|pid|user|node)"\s*:',
    rb"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b",
)


def members(archive: Path = ARCHIVE) -> dict[str, bytes]:
    with tarfile.open(archive, "r:xz") as packed:
        assert all(m.isfile() and (m.uid, m.gid, m.uname, m.gname, m.mtime) == (0, 0, "", "", 0) for m in packed)
        return {m.name: packed.extractfile(m).read() for m in packed}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def shipped() -> dict[str, bytes]:
    """What the archive holds, by name."""
    return members()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home made of the archive."""
    home = Home(tmp_path_factory.mktemp("demo") / "kd").made()
    unpack(home)
    return home


def test_it_is_small_and_names_are_plain(shipped: dict[str, bytes]) -> None:
    assert ARCHIVE.stat().st_size < 1_000_000 and sum(map(len, shipped.values())) < 6_000_000
    for name in shipped:
        assert re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) and ".." not in name, name
    kinds = {Path(name).name for name in shipped if name.startswith("runs/")}
    assert kinds == {"spec.json", "events.jsonl", "environment.json", "worker.log", "predictions.npz"}


def test_nothing_in_it_names_a_machine_or_its_people(shipped: dict[str, bytes]) -> None:
    found = [
        (name, pattern)
        for name, data in shipped.items()
        if not name.endswith(".npz")
        for pattern in TRACES
        if re.search(pattern, data)
    ]
    assert found == [] and [name for name, data in shipped.items() if not name.endswith(".npz") and pack.traces(data)] == []
    assert {re.search(rb'"device_name":"([^"]*)"', data)[1] for name, data in shipped.items() if name.endswith(".jsonl")} == {  # type: ignore[index]
        b"AMD EPYC"
    }


def test_every_run_is_finished_and_becomes_rows(unpacked: Home) -> None:
    assert {status_of(run, unpacked) for run in run_dirs(unpacked)} == {RunStatus.FINISHED}
    with Store.open(unpacked) as store:
        store.take_in()
        assert store.notice == "" and queries.counts(store) == {"finished": RUNS}
        assert store.frame("SELECT count(*) AS n FROM epochs")["n"][0] == EPOCHS
        assert store.frame("SELECT count(*) AS n FROM intake.rejects")["n"][0] == 0
        known = store.frame("SELECT count(DISTINCT method) AS methods, count(DISTINCT dataset) AS datasets FROM runs")
        assert (known["methods"][0], known["datasets"][0]) == (24, 2)
        suites = queries.suites(store)
        assert suites["suite"].iloc[0] == "fig7-quick" and set(suites["suite"]) >= {"all-methods", "demo", "fig8-quick"}
        taught = store.frame("SELECT count(*) AS n FROM runs WHERE teacher_run NOT IN (SELECT run_id FROM runs)")
        assert taught["n"][0] == 0, "every teacher is there too"
    assert unpacked.snapshot.is_file()


def test_every_example_of_free_sql_has_an_answer(unpacked: Home) -> None:
    with Store.open(unpacked) as store:
        store.take_in()
        assert [example.key for example in EXAMPLES if store.frame(example.sql).empty] == []


def test_predictions_images_latency_and_views_are_there(unpacked: Home) -> None:
    answered = [run for run in run_dirs(unpacked) if run.predictions_npz.is_file()]
    assert len(answered) >= 40
    for run in answered[::7]:
        found = pair.answers(run)
        assert found is not None and len(found.labels) == 600
        last = run.last_epoch()
        assert last is not None
        logged = last.measures["student"].test_top1_frac
        assert found.right(pair.STUDENT).mean() == pytest.approx(logged, abs=0.01)
        assert np.array_equal(found.labels, pictures.test_labels(unpacked, "digits"))
    assert pictures.train_samples(unpacked, "digits", 8)[3].shape == (8, 32, 32, 3)  # type: ignore[index]
    measured = latency.read(unpacked)
    assert measured is not None and len(measured.networks) > 20
    held = views.load(unpacked)
    assert len(held) >= 5 and all(view.owner is None for view in held)
    card = datasets.get(unpacked, "cifar10_mini")
    assert card.class_names[3] == "cat" and not datasets.is_here(unpacked, "cifar10_mini")


@pytest.mark.slow
def test_pixels_are_those_that_were_trained_on(shipped: dict[str, bytes], unpacked: Home, tmp_path: Path) -> None:
    from kdengine import data

    own = Home(tmp_path / "own").made()
    data.load(own, "digits")
    shipped_images, trained_on = (pictures.test_images(home, "digits", np.arange(600)) for home in (unpacked, own))
    assert np.array_equal(shipped_images, trained_on) and trained_on is not None
    ours, theirs = (pictures.train_samples(home, "digits", 20) for home in (unpacked, own))
    assert ours and theirs and all(np.array_equal(ours[label], theirs[label]) for label in range(10))
    assert SCANS in shipped and enlarged(np.zeros((2, 8, 8), np.uint8)).shape == (2, 3, 32, 32)


# ---- packing -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(home: Home) -> RunDir:
    """A finished run with predictions, in a home."""
    run = RunDir.create(home, RunSpec(dataset="digits", epochs=2, suite="demo"))
    play(run, [0.3, 0.5])
    run.environment_json.write_text(json.dumps({"versions": {"torch": "2"}, "host": "secret-host", "visible_gpus": "0"}))
    np.savez_compressed(run.predictions_npz, labels=np.zeros(600, np.int64), logits_student=np.ones((600, 10), np.float16))
    return run


def test_a_home_is_packed_and_unpacked(home: Home, trained: RunDir, tmp_path: Path) -> None:
    RunDir.create(home, RunSpec(dataset="digits", seed=7))  # queued: not packed
    views.save(home, "a view", "compare", "tab=ranking", owner="ada")
    archive = tmp_path / "made.tar.xz"
    found = pack.pack(home, archive, {"demo": 1})
    assert found["spec.json"] == found["predictions.npz"] == 1 and "attempt-1.json" not in found and "lock" not in found
    assert b"secret-host" not in b"".join(members(archive).values())
    again = Home(tmp_path / "again").made()
    unpack(again, archive)
    (run,) = run_dirs(again)
    assert run.read_request() == trained.read_request() and run.read_events() == trained.read_events()
    assert pair.answers(run).classes == 10  # type: ignore[union-attr]
    assert [(view.name, view.owner) for view in views.load(again)] == [("a view", None)]
    assert pack.pack(home, archive, {})["spec.json"] == 1 and not any("npz" in n and "runs" in n for n in members(archive))


@pytest.mark.parametrize("said", ["/srv/ada/x.pt", "wrote /tmp/abc", "a line of {host}", "by {user}"])
def test_what_names_the_machine_is_refused(
    home: Home, trained: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(pack.platform, "node", lambda: "host-of-the-lab")
    monkeypatch.setattr(pack.getpass, "getuser", lambda: "somebody")
    trained.log.write_text(said.format(host="host-of-the-lab", user="somebody"))
    with pytest.raises(KdError, match="worker.log"):
        pack.pack(home, tmp_path / "made.tar.xz")
    assert not (tmp_path / "made.tar.xz").exists()


def test_files_of_the_machine_are_cut_to_their_names(home: Home, tmp_path: Path) -> None:
    run = RunDir.create(home, RunSpec(dataset="digits", epochs=1, student_init="/srv/weights/a.pt", teacher_weights=None))
    play(run, [0.4])
    pack.pack(home, tmp_path / "made.tar.xz")
    spec = json.loads(members(tmp_path / "made.tar.xz")[f"runs/{run.run_id}/spec.json"])["spec"]
    assert spec["student_init"] == "a.pt"


def test_an_archive_that_leads_out_is_refused(home: Home, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar.xz"
    with tarfile.open(bad, "w:xz") as packed:
        packed.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(ValueError, match="leads out"):
        unpack(home, bad)
    assert not (home.root.parent / "outside").exists()


# ---- the place of a server -----------------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for demo homes; unpacking is cut short, for it is tested above."""
    monkeypatch.setattr(place, "unpack", lambda home: (home.runs / "one").mkdir())
    yield tmp_path / "base"
    place.remove()


def test_a_process_has_one_home_and_takes_it_with_it(base: Path) -> None:
    home = place.home(base)
    assert home is place.home(base) and home.root.parent == base and (home.runs / "one").is_dir()
    place.remove()
    assert list(base.iterdir()) == [] and place.home(base).root != home.root


def test_without_a_folder_it_lies_in_the_temporary_files(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    assert place.home().root.parent == base


def test_what_killed_servers_left_is_removed_and_nothing_else(base: Path) -> None:
    base.mkdir()
    left, held, bare, foreign = (base / f"{place.PREFIX}{name}" for name in ("left", "held", "bare", "link"))
    for folder in (left, held, bare):
        folder.mkdir()
    (left / place.LOCK).touch()
    (base / "else").mkdir()
    foreign.symlink_to(base / "else")
    (base / "else" / place.LOCK).touch()
    with (held / place.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = place.home(base)
        assert {p.name for p in base.iterdir()} == {held.name, bare.name, foreign.name, "else", home.root.name}
    assert (base / "else" / place.LOCK).is_file()


def test_what_somebody_else_left_stays(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := base / f"{place.PREFIX}theirs").mkdir(parents=True)
    (folder / place.LOCK).touch()
    own = os.getuid()
    monkeypatch.setattr(place.os, "getuid", lambda: own + 1)
    place.clear(base)
    assert folder.is_dir()
    monkeypatch.undo()
    place.clear(base)
    assert not folder.exists()


def test_a_home_with_runs_is_refused_and_not_touched(base: Path) -> None:
    (base / "runs" / "somebodys").mkdir(parents=True)
    with pytest.raises(HomeError, match="holds runs of its own"):
        place.home(base)
    assert [p.relative_to(base).as_posix() for p in base.rglob("*")] == ["runs", "runs/somebodys"]


def test_no_room_is_said_and_nothing_is_left(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(home: Home) -> None:
        (home.runs / "half").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, "unpack", full)
    with pytest.raises(HomeError, match="No space left on device"):
        place.home(base)
    assert list(base.iterdir()) == []


@pytest.mark.slow
def test_two_processes_have_a_home_each_and_a_killed_one_is_cleared(base: Path) -> None:
    code = "import sys; from pathlib import Path; from store.demo import place; place.unpack = lambda home: None\n"
    code += "print(place.home(Path(sys.argv[1])).root, flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", code, str(base)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first, second = (subprocess.Popen(argv, cwd=Path(__file__).parents[2], **pipes) for _ in range(2))  # type: ignore[call-overload]
    roots = [Path(process.stdout.readline().strip()) for process in (first, second)]
    assert len(set(roots)) == 2 and all(root.is_dir() for root in roots)
    first.kill()
    first.communicate()
    assert roots[0].is_dir()
    own = place.home(base).root
    assert not roots[0].exists() and roots[1].is_dir() and own not in roots
    second.communicate("")
    assert second.returncode == 0 and not roots[1].exists(), "a server that ends takes its home with it"
    assert [folder.name for folder in base.iterdir()] == [own.name]
