"""TLS: handshakes, certificates of clients, large and pipelined traffic, changed certificates."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.commands.config import Config
from kvstore.net.listener import ListenError
from kvstore.net.server import Server
from kvstore.net.tls import TlsError, make_context
from kvstore.serving import ServerThread, serve
from tests.rawclient import RawClient, encode
from tests.servers import free_port

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


def openssl(*args: object) -> None:
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, timeout=60)


class Authority:
    """A certificate authority in a directory, with a certificate for the server and one for a client."""

    def __init__(self, directory: Path):
        self.directory = directory
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", "/CN=test authority"),
            *("-keyout", directory / "ca.key", "-out", directory / "ca.crt"),
            # Python 3.13 is strict about what an authority's certificate must say.
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        for name in ("server", "client", "other"):
            self.certify(name)

    def certify(self, name: str) -> None:
        where = self.directory
        openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", where / f"{name}.key", "-out", where / f"{name}.csr"),
        )
        extensions = where / "extensions"
        extensions.write_text("subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        openssl(
            *("x509", "-req", "-in", where / f"{name}.csr", "-days", 2, "-out", where / f"{name}.crt"),
            *("-CA", where / "ca.crt", "-CAkey", where / "ca.key", "-CAcreateserial"),
            *("-extfile", extensions),
        )

    def directives(self, **more: object) -> dict[str, object]:
        where = self.directory
        return {
            "tls_cert_file": where / "server.crt",
            "tls_key_file": where / "server.key",
            "tls_ca_cert_file": where / "ca.crt",
            **more,
        }

    def context(self, client: str | None = "client") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        context.check_hostname = False
        if client is not None:
            context.load_cert_chain(self.directory / f"{client}.crt", self.directory / f"{client}.key")
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.contextmanager
def served(authority: Authority, **directives: object) -> Iterator[tuple[ServerThread, int]]:
    port = free_port()
    with serve(port=0, tls_port=port, **authority.directives(**directives)) as server:
        yield server, port


@contextlib.contextmanager
def connected(port: int, context: ssl.SSLContext) -> Iterator[RawClient]:
    with RawClient(("127.0.0.1", port)) as client:
        client.sock = context.wrap_socket(client.sock)
        yield client


def test_commands_pipelines_and_large_values_go_through(authority: Authority) -> None:
    with served(authority) as (server, port), connected(port, authority.context()) as client:
        assert client.call("SET", "k", "v") == b"+OK\r\n"
        large = bytes(range(256)) * 20_000
        assert client.call("SET", "large", large) == b"+OK\r\n"
        assert client.call("GET", "large") == b"$%d\r\n%b\r\n" % (len(large), large)
        client.send_bytes(encode("ECHO", "x" * 1000) * 1000)
        assert all(client.read_reply_bytes() == b"$1000\r\n" + b"x" * 1000 + b"\r\n" for _ in range(1000))
        assert server.urls[1] == f"rediss://127.0.0.1:{port}"
        with RawClient(("127.0.0.1", server.port)) as plain:
            assert plain.call("GET", "k") == b"$1\r\nv\r\n"


def test_replies_that_nobody_reads_wait_and_arrive_whole(authority: Authority) -> None:
    with served(authority) as (_, port), connected(port, authority.context()) as client:
        client.call("SET", "k", "v" * 100_000)
        client.send_bytes(encode("GET", "k") * 100)
        time.sleep(0.1)
        expected = b"$100000\r\n" + b"v" * 100_000 + b"\r\n"
        assert all(client.read_reply_bytes() == expected for _ in range(100))


def test_many_records_in_one_read_are_all_seen(authority: Authority) -> None:
    with served(authority) as (_, port), connected(port, authority.context()) as client:
        for _ in range(200):  # a record each, that may all have arrived when the server reads
            client.send("PING")
        assert all(client.read_reply_bytes() == b"+PONG\r\n" for _ in range(200))


def test_a_client_needs_a_certificate_unless_told_otherwise(authority: Authority) -> None:
    for choice, welcome in (("yes", False), ("optional", True), ("no", True)):
        with served(authority, tls_auth_clients=choice) as (_, port):
            if welcome:
                with connected(port, authority.context(None)) as client:
                    assert client.call("PING") == b"+PONG\r\n"
            else:
                with (
                    pytest.raises((ssl.SSLError, OSError, EOFError)),
                    connected(port, authority.context(None)) as client,
                ):
                    client.call("PING")
            with connected(port, authority.context()) as client:
                assert client.call("PING") == b"+PONG\r\n"


def test_garbage_and_silence_instead_of_a_handshake_harm_nobody(authority: Authority) -> None:
    with served(authority) as (_, port):
        silent = RawClient(("127.0.0.1", port))
        with RawClient(("127.0.0.1", port)) as client, contextlib.suppress(OSError):
            client.send_bytes(b"*1\r\n$4\r\nPING\r\n" * 10)
            assert client.at_end() or True
        with RawClient(("127.0.0.1", port)) as client:
            client.send_bytes(b"\x16\x03\x01")
        with connected(port, authority.context()) as client:
            assert client.call("PING") == b"+PONG\r\n"
        silent.close()


def test_only_the_chosen_protocols_are_spoken(authority: Authority) -> None:
    with served(authority, tls_protocols="TLSv1.2") as (_, port):
        context = authority.context()
        with connected(port, context) as client:
            assert isinstance(client.sock, ssl.SSLSocket) and client.sock.version() == "TLSv1.2"
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with pytest.raises(ssl.SSLError), connected(port, context):
            pass


def test_a_renewed_certificate_is_taken_over_by_config_set(authority: Authority) -> None:
    def name(port: int) -> object:
        with connected(port, authority.context()) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            certificate = client.sock.getpeercert()
            assert certificate is not None
            return dict(pair for (pair,) in certificate["subject"])["commonName"]

    with served(authority) as (server, port), RawClient(("127.0.0.1", server.port)) as client:
        assert name(port) == "server"
        where = authority.directory
        change = ("tls-cert-file", where / "other.crt", "tls-key-file", where / "other.key")
        assert client.call("CONFIG", "SET", *map(str, change)) == b"+OK\r\n"
        assert name(port) == "other"
        refused = client.call("CONFIG", "SET", "tls-cert-file", "/no/such/file")
        assert (
            refused.startswith(b"-ERR CONFIG SET failed") and b"Unable to update TLS configuration" in refused
        )
        assert name(port) == "other"
        assert client.call("CONFIG", "SET", "tls-port", 0) == b"+OK\r\n"
        with pytest.raises(ConnectionRefusedError):
            name(port)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tls_cert_file", "", "No tls-cert-file configured!"),
        ("tls_key_file", "", "No tls-key-file configured!"),
        ("tls_ca_cert_file", "", "must be specified when tls-auth-clients"),
        ("tls_key_file", "/no/such/file", "Failed to load"),
        ("tls_protocols", "SSLv9", "Invalid tls-protocols"),
        ("tls_ciphers", "NOSUCH", "Failed to load ciphers"),
    ],
)
def test_directives_that_give_no_tls_stop_the_start(
    authority: Authority, name: str, value: str, says: str
) -> None:
    config = Config()
    for key, word in authority.directives(tls_port=free_port(), port=0, **{name: value}).items():
        config.assign(key, word)
    with pytest.raises(TlsError, match=says):
        make_context(config)
    server = Server(config=config)
    with pytest.raises(ListenError, match="Failed to configure TLS"):
        server.listen()
    server.close()


def test_clients_of_a_cluster_are_told_the_port_of_their_kind(authority: Authority) -> None:
    with served(authority, cluster_enabled=True) as (server, port):
        with connected(port, authority.context()) as client:
            assert b" 127.0.0.1:%d@" % port in client.call("CLUSTER", "NODES")
            assert b"tls-port\r\n:%d\r\n" % port in client.call("CLUSTER", "SHARDS")
            client.call("CONFIG", "SET", "cluster-announce-tls-port", "17")
            assert b" 127.0.0.1:17@" in client.call("CLUSTER", "NODES")
        with RawClient(("127.0.0.1", server.port)) as client:
            assert b" 127.0.0.1:%d@" % server.port in client.call("CLUSTER", "NODES")


def test_a_client_that_leaves_in_the_middle_leaves_nothing(authority: Authority) -> None:
    with served(authority) as (server, port):
        client = RawClient(("127.0.0.1", port))
        client.sock = authority.context().wrap_socket(client.sock)
        client.send_bytes(b"*1\r\n$100\r\nabc")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        deadline = time.monotonic() + 10
        while server.call(lambda store: len(server._server.connections)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
