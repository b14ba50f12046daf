"""The tab on health: how the server is, what the doctor and verify found, backups, and the buttons for an admin."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from streamlit.testing.v1 import AppTest

from kdengine import audit, errands
from kdengine.errands import Errand
from kdengine.errors import KdError
from kdengine.home import Home
from pages.parts import health, pulse
from pages.parts.pulse import Trouble
from pages.parts.server import health as tab
from store import backup, nightly, sandbox, verify
from store.verify import Verified
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded

FAULT = KdError.of("a full disk", "room on it", "make room").problems[0]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    tab.seen.clear()
    tab.walls.clear()


def text(app: AppTest) -> str:
    assert not app.exception, app.exception[0].message
    kinds = (app.markdown, app.error, app.warning, app.subheader, app.caption)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def keys(app: AppTest) -> set[str]:
    return {button.key for button in app.button if button.key}


def test_an_empty_home_says_what_will_be_here(visit: Visit) -> None:
    app = visit("server", tab="health")
    said = text(app)
    assert "This server is well" in said and "no backup yet" in said and "has not been compared" in said
    assert {"backup-now", "verify-now"} <= keys(app)


def test_what_keeps_free_sql_in_is_told(visit: Visit, live: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "isolation", lambda home: {"files": True, "calls": True})
    assert "statements run" not in text(visit("server", tab="health"))
    assert "shut in by 2 walls" in tab.walls("held")[0].found
    tab.walls.clear()
    monkeypatch.setattr(sandbox, "isolation", lambda home: {"files": False, "calls": True})
    assert "statements run without: files" in text(visit("server", tab="health")).replace("\\", "")


def test_what_was_found_and_made_is_listed(visit: Visit, live: Seeded, home: Home) -> None:
    with patch("os.fsync"):
        made = backup.make(home)
    verify.keep(home, Verified(datetime.now(UTC).isoformat(), "database", 17, 34, (FAULT,), ("1 runs have more",)))
    app = visit("server", tab="health")
    said = text(app)
    assert live.other["lost"] in said.replace("\\", "") and "python -m kdengine resume" in said, "the doctor's advice"
    assert "1 finding in 17 runs and 34 epochs" in said and "make room" in said and "1 runs have more." in said
    shown = next(element.value for element in app.dataframe if "Weights" in element.value)
    assert list(shown["Name"]) == [made.name] and shown["Runs"][0] == made.counts["runs"] and "just now" in list(shown["Made"])
    assert "last 7 days and 4 weeks" in said
    home.settings.write_text('{"backups": false}')
    assert "switched off" in text(app.run())
    verify.keep(home, Verified(datetime.now(UTC).isoformat(), "snapshot", 17, 34))
    assert "Sound: 17 runs and 34 epochs, just now" in text(app.run())


def test_a_server_that_is_not_well_says_so(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit("server", tab="health")
    monkeypatch.setattr(health, "DISK_LOW_MIB", 1e12)
    pulse.of().troubles.append(Trouble(datetime.now(UTC), "making a backup", (FAULT,)))
    said = text(app.run())
    assert "Not well: disk." in said and "While making a backup" in said
    app.session_state["drawer-health-faults"] = True
    assert "1 fault since the server started" in {box.label for box in app.run().expander}


def test_the_buttons_start_errands_and_are_noted(visit: Visit, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Errand] = []
    monkeypatch.setattr(errands, "start", lambda home, errand: bool(started.append(errand)) or True)
    app = visit("server", tab="health")
    for key in ("backup-now", "verify-now"):
        next(button for button in app.button if button.key == key).click().run()
    assert started == [nightly.ERRAND, verify.ERRAND]
    assert [(line.action, line.what) for line in audit.read(home, 5)] == [("server", "verify"), ("server", "a backup")]


def test_work_under_way_and_work_that_failed_are_shown(visit: Visit, home: Home) -> None:
    with errands.Recorder(home, nightly.ERRAND) as note:
        note.step("backup", 10)
        app = visit("server", tab="health")
        assert "backup-now" not in keys(app) and "verify-now" in keys(app)
        assert [bar.proto.text for bar in app.get("progress")] == ["Under way"]
    with pytest.raises(KdError), errands.Recorder(home, nightly.ERRAND):
        raise KdError(FAULT)
    app.run()
    assert "backup-now" in keys(app) and "The last one did not end well" in text(app)
