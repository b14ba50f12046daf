"""Saved views: kept for everybody, by name, whole or not at all; a broken file is told, not a crash."""

from __future__ import annotations

import threading

import pytest

from kdengine import views
from kdengine.errors import KdError, UnknownKey
from kdengine.home import Home


def names(home: Home) -> list[str]:
    return [view.name for view in views.load(home)]


def test_saved_views_come_back_by_name(home: Home) -> None:
    assert views.load(home) == ()
    views.save(home, "zoo", "runs")
    saved = views.save(home, "Größe → resnet8", "compare", "ids=a&ids=b&x=epoch&empty=")
    assert names(home) == ["Größe → resnet8", "zoo"]
    assert views.load(home)[0] == saved and saved.chosen() == {"ids": ["a", "b"], "x": ["epoch"], "empty": [""]}
    assert [path.name for path in home.root.glob(".*views*")] == [], "nothing is left beside the file"


def test_rename_and_delete(home: Home) -> None:
    old = views.save(home, "first", "compare", "suite=demo")
    views.save(home, "other", "runs")
    assert views.rename(home, "first", "second") == old.model_copy(update={"name": "second"})
    assert views.rename(home, "second", "Second").name == "Second", "its own name is not taken"
    with pytest.raises(KdError):
        views.rename(home, "Second", "OTHER")
    views.delete(home, "other")
    assert names(home) == ["Second"]
    for wrong in (lambda: views.delete(home, "secnd"), lambda: views.rename(home, "nobody", "x")):
        with pytest.raises(UnknownKey):
            wrong()


def test_every_fault_at_once_and_nothing_written(home: Home) -> None:
    with pytest.raises(KdError) as caught:
        views.save(home, " x" * 40, "no page", "q=\n")
    assert [p.field for p in caught.value.problems] == ["name", "page", "query"]
    assert all(p.given and p.allowed and p.do for p in caught.value.problems)
    for name in ("", " ", "a\nb", "a  b", "a\u202eb", "a\x00"):
        with pytest.raises(KdError):
            views.save(home, name, "runs")
    assert views.load(home) == ()


def test_a_name_is_taken_once_whatever_its_case(home: Home) -> None:
    views.save(home, "Demo", "compare")
    with pytest.raises(KdError, match="no other view"):
        views.save(home, "demo", "runs")
    assert names(home) == ["Demo"]


def test_there_is_an_end_to_them(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST", 2)
    views.save(home, "a", "runs")
    views.save(home, "b", "runs")
    with pytest.raises(KdError, match="at most 2"):
        views.save(home, "c", "runs")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"views": 3}', b'{"views": [{"name": "x"}]}', b"\xff\xfe", b'{"views": ["x"]}']
)
def test_a_broken_file_is_told_in_three_parts_and_kept(home: Home, content: bytes) -> None:
    path = home.root / "views.json"
    path.write_bytes(content)
    for act in (lambda: views.load(home), lambda: views.save(home, "x", "runs"), lambda: views.delete(home, "x")):
        with pytest.raises(KdError) as caught:
            act()
        assert all(p.given and p.allowed and p.do for p in caught.value.problems)
    assert path.read_bytes() == content, "what somebody may still repair is not overwritten"


def test_a_newer_version_may_have_written_more(home: Home) -> None:
    (home.root / "views.json").write_text('{"views": [{"name": "x", "page": "runs", "colour": "red"}], "more": 1}')
    assert names(home) == ["x"]


def test_many_who_save_at_once_lose_nothing(home: Home) -> None:
    threads = [threading.Thread(target=views.save, args=(home, f"v{i}", "runs")) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(home)) == 12
