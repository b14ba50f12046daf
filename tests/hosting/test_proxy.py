"""The app behind the proxies of docs/hosting: who gets through, as whom, and what does not get through."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import InvalidStatus

from kdengine import hosting
from tests.hosting import lab
from tests.hosting.conftest import PASSWORD, PEOPLE, STRANGER, signed_in
from tests.hosting.lab import Site
from tests.hosting.visitor import look

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FORGED = {hosting.PROXY_HEADER: "ada@example.org", hosting.SECRET_HEADER: "x" * 32}
ALL = [("vera", "Viewer"), ("max", "Member"), ("ada", "Admin")]


def card(name: str, role: str) -> str:
    """What the sidebar says of who is signed in."""
    return f"**{name}** :gray-badge[{role}]"


@pytest.mark.parametrize(("path", "alone", "with_password"), [
    ("/kd/", 401, 200), ("/kd/compare?metric=test_loss", 401, 200), ("/kd/_stcore/health", 401, 200),
    ("/kd/_stcore/host-config", 401, 200), ("/kd", 401, 307), ("/", 401, 404), ("/kd/healthz", 200, 200),
    ("/kd/_stcore/metrics", 404, 404), ("/kd/_stcore/agent/openapi.json", 404, 404), ("/kd/_stcore/upload_file/a/b", 404, 404),
])  # fmt: skip
def test_what_is_open(front: Site, path: str, alone: int, with_password: int) -> None:
    assert front.get(path).status == alone
    assert front.get(path, signed_in("vera@example.org")).status == with_password
    assert front.get(path, signed_in("vera@example.org", "guessed")).status == alone


def test_all_is_led_to_tls_under_the_one_name(front: Site) -> None:
    plain = front.get("/kd/compare?x=1", port=front.http)
    assert (plain.status, plain.headers["location"]) == (301, "https://localhost/kd/compare?x=1")
    assert front.get("/kd/", {"Host": "kd.evil.example", **signed_in("vera@example.org")}).status == 421
    assert front.get("/kd", signed_in("vera@example.org")).headers["location"] == f"{front.url}/"


def test_streamlits_files_are_packed_and_open(front: Site) -> None:
    page = front.get("/kd/", {"Accept-Encoding": "gzip", **signed_in("vera@example.org")})
    plain = front.get("/kd/", signed_in("vera@example.org"))
    script = next(part for part in plain.body.decode().split('"') if part.startswith("./static/js/index"))
    packed, whole = (front.get(f"/kd{script[1:]}", {"Accept-Encoding": kind}) for kind in ("gzip", "identity"))
    assert whole.status == 200 and len(packed.body) * 2 < len(whole.body)
    for answer in (page, packed):
        assert answer.headers["content-encoding"] == "gzip"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "strict-origin"
        assert answer.headers["strict-transport-security"] and answer.headers["server"] == "nginx"


def test_cookies_travel_over_tls_alone(front: Site) -> None:
    assert "; Secure" in front.get("/kd/_stcore/health", signed_in("vera@example.org")).headers["set-cookie"]


def test_a_link_may_be_long_and_a_body_may_not(front: Site) -> None:
    assert front.get(f"/kd/sql?q={'select%201%20' * 4500}", signed_in("vera@example.org")).status == 200
    assert front.get("/kd/", signed_in("vera@example.org"), body=b"x" * 2_000_000).status == 413


def test_health_is_for_the_machine_alone(front: Site) -> None:
    assert front.get("/kd/healthz", source="127.0.0.2").status == 403


def test_a_class_behind_one_address_gets_in_and_a_flood_does_not(front: Site) -> None:
    answers = []
    link = front.link(front.port, "127.0.0.3")  # an address of its own, so that the other tests are not held up
    for _ in range(700):
        link.request("GET", "/kd/_stcore/health")
        answer = link.getresponse()
        answer.read()
        answers.append(answer.status)
    link.close()
    assert set(answers[:240]) == {401}, "forty visits of six requests"
    assert 429 in answers[400:]


@pytest.mark.parametrize(("name", "role"), ALL)
def test_whoever_signs_in_is_who_they_are(front: Site, name: str, role: str) -> None:
    mine = signed_in(f"{name}@example.org")
    assert card(name, role) in look(front.url, mine)
    assert card(name, role) in look(front.url, {**mine, **FORGED}), "a claim of the visitor came through"
    twice = [*mine.items(), *FORGED.items(), *FORGED.items()]
    assert card(name, role) in look(front.url, twice)


@pytest.mark.parametrize(("name", "page", "refused"), [
    ("vera", "train", "This page is for members"), ("vera", "server", "This page is for admins"), ("max", "train", ""),
    ("max", "server", "This page is for admins"), ("ada", "server", ""),
])  # fmt: skip
def test_each_role_finds_its_pages(front: Site, name: str, page: str, refused: str) -> None:
    seen = look(front.url, signed_in(f"{name}@example.org"), page)
    assert refused in seen if refused else "This page is for" not in seen


def test_without_an_entry_nobody_gets_in(front: Site) -> None:
    seen = look(front.url, signed_in(STRANGER))
    assert "An admin has to let you in first" in seen and "gray-badge" not in seen
    assert "Nothing has been trained" not in seen and "leaderboard" not in seen.lower()
    with pytest.raises(InvalidStatus, match="401"):
        look(front.url)
    with pytest.raises(InvalidStatus, match="401"):
        look(front.url, FORGED)


@pytest.mark.parametrize("claims", [
    {}, {hosting.PROXY_HEADER: "ada@example.org"}, FORGED, signed_in("ada@example.org"),
    {hosting.PROXY_HEADER: "ada@example.org", hosting.SECRET_HEADER: lab.SECRET[:-1]},
    {hosting.PROXY_HEADER: "ada@example.org", hosting.SECRET_HEADER: lab.SECRET.upper()},
])  # fmt: skip
def test_past_the_proxy_everybody_is_nobody(front: Site, claims: Mapping[str, str]) -> None:
    seen = look(f"http://localhost:{front.app}/kd", claims)
    assert "This address is for the proxy of the lab" in seen and "gray-badge" not in seen


def test_only_pages_of_this_host_open_a_live_connection(front: Site) -> None:
    mine = signed_in("vera@example.org")
    strangers = (
        "https://evil.example",
        "http://localhost:3000",
        "https://localhost",
        "null",
        f"https://localhost:{front.port}.ev.il",
    )
    for origin in strangers:
        with pytest.raises(InvalidStatus, match="403"):
            look(front.url, {**mine, "Origin": origin})
        refused = front.get("/kd/_stcore/stream", {**mine, "Origin": origin})
        assert refused.status == 403 and b"nginx" in refused.body, "the app would refuse it too, but nginx came first"
    assert card("vera", "Viewer") in look(front.url, {**mine, "Origin": front.url.removesuffix("/kd")})


def test_the_secret_stays_between_proxy_and_app(front: Site) -> None:
    for who in PEOPLE:
        assert lab.SECRET not in look(front.url, signed_in(who))


def test_no_visitor_stops_the_server_for_all(front: Site) -> None:
    look(front.url, signed_in("vera@example.org"), says=[BackMsg(clear_cache=True).SerializeToString()])
    time.sleep(1.5)  # how it is, is looked at once a second
    assert front.get("/healthz", port=front.app).status == 200, "a message of one visitor ended the pulse of everybody"


# ---- other ways to sign in, in front of the same app ---------------------------------------------------------------------------


@pytest.fixture
def gate() -> Iterator[int]:
    """What nginx sees of oauth2-proxy: 202 and an address for whoever has its cookie, 401 for others, a page to sign in."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kept = dict(part.split("=", 1) for part in self.headers.get("Cookie", "").split("; ") if "=" in part)
            who, inside = kept.get("_oauth2_proxy"), self.path == "/oauth2/auth"
            self.send_response(202 if inside and who else 401 if inside else 200)
            if inside and who:
                self.send_header("X-Auth-Request-Email", who)
            self.send_header("Set-Cookie", "_oauth2_proxy=renewed; Secure")
            self.end_headers()
            self.wfile.write(b"" if inside else f"sign in, then go to {self.headers.get('X-Auth-Request-Redirect')}".encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def elsewhere(front: Site) -> Site:
    """Another door to the same app."""
    port, http = lab.free_ports(2)
    return replace(front, port=port, http=http)


def test_oauth2_proxy_says_who_asks(front: Site, gate: int, tmp_path: Path) -> None:
    site = elsewhere(front)
    with lab.nginx(tmp_path, site, "oauth2-proxy", gate):
        asked = site.get("/kd/compare?metric=test_loss&x=1")
        assert asked.body == b"sign in, then go to /kd/compare?metric=test_loss&x=1"
        mine = {"Cookie": "_oauth2_proxy=max@example.org"}
        assert site.get("/kd/", mine).headers["set-cookie"].startswith("_oauth2_proxy=renewed")
        assert card("max", "Member") in look(site.url, {**mine, **FORGED, "X-Auth-Request-Email": "ada@example.org"})
        with pytest.raises(InvalidStatus):
            look(site.url, {**FORGED, "X-Auth-Request-Email": "ada@example.org"})
        assert site.get("/oauth2/auth", mine).status == 404, "for nginx alone"
        assert site.get("/kd/static/nothing.js").status == 200


def test_caddy_does_the_same(front: Site, tmp_path: Path) -> None:
    site, program = elsewhere(front), lab.program("caddy")
    made = subprocess.run([program, "hash-password", "--plaintext", PASSWORD], capture_output=True, text=True, check=True)
    with lab.caddy(tmp_path, site, f"max@example.org {made.stdout}"):
        mine = signed_in("max@example.org")
        assert [site.get("/kd/", headers).status for headers in ({}, signed_in("max@example.org", "guessed"))] == [401, 401]
        page = site.get("/kd/", {**mine, "Accept-Encoding": "gzip"})
        assert page.status == 200 and page.headers["content-encoding"] == "gzip"
        assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
        assert "; Secure" in site.get("/kd/_stcore/health", mine).headers["set-cookie"]
        assert card("max", "Member") in look(site.url, {**mine, **FORGED, "Origin": f"https://localhost:{site.port}"})
        for claims in ({}, FORGED, {**mine, "Origin": "https://evil.example"}):
            with pytest.raises(InvalidStatus, match="40[13]"):
                look(site.url, claims)
        assert [site.get(path).status for path in ("/kd/healthz", "/kd/static/nothing.js")] == [200, 200]
        assert site.get("/kd/healthz", source="127.0.0.2").status == 403
        closed = ("metrics", "agent/openapi.json", "upload_file/a/b")
        assert [site.get(f"/kd/_stcore/{path}", mine).status for path in closed] == [404] * 3
        assert site.get("/kd/x", port=site.http).headers["location"] == "https://localhost/kd/x"
        assert site.get(f"/kd/sql?q={'x' * 60_000}", mine).status == 200
        assert site.get("/kd/", {**mine, "Host": "kd.evil.example"}).body == b"", "another name finds nothing"
        log = (tmp_path / "kd-explorer.log").read_text()
        assert "xxxx" not in log and "Authorization" not in log
