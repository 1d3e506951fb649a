"""Faust agents, thin: read a stream, ask a port or the core, answer an outcome."""
