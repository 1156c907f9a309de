"""The budget of one request: spent by every call, all at once by a failure."""

import asyncio

from routecache_middleware.core.budget import (
    current_budget,
    open_budget,
    unbudgeted,
    use_budget,
)


def test_outside_of_a_request_there_is_none() -> None:
    assert current_budget() is None


def test_calls_spend_it_down_to_nothing_and_not_below() -> None:
    with open_budget(0.05) as budget:
        assert budget is not None
        assert current_budget() is budget
        budget.spend(0.03)
        assert 0.019 < budget.remaining_s < 0.021
        budget.spend(0.03)
        assert budget.remaining_s == 0.0
    assert current_budget() is None


def test_a_failure_spends_all_of_it() -> None:
    with open_budget(0.05) as budget:
        assert budget is not None
        budget.fail()
        assert budget.remaining_s == 0.0


def test_none_ends_the_budget_of_what_is_around() -> None:
    with open_budget(0.05) as outer:
        with open_budget(None) as inner:
            assert inner is None
            assert current_budget() is None
        assert current_budget() is outer


async def test_each_task_has_its_own() -> None:
    async def serve() -> float:
        with open_budget(1.0) as budget:
            assert budget is not None
            await asyncio.sleep(0)
            budget.spend(0.25)
            await asyncio.sleep(0)
            return budget.remaining_s

    assert list(await asyncio.gather(serve(), serve())) == [0.75, 0.75]


def test_a_budget_can_be_put_aside_and_taken_up_again() -> None:
    with open_budget(0.05) as budget:
        pass
    assert current_budget() is None
    with use_budget(budget):
        assert current_budget() is budget
    assert current_budget() is None


def test_work_that_nobody_waits_for_has_none() -> None:
    with open_budget(0.05) as budget:
        assert unbudgeted().run(current_budget) is None
        assert current_budget() is budget
