# SPDX-License-Identifier: BSD-3-Clause
"""Certificates as records that can be kept, and checked without what computed them."""

from ._record import certificate_record
from ._verify import verify_record

__all__ = ["certificate_record", "verify_record"]
