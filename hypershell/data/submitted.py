"""A submission as its row in the database, and back.

The columns hold text that everybody can read. Where a path, a template or a folder is not UTF-8 its bytes lie
beside it, as ``path_raw``, ``template_raw`` and ``cwd_raw`` in column ``options``. Called by all that write or read
such rows.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hypershell.core.model import Submission
from hypershell.ostext import beside, cut_beside, escaped, raw_of

__all__ = ["row_of", "submission_of"]

_NAMES = ("path", "template", "cwd")


def row_of(submission: Submission) -> dict[str, Any]:
    """The values of the columns that `Submission` has."""
    row = msgspec.structs.asdict(submission)
    texts = {name: row[name] for name in _NAMES if row[name] is not None}
    if any(raw_of(text) is not None for text in texts.values()):
        found = beside(texts)
        row.update((name, found.pop(name)) for name in texts)
        row["options"] = _to_text({**msgspec.json.decode(submission.options), **found})
    else:
        row.update((name, escaped(text)) for name, text in texts.items())
    return row


def submission_of(row: Any) -> Submission:
    """The submission that `row_of` made this row of; `row` is a mapping of columns."""
    fields = {name: row[name] for name in Submission.__struct_fields__}
    if "_raw" in fields["options"]:
        options = msgspec.json.decode(fields["options"])
        fields.update(cut_beside(options, {name: fields[name] for name in _NAMES if fields[name] is not None}))
        fields["options"] = _to_text(options)
    return Submission(**fields)


def _to_text(options: dict[str, Any]) -> str:
    return msgspec.json.encode(options, order="sorted").decode()
