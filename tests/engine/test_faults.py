"""What a log line says of an error."""

from routecache_middleware.engine.faults import fault


def fail(text: str) -> None:
    raise KeyError(text)


def caught(text: str) -> Exception:
    try:
        fail(text)
    except KeyError as error:
        return error
    raise AssertionError


def test_its_class_and_where_it_was_raised_but_not_its_text() -> None:
    error = caught("what a client has said")
    assert fault(error) == f"KeyError at {__file__}:7"
    assert fault(error, frames=5) == f"KeyError at {__file__}:7, called from {__file__}:12"


def test_one_that_was_never_raised_has_no_place() -> None:
    assert fault(ValueError("text")) == "ValueError"
