"""The server's log: paths, but not the query strings in which some APIs take their key."""

import logging
import logging.config
from io import StringIO

import pytest

from routecache_middleware.gateway.server_log import WithoutQuery, log_config


@pytest.mark.parametrize("name", ["uvicorn.access", "uvicorn.error"])
def test_what_follows_a_question_mark_is_not_written(name: str) -> None:
    config, written = log_config(), StringIO()
    for handler in config["handlers"].values():
        handler["stream"] = written
    logger = logging.getLogger(name)
    before = {one: logging.getLogger(one) for one in ("uvicorn", "uvicorn.access", "uvicorn.error")}
    kept = [(one, one.handlers[:], one.level, one.propagate) for one in before.values()]
    try:
        logging.config.dictConfig(config)
        path = "/v1/models/m?key=secret&alt=sse"
        logger.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:5", "POST", path, "1.1", 200)
        said = written.getvalue()
        assert "/v1/models/m?... HTTP/1.1" in said
        assert "secret" not in said
    finally:
        for one, handlers, level, propagate in kept:
            one.handlers, one.level, one.propagate = handlers, level, propagate
            one.filters.clear()


def test_other_arguments_stay_as_they_are() -> None:
    for given in (("a", 1, None), {"a": "b?c"}, None):
        record = logging.LogRecord("n", logging.INFO, "f", 1, "m", None, None)
        record.args = given
        assert WithoutQuery().filter(record)
        assert record.args == given
    again = log_config()
    assert log_config() == again
