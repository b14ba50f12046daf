"""Tags and note after the launch: the spec stays, its limits hold, the last word wins, nothing is ever half written."""

from __future__ import annotations

import threading

import pytest

from kdengine import labels, runner
from kdengine.errors import KdError, SpecError
from kdengine.home import Home
from kdengine.labels import Labels
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec


@pytest.fixture
def run(home: Home) -> RunDir:
    return RunDir.create(home, RunSpec(seed=3, tags=("first",), note="as launched"))


def test_a_run_has_the_labels_of_its_launch_until_somebody_writes(run: RunDir) -> None:
    assert labels.read(run) == Labels(("first",), "as launched")
    assert not (run.path / "labels.json").exists(), "reading writes nothing"


def test_what_is_left_out_stays(run: RunDir) -> None:
    assert labels.write(run, tags=["a", "b"]) == Labels(("a", "b"), "as launched")
    assert labels.write(run, note="läuft\nweiter") == labels.read(run) == Labels(("a", "b"), "läuft\nweiter")
    assert labels.write(run, tags=(), note="") == labels.read(run) == Labels()


def test_single_tags_come_and_go(run: RunDir) -> None:
    labels.retag(run, add=["a", "first", "a"])
    assert labels.retag(run, add=["b"], remove=["first", "never"]) == Labels(("a", "b"), "as launched")
    assert labels.retag(run, remove=["a"], note="new") == labels.read(run) == Labels(("b",), "new")


def test_the_request_and_its_identity_never_change(home: Home, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "tick", lambda _: [])
    content, identity = run.spec_json.read_bytes(), run.read_request().identity
    labels.write(run, tags=["x"], note="y")
    assert run.spec_json.read_bytes() == content
    assert RunDir(run.path).read_request().identity == identity
    again = runner.launch_suite(home, [RunSpec(seed=3)], reuse=True)
    assert again == [run.run_id], "a run is found again whatever it is called"


def test_all_faults_at_once_and_nothing_written(run: RunDir) -> None:
    with pytest.raises(SpecError) as caught:
        labels.write(run, tags=["two words", "fine", "-dash"], note="x" * 2001)
    assert [p.field for p in caught.value.problems] == ["tags.0", "tags.2", "note"]
    assert all(p.given and p.allowed and p.do for p in caught.value.problems)
    assert labels.problems(["two words"], "") and not labels.problems(["fine"], "")
    with pytest.raises(SpecError):
        labels.write(run, tags=[f"t{i}" for i in range(21)])
    assert labels.read(run) == Labels(("first",), "as launched")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"tags": "ab", "note": ""}',
        b'{"tags": []}',
        b'{"tags": [["a"]], "note": ""}',
        b'{"tags": ["a b"], "note": ""}',
        b"\xff",
        b"null",
    ],
)
def test_a_broken_file_is_told_and_can_be_written_anew(run: RunDir, content: bytes) -> None:
    (run.path / "labels.json").write_bytes(content)
    with pytest.raises(KdError) as caught:
        labels.read(run)
    assert all(p.given and p.allowed and p.do for p in caught.value.problems)
    with pytest.raises(KdError):
        labels.write(run, note="only the note: the tags are not known")
    assert labels.write(run, tags=["new"], note="") == labels.read(run) == Labels(("new",), "")


def test_two_who_tag_at_once_lose_nothing(run: RunDir) -> None:
    threads = [threading.Thread(target=labels.retag, args=(run,), kwargs={"add": [f"t{i}"]}) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(labels.read(run).tags) == {"first", *(f"t{i}" for i in range(12))}


def test_nothing_is_left_beside_the_file(run: RunDir) -> None:
    labels.write(run, note="x")
    assert sorted(path.name for path in run.path.iterdir()) == ["labels.json", "spec.json"]
