"""``hs update ARG...``: change, cancel, revert or delete tasks of the database, all of it or nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypershell.errors import ExitStatus, StoreError, UsageError

if TYPE_CHECKING:
    from hypershell.address import Where
    from hypershell.data.edits import Edit
    from hypershell.data.where import Filter, Order
    from hypershell.settings import UpdateSettings

__all__ = ["main"]

log = logging.getLogger("hypershell.data")


def main(argv: Sequence[str]) -> int:
    """Run ``hs update ARGV`` and return its exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _update(argv))


def _update(argv: Sequence[str]) -> int:
    from hypershell.apps.frame import parse_update
    from hypershell.apps.place import is_absent

    settings, config = parse_update(argv)
    from hypershell.data.edits import read_edit

    action = next((name for name in ("cancel", "revert", "delete") if getattr(settings, name)), "")
    edit, is_old_form = read_edit(settings.changes, settings.remove_tags, action, settings.signal)
    if edit.ids and settings.limit is not None:
        raise UsageError("Using -l/--limit with the id of a task is invalid: leave out one")
    chosen, order = _selection(settings)
    where = settings.place
    log.info("Database: %s", where)
    if not edit.ids and is_absent(settings, config):
        return _nothing()
    return _change(where, chosen, order, edit, settings.limit, settings.no_confirm or is_old_form)


def _selection(settings: UpdateSettings) -> tuple[Filter, Order | None]:
    from hypershell.data.where import OUTCOMES, Filter, Order, check_field

    outcome = next((name for name in OUTCOMES if getattr(settings, name)), None)
    states = OUTCOMES[outcome] if outcome else ()
    chosen = Filter.build(settings.where, settings.tags, settings.group, settings.retries, states)
    return chosen, Order(check_field(settings.order_by), settings.desc) if settings.order_by else None


def _change(where: Where, chosen: Filter, order: Order | None, edit: Edit, limit: int | None, quiet: bool) -> int:
    from hypershell.data.change import changing

    with changing(where) as changer:
        count = changer.choose(chosen, edit, order, limit)
        if not count:
            return _nothing(changer.elsewhere(chosen, edit))
        if not quiet and not _confirmed(count):
            log.info("Nothing was changed")
            return ExitStatus.SUCCESS
        changed, asked = changer.apply(edit)
    if changed + asked < count:
        log.info("%d of the tasks changed meanwhile and stay as they are", count - changed - asked)
    if asked:
        log.info("Asked the server of %d running tasks to stop them", asked)
    log.info("%s %d tasks", "Deleted" if edit.action == "delete" else "Updated", changed + asked)
    return ExitStatus.SUCCESS


def _nothing(elsewhere: int = 0) -> int:
    if elsewhere:
        text = "Nothing was changed: such tasks, %d of them, are only in partitions, which stay as they are"
        log.info(text, elsewhere)
    else:
        log.info("No such tasks, nothing was changed")
    return ExitStatus.SUCCESS


def _confirmed(count: int) -> bool:
    """Ask; anything but yes is no.

    Raises:
        StoreError: there is nobody to ask.
    """
    try:
        answer = input(f"Update affects {count} tasks, continue? yes/[no]: ")
    except (EOFError, RuntimeError):  # the latter where there is no stdin
        raise StoreError("nobody answered (end of stdin): nothing was changed (see -f/--no-confirm)") from None
    return answer.strip().lower() in ("y", "yes")
