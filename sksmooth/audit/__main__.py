# SPDX-License-Identifier: BSD-3-Clause
"""``python -m sksmooth.audit RECORD ...`` checks files that hold certificate records."""

from __future__ import annotations

import argparse
import sys

from . import verify_record


def main() -> int:
    """Check the files that are named, and return 1 if one is refused."""
    parser = argparse.ArgumentParser(prog="python -m sksmooth.audit", description=__doc__)
    parser.add_argument("record", nargs="+", help="file with a record in JSON")
    refused = 0
    for path in parser.parse_args().record:
        try:
            found = verify_record(path)
        except (ValueError, OSError) as failure:
            print(f"{path}: REFUSED\n  {failure}")
            refused += 1
            continue
        print(f"{path}: {'holds' if found.holds else 'REFUSED'}, {len(found.radii)} rows")
        for reason in found.reasons:
            print(f"  {reason}")
        refused += not found.holds
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
