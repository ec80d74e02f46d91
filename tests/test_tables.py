# SPDX-License-Identifier: BSD-3-Clause
"""Committed tables are those that their CSV files give."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(set((ROOT / "doc" / "benchmarks").glob("*.md")) - {ROOT / "doc/benchmarks/index.md"})


@pytest.fixture
def layout(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "tables")
    monkeypatch.delitem(sys.modules, "_layout", raising=False)
    import _layout

    yield _layout
    monkeypatch.delitem(sys.modules, "_layout", raising=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_agrees_with_its_csv(page, layout, tmp_path):
    assert layout.agrees(page)
    text = page.read_text(encoding="utf-8")
    assert f"benchmarks/tables/{page.stem}.py" in text
    assert (ROOT / "benchmarks" / "tables" / f"{page.stem}.py").exists()
    # One digit of one table changed, and a line of its own: the check fails.
    copy = tmp_path / page.name
    copy.with_suffix(".csv").write_bytes(page.with_suffix(".csv").read_bytes())
    place = [match.start() for match in re.finditer(r"(?<=\.)\d(?=\d\d \|)", text)][7]
    copy.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    assert not layout.agrees(copy)
    copy.write_text(text + "\n| one | more |\n")
    assert not layout.agrees(copy)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_csv_file_is_written_in_one_way(page, layout, tmp_path):
    copy = tmp_path / page.name
    copy.write_bytes(page.read_bytes())
    table, text = copy.with_suffix(".csv"), page.with_suffix(".csv").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if re.search(r",0\.\d{4}$", line))
    # Another number for the same cell, before the one that is shown.
    false = re.sub(r"\d{4}$", "1234", lines[number])
    table.write_text("".join([*lines[:number], false, *lines[number:]]), encoding="utf-8")
    with pytest.raises(ValueError, match="twice"):
        layout.agrees(copy)
    # The same number with more digits, and the same lines ended otherwise.
    table.write_text(text.replace(lines[number], lines[number][:-1] + "0\n"), encoding="utf-8")
    assert not layout.agrees(copy)
    table.write_text(text, encoding="utf-8", newline="\r\n")
    assert not layout.agrees(copy)
    table.write_text(text, encoding="utf-8", newline="")
    assert layout.agrees(copy)


def test_the_name_of_a_column_without_a_number_is_checked(layout, tmp_path):
    columns = [{"acc 0.1": 0.5, "acc 0.5": 0.25}, {"acc 0.1": 0.75, "acc 0.5": None}]
    lines = [layout.Line("one", {}, who, c) for who, c in zip("ab", columns, strict=True)]
    page = layout.Page(tmp_path / "page.md", "Page", "page.py", "size", ["numpy"], "notes", "none")
    page.write(lines)
    assert layout.agrees(page.path)
    table = page.path.with_suffix(".csv")
    text = table.read_text()
    assert "b,acc 0.5,\n" in text
    table.write_text(text.replace("b,acc 0.5,\n", "b,acc 0.9,\n"))
    assert not layout.agrees(page.path)
    table.write_text(text.replace("b,acc 0.5,\n", ""))
    assert not layout.agrees(page.path)


def test_every_page_is_listed():
    index = (ROOT / "doc" / "benchmarks" / "index.md").read_text()
    assert {page.stem for page in PAGES} <= set(re.findall(r"^\w+$", index, re.M))


def test_cells_are_computed_once(layout, tmp_path):
    store, calls = layout.Store(tmp_path), []
    for _ in range(2):
        assert store.get({"a": 1}, lambda: calls.append(1) or {"value": 0.5}) == {"value": 0.5}
    assert calls == [1]
    assert store.get({"a": 2}, lambda: {"value": 1.0}) == {"value": 1.0}
    with pytest.raises(KeyboardInterrupt):
        store.get({"a": 3}, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert store.get({"a": 3}, lambda: {"value": 2.0}) == {"value": 2.0}


def test_lines_that_were_not_run_are_filled_in(layout, tmp_path):
    def line(who, sigma, networks, value):
        setting = {"sigma": sigma, "networks": networks}
        return layout.Line("one", setting, who, {"acc": value})

    page = layout.Page(tmp_path / "page.md", "Page", "page.py", "size", ["numpy"], "notes", "none")
    old = [line("paper", "1", "1000", 0.5), line("not run: time", "1", "-", None)]
    old += [line("paper", "2", "1000", 0.25), line("not run: time", "2", "-", None)]
    page.write(old)
    new = [line("paper", "1", "1000", 0.75), line("ours", "1", "40", 0.375)]
    new += [line("not run: time", "2", "-", None), line("ours", "3", "40", 1.0)]
    assert layout.fill_in(page.path, new, "not run: time", "networks") == 1
    assert layout.agrees(page.path)
    assert layout.read_csv(page.path.with_suffix(".csv")) == [old[0], new[1], *old[2:]]
