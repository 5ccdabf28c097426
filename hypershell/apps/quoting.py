"""``--quote`` and ``task.quote`` in the settings of a command: every pattern of its template quotes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypershell.errors import UsageError

__all__ = ["quoted"]


def quoted(values: dict[str, Any], given: Mapping[str, object], template: str, quote: str) -> dict[str, Any]:
    """The `values` of a command, where the option `quote` is laid over the option `template`.

    A configuration may say it for all commands; lines that are commands themselves are then left alone.

    Raises:
        TemplateError: something that the template inserts cannot be quoted safely.
        UsageError: it was asked for where nothing is inserted into a template.
    """
    if not values[quote]:
        return values
    from hypershell.template import Template, with_quotes

    text = values[template]
    if not Template(text).trivial:
        return {**values, template: with_quotes(text)}
    if quote not in given:
        return values
    raise UsageError("Using --quote requires a template, such as 'wc -l {}': without one each line is the command")
