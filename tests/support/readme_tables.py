"""The README's configuration tables, made from the records themselves.

``python -m tests.support.readme_tables`` writes them into the README; a test compares.
"""

import dataclasses
import inspect
import re
from pathlib import Path

from routecache_middleware import CachePolicy, Settings
from routecache_middleware.adapters.litellm.options import Options
from routecache_middleware.admin import AdminSettings
from routecache_middleware.core.dialect import field_table
from routecache_middleware.core.metrics import metric_table
from routecache_middleware.core.reasons import reason_table
from routecache_middleware.dialects.table import DIALECTS, load
from routecache_middleware.gateway.settings import GatewaySettings, ModelSettings, RouteSettings

README = Path(__file__).parents[2] / "README.md"
Documented = (
    Settings
    | CachePolicy
    | Options
    | GatewaySettings
    | ModelSettings
    | RouteSettings
    | AdminSettings
)
RECORDS: tuple[type[Documented], ...] = (
    Settings,
    CachePolicy,
    Options,
    GatewaySettings,
    ModelSettings,
    RouteSettings,
    AdminSettings,
)


def meanings(record: type[object]) -> dict[str, str]:
    """Return what the class docstring says of each attribute."""
    text = inspect.cleandoc(record.__doc__ or "").partition("Attributes:")[2]
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        start = re.match(r" {4}(\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def table(record: type[Documented]) -> str:
    """Return the Markdown table of a record's fields."""
    said = meanings(record)
    rows = ["| name | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(record):
        meaning = said.get(field.name, "").replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{_shown(field.default)}` | {meaning} |")
    return "\n".join(rows)


def fields() -> str:
    """Return the paths and the request fields of every dialect, each to be opened by itself."""
    parts = []
    for name, row in sorted(DIALECTS.items()):
        places = ", ".join(f"<code>{place}</code>" for place in (*row.suffixes, *row.paths))
        parts += [
            f"<details><summary><b>{name}</b>: {places}</summary>\n",
            field_table(load(name).fields),
            "\n</details>",
        ]
    return "\n".join(parts)


def filled(text: str) -> str:
    """Return the README's text with its tables made anew."""
    made = {f"<!-- table: {record.__name__} -->": table(record) for record in RECORDS}
    more = {
        "<!-- fields -->": fields(),
        "<!-- metrics -->": metric_table(),
        "<!-- reasons -->": reason_table(),
    }
    for mark, content in (made | more).items():
        before, _, rest = text.partition(mark)
        _, _, after = rest.partition("<!-- end -->")
        text = f"{before}{mark}\n{content}\n<!-- end -->{after}"
    return text


def _shown(default: object) -> str:
    if isinstance(default, frozenset):
        return ", ".join(sorted(default)) or "none"
    if isinstance(default, str):
        return f'"{default!s}"'
    if isinstance(default, int) and not isinstance(default, bool):
        return f"{default:,}"
    return repr(default)


if __name__ == "__main__":
    README.write_text(filled(README.read_text("utf-8")), "utf-8")
