"""Which paths the fast lane answers, and in which API each of them is."""

from collections.abc import Iterable
from typing import NamedTuple

from routecache_middleware.adapters.litellm.fastlane.dialect import LANES, LaneDialect
from routecache_middleware.errors import ConfigurationError

__all__ = ["LanePaths"]

_MODEL = "{model}"
# The longest ending first: chat completions end with the path of text completions.
_BY_ENDING = sorted(
    ((suffix, lane) for lane in LANES for suffix in lane.path_suffixes),
    key=lambda pair: len(pair[0]),
    reverse=True,
)


class _Pattern(NamedTuple):
    """A path that names a model, cut where that stands."""

    head: str
    tail: str
    lane: LaneDialect


class LanePaths:
    """The paths that are set; immutable."""

    __slots__ = ("_exact", "_patterns", "_tails")

    def __init__(self, paths: Iterable[str]) -> None:
        """Sort them.

        Args:
            paths: Whole paths; one ``{model}`` stands for the name of a model, slashes and all.

        Raises:
            ConfigurationError: The fast lane does not know the API of one of them.
        """
        self._exact: dict[str, LaneDialect] = {}
        patterns: list[_Pattern] = []
        for path in sorted(paths):
            lane, (head, model, tail) = _lane_of(path), path.partition(_MODEL)
            if model:
                patterns.append(_Pattern(head, tail, lane))
            else:
                self._exact[path] = lane
        # As above: so that the model of /engines/m/chat/completions is not "m/chat".
        patterns.sort(key=lambda pattern: len(pattern.tail), reverse=True)
        self._patterns = tuple(patterns)
        self._tails = tuple({pattern.tail for pattern in patterns})

    def match(self, method: str, path: str) -> LaneDialect | None:
        """Return the API of a request, or None: the lane has no business with it."""
        if method != "POST":
            return None
        return self._exact.get(path) or self._with_model(path)

    def lane_of(self, path: str) -> LaneDialect | None:
        """Return the API of a path, or None."""
        return self.match("POST", path)

    def _with_model(self, path: str) -> LaneDialect | None:
        if not path.endswith(self._tails):
            return None
        for head, tail, lane in self._patterns:
            fits = path.startswith(head) and path.endswith(tail)
            if fits and len(path) > len(head) + len(tail):
                return lane
        return None


def _lane_of(path: str) -> LaneDialect:
    head, model, tail = path.partition(_MODEL)
    is_path = path.startswith("/") and _MODEL not in tail
    has_place = not model or (head.endswith("/") and tail.startswith("/"))
    for ending, lane in _BY_ENDING if is_path and has_place else ():
        if path.endswith(ending):
            return lane
    known = ", ".join(
        ending if ending.startswith("/v1") else f"/v1{ending}" for ending in _endings()
    )
    raise ConfigurationError(
        f"fast_lane_paths names {path!r}; the fast lane can answer {known} and paths that end so, "
        "such as /engines/{model}/chat/completions"
    )


def _endings() -> list[str]:
    return [suffix for lane in LANES for suffix in lane.path_suffixes]
