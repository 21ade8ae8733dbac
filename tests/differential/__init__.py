"""The differential tests: random commands, sent to two servers, must give the same bytes.

``grammar`` says how to write a family's commands down; ``compare`` how replies are compared where bytes
alone are too strict; ``runner`` sends, compares, and shrinks what failed; ``machine`` drives the same
grammars from hypothesis. ``python -m tests.differential --help`` is the long-run mode.
"""
