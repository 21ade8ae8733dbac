"""What is to be reached: the one list of goals. A row of a benchmark names the one that it is measured against.

Must not know: how anything is measured.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """How a figure is judged. ``result`` is the ratio, or the figure itself where ``unit`` is not "times"."""

    what: str
    reach: float
    dream: float
    more: bool  # the larger the better
    unit: str = "times"

    def met(self, result: float) -> str:
        """How far: "dream", "yes" or "no"."""
        for bound, word in ((self.dream, "dream"), (self.reach, "yes")):
            if result >= bound if self.more else result <= bound:
                return word
        return "no"

    def told(self) -> str:
        """ "at least 0.9"."""
        unit = "" if self.unit == "times" else f" {self.unit}"
        return f"{'at least' if self.more else 'at most'} {self.reach:g}{unit}"


# The order is that of the tables and plots.
GOALS: dict[str, Goal] = {
    "single": Goal("Throughput of single commands, 50 clients, no pipeline", 0.9, 1.05, True),
    "cpu": Goal("CPU of the server for each of them", 1.5, 1.1, False),
    "pipelined": Goal("Throughput of single commands in pipelines of 16", 0.6, 0.9, True),
    "bulk": Goal("Throughput of commands with many words or long replies", 0.5, 0.9, True),
    "compound": Goal("Throughput of scripts, transactions, messages, streams", 0.5, 0.8, True),
    "latency": Goal("99th percentile of latency at half of the maximum rate", 1.3, 1.0, False),
    "idle": Goal("Throughput beside 10,000 idle connections, against none", 0.95, 1.0, True),
    "memory-keys": Goal("Memory of string keys", 1.35, 1.25, False),
    "memory-small": Goal("Memory of small values, untouched for a minute", 1.3, 1.0, False),
    "memory-large": Goal("Memory of one large value", 2.0, 1.5, False),
    "large-zset": Goal("CPU a command on a sorted set of a million members", 2.0, 1.2, False),
    "store-get": Goal("`Store.get` against `dict.get`", 6.0, 4.0, False),
    "store-set": Goal("`Store.set` against item assignment", 8.0, 5.0, False),
    "redis-py": Goal(
        "`Store` against redis-py on a local redis-server, how many times faster", 100.0, 200.0, True
    ),
    "files": Goal("Time to load and to save a million keys", 3.0, 2.0, False),
    "import": Goal("Time that `import kvstore` and naming `Store` take", 40.0, 20.0, False, "ms"),
}
