"""A lab's server as docs/hosting.md builds it, on loopback: the app behind nginx or Caddy with the files of docs/hosting.

Reads: docs/hosting. Writes: the test's folder. Never: an address other than 127.0.0.1, the machine's own nginx.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from kdengine.home import Home

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "hosting"
SECRET = "0123456789abcdef0123456789abcdef"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
START_S = 90


@dataclass(frozen=True)
class Answer:
    """What came back: ``headers`` with names in small letters, the last of a name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Site:
    """An address that browsers open. ``base``: "" or "/kd"; ``http``: port that speaks no TLS; ``app``: port behind the proxy."""

    port: int
    http: int
    app: int
    base: str = ""

    @property
    def url(self) -> str:
        """Where the app is."""
        return f"https://localhost:{self.port}{self.base}"

    def get(
        self, path: str, headers: Mapping[str, str] = NO_HEADERS, *, port: int = 0, source: str = "127.0.0.1", body: bytes = b"",
    ) -> Answer:  # fmt: skip
        """Ask for a path of the whole host, over TLS unless ``port`` is another, from the address ``source`` of this machine."""
        with contextlib.closing(self.link(port or self.port, source)) as link:
            link.request("POST" if body else "GET", path, body=body or None, headers=dict(headers))
            answer = link.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def link(self, port: int, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """Return a connection to a port, for several requests."""
        if port != self.port:
            return http.client.HTTPConnection("localhost", port, timeout=20, source_address=(source, 0))
        context = ssl._create_unverified_context()  # a certificate of the test's own
        return http.client.HTTPSConnection("localhost", port, timeout=20, source_address=(source, 0), context=context)


def program(name: str, package: str = "") -> str:
    """Return the path of a program. Without it the test is skipped; in CI it fails where .ci/run installs it, as ``package``."""
    found = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    if found is None and package and os.environ.get("CI") == "true":
        pytest.fail(f"no {name} on this machine; .ci/run installs it")
    if found is None:
        pytest.skip(f"no {name} here; install it (Debian: apt-get install {package or name})")
    return found


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nobody listens."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost that its own key signs; return it and the key."""
    crt, key = folder / "fullchain.pem", folder / "privkey.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = [program("openssl", "openssl"), "req", "-x509", *kind, "-nodes", "-keyout", str(key), "-out", str(crt),
               "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return crt, key


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Return ``text`` with each key replaced by its value; a key that is not there is a fault of the test."""
    for old, new in changes.items():
        assert old in text, f"docs/hosting has no {old!r} any more"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(command: list[str], log: Path, is_up: Callable[[], bool], **how: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; begin when ``is_up``.

    Raises:
        AssertionError: it ended or was not up within 90 s; holds its log.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, **how)
    try:
        until = time.monotonic() + START_S
        while not is_up():
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    """Say whether somebody takes connections on ``port``."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def app(folder: Path, home: Home, port: int, environ: Mapping[str, str], base: str = "") -> Iterator[Path]:
    """Run the app as the service does, on ``port``, with ``folder`` as the home of its user; its log."""
    command = [sys.executable, "-m", "kdengine.serve", "--port", str(port), "--exact-port", "--base-url", base]
    log = folder / "app.log"
    with running(command, log, lambda: _is_well(port), env=environment(folder, home, environ), cwd=ROOT):
        yield log


def environment(folder: Path, home: Home, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the service's user finds: nothing of ours but how to run Python, and ``environ``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KD_", "STREAMLIT_"))}
    return {**kept, "KD_HOME": str(home.root), "PYTHONPATH": str(ROOT), "HOME": str(folder), **environ}


def _is_well(port: int) -> bool:
    try:
        return Site(0, port, port).get("/healthz", port=port).status == 200
    except OSError:
        return False


@contextlib.contextmanager
def nginx(folder: Path, site: Site, sign_in: str, gate: int = 4180) -> Iterator[Path]:
    """Run nginx with docs/hosting/nginx.conf and the sign-in of that name in front of the app; its folder.

    ``gate``: port of what stands for oauth2-proxy.
    """
    prefix = nginx_folder(folder, site, sign_in, gate)
    command = [program("nginx", "nginx"), *nginx_files(prefix)]
    with running(command, folder / "nginx.log", lambda: listens(site.port)):
        yield prefix


def nginx_files(prefix: Path) -> list[str]:
    """Return the arguments with which nginx reads and writes in ``prefix`` and nowhere else."""
    return ["-p", f"{prefix}/", "-c", f"{prefix}/nginx.conf", "-e", f"{prefix}/error.log"]


def nginx_folder(folder: Path, site: Site, sign_in: str, gate: int = 4180) -> Path:
    """Write the files of docs/hosting with ports and paths of the test into a folder, and what the machine's nginx.conf has."""
    prefix = folder / "nginx"
    prefix.mkdir()
    crt, key = certificate(prefix)
    (prefix / "secret.conf").write_text(f'proxy_set_header X-KD-Proxy-Secret "{SECRET}";\n')
    sign = (GUIDE / f"nginx-{sign_in}.conf").read_text()
    sign = sign.replace("/etc/nginx/kd-explorer/", f"{prefix}/").replace("127.0.0.1:4180", f"127.0.0.1:{gate}")
    (prefix / "sign-in.conf").write_text(sign)
    text = changed(
        (GUIDE / "nginx.conf").read_text(),
        {
            "/etc/nginx/kd-explorer/": f"{prefix}/",
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "listen 80;": f"listen 127.0.0.1:{site.http};",
            "listen 443 ssl": f"listen 127.0.0.1:{site.port} ssl",
            "/etc/letsencrypt/live/kd.example.org/fullchain.pem": str(crt),
            "/etc/letsencrypt/live/kd.example.org/privkey.pem": str(key),
            "/var/log/nginx/": f"{prefix}/",
            "127.0.0.1:8501": f"127.0.0.1:{site.app}",
            "kd.example.org": "localhost",
        },
    )
    (prefix / "kd-explorer.conf").write_text(text)
    as_root = "user root;" if os.geteuid() == 0 else ""  # else its workers could not enter the test's folder
    rooms = "".join(f"{kind}_temp_path {prefix}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (prefix / "nginx.conf").write_text(
        f"{as_root} daemon off; pid {prefix}/nginx.pid; error_log {prefix}/error.log;\nevents {{}}\n"
        f"http {{ include /etc/nginx/mime.types; access_log off;\n{rooms} include {prefix}/kd-explorer.conf; }}\n"
    )
    return prefix


@contextlib.contextmanager
def caddy(folder: Path, site: Site, people: str) -> Iterator[Path]:
    """Run Caddy with docs/hosting/Caddyfile in front of the app; its Caddyfile."""
    file = caddyfile(folder, site, people)
    command = [program("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]
    home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    env = {**os.environ, **home, "KD_PROXY_SECRET": SECRET}
    with running(command, folder / "caddy.log", lambda: listens(site.port), env=env):
        yield file


def caddyfile(folder: Path, site: Site, people: str) -> Path:
    """Write docs/hosting/Caddyfile with ports and paths of the test. ``people``: lines of name and password hash."""
    crt, key = certificate(folder)
    (folder / "people").write_text(people)
    text = changed(
        (GUIDE / "Caddyfile").read_text(),
        {
            "\nkd.example.org {\n": f"\nlocalhost {{\n\ttls {crt} {key}\n\tbind 127.0.0.1\n",
            "kd.example.org": "localhost",
            "127.0.0.1:8501": f"127.0.0.1:{site.app}",
            "/etc/caddy/kd-explorer-people": str(folder / "people"),
            "/var/log/caddy/": f"{folder}/",
        },
    )
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\thttp_port {site.http}\n\thttps_port {site.port}\n}}\n{text}")
    return folder / "Caddyfile"
