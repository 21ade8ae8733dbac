"""Real client programs at work against a real server and against kvstore."""
