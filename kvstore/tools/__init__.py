"""What the command line does with files: ``kvstore check``, ``dump`` and ``load``, and the bar that shows progress."""
