"""A leaderboard on a sorted set."""

import pytest


class Leaderboard:
    def __init__(self, redis, name):
        self.redis = redis
        self.key = f"leaderboard:{name}"

    def score(self, player, points):
        return self.redis.zincrby(self.key, points, player)

    def best(self, player, points):
        """Only a better result than the last counts."""
        return bool(self.redis.zadd(self.key, {player: points}, gt=True, ch=True))

    def top(self, count):
        return self.redis.zrevrange(self.key, 0, count - 1, withscores=True)

    def around(self, player, each_side=1):
        rank = self.redis.zrevrank(self.key, player)
        return self.redis.zrevrange(self.key, max(0, rank - each_side), rank + each_side)


@pytest.fixture
def board(fake_redis):
    return Leaderboard(fake_redis, "chess")


@pytest.mark.fake_redis(decode_responses=True)
def test_players_are_ranked(board):
    for player, points in {"ann": 31, "bob": 28, "cy": 35, "dee": 12}.items():
        board.score(player, points)
    assert board.score("bob", 5) == 33
    assert board.top(2) == [("cy", 35.0), ("bob", 33.0)]
    assert board.around("ann") == ["bob", "ann", "dee"]


@pytest.mark.fake_redis(decode_responses=True)
def test_only_better_results_count(board):
    assert board.best("ann", 30)
    assert not board.best("ann", 29)
    assert board.top(1) == [("ann", 30.0)]
