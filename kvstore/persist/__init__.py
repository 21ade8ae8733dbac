"""Files: snapshots and the append-only log, behind a small file-system seam. Listens to the store; it never waits for files."""
