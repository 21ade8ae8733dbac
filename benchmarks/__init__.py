"""Benchmarks: ratios against real servers and dicts, measured in one run."""
