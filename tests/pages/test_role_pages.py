"""What each kind of person finds on the pages, through the headers of a proxy: buttons that are not for them are not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from kdengine import access, views
from kdengine.home import Home
from kdengine.rundir import RunDir
from pages.parts import actions, entrance, frame, state, who
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded

SECRET = "0123456789abcdef" * 3
MEMBERS, ADMINS = {"mia", "max", "ann"}, {"ann"}
OWNERS = {"mia", "ann"}
Come = Callable[[str], None]


@pytest.fixture
def come(home: Home, monkeypatch: pytest.MonkeyPatch) -> Come:
    """Come as somebody: ``vera`` reads, ``mia`` and ``max`` are members, ``ann`` is an admin; "" has no header."""
    for name, role in (("vera", "viewer"), ("mia", "member"), ("max", "member")):
        access.put(home, f"{name}@example.org", role)
    monkeypatch.setenv("KD_ADMINS", "ann@example.org")
    monkeypatch.setenv("KD_SIGN_IN", "proxy")
    monkeypatch.setenv("KD_PROXY_SECRET", SECRET)

    def come_(name: str) -> None:
        said = {"X-KD-Proxy-Secret": [SECRET], "X-Forwarded-Email": [f"{name}@example.org"]} if name else {}
        monkeypatch.setattr(who, "headers", lambda header: said.get(header, []))

    return come_


@pytest.fixture
def owned(live: Seeded, home: Home) -> Seeded:
    """The scene with one run of every status, all of them mia's, and a view of hers."""
    for run_id in live.other.values():
        file = RunDir(home.runs / run_id).spec_json
        file.write_text(json.dumps(json.loads(file.read_text()) | {"owner": "mia"}))
    views.save(home, "mias view", "", "", "mia")
    return live


def keys(app: AppTest) -> set[str]:
    assert not app.exception, app.exception[0].message
    return {element.key for kind in (app.button, app.multiselect, app.text_input) for element in kind if element.key}


def text(app: AppTest) -> str:
    kinds = (app.title, app.markdown, app.caption, app.error, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def links(app: AppTest) -> set[str]:
    return {link.proto.page for link in app.get("page_link")} | {link.proto.label for link in app.get("page_link")}


def pages_of(app: AppTest) -> set[str]:
    """Return the pages that the list offers or that are reached from others: files, not the signs in their place."""
    return {Path(page["script_path"]).stem for page in app._registered_pages.values() if page["script_path"]}


def again(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Run a page in its frame: AppTest by itself runs the page's file without app.py, as a fresh server may."""
    monkeypatch.setattr(frame, "_up", False)
    return app.run()


EVERYBODY, ROLES = ["vera", "mia", "max", "ann"], ["vera", "mia", "ann"]


@pytest.mark.parametrize("name", ROLES)
def test_the_list_of_pages(visit: Visit, come: Come, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    come(name)
    app = again(visit("home"), monkeypatch)
    found = pages_of(app)
    assert {"home", "methods", "about_networks_data", "runs", "run", "compare", "race"} <= found
    assert ("train" in found, "server" in found) == (name in MEMBERS, name in ADMINS)
    assert ("run-demo" in keys(app)) == (name in MEMBERS)
    role = "Admin" if name in ADMINS else "Member" if name in MEMBERS else "Viewer"
    assert role in text(app) and "@" not in text(app)


@pytest.mark.parametrize("page", ["train", "server"])
def test_a_page_that_is_not_for_somebody_is_not_drawn(
    visit: Visit, come: Come, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    """Also where Streamlit runs the file of the page by itself, as it does in a server that has drawn no page yet."""
    come("ann")
    app = visit(page)
    assert keys(app) & {"launch", "new-who"}
    come("vera")
    app = app.run()
    assert not {element.key for element in app.button} & {"launch", "add-person"} and not app.text_input
    app = again(app, monkeypatch)
    assert not app.exception and f"This page is for {'member' if page == 'train' else 'admin'}s" in text(app) and not keys(app)


@pytest.mark.parametrize("name", EVERYBODY)
@pytest.mark.parametrize(("status", "button"), [("queued", "stop"), ("failed", "resume")])
def test_a_run_is_stopped_resumed_labelled_and_removed_by_its_owner(
    visit: Visit, come: Come, owned: Seeded, name: str, status: str, button: str
) -> None:
    come(name)
    app = visit("run", run=owned.other[status])
    app.session_state["labels"] = app.session_state["remove-run"] = True
    found = keys(app.run())
    assert (f"{button}-run" in found) == (name in OWNERS)
    assert ("retry-run" in found) == (name in MEMBERS and status != "queued")
    assert any(key.startswith("tags-") for key in found) == (name in OWNERS)
    assert ("remove-run-now" in found) == (name in OWNERS and status != "queued")


def test_a_button_of_somebody_elses_run_that_is_pressed_all_the_same_does_nothing(
    visit: Visit, come: Come, owned: Seeded, home: Home
) -> None:
    """The page was drawn for its owner; then somebody else asks in the same session."""
    come("mia")
    run_id = owned.other["queued"]
    app = visit("run", run=run_id)
    button = app.button(key="stop-run")
    come("max")
    button.click().run()
    assert not RunDir(home.runs / run_id).events_bytes() and not app.exception
    come("mia")
    app = visit("run", run=owned.other["failed"])
    button = app.button(key="retry-run")
    come("vera")
    before = len(list(home.runs.iterdir()))
    button.click().run()
    assert len(list(home.runs.iterdir())) == before and not app.exception


@pytest.mark.parametrize("name", EVERYBODY)
def test_the_list_of_runs(visit: Visit, come: Come, owned: Seeded, name: str) -> None:
    come(name)
    app = visit("runs")
    places = app.dataframe[0].value["Owner"].tolist()
    chosen = [place for place, owner in enumerate(places) if owner == "mia"]
    app.session_state["runs-table"] = {"selection": {"rows": chosen, "columns": [], "cells": []}}
    app = app.run()
    assert ({"Stop", "Resume"} <= keys(app)) == (name in OWNERS)
    assert ("Repeat" in keys(app)) == (name in MEMBERS) and "compare" in keys(app)


def test_a_run_of_somebody_else_in_the_state_of_a_session(
    visit: Visit, come: Come, owned: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever rows a browser says are selected: what is not one's own has no button, and the door asks again."""
    come("max")
    stopped: list[str] = []
    monkeypatch.setattr(actions, "stop", stopped.append)
    app = visit("runs")
    app.session_state["runs-table"] = {"selection": {"rows": list(range(19)), "columns": [], "cells": []}}
    app = app.run()
    assert not {"Stop", "Resume"} & keys(app) and not stopped


@pytest.mark.parametrize("name", ROLES)
def test_datasets_and_measurement(visit: Visit, come: Come, name: str) -> None:
    come(name)
    assert any(key.startswith("fetch-shelf") for key in keys(visit("about_networks_data", tab="data"))) == (name in MEMBERS)
    assert ("measure-latency" in keys(visit("about_networks_data"))) == (name in ADMINS)


@pytest.mark.parametrize("name", ROLES)
def test_training_from_other_pages(visit: Visit, come: Come, seeded: Seeded, name: str) -> None:
    come(name)
    assert ("replicate-train" in keys(visit("compare", tab="replicate"))) == (name in MEMBERS)
    assert ("**Train with this method**" in links(visit("methods", method="kd"))) == (name in MEMBERS)


@pytest.mark.parametrize("name", EVERYBODY)
def test_saved_views(visit: Visit, come: Come, owned: Seeded, name: str) -> None:
    come(name)
    app = visit("home")
    app.session_state["views"] = True
    found = keys(app.run())
    assert any(key.startswith("views-name") for key in found) == (name in MEMBERS)
    app.session_state["views-renaming"] = "mias view"
    assert ("views-new-name-mias view" in keys(app.run())) == (name in OWNERS)


def test_a_limit_is_told_before_and_when_it_is_reached(visit: Visit, come: Come, home: Home) -> None:
    access.put(home, "mia@example.org", "member", quota={"queued_runs": 1, "disk_mib": 5})
    come("mia")
    app = visit("train", method="base")
    assert "You have 0 of 1 run waiting and taken" in text(app)
    app.button(key="launch").click().run()
    assert len(list(home.runs.iterdir())) == 1 and not app.error
    app = visit("train", method="base")
    assert "You have 1 of 1 run waiting" in text(app)
    app.button(key="launch").click().run()
    assert not app.exception and "Nothing was launched" in text(app) and "2 runs in the queue" in text(app)
    assert len(list(home.runs.iterdir())) == 1
    come("ann")
    assert "You have" not in text(visit("train"))


def test_a_viewer_is_not_sent_to_train(visit: Visit, come: Come) -> None:
    come("vera")
    for page in ("home", "runs", "compare", "race"):
        app = visit(page)
        assert "empty-state" not in keys(app) and not {link for link in links(app) if link in ("train", "Train a student")}, page
    come("mia")
    assert "empty-state" in keys(visit("runs"))


@pytest.mark.parametrize("page", ["home", "runs", "run", "compare", "race", "methods", "about_networks_data", "train", "server"])
def test_without_a_name_nothing_is_drawn_or_fetched(
    visit: Visit, come: Come, seeded: Seeded, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    come("ann")
    app = visit(page, **({"run": seeded.teacher} if page == "run" else {}))
    come("")
    monkeypatch.setattr("pages.parts.fetch.ask", lambda *_, **__: pytest.fail("the results were asked"))
    monkeypatch.setattr("pages.parts.pulse.of", lambda: pytest.fail("the pulse was asked"))
    app = app.run()
    assert not app.exception and [title.value for title in app.title] == ["KD Explorer"]
    assert not pages_of(app), "no address says what is there"
    assert "Open the one that you were given" in text(app) and not keys(app) and not app.dataframe
    assert "demo" not in text(app)


def test_strangers_who_may_not_read(visit: Visit, come: Come, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_STRANGERS", "none")
    come("eve")
    assert "An admin has to let you in first" in text(visit("home")) and "eve@example.org" in text(visit("home"))
    come("vera")
    assert "Train small networks" in text(visit("home"))


def test_limits_of_one_person(visit: Visit, come: Come, home: Home) -> None:
    access.limit_all(home, {"gpu_hours": 10.0})
    access.put(home, "mia@example.org", "member", quota={"gpu_hours": None, "disk_mib": 500.0})
    come("ann")
    app = visit("server", tab="people")
    field = app.number_input(key="limit-mia-gpu_hours")
    assert (field.value, field.placeholder, field.help) == (None, "no limit", "No limit for this person")
    assert app.number_input(key="limit-max-gpu_hours").placeholder == "10"
    app.number_input(key="limit-mia-queued_runs").set_value(3)
    save = [button for button in app.button if button.label == "Save" and button.proto.form_id == "person-mia"]
    save[0].click().run()
    mia = access.load(home).entry("mia@example.org")
    assert mia is not None and mia.quota == {"gpu_hours": None, "disk_mib": 500.0, "queued_runs": 3}, "what it cannot say stays"


def test_the_way_to_sign_in(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_SIGN_IN", "oidc")
    monkeypatch.setattr(who, "faults", tuple)
    monkeypatch.setattr(who, "secrets", lambda: {"auth": {"lab": {"client_id": "kd"}}})
    monkeypatch.setattr(who, "claimed", dict)
    monkeypatch.setenv("KD_STRANGERS", "public")
    app = again(visit("home"), monkeypatch)
    assert (
        "sign-in-sidebar-lab" in keys(app)
        and "as a visitor" in text(app)
        and "Sign in with Lab" in {button.label for button in app.sidebar.button}
    )
    monkeypatch.delenv("KD_STRANGERS")
    app = visit("home")
    assert keys(app) == {"sign-in-entrance-lab"} and [title.value for title in app.title] == ["KD Explorer"]
    monkeypatch.setattr(who, "claimed", lambda: {"is_logged_in": True, "email": "eve@example.org", "email_verified": False})
    assert "no verified e-mail address" in text(visit("home"))
    monkeypatch.setenv("KD_ADMINS", "ann@example.org")
    monkeypatch.setattr(who, "claimed", lambda: {"is_logged_in": True, "email": "ann@example.org"})
    assert "sign-out" in keys(again(visit("home"), monkeypatch))


def test_a_wrong_configuration_is_all_that_is_shown(visit: Visit, seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_MODE", "prod")
    monkeypatch.setenv("KD_SIGN_IN", "saml")
    monkeypatch.setattr("pages.parts.pulse.of", lambda: pytest.fail("the pulse was asked"))
    app = visit("home")
    assert [title.value for title in app.title] == ["KD Explorer is not configured rightly"]
    assert "KD" in app.error[0].value and "saml" in app.error[0].value and not keys(app)


def test_a_role_that_is_taken_away_counts_at_the_next_click(
    visit: Visit, come: Come, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    come("mia")
    app = again(visit("home"), monkeypatch)
    assert "run-demo" in keys(app) and "train" in pages_of(app)
    access.put(home, "mia@example.org", "viewer")
    app = again(app, monkeypatch)
    assert "run-demo" not in keys(app) and "train" not in pages_of(app)


def test_what_each_role_may_do_is_said_for_each() -> None:
    assert set(entrance.ROLES) == set(access.Role) - {access.Role.NOBODY}


@pytest.mark.parametrize("allowed", [True, False])
def test_a_live_part_asks_who_looks_before_it_draws_again(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(state.pulse, "of", lambda: SimpleNamespace(period_s=lambda reader: 2.0, spent=lambda *_: None))
    monkeypatch.setattr(state.st, "fragment", lambda part, run_every: part)
    monkeypatch.setattr(state.st, "rerun", lambda scope: (_ for _ in ()).throw(InterruptedError(scope)))
    monkeypatch.setattr(state, "_by_itself", lambda: True)
    monkeypatch.setattr(who, "may", lambda action: allowed and action == "read")
    if allowed:
        state.live(lambda: drawn.append("results"), busy=True)
    else:
        with pytest.raises(InterruptedError, match="app"):
            state.live(lambda: drawn.append("results"), busy=True)
    assert drawn == (["results"] if allowed else [])
