"""kvstore: a Redis-compatible data-structure store that lives inside a Python process."""
