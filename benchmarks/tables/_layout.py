# SPDX-License-Identifier: BSD-3-Clause
"""The layout that the tables share: one line for each who, resumable cells, and files that agree.

A CSV file holds every number; the Markdown tables are made from it alone. `agrees` tells whether a
committed page is the one that its CSV file gives.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from sksmooth import __version__

_HEADER = ["table", "setting", "who", "column", "value"]
PAPER, AS_PAPER, BEST = "paper", "ours, the paper's bound", "ours"


class Line(NamedTuple):
    """One line of a table: what was run, who says it, and a number (or None) for each column."""

    table: str
    setting: dict[str, str]
    who: str
    numbers: dict[str, float | None]


class Store:
    """Finished cells in a folder; each is computed once, whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: dict[str, Any], compute: Callable[[], Any]) -> Any:
        """Return the result of a cell, from its file if there is one; None is not kept."""
        text = json.dumps(key, sort_keys=True)
        path = self.folder / f"{sha256(text.encode()).hexdigest()[:24]}.json"
        if path.exists():
            return json.loads(path.read_text())["result"]
        result = compute()
        if result is None:
            return None
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps({"key": key, "result": result}))
        unfinished.replace(path)
        return result


def environment(packages: list[str]) -> str:
    """Return a sentence about what produced a table."""
    versions = ", ".join([f"sksmooth {__version__}", *(f"{p} {version(p)}" for p in packages)])
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs"
    return f"Python {platform.python_version()}, {versions}; {machine}."


def write_csv(lines: list[Line], path: Path) -> None:
    """Write one row for each number; None stands for what was not run, or is not printed."""
    path.write_text(_as_csv(lines), encoding="utf-8", newline="")


def _as_csv(lines: list[Line]) -> str:
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(_HEADER)
    for line in lines:
        for column, value in line.numbers.items():
            shown = "" if value is None else f"{value:.4f}"
            out.writerow([line.table, json.dumps(line.setting), line.who, column, shown])
    return file.getvalue()


def read_csv(path: Path) -> list[Line]:
    """Return the lines that a CSV file holds.

    Raises
    ------
    ValueError
        If it holds two numbers for one cell: one of them would be shown, and not the other.
    """
    lines: dict[tuple[str, ...], Line] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["table"], row["setting"], row["who"])
            line = lines.setdefault(key, Line(key[0], json.loads(key[1]), key[2], {}))
            if row["column"] in line.numbers:
                raise ValueError(f"{path} has {row['column']!r} of {key} twice.")
            line.numbers[row["column"]] = float(row["value"]) if row["value"] else None
    return list(lines.values())


def markdown(lines: list[Line]) -> str:
    """Return the tables as Markdown."""
    text = []
    for table in dict.fromkeys(line.table for line in lines):
        chosen = [line for line in lines if line.table == table]
        columns = list(dict.fromkeys(c for line in chosen for c in line.numbers))
        header = [*chosen[0].setting, "", *columns]
        text += [f"## {table}", "", f"| {' | '.join(header)} |", "| --- " * len(header) + "|"]
        for line in chosen:
            shown = [_shown(line.numbers.get(column)) for column in columns]
            text.append(f"| {' | '.join([*line.setting.values(), line.who, *shown])} |")
        text.append("")
    return "\n".join(text)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


class Page(NamedTuple):
    """A page of tables: Markdown, with a CSV file and a picture of the same name beside it."""

    path: Path
    title: str
    script: str
    size: str  # how much was run
    packages: list[str]
    notes: str
    caption: str  # of the picture
    environment: str | None = None  # what produced the numbers; None is what writes them

    def write(self, lines: list[Line]) -> None:
        """Write the Markdown and the CSV file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(lines, self.path.with_suffix(".csv"))
        picture = f"![{self.caption}]({self.path.with_suffix('.png').name})"
        head = [f"# {self.title}", f"Written by `benchmarks/tables/{self.script}`."]
        head += [f"{self.size}\n{self.environment or environment(self.packages)}"]
        head += [self.notes, picture]
        tables = markdown(read_csv(self.path.with_suffix(".csv")))
        self.path.write_text("\n\n".join([*head, tables]), encoding="utf-8")
        print(f"written: {self.path}, .csv, .png")


def fill_in(page: Path, lines: list[Line], not_run: str, apart_from: str) -> int:
    """Put lines in the place of those that a written page has as not run; returns how many.

    They are of the same table and setting, `apart_from` one entry. Nothing else is changed.
    """

    def place(line: Line) -> tuple[Any, ...]:
        return line.table, *(item for item in line.setting.items() if item[0] != apart_from)

    old = read_csv(page.with_suffix(".csv"))
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        if line.who not in (PAPER, not_run):
            found.setdefault(place(line), []).append(line)
    new, filled = [], 0
    for line in old:
        instead = found.get(place(line)) if line.who == not_run else None
        filled += instead is not None
        new += instead or [line]
    text = page.read_text(encoding="utf-8")
    if markdown(old) not in text:
        raise ValueError(f"{page} does not agree with its CSV file.")
    write_csv(new, page.with_suffix(".csv"))
    tables = markdown(read_csv(page.with_suffix(".csv")))
    page.write_text(text.replace(markdown(old), tables), encoding="utf-8")
    return filled


def agrees(page: Path) -> bool:
    """Tell whether the tables of a page are those that its CSV file gives, and no others.

    The file must be written as `write_csv` writes these lines, each of which has the columns of its
    table: the name of a column that holds no number could otherwise be any.
    """
    path = page.with_suffix(".csv")
    lines = read_csv(path)
    if path.read_bytes() != _as_csv(lines).encode():
        return False
    if len({(line.table, tuple(line.numbers)) for line in lines}) > len({x.table for x in lines}):
        return False
    tables = markdown(lines)
    text = page.read_text(encoding="utf-8")
    return tables in text and "|" not in text.replace(tables, "")
