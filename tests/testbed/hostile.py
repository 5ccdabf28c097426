"""Text of somebody who wants to be taken for us, or to have a terminal obey."""

from __future__ import annotations

import re

__all__ = ["FORGED", "HOSTILE", "OBEYED"]

#: A line of a log, in the style ``system``, near enough.
FORGED = "2026-01-01 00:00:00.000 host CRITICAL [hypershell] all is lost"
#: Everything that ends a line somewhere, or is obeyed by a terminal.
HOSTILE = f"a\n{FORGED}\r\n\x1b]0;title\x07\x1b[2J\x9b31m\u2028{FORGED}\u202e\u2066\x85\x0b"
#: What no text that is shown has in it; ends of lines are for those who look to judge.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
