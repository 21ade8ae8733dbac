"""Who the node of a cluster is: kept in ``cluster-config-file``, in the form that real servers read and write."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

import kvstore
from kvstore.errors import PersistenceError, StoreError
from kvstore.serving import ServerThread
from tests import servers
from tests.servers import Server

# The versions that ours keeps beside each real server.
COMPAT = {"redis": "7.0", "valkey": "8.0"}


def _id_of(server: Server) -> bytes:
    with server.client() as client:
        return client.call("CLUSTER", "MYID")


def test_the_node_is_the_same_after_a_restart() -> None:
    server = servers.start("kvstore", options={"cluster-enabled": "yes", "cluster-config-file": "me.conf"})
    try:
        before = _id_of(server)
        with server.client() as client:
            assert client.call("CLUSTER", "BUMPEPOCH") == b"+BUMPED 1\r\n"
            assert client.call("CLUSTER", "BUMPEPOCH") == b"+STILL 1\r\n"
            assert client.call("CLUSTER", "SET-CONFIG-EPOCH", "7").startswith(
                b"-ERR Node config epoch is already"
            )
        server.kill()
        server.restart()
        assert _id_of(server) == before
        with server.client() as client:
            assert b"cluster_my_epoch:1\r\n" in client.call("CLUSTER", "INFO")
        assert before.split()[1] in (server.directory / "me.conf").read_bytes()
    finally:
        server.remove()


@pytest.mark.parametrize("kind", COMPAT)
def test_a_real_server_goes_on_as_the_same_node_and_back(kind: str, tmp_path: Path) -> None:
    if not servers.available(kind):
        pytest.skip(f"{kind}-server is not installed")
    found = []
    for each in ("kvstore", kind, "kvstore"):
        port = str(servers.free_port())
        options = {"cluster-enabled": "yes", "cluster-port": port, "dir": str(tmp_path)}
        if each == "kvstore":
            options["compat-version"] = COMPAT[kind]
        server = servers.start(each, options=options)
        try:
            with server.client() as client:
                asked = [("MYID",)] + ([("MYSHARDID",)] if kind == "valkey" else [])
                found.append([client.call("CLUSTER", *words) for words in asked])
                assert client.call("CLUSTER", "NODES").endswith(b" connected 0-16383\n\r\n")
                client.call("CLUSTER", "SAVECONFIG")
        finally:
            server.remove()
    assert found[0] == found[1] == found[2]


def test_two_nodes_cannot_be_the_same(tmp_path: Path) -> None:
    def serve() -> ServerThread:
        return kvstore.serve(port=0, cluster_enabled=True, dir=str(tmp_path))

    with serve(), pytest.raises(PersistenceError, match=r"nodes\.conf is in use by another node"):
        serve()
    serve().close()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense\n", "it is no file of a cluster's node"),
        (f"{'a' * 40} :1@2 master - 0 0 1 connected\n", "it is no file of a cluster's node"),
        (f"{'a' * 40} :1@2 myself,master - 0 0 x connected\n", "it is no file of a cluster's node"),
        (
            f"{'a' * 40} :1@2 myself,master - 0 0 1 connected 0-8000\n{'b' * 40} :3@4 master - 0 0 2 connected\n",
            "it tells of other nodes",
        ),
    ],
)
def test_a_file_of_another_cluster_is_left_alone(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "nodes.conf"
    path.write_text(text)
    with pytest.raises(PersistenceError, match=why):
        kvstore.serve(port=0, cluster_enabled=True, dir=str(tmp_path))
    assert path.read_text() == text


def test_a_server_in_a_program_writes_no_file_unless_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with kvstore.serve(port=0, cluster_enabled=True) as server:
        assert server.call(lambda store: len(store.call("CLUSTER", "MYID"))) == 40
    assert list(tmp_path.iterdir()) == []


def test_keys_of_other_databases_stop_the_start(tmp_path: Path) -> None:
    with kvstore.serve(port=0, dir=str(tmp_path), appendonly=True) as server:
        redis.Redis.from_url(server.url, db=1).set("k", "v")
    with pytest.raises(StoreError, match="can only have keys in database 0"):
        kvstore.serve(port=0, dir=str(tmp_path), appendonly=True, cluster_enabled=True)
