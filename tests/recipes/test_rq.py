"""RQ: a queue and a worker in burst mode, in the test's own process."""

import pytest
from rq import Queue, SimpleWorker

resized = []


def resize(path, width):
    if width < 1:
        raise ValueError("nothing would be left")
    resized.append((path, width))
    return f"{path} at {width}"


@pytest.fixture
def queue(fake_redis):
    resized.clear()
    return Queue("images", connection=fake_redis)


def work(queue):
    """Run all that is in the queue."""
    return SimpleWorker([queue], connection=queue.connection).work(burst=True)


def test_jobs_are_run_in_order(queue):
    jobs = [queue.enqueue(resize, "a.png", width) for width in (10, 20)]
    assert queue.job_ids == [job.id for job in jobs]
    assert work(queue)
    assert resized == [("a.png", 10), ("a.png", 20)]
    assert [job.return_value() for job in jobs] == ["a.png at 10", "a.png at 20"]


def test_a_job_that_depends_on_another_comes_after_it(queue):
    first = queue.enqueue(resize, "a.png", 10)
    second = queue.enqueue(resize, "b.png", 10, depends_on=first)
    assert second.get_status() == "deferred"
    work(queue)
    assert resized == [("a.png", 10), ("b.png", 10)]


def test_a_job_that_fails_is_kept(queue):
    job = queue.enqueue(resize, "a.png", 0)
    work(queue)
    assert queue.failed_job_registry.get_job_ids() == [job.id]
    assert "nothing would be left" in job.latest_result().exc_string
