"""What a client is told when the scheduler wants something of it alone."""

from __future__ import annotations

from hypershell.core import actions as act
from hypershell.proto import messages as msg

__all__ = ["words_for"]


def words_for(action: act.Acknowledge | act.CancelTasks | act.RecallTasks) -> msg.ServerMessage:
    """The message that says it."""
    if isinstance(action, act.Acknowledge):
        return msg.Acknowledged(action.count)
    if isinstance(action, act.CancelTasks):
        return msg.Cancel(action.tasks, action.signal)
    return msg.Recall(action.tasks)
