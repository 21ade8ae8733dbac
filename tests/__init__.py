"""The tests; a package, so that all share ``servers``, ``rawclient`` and ``differential``."""
