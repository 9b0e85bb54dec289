"""The garbage collector of a process that serves: out of the way of requests."""

import gc

# Python's default looks every 700 objects. A prediction makes some thousand, which reference counting frees by itself,
# so looking that often finds nothing. What it brings is small and not well measured (docs/benchmarks.md).
_YOUNG, _MIDDLE, _OLD = 50_000, 20, 50


def relax() -> None:
    """Call once everything is imported: what is there by then stays, and need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
