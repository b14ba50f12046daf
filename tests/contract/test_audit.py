"""The log of who did what: appended, read from its end, whole after a crash."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from kdengine import audit
from kdengine.home import Home


def test_lines_are_read_newest_first(home: Home) -> None:
    assert audit.read(home) == []
    for n in range(5):
        audit.note(home, "ada@example.org" if n % 2 else "", "launch" if n < 3 else "stop", f"run {n}")
    assert [line.what for line in audit.read(home, 3)] == ["run 4", "run 3", "run 2"]
    assert [line.what for line in audit.read(home, who="ada@example.org", action="launch")] == ["run 1"]
    assert {line.who for line in audit.read(home)} == {"local", "ada@example.org"}


def test_what_was_written_never_changes(home: Home) -> None:
    audit.note(home, "ada", "launch", "first")
    before = audit.file_of(home).read_bytes()
    audit.note(home, "ada", "launch", "second")
    assert audit.file_of(home).read_bytes().startswith(before)
    assert audit.file_of(home).stat().st_mode & 0o077 == 0, "it names people"


def test_a_line_is_one_line_whatever_it_says(home: Home) -> None:
    what = 'a\nb\r\x00\u202e\u2028"}\n{"at": "forged", "who": "x", "action": "y", "what": "z"}' + "x" * 10_000
    audit.note(home, "ada", "label", what)
    assert len(audit.file_of(home).read_bytes().splitlines()) == 1
    assert [line.what for line in audit.read(home)] == [what[: audit.LONGEST]]


def test_half_a_line_swallows_none(home: Home) -> None:
    audit.note(home, "ada", "launch", "first")
    with audit.file_of(home).open("ab") as file:
        file.write(b'{"at": "2026-')
    audit.note(home, "ada", "launch", "second")
    assert [line.what for line in audit.read(home)] == ["second", "first"]


def test_a_long_file_is_read_in_blocks(home: Home) -> None:
    lines = [json.dumps({"at": "", "who": "ada", "action": "launch", "what": f"run {n} {'x' * 300}"}) for n in range(2000)]
    audit.file_of(home).write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = audit.read(home, 2000)
    assert [int(line.what.split()[1]) for line in found] == list(range(1999, -1, -1))


def test_many_at_once_lose_nothing(home: Home) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: audit.note(home, "ada", "launch", str(n)), range(60)))
    assert {line.what for line in audit.read(home)} == {str(n) for n in range(60)}
