"""Fixtures that every test may ask for; the servers start only when one does."""

pytest_plugins = ["support.servers"]
