"""What is said where a FILE is run from its beginning that was run before. Pure, apart from the local time zone."""

from __future__ import annotations

import time

from hypershell.core.model import Submission
from hypershell.data.how import is_plain
from hypershell.data.lease import Owner
from hypershell.data.store import Earlier

__all__ = ["begun_anew", "changed", "once_more"]

#: Letters of a template or a folder that are shown.
_SHOWN = 80


def once_more(found: Earlier, owner: Owner | None) -> str:
    """The same work is begun a second time without ``--restart``; `owner` works on the first."""
    path = found.submission.path
    if owner is not None:
        return f"{path} is being worked on by {owner.describe()}; this run does all of it once more"
    ways = "--restart goes on with that instead"
    if found.failed and not found.unfinished:
        ways = "--restart --retry-failed tries these again instead"
    elif not found.unfinished:
        ways = "--restart runs nothing again that is done"
    return f"{path} was run before ({_when(found)}; {_state(found)}); this run does all of it once more ({ways})"


def changed(found: Earlier) -> str:
    """A FILE that was changed is a new one (``--repeat``)."""
    left = "; its tasks are left alone" if found.unfinished else ""
    return (
        f"{found.submission.path} was changed since it was run before ({_when(found)}; {_state(found)}{left}): all "
        "of it is run again (--repeat)"
    )


def begun_anew(fresh: Submission, found: Earlier) -> str:
    """``--restart`` finds other work of the same FILE only."""
    old = found.submission
    differs = [
        f"{what}: {_short(there)} there, {_short(here)} here"
        for what, there, here in (
            ("with another template", old.template, fresh.template),
            ("in another folder", old.cwd, fresh.cwd),
            ("with lines read otherwise", _reading(old), _reading(fresh)),
        )
        if there != here
    ]
    return (
        f"{old.path} was run before ({_when(found)}; {_state(found)}) {', '.join(differs)}; that is other work, so "
        "this begins anew"
    )


def _reading(submission: Submission) -> str:
    return "--plain-lines" if is_plain(submission.options) else "comments and directives"


def _when(found: Earlier) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(found.submission.submit_time))
    return f"submission {found.submission.id} of {stamp}"


def _state(found: Earlier) -> str:
    failed = f"{found.failed} task{' has' if found.failed == 1 else 's have'} failed"
    if found.unfinished:
        return f"unfinished, {failed}" if found.failed else "unfinished"
    return failed if found.failed else "all of it is done"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
