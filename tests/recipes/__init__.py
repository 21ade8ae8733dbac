"""How applications are tested with kvstore: each file is a recipe of docs/testing.md, with the real packages."""
