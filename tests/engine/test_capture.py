"""How many bytes of answers may be recorded at a time."""

from routecache_middleware import Settings
from routecache_middleware.core.models import DiscardReason
from routecache_middleware.engine.capture import CaptureBudget


def test_one_answer_has_its_limit() -> None:
    """``max_result_bytes``; the last byte still fits."""
    budget = CaptureBudget(Settings(max_result_bytes=10, max_capture_bytes=100))
    capture = budget.start()
    assert capture.take(10)
    assert capture.take(0)
    assert not capture.take(1)
    assert capture.reason is DiscardReason.TOO_LARGE
    assert budget.used == 10


def test_all_answers_together_have_theirs() -> None:
    """``max_capture_bytes``; what is released can be used again."""
    budget = CaptureBudget(Settings(max_result_bytes=10, max_capture_bytes=15))
    first, second = budget.start(), budget.start()
    assert first.take(10)
    assert not second.take(6)
    assert second.reason is DiscardReason.CAPTURE_FULL
    first.release()
    first.release()
    assert budget.used == 0
    assert second.take(6)


def test_an_answer_of_several_parts_may_be_as_large_as_they() -> None:
    """Each part may have ``max_result_bytes``; nobody gets more than half of the whole budget."""
    budget = CaptureBudget(Settings(max_result_bytes=10, max_capture_bytes=100))
    few, many = budget.start(3), budget.start(2048)
    assert few.take(30)
    assert not few.take(1)
    assert many.take(50)
    assert not many.take(1)
    small = CaptureBudget(Settings(max_result_bytes=10, max_capture_bytes=12)).start(2)
    assert small.take(10)
    assert not small.take(1)
