"""Query parameters: what each may be, as data that both checks them and describes them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from routecache_middleware.core.keys import Layer

__all__ = [
    "LAYER",
    "LIMIT",
    "MODEL",
    "SINCE",
    "WINDOW",
    "Parameter",
    "WrongParameterError",
    "checked",
]


class WrongParameterError(ValueError):
    """A query parameter makes no sense; the text says what does."""


class Parameter(NamedTuple):
    """One query parameter.

    Attributes:
        name: Its name.
        meaning: What it is for.
        words: The values it may have; empty: any.
        most: Of a whole number the greatest; None: it is text.
        default: What it is when it is not given; empty: nothing in particular.
    """

    name: str
    meaning: str
    words: tuple[str, ...] = ()
    most: int | None = None
    default: str = ""

    def check(self, value: str) -> None:
        """Raise unless the value makes sense.

        Raises:
            WrongParameterError: It does not.
        """
        if self.words and value not in self.words:
            raise WrongParameterError(f"{self.name} has to be one of {', '.join(self.words)}")
        if self.most is not None and not self._is_number(value):
            raise WrongParameterError(f"{self.name} has to be a whole number, 1 to {self.most:,}")
        if not value:
            raise WrongParameterError(f"{self.name} is empty; leave it out")

    def schema(self) -> dict[str, object]:
        """Return its JSON schema."""
        if self.most is not None:
            kind: dict[str, object] = {"type": "integer", "minimum": 1, "maximum": self.most}
        elif self.words:
            kind = {"type": "string", "enum": list(self.words)}
        else:
            kind = {"type": "string", "minLength": 1}
        if self.default:
            kind["default"] = int(self.default) if self.most is not None else self.default
        return kind

    def _is_number(self, value: str) -> bool:
        digits = len(str(self.most))
        is_plain = value.isascii() and value.isdigit() and len(value) <= digits
        return is_plain and 1 <= int(value) <= (self.most or 0)


LAYER = Parameter("layer", "Which layer.", ("result", "route", "meta"), default=Layer.RESULT.value)
MODEL = Parameter("model", "Only what this model made, or was chosen by.")
LIMIT = Parameter("limit", "How many at most.", most=200, default="50")
WINDOW = Parameter("window", "How far back.", ("5m", "1h", "24h"), default="5m")
SINCE = Parameter("since", "Only what is later than this Unix time.", most=100_000_000_000)


def checked(known: Sequence[Parameter], given: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Return the query parameters of a request.

    Raises:
        WrongParameterError: One is unknown, given twice, or wrong.
    """
    by_name = {one.name: one for one in known}
    found: dict[str, str] = {}
    for name, value in given:
        if name not in by_name:
            names = ", ".join(by_name) or "none"
            raise WrongParameterError(f"there is no parameter {name[:40]!r}; known are {names}")
        if name in found:
            raise WrongParameterError(f"{name} is given twice")
        by_name[name].check(value)
        found[name] = value
    return found
