"""The pure core: what happened, and what follows from it; no I/O, no clock, no driver."""
