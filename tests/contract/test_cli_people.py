"""The commands about people and what they did."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from kdengine import access, audit
from kdengine.cli import app
from kdengine.home import Home


def kd(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_people_are_added_listed_and_removed(home: Home) -> None:
    assert "Nobody is on the list" in kd("people").stdout
    assert "ada (ada@example.org) is now member" in kd("people", "add", "Ada@example.org", "--queued-runs", "5").stdout
    assert "admin" in kd("people", "add", "ada@example.org", "--role", "admin").stdout
    (shown,) = json.loads(kd("people", "list", "--json").stdout)
    assert shown == {"who": "ada@example.org", "name": "ada", "role": "admin", "quota": {"queued_runs": 5}}
    assert "ada@example.org" in kd("people", "list").stdout
    assert "off the list" in kd("people", "remove", "ada").stdout and not access.load(home).entries


@pytest.mark.parametrize(
    "arguments",
    [("add", "a b"), ("add", "ada@example.org", "--role", "nobody"), ("add", "ada@example.org", "--name", "../x"),
     ("add", "ada@example.org", "--queued-runs", "2.5"), ("remove", "eve")],
)  # fmt: skip
def test_a_wrong_wish_is_explained(home: Home, arguments: tuple[str, ...]) -> None:
    done = kd("people", *arguments)
    assert done.exit_code == 2 and "given" in done.stderr and "next" in done.stderr
    assert not access.load(home).entries and not audit.read(home)


def test_what_was_done_is_shown_newest_first(home: Home) -> None:
    assert "Nothing was done" in kd("audit").stdout and json.loads(kd("audit", "--json").stdout) == []
    for n in range(60):
        audit.note(home, "ada@example.org" if n % 2 else "", "launch", f"run {n}")
    kd("people", "add", "bob@example.org")
    lines = json.loads(kd("audit", "--json").stdout)
    assert len(lines) == 50 and (lines[0]["who"], lines[0]["action"]) == ("shell", "people")
    assert len(json.loads(kd("audit", "--all", "--json").stdout)) == 61
    assert {line["who"] for line in json.loads(kd("audit", "--who", "local", "--json").stdout)} == {"local"}
    assert "bob@example.org is now member" in kd("audit", "--action", "people").stdout
