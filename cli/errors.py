"""What the command line says when it cannot do what it was asked: one sentence, no traceback."""


class Refusal(Exception):
    """The message is for the person who typed the command: what happened, to what, and what to do."""
