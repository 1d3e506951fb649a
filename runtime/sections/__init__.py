"""The settings, a module a topic; runtime.settings puts them together."""
