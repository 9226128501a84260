"""The content of a page for programs: JSON and CSV beside the HTML."""

from pathlib import Path
from typing import Any

import pandas as pd

from data.atomic import atomic, write_json


def beside(page: Path, suffix: str, name: str = "") -> Path:
    """Path of the JSON or CSV (`suffix`) beside `page`; of several tables each has a `name`."""
    return page.with_name(f"{page.stem}{'-' if name else ''}{name}{suffix}")


def write_beside(page: Path, content: dict[str, Any], tables: dict[str, pd.DataFrame]) -> None:
    """Write `content` as JSON and each table as CSV, named after `page` and the table; "" is its only table."""
    write_json(beside(page, ".json"), content)
    for name, table in tables.items():
        with atomic(beside(page, ".csv", name)) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
