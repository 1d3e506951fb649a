"""The crash suite: the whole system under kill -9, pauses, cuts and a full disk, then checked.

`make soak ARGS="--seed 7"` runs the long form, tests/faults/test_crashes.py the short one.
"""
