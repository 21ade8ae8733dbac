"""Celery: a worker in a thread, a broker and a result backend on a server of the test's own.

Celery's broker wants the file descriptor of a real socket, so this takes kvstore_server and not a fake.
"""

import gc

import pytest
from celery import Celery, chord, shared_task
from celery.contrib.testing.worker import start_worker


@shared_task
def price(item):
    return {"tea": 3, "cake": 5}[item]


@shared_task
def total(prices):
    return sum(prices)


@shared_task(bind=True, max_retries=2, default_retry_delay=0)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


def create_app(url):
    app = Celery("shop", broker=url, backend=url)
    app.conf.update(broker_connection_retry_on_startup=True, result_expires=3600)
    return app


@pytest.fixture
def worker(kvstore_server):
    with create_app(kvstore_server.tcp_url) as app, start_worker(app, perform_ping_check=False) as worker:
        yield worker
        gc.collect()  # results that were dropped unsubscribe, and the server is still there


def test_a_task_is_run_by_the_worker(worker, kvstore_server):
    result = price.delay("tea")
    assert result.get(timeout=30) == 3
    assert kvstore_server.client().ttl(f"celery-task-meta-{result.id}") == 3600


def test_errors_come_back(worker):
    with pytest.raises(KeyError):
        price.delay("salt").get(timeout=30)


def test_a_chord_joins_what_runs_apart(worker):
    assert chord([price.s("tea"), price.s("cake")])(total.s()).get(timeout=30) == 8


def test_a_task_is_tried_again(worker):
    assert flaky.delay().get(timeout=30) == 2
