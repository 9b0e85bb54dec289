"""An exit code as a sentence an operator can act on. Pure; knows nothing of engines."""

import signal

GIB = 1024**3


def sentence(code: int, memory_bytes: int = 0, out_of_memory: bool = False) -> str:
    """`code` as a shell or an engine gives it: 128 + n for signal n."""
    if out_of_memory and memory_bytes:
        return f"It was killed because it used more memory than its limit of {memory_bytes / GIB:.1f} GiB."
    if out_of_memory:
        return "It was killed because this machine ran out of memory."
    if code == 0:
        return "It ended by itself, with code 0: the model or its server asked to exit. Its logs may say why."
    if code > 128:
        return f"It was killed by {_signal(code - 128)}. Its logs may say why."
    return f"It ended with code {code}. Its logs may say why."


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
