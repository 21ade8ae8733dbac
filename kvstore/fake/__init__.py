"""redis-py clients whose commands run on a store in this process. Needs the ``redis`` extra."""
