"""What one pushes to a remote another pulls, whatever server it is: byte for byte, and no stage is out of date."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest
from buckets import KEY, REGION, SECRET, served
from checkouts import commit, opened, run
from cheroot.wsgi import Server
from projects import contents
from wsgidav.wsgidav_app import WsgiDAVApp

pytestmark = pytest.mark.slow

MADE = ("settings", "data", "hardware", "runs", "search", "laws", "plots", "reports")
Remote = dict[str, str]
"""what `.dvc/config` says of a remote"""


@contextmanager
def folder(home: Path) -> Iterator[Remote]:
    yield {"url": str(home / "shelf")}


@contextmanager
def ssh(home: Path) -> Iterator[Remote]:
    """A server of files on loopback, with a key of its own that is known and one that lets us in."""
    key, ours = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    ours.write_private_key(home / "key")
    ours.write_public_key(home / "authorized")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def serve() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[key], authorized_client_keys=str(home / "authorized"), sftp_factory=True
        )

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(60)
    port = server.get_port()
    (home / ".ssh").mkdir()
    public = key.export_public_key().decode()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}", encoding="utf-8")
    try:
        yield {"url": f"ssh://someone@127.0.0.1:{port}{home}/shelf", "keyfile": str(home / "key")}
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


@contextmanager
def webdav(home: Path) -> Iterator[Remote]:
    """A server of files on loopback that asks for a password."""
    (home / "served" / "shelf").mkdir(parents=True)
    users = {"*": {"someone": {"password": "secret"}}}
    wsgi = WsgiDAVApp(
        {
            "provider_mapping": {"/": str(home / "served")},
            "simple_dc": {"user_mapping": users},
            "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )
    server = Server(("127.0.0.1", 0), wsgi)
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        url = f"webdav://127.0.0.1:{server.bind_addr[1]}/shelf"
        yield {"url": url, "user": "someone", "password": "secret"}
    finally:
        server.stop()
        thread.join(60)


@contextmanager
def s3(home: Path) -> Iterator[Remote]:  # noqa: ARG001
    """A server of objects on loopback."""
    with served("shelves") as (address, _):
        settings = {"access_key_id": KEY, "secret_access_key": SECRET, "region": REGION}
        yield {"url": "s3://shelves/shelf", "endpointurl": address, **settings}


@pytest.mark.parametrize("server", [folder, ssh, webdav, s3])
def test_what_one_pushes_another_pulls_and_nothing_is_out_of_date(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Callable[[Path], Iterator[Remote]]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with server(home) as remote:  # type: ignore[attr-defined]
        settings = "".join(f"    {name} = {value}\n" for name, value in remote.items())
        (project / ".dvc/config").write_text(
            f"[core]\n    remote = shared\n['remote \"shared\"']\n{settings}", encoding="utf-8"
        )
        commit(project, "remote")
        with opened(project) as repo:
            assert repo.push() > 0
            assert repo.push() == 0
        clone = tmp_path / "clone"
        run(tmp_path, "git", "clone", "--quiet", str(project), str(clone))
        assert not contents(clone, *MADE)
        with opened(clone) as repo:
            repo.pull()
            assert repo.status() == {}
        assert contents(clone, *MADE) == contents(project, *MADE)
