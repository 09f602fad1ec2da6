"""The entries of the encryption context that belong to the format and not to the user."""

from __future__ import annotations

#: Binds a data key to the suite it was made for.
SUITE_ENTRY = "aws:x-amz-cek-alg"

RESERVED_ENTRIES = frozenset({SUITE_ENTRY, "kms_cmk_id"})
