"""The tests; a package, so that they share ``tests.servers``, ``tests.rawclient`` and ``tests.differential``."""
