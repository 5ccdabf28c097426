"""The one hierarchy of errors; each class knows the exit status of a command that ends by it.

A task that fails is data, never an exception. Messages are one line: the thing, the reason, the way out.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ExitStatus",
    "HyperShellError",
    "InputError",
    "LaunchError",
    "ProtocolError",
    "StoreError",
    "TransportError",
    "UsageError",
]


class ExitStatus:
    """Exit statuses of every command (documented in ``docs/exit-status.md``)."""

    SUCCESS = 0
    USAGE = 1
    BAD_ARGUMENT = 2
    BAD_CONFIG = 3
    INTERRUPTED = 4
    RUNTIME_ERROR = 5
    UNCAUGHT = 6
    TASKS_FAILED = 7
    UNFINISHED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again


class HyperShellError(Exception):
    """Base of everything that we raise on purpose."""

    exit_status = ExitStatus.RUNTIME_ERROR


class UsageError(HyperShellError):
    """An option or argument that cannot be used."""

    exit_status = ExitStatus.BAD_ARGUMENT


class ConfigError(HyperShellError):
    """A configuration file, variable or value that cannot be used."""

    exit_status = ExitStatus.BAD_CONFIG


class InputError(HyperShellError):
    """A FILE of tasks that cannot be read, or that is not what it was."""


class StoreError(HyperShellError):
    """The database cannot be opened, read or written."""


class TransportError(HyperShellError):
    """A peer cannot be reached, or was lost where that is final."""


class ProtocolError(HyperShellError):
    """A peer sent something that no correct peer sends; the peer is rejected, nothing else suffers."""


class LaunchError(HyperShellError):
    """MPI or a launcher is missing, or is not the one that we were built for."""
