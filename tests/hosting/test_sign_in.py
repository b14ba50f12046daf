"""The app asks an identity provider itself: the whole way in a browser, and what a cookie must be to count."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

from kdengine.home import Home
from tests.browser.conftest import FLAGS, chromium
from tests.hosting import lab
from tests.hosting.lab import GUIDE, ROOT, Site
from tests.hosting.provider import CLIENT_ID, CLIENT_SECRET, Provider
from tests.hosting.visitor import look

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COOKIE_SECRET = "a cookie secret of this test alone, long enough"
ADMINS = {"KD_SIGN_IN": "oidc", "KD_ADMINS": "ada@example.org", "KD_STRANGERS": "none", "CUDA_VISIBLE_DEVICES": ""}
INVITATION = "Results of knowledge distillation, for members of the lab."


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """An identity provider."""
    made = Provider()
    yield made
    made.close()


@pytest.fixture(scope="module")
def site(results: Home, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The app on http and loopback, with secrets where docs/hosting.md puts them."""
    folder = tmp_path_factory.mktemp("oidc")
    (port,) = lab.free_ports(1)
    secrets(folder, f"http://localhost:{port}/kd/oauth2callback", provider)
    with lab.app(folder, results, port, ADMINS, "kd"):
        yield Site(0, port, port, "/kd")


def secrets(folder: Path, redirect: str, provider: Provider, **other: str) -> Path:
    """Fill in docs/hosting/secrets.toml.example in the home of the service's user; ``other``: lines that differ."""
    lines = {
        'redirect_uri = "https://kd.example.org/oauth2callback"': f'redirect_uri = "{redirect}"',
        'cookie_secret = ""': f'cookie_secret = "{COOKIE_SECRET}"',
        'client_id = "kd-explorer"': f'client_id = "{CLIENT_ID}"',
        'client_secret = ""': f'client_secret = "{CLIENT_SECRET}"',
        "https://login.example.org/.well-known/openid-configuration": provider.metadata_url,
    }
    file = folder / ".streamlit" / "secrets.toml"
    file.parent.mkdir()
    file.write_text(lab.changed((GUIDE / "secrets.toml.example").read_text(), lines))
    return file


def cookies(site: Site, claims: dict[str, object] | None, secret: str = COOKIE_SECRET, spoil: bool = False) -> tuple[str, str]:
    """Return the cookies of somebody whom the provider made these claims of, and the token that goes with them."""
    asked = site.get(f"{site.base}/_stcore/health", port=site.app)
    xsrf = asked.headers["set-cookie"].split(";")[0].partition("=")[2]
    told = {"origin": f"http://localhost:{site.app}", "is_logged_in": True, "provider": "default"}
    signed = create_signed_value(secret, "_streamlit_user", json.dumps({**told, **(claims or {})})).decode()
    if spoil:
        signed = signed[:-2] + ("AA" if signed[-2:] != "AA" else "BB")
    return f"_streamlit_xsrf={xsrf}" + (f'; _streamlit_user="{signed}"' if claims is not None else ""), xsrf


def seen_by(site: Site, claims: dict[str, object] | None, **how: object) -> str:
    """Return what the app shows to somebody with such cookies."""
    cookie, xsrf = cookies(site, claims, **how)
    address = f"http://localhost:{site.app}"
    return look(f"{address}{site.base}", {"Cookie": cookie, "Origin": address}, xsrf=xsrf)


ADA = {"email": "ada@example.org", "email_verified": True}


def test_a_cookie_of_ours_counts(site: Site) -> None:
    assert "**ada** :gray-badge[Admin]" in seen_by(site, ADA)
    assert "**max** :gray-badge[Member]" in seen_by(site, {"email": "Max@Example.org", "email_verified": True})


def test_without_a_cookie_one_is_invited_to_sign_in(site: Site) -> None:
    seen = seen_by(site, None)
    assert INVITATION in seen and "gray-badge" not in seen


@pytest.mark.parametrize("how", [{"secret": "another cookie secret, as long as the one before"}, {"spoil": True}, {"secret": ""}])
def test_a_forged_cookie_counts_for_nothing(site: Site, how: dict[str, object]) -> None:
    seen = seen_by(site, ADA, **how)
    assert INVITATION in seen and "gray-badge" not in seen


def test_a_cookie_must_say_that_somebody_signed_in(site: Site) -> None:
    assert INVITATION in seen_by(site, {**ADA, "is_logged_in": False})
    assert INVITATION in seen_by(site, {**ADA, "origin": "https://elsewhere.example.org"})


def test_a_cookie_counts_for_this_address_alone(site: Site) -> None:
    cookie, xsrf = cookies(site, ADA)
    address = f"http://localhost:{site.app}{site.base}"
    assert INVITATION in look(address, {"Cookie": cookie}, xsrf=xsrf), "without an origin nobody knows where the page stands"
    assert INVITATION in look(address, {"Cookie": cookie, "Origin": f"http://localhost:{site.app}"}), "the token was not sent"


@pytest.mark.parametrize("claims", [
    {"email": "ada@example.org", "email_verified": False}, {"email": "ada@example.org", "email_verified": "false"},
    {"name": "ada@example.org"}, {"email": ["ada@example.org"]}, {"email": "ada@example.org,max@example.org"},
    {"email": "аda@example.org"}, {"preferred_username": "ada@example.org", "email_verified": True},
])  # fmt: skip
def test_who_has_no_verified_address_is_nobody(site: Site, claims: dict[str, object]) -> None:
    seen = seen_by(site, claims)
    assert "Your sign-in has no verified e-mail address" in seen and "gray-badge" not in seen


def test_a_proxys_header_means_nothing_here(site: Site) -> None:
    claims = {"X-Forwarded-Email": "ada@example.org", "X-KD-Proxy-Secret": lab.SECRET}
    assert INVITATION in look(f"http://localhost:{site.app}{site.base}", claims)


@pytest.mark.parametrize(("line", "wrong", "said"), [
    (f'cookie_secret = "{COOKIE_SECRET}"', 'cookie_secret = "short"', "auth.cookie_secret"),
    ("", "", "no .streamlit/secrets.toml"),
])  # fmt: skip
def test_secrets_that_do_not_fit_start_nothing(
    results: Home, provider: Provider, line: str, wrong: str, said: str, tmp_path: Path
) -> None:
    file = secrets(tmp_path, "http://localhost:8501/kd/oauth2callback", provider)
    if line:
        file.write_text(lab.changed(file.read_text(), {line: wrong}))
    else:
        shutil.rmtree(file.parent)
    (port,) = lab.free_ports(1)
    command = [sys.executable, "-m", "kdengine.serve", "--port", str(port), "--exact-port", "--base-url", "kd"]
    env = {**lab.environment(tmp_path, results, ADMINS), "COLUMNS": "200"}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=40)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "KD Explorer does not start" in done.stderr and re.search(said, done.stderr), done.stderr
    assert "short" not in done.stderr.replace("a short one", "") and CLIENT_SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.browser
def test_in_and_out_by_the_provider(site: Site, provider: Provider, tmp_path: Path) -> None:
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(tmp_path, executable_path=path, headless=True, args=FLAGS)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(f"http://localhost:{site.app}/kd/runs")
        page.get_by_text(INVITATION).wait_for()
        assert page.get_by_test_id("stSidebarNav").count() == 0, "pages are offered to strangers"

        provider.refuses = True
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text(INVITATION).wait_for()
        provider.refuses = False
        provider.claims = {"email": "max@example.org", "email_verified": False}
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("Your sign-in has no verified e-mail address").wait_for()

        provider.claims = {"email": "max@example.org", "email_verified": True}
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("Member", exact=True).wait_for()
        assert provider.redirects[-1] == f"http://localhost:{site.app}/kd/oauth2callback"
        page.get_by_role("link", name="Train", exact=True).first.wait_for()
        assert page.get_by_role("link", name="Server", exact=True).count() == 0, "for admins alone"
        kept = {cookie["name"]: cookie for cookie in context.cookies()}
        assert kept["_streamlit_user"]["httpOnly"] and kept["_streamlit_user"]["path"] == "/kd"
        page.reload()
        page.get_by_text("Member", exact=True).wait_for()

        page.get_by_role("button", name="Sign out").click()
        page.get_by_text(INVITATION).wait_for()
        assert "/leave" in provider.asked and urlsplit(page.url).path == "/kd/"
        assert "_streamlit_user" not in {cookie["name"] for cookie in context.cookies()}
        context.close()
