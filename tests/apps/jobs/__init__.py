"""Applications of task queues: what a worker loads, with ``report()``, which puts work in and returns what came of it."""
