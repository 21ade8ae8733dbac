"""Users through redis-py: its methods find the same here as on a real server."""

from __future__ import annotations

import pytest

from tests.servers import Server


def _through_redis_py(server: Server, protocol: int) -> list[object]:
    redis = pytest.importorskip("redis")
    admin = redis.Redis(unix_socket_path=server.unix, protocol=protocol, decode_responses=True)
    admin.acl_log_reset()  # of what other tests did to the same server
    said: list[object] = [
        admin.acl_whoami(),
        sorted(admin.acl_cat()),
        sorted(set(admin.acl_cat("read")) & {"get", "mget", "zrange", "object|encoding"}),
        len(admin.acl_genpass()),
        admin.acl_setuser(
            "ann",
            enabled=True,
            passwords=["+secret"],
            categories=["+@read", "-@slow"],
            commands=["+set", "+acl|whoami"],
            keys=["app:*"],
            channels=["news"],
            selectors=[("+mget", "%R~shared:*")],
        ),
        admin.acl_getuser("ann"),
        admin.acl_getuser("nobody"),
        admin.acl_list(),
        admin.acl_users(),
        admin.acl_dryrun("ann", "get", "app:1"),
        admin.acl_dryrun("ann", "get", "other"),
    ]
    ann = redis.Redis(unix_socket_path=server.unix, username="ann", password="secret", protocol=protocol)
    said += [ann.set("app:1", "v"), ann.get("app:1"), ann.acl_whoami()]
    for call in (lambda: ann.delete("app:1"), lambda: ann.get("other"), lambda: ann.publish("x", "y")):
        with pytest.raises(redis.exceptions.NoPermissionError) as refused:
            call()
        said.append(str(refused.value))
    with pytest.raises(redis.exceptions.AuthenticationError):
        once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        redis.Redis(unix_socket_path=server.unix, username="ann", password="wrong", retry=once).ping()
    for entry in admin.acl_log():
        said.append({name: entry[name] for name in ("count", "reason", "context", "object", "username")})
    said += [admin.acl_log_reset(), admin.acl_log(), admin.acl_deluser("ann", "nobody")]
    admin.close()
    ann.close()
    return said


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_finds_the_users_of_a_real_server(
    protocol: int, kvstore_server: Server, valkey_server: Server
) -> None:
    assert _through_redis_py(kvstore_server, protocol) == _through_redis_py(valkey_server, protocol)
