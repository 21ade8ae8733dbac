"""A worker as Sidekiq has it: a thread that takes jobs from lists by a blocking call, and keeps what fails."""

import json
import threading

import pytest

from kvstore.fake import FakeRedis


class Worker(threading.Thread):
    """Takes jobs, from the first queue that has one, until it is stopped."""

    def __init__(self, connection, queues, perform):
        super().__init__(daemon=True)
        self.redis, self.queues, self.perform = connection, queues, perform

    def run(self):
        while True:
            _, job = self.redis.brpop(self.queues)
            if job == b"stop":
                return
            try:
                self.perform(**json.loads(job))
            except Exception as error:
                self.redis.lpush("dead", json.dumps({"job": json.loads(job), "error": str(error)}))


def enqueue(connection, queue, **job):
    connection.lpush(queue, json.dumps(job))


@pytest.fixture
def done():
    return []


@pytest.fixture
def worker(fake_redis_server, done):
    def perform(path, size):
        if size < 1:
            raise ValueError("nothing would be left")
        done.append((path, size))

    worker = Worker(FakeRedis(server=fake_redis_server), ["urgent", "normal"], perform)
    yield worker
    worker.redis.lpush("urgent", "stop")
    if worker.is_alive():
        worker.join(30)


def test_urgent_jobs_come_first(fake_redis, worker, done):
    enqueue(fake_redis, "normal", path="a.png", size=10)
    enqueue(fake_redis, "normal", path="b.png", size=20)
    enqueue(fake_redis, "urgent", path="c.png", size=30)
    fake_redis.lpush("normal", "stop")
    worker.start()
    worker.join(30)
    assert done == [("c.png", 30), ("a.png", 10), ("b.png", 20)]


def test_a_worker_that_waits_is_woken(fake_redis, worker, done):
    worker.start()
    while not fake_redis.info("clients")["blocked_clients"]:
        pass  # it has nothing to do, and waits
    enqueue(fake_redis, "normal", path="a.png", size=10)
    fake_redis.lpush("normal", "stop")
    worker.join(30)
    assert done == [("a.png", 10)]


def test_what_fails_is_kept(fake_redis, worker):
    enqueue(fake_redis, "normal", path="a.png", size=0)
    worker.start()
    _, dead = fake_redis.brpop("dead", timeout=30)
    assert json.loads(dead) == {"job": {"path": "a.png", "size": 0}, "error": "nothing would be left"}
