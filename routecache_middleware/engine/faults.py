"""What a log line says of an error: its class and where it was raised.

Not its text, which may quote what a client sent, and not the error itself: what collects logs shows
the variables of its frames.
"""

import traceback

__all__ = ["fault"]


def fault(error: BaseException, *, frames: int = 1) -> str:
    """Return the name of an error's class, and the places that lead to it, the last one first.

    Args:
        error: As it was caught.
        frames: How many places at most.
    """
    places = [f"{one.filename}:{one.lineno}" for one in traceback.extract_tb(error.__traceback__)]
    told = ", called from ".join(places[::-1][:frames])
    return f"{type(error).__name__} at {told}" if told else type(error).__name__
