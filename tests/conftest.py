"""Fixtures that every test may ask for; the servers start only when one does."""

pytest_plugins = ["support.models", "support.servers", "support.triton"]
