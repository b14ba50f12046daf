"""What tests of hosting share: a lab with results and people, and its app behind nginx, once for all tests that only look."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator, Mapping
from unittest.mock import patch

import pytest

from kdengine import access
from kdengine.home import Home
from tests.hosting import lab
from tests.hosting.lab import Site
from tests.pages.seed import seed

PASSWORD = "correct horse battery staple"
PEOPLE = {"vera@example.org": "viewer", "max@example.org": "member", "ada@example.org": "admin"}
STRANGER = "eve@example.org"  # has a password of the proxy, and no entry in the lab
SETTINGS = {
    "KD_SIGN_IN": "proxy", "KD_PROXY_SECRET": lab.SECRET, "KD_ADMINS": "ada@example.org", "KD_STRANGERS": "none",
    "CUDA_VISIBLE_DEVICES": "", "KD_WORKER_MODULE": "fake_worker", "PYTHONPATH": f"{lab.ROOT}:{lab.ROOT / 'tests' / 'contract'}",
}  # fmt: skip


def signed_in(who: str, password: str = PASSWORD) -> Mapping[str, str]:
    """Return the header with which a browser sends name and password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{who}:{password}".encode()).decode()}


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a finished demo suite and people in it."""
    home = Home(tmp_path_factory.mktemp("lab") / "kd").made()
    with patch("os.fsync"):  # durable is what a test's folder need not be
        seed(home, seeds=(0,))
    for who, role in PEOPLE.items():
        access.put(home, who, role)
    return home


@pytest.fixture(scope="module")
def front(results: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The app under /kd behind nginx, which asks for passwords."""
    folder = tmp_path_factory.mktemp("front")
    site = Site(*lab.free_ports(3), base="/kd")
    with lab.app(folder, results, site.app, SETTINGS, "kd"), lab.nginx(folder, site, "passwords") as prefix:
        (prefix / "people").write_text("".join(f"{who}:{hashed(PASSWORD)}\n" for who in (*PEOPLE, STRANGER)))
        yield site


def hashed(password: str) -> str:
    """Return what a password file holds in place of a password."""
    command = [lab.program("openssl", "openssl"), "passwd", "-6", "-stdin"]
    return subprocess.run(command, input=password, text=True, capture_output=True, check=True).stdout.strip()
