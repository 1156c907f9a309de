"""Models that search the web without being asked to, going by their names."""

__all__ = ["searches_the_web"]

_MARKS = ("-search-preview", "-search-api")  # OpenAI's models that always search ...
_ONLINE = ":online"  # ... and how OpenRouter's are told to


def searches_the_web(model: str) -> bool:
    """Whether answers of the model of this name are as old as the web was when it was asked."""
    return any(mark in model for mark in _MARKS) or model.endswith(_ONLINE)
