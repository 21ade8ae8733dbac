"""unittest: a server for each test, on which the clients of the code under test land."""

import unittest

import redis

from kvstore.fake import FakeRedis, patched

visits = redis.Redis("redis.example", password="secret")  # as an application has it


def visit(page):
    return visits.hincrby("visits", page, 1)


class VisitTest(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(patched())
        self.redis = FakeRedis(server=self.server, decode_responses=True)

    def test_visits_are_counted(self):
        self.assertEqual([visit("/"), visit("/"), visit("/help")], [1, 2, 1])
        self.assertEqual(self.redis.hgetall("visits"), {"/": "2", "/help": "1"})

    def test_nothing_is_left_of_other_tests(self):
        self.assertEqual(self.redis.keys(), [])

    @patched()
    def test_with_another_server_still(self):
        visit("/")
        self.assertFalse(self.redis.exists("visits"))
