"""The store itself: data, types, expiry, eviction. No sockets, no files, no threads, no RESP."""
