"""What explain is given by people: wrong types are told of, and nothing they hold is shown."""

import re
from typing import Any

import pytest

from tests.adapters.conftest import Gateway
from tests.support.asgi import KEY, PATH, fetch, scope_of
from tests.support.chat import ask

GIVEN: dict[str, Any] = {"path": PATH, "body": ask(), "headers": [KEY]}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"path": b"/sk-1"}, "path is a bytes; it has to be a str, such as '/v1/chat/completions'"),
        ({"path": None}, "path is a NoneType; it has to be a str"),
        ({"body": "sk-1"}, "body is a str; it has to be bytes"),
        (
            {"body": {"messages": "sk-1"}},
            "body is a dict; it has to be bytes, as they are sent: of",
        ),
        ({"body": bytearray()}, "body is a bytearray"),
        ({"neighbour": "sk-1"}, "neighbour is a str; it has to be the body of another request"),
        ({"method": None}, "method is a NoneType; it has to be a str, such as 'POST'"),
        ({"query_string": "key=sk-1"}, "query_string is a str; it has to be bytes"),
        ({"root_path": b""}, "root_path is a bytes"),
        ({"tenant": 7}, "tenant is a int; it has to be a str, or None"),
        ({"full": "yes"}, "full is a str; it has to be True or False"),
        ({"headers": None}, "headers is a NoneType; it has to be a mapping"),
        ({"headers": "Authorization: sk-1"}, "headers is a str"),
        ({"headers": b"sk-1"}, "headers is a bytes"),
        ({"headers": ["sk-1"]}, "headers is a list with something else in it; it has to be a map"),
        ({"headers": {"Authorization": ["sk-1"]}}, "headers is a dict with something else in it"),
        ({"headers": [("a", "b", "sk-1")]}, "headers is a list with something else in it"),
    ],
)
async def test_a_wrong_type_is_told_of(gateway: Gateway, wrong: dict[str, Any], said: str) -> None:
    mw = gateway()
    for explain in (mw.explain, mw.cache.explain):
        with pytest.raises(TypeError, match=re.escape(said)) as caught:
            await explain(**(GIVEN | wrong))
        assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("scope", "wrong", "said"),
    [
        ("POST /", {}, "scope is a str; it has to be the ASGI scope of an HTTP request"),
        ({"type": "lifespan"}, {}, "scope is a lifespan; it has to be the ASGI scope"),
        (scope_of(), {"body": "sk-1"}, "body is a str"),
        (scope_of(), {"tenant": b"sk-1"}, "tenant is a bytes"),
    ],
)
async def test_nor_is_a_scope_anything_else(
    gateway: Gateway, scope: Any, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(TypeError, match=said) as caught:
        await gateway().explain_scope(scope, **({"body": ask()} | wrong))
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize("path", ["https://user:sk-1@gateway" + PATH, "", PATH[1:]])
async def test_a_path_is_only_the_path(gateway: Gateway, path: str) -> None:
    """A URL would end like a known path, have a key that no request has, and be a miss for ever."""
    with pytest.raises(ValueError, match="begin with '/'; leave out the scheme") as caught:
        await gateway().explain(**(GIVEN | {"path": path}))
    assert "sk-1" not in str(caught.value)


async def test_a_query_behind_the_path_is_the_query(gateway: Gateway) -> None:
    mw = gateway()
    await fetch(mw, query_string=b"api-version=1")
    said = await mw.explain(**(GIVEN | {"path": PATH + "?api-version=1"}))
    assert said.outcome == "hit"
    assert said == await mw.explain(**GIVEN, query_string=b"api-version=1")
    assert (await mw.explain(**GIVEN)).outcome == "miss"


async def test_a_question_mark_of_the_path_itself_stays(gateway: Gateway) -> None:
    """Servers decode %3F; whoever has a scope gives the query beside it."""
    mw, path = gateway(), "/engines/a?b/chat/completions"
    await fetch(mw, path=path, query_string=b"x=1")
    said = await mw.explain(**(GIVEN | {"path": path}), query_string=b"x=1")
    assert (said.outcome, said.model) == ("hit", "a?b")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer key-1"},
        {b"AUTHORIZATION": b"Bearer key-1"},
        [("authorization", "Bearer key-1")],
        [["authorization", "Bearer key-1"]],
        iter([KEY]),
    ],
)
async def test_headers_come_in_every_form(gateway: Gateway, headers: Any) -> None:
    mw = gateway()
    await fetch(mw)
    assert (await mw.explain(**(GIVEN | {"headers": headers}))).outcome == "hit"
