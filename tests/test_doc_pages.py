# SPDX-License-Identifier: BSD-3-Clause
"""The first guide page runs as it stands, from a CSV file to certificates that others can check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOC = Path(__file__).parents[1] / "doc"


def code_of(page):
    """Return the Python code of a page, in one piece."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (DOC / page).read_text(), re.S | re.M))


@pytest.mark.slow
def test_the_first_page_leads_to_certified_predictions(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mpmath")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code_of("start.md"), "start.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "Certifies against changes of training features, by l2 norm in units of sigma" in printed
    radii, each = names["radii"], names["each"]
    assert radii.shape == (100,) and (radii > 1.0).mean() > 0.3
    assert (each[radii > 0] < radii[radii > 0]).all()
    names["X_test"] = names["X_test"][:5]
    exec(compile(code_of("audit.md"), "audit.md", "exec"), names)
    command = [sys.executable, "-m", "sksmooth.audit", "certificates.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "certificates.json: holds, 5 rows\n"


def test_every_page_is_in_the_table_of_contents():
    index = (DOC / "index.md").read_text()
    pages = {page.stem for page in DOC.glob("*.md")} - {"index"}
    assert pages == pages & set(re.findall(r"^[\w/]+$", index, re.M))
    assert "doc/" not in index


def test_links_between_pages_lead_somewhere():
    for page in DOC.glob("*.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (DOC / target).exists(), f"{page.name}: {target}"
