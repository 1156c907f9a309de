"""Reading back what was written for Prometheus (text format 0.0.4)."""

import re
from collections.abc import Iterator

__all__ = ["samples"]

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_MEANS = {"n": "\n"}


def samples(text: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Yield the samples of a metric: labels and value. Labels that are not ours stay in."""
    for line in text.splitlines():
        found = line.removeprefix(name)
        if line.startswith("#") or found == line or found[:1] not in {"{", " "}:
            continue
        labels, _, value = found.rpartition(" ")
        yield (
            {
                label: _ESCAPED.sub(lambda match: _MEANS.get(match[1], match[1]), written)
                for label, written in _LABEL.findall(labels)
            },
            float(value),
        )
