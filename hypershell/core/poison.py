"""Tasks that may take their client with them: how many deaths each was in, how that is written, when it is enough.

A task is a suspect from the first death of a client that had it. A death is held against all suspects that were
there, up to `TRIAL`; from then on against one only that was the only one of these, so that nothing else can have
done it. The count is kept in column ``error`` of a task that waits. Pure.
"""

from __future__ import annotations

import msgspec

from hypershell.core.model import Task
from hypershell.core.needs import Need, need_of

__all__ = ["DEFAULT", "LEAST", "TRIAL", "deaths_in", "lane_for", "limit_in", "limit_option", "need_behind",
           "raised", "suspect_lane", "verdict", "words"]  # fmt: skip

#: Deaths of its client after which a task fails, where nobody says anything else; 0 would be never.
DEFAULT = 3
#: From so many deaths on a task runs as the only one of its sort.
TRIAL = 2
#: The smallest limit: the last death is one that the task was alone in.
LEAST = TRIAL + 1

_OPTION = "poison"
_WORDS = "deaths of its client: "
#: Before the system in the needs by which the lanes of suspects are known; no client meets these.
_SUSPECT, _TRIAL = "suspect ", "trial "


def words(deaths: int) -> str | None:
    """What column ``error`` of a waiting task says."""
    return f"{_WORDS}{deaths}" if deaths > 0 else None


def deaths_in(error: str | None) -> int:
    """The count in column ``error``; 0 in any other text."""
    if error is None or not error.startswith(_WORDS):
        return 0
    number = error.removeprefix(_WORDS)
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 7 else 0


def limit_option(limit: int | None) -> dict[str, int]:
    """The key for column ``options`` of a submission; none where nothing was said."""
    return {} if limit is None else {_OPTION: limit}


def limit_in(options: str) -> int | None:
    """What the submission with these options says."""
    limit = msgspec.json.decode(options, type=dict[str, object]).get(_OPTION)
    return limit if isinstance(limit, int) else None


def raised(deaths: int, alone: bool) -> int:
    """The count after one more death; `alone`: no other task there had `TRIAL` deaths."""
    return deaths + 1 if alone or deaths < TRIAL else deaths


def verdict(deaths: int, limit: int) -> str:
    """The `error` of a task that is not run any more."""
    return f"its client died {deaths} times while it ran (--poison {limit})"


def lane_for(task: Task, family: str) -> Need | None:
    """In which lane of its group a task waits."""
    need = need_of(task.tag, family) if task.tag else None
    return suspect_lane(need, task.deaths >= TRIAL) if task.deaths else need


def suspect_lane(need: Need | None, trial: bool) -> Need:
    """The lane of suspects with `need`; `trial`: of those that run one at a time."""
    system, label = need or ("", None)
    return (_TRIAL if trial else _SUSPECT) + system, label


def need_behind(lane: Need | None) -> tuple[Need | None, bool]:
    """What the tasks of a lane need, and whether they are suspects."""
    if lane is not None:
        for before in (_SUSPECT, _TRIAL):
            if lane[0].startswith(before):
                system = lane[0].removeprefix(before)
                return ((system, lane[1]) if system else None), True
    return lane, False
