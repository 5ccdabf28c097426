"""What a command and an option are: the words that the table of `hypershell.options` is written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypershell import values
from hypershell.values import Loader

__all__ = ["ENV_PREFIX", "EXPORT_PREFIX", "LEVELS", "STYLES", "Command", "Option"]

ENV_PREFIX = "HYPERSHELL_"
EXPORT_PREFIX = "HYPERSHELL_EXPORT_"

LEVELS = ("devel", "trace", "debug", "info", "warning", "error", "critical")
STYLES = ("default", "detailed", "detailed-compact", "system", "short")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of ``hs``; `module` holds its ``main(argv) -> int``."""

    name: str
    module: str
    summary: str
    detail: str
    examples: tuple[str, ...]
    log_level: str


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of one or more commands.

    Without `flags` it is a positional argument, or with a `key` one that only files and environment can set.
    Without `metavar` it is a switch. `parse` reads the command line; `load` reads `key` from files and environment
    (`parse` where absent) and must accept what `dump` makes of a parsed value. `default` is as `load` returns it.
    With `many` it may be given several times, and `parse` reads each. An `idle` one is accepted and has no effect.
    """

    dest: str
    commands: tuple[str, ...]
    help: str
    flags: tuple[str, ...] = ()
    metavar: str = ""
    parse: Loader = values.text
    key: str | None = None
    load: Loader | None = None
    dump: Callable[[object], object] | None = None
    default: object = None
    default_text: str = ""
    alias: str | None = None
    group: str = "options"
    many: bool = False
    idle: bool = False

    @property
    def env(self) -> str | None:
        """The environment variable that sets it."""
        return None if self.key is None else ENV_PREFIX + self.key.replace(".", "_").upper()

    @property
    def is_positional(self) -> bool:
        """Whether it is given by place."""
        return not self.flags and self.key is None

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value on the command line."""
        return bool(self.flags) and not self.metavar

    @property
    def is_secret(self) -> bool:
        """Whether its value is for nobody else: it is masked where a command line is recorded or shown."""
        return self.parse is values.secret

    def from_config(self, value: object) -> object:
        """The typed value of a raw one of a file or variable; raises `ValueError` with the reason."""
        return (self.load or self.parse)(value)

    def to_config(self, value: object) -> object:
        """The raw form, as a file would hold it, of a typed value."""
        return value if self.dump is None or value is None else self.dump(value)
