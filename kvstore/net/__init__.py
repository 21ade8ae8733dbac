"""The event loop, listeners and connections: bytes in and out of sessions, nothing else."""
