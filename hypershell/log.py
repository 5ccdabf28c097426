"""Logging to stderr and to a file: levels, styles, colours, rotation.

Owns what a log line looks like. A message is one line whatever is in it: text of tasks, of peers, of the database
and of file names reaches a log here and nowhere else, so nobody forges a line or sends commands to a terminal.
Knows nothing of where its settings come from; called by `hypershell.apps` at the start, and by the loops on
SIGHUP. Loggers are those of `logging`, named ``hypershell`` and ``hypershell.X``.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from hypershell.color import wants_color
from hypershell.errors import ConfigError
from hypershell.making import NO_LINK, PRIVATE_FOLDER, make_folder, open_new
from hypershell.ostext import behind_margin, escaped, in_quotes, one_line
from hypershell.room import Spare, reason
from hypershell.trust import followed

__all__ = ["DEVEL", "STYLES", "TRACE", "LogSettings", "rotate", "setup", "share_terminal"]

TRACE = 5
DEVEL = 1

ROOT = "hypershell"

_HEAD = "%(ansi_bold)s%(ansi_level)s%(levelname)8s%(ansi_reset)s"
_STAMP = "%(asctime)s.%(msecs)03d %(hostname)s"
_NAME = "%(ansi_faint)s[%(name)s]%(ansi_reset)s"

STYLES = {
    "default": f"{_HEAD} {_NAME} %(message)s",
    "detailed": f"%(ansi_faint)s{_STAMP}%(ansi_reset)s {_HEAD} {_NAME} %(message)s",
    "detailed-compact": (
        "%(ansi_faint)s%(elapsed_hms)s [%(hostname_short)s]%(ansi_reset)s "
        f"{_HEAD} %(ansi_faint)s[%(relative_name)s]%(ansi_reset)s %(message)s"
    ),
    "system": f"{_STAMP} {_HEAD} [%(app_id)s] {_NAME} %(message)s",
    "short": "%(ansi_faint)s[%(elapsed).3f]%(ansi_reset)s %(message)s",
}

_ANSI = {
    "reset": "\033[0m",
    "bold": "\033[1m",
    "faint": "\033[2m",
    "italic": "\033[3m",
    "underline": "\033[4m",
    "black": "\033[30m",
    "red": "\033[31m",
    "green": "\033[32m",
    "yellow": "\033[33m",
    "blue": "\033[34m",
    "magenta": "\033[35m",
    "cyan": "\033[36m",
    "white": "\033[37m",
}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How to log. `file`: None for no file, ``""`` for one named after `role` in `directory`, else its path.

    `format` and `file_format` go before the styles. `app_id` is what the style ``system`` shows; one is drawn
    where it is empty.
    """

    level: str = "info"
    style: str = "default"
    format: str | None = None
    datefmt: str = "%Y-%m-%d %H:%M:%S"
    color: bool = True
    file: str | None = None
    directory: str = ""
    role: str = ""
    file_level: str = "trace"
    file_style: str = "system"
    file_format: str | None = None
    app_id: str = ""
    folder_mode: int = PRIVATE_FOLDER
    """Permissions of a folder that is made; a file has these without x."""


class HasLogFields(Protocol):
    """What the settings of a run say about logging; all that a worker rank knows."""

    @property
    def log_level(self) -> str:
        """Name of the least level."""
        ...

    @property
    def log_style(self) -> str:
        """Name of a style."""
        ...


def setup(values: LogSettings | HasLogFields) -> None:
    """Log as `values` say; may be called again, the newest call holds.

    Raises `ConfigError` for a format that cannot be used or a log file that cannot be opened; the old handlers
    stay then.
    """
    if not isinstance(values, LogSettings):
        values = LogSettings(level=values.log_level, style=values.log_style)
    logging.addLevelName(TRACE, "TRACE")
    logging.addLevelName(DEVEL, "DEVEL")
    app_id = values.app_id or _draw_id()
    handlers: list[_Stderr | _LogFile] = [_stderr_handler(values, app_id)]
    if values.file is not None:
        handlers.append(_file_handler(values, app_id))
    root = logging.getLogger(ROOT)
    for old in [handler for handler in root.handlers if isinstance(handler, (_Stderr, _LogFile))]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(min(handler.level for handler in handlers))


def rotate() -> None:
    """Begin a new log file: the old one becomes ``NAME.1``, ``NAME.2``, …, the highest number is the newest.

    A file that something else has moved or removed is only opened again. Without a log file nothing happens.
    """
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, _LogFile):
            handler.rotate()


def share_terminal(writer: Callable[[str], None]) -> None:
    """Have lines for stderr written by `writer`, which knows what else stands on that terminal."""
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, _Stderr):
            handler.writer = writer


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at that moment; a line that cannot be written is dropped."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.writer: Callable[[str], None] | None = None
        """What writes a line in place of us."""

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None:
            return
        if self.writer is None:
            super().emit(record)
            return
        try:
            self.writer(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Stay silent: there is nowhere left to complain."""


class _LogFile(logging.FileHandler):
    """Appends to a file that can be rotated; a line that cannot be written is dropped."""

    def __init__(self, path: str, mode: int) -> None:
        self._permissions = mode
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._spare = Spare(1)  # to rotate when no other descriptor is left

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._spare.give()

    def _open(self) -> Any:  # as of FileHandler, but for the opener
        return open(
            self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=self._descriptor
        )

    def _descriptor(self, path: str, flags: int) -> int:
        """The file, made for us alone whatever the umask, where no link of another user leads to it."""
        real = followed(path)
        if os.path.exists(path) and not os.path.exists(real):  # a descriptor (/dev/stderr)
            return os.open(path, flags)
        flags &= ~os.O_CREAT
        try:
            return open_new(real, self._permissions, flags)
        except FileExistsError:
            return os.open(real, flags | NO_LINK)

    def rotate(self) -> None:
        """Move the file away, if it is still ours, and open a new one; on failure go on with the old one."""
        self.acquire()
        self._spare.give()
        try:
            if self._is_ours():
                os.rename(self.baseFilename, self._free_name())
            fresh = self._open()
            old, self.stream = self.stream, fresh
            if old is not None:
                old.close()
        except OSError as error:
            logging.getLogger(ROOT).warning("cannot rotate log file %s: %s", self.baseFilename, reason(error))
        finally:
            self._spare.keep()
            self.release()

    def handleError(self, record: logging.LogRecord) -> None:
        """Stay silent: a full disk must not end the work."""

    def _is_ours(self) -> bool:
        if self.stream is None:
            return False
        try:
            return os.path.samestat(os.stat(self.baseFilename), os.fstat(self.stream.fileno()))
        except OSError:
            return False

    def _free_name(self) -> str:
        folder, name = os.path.split(self.baseFilename)
        suffixes = [entry[len(name) + 1 :] for entry in os.listdir(folder) if entry.startswith(name + ".")]
        numbers = [int(suffix) for suffix in suffixes if suffix.isdecimal()]
        return f"{self.baseFilename}.{max(numbers, default=0) + 1}"


class _Formatter(logging.Formatter):
    """A formatter with the extra attributes of our records (times in seconds since the start of the process)."""

    def __init__(self, layout: str, datefmt: str, color: bool, app_id: str) -> None:
        super().__init__(layout, datefmt)
        host = _hostname()
        self._fixed = {
            "app_id": app_id,
            "hostname": host,
            "hostname_short": host.partition(".")[0],
            **{f"ansi_{name}": code if color else "" for name, code in _ANSI.items()},
        }
        self._color = color
        self._last = 0.0

    def format(self, record: logging.LogRecord) -> str:
        milliseconds = record.relativeCreated
        record.__dict__.update(self._fixed)
        record.__dict__.update(
            relative_name=record.name.removeprefix(ROOT + "."),
            elapsed=milliseconds / 1000,
            elapsed_ms=milliseconds,
            elapsed_delta=(milliseconds - self._last) / 1000,
            elapsed_hms=_hms(milliseconds),
            ansi_level=_level_color(record.levelno) if self._color else "",
        )
        self._last = milliseconds
        return escaped(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line: the layout is ours or the user's, the message may hold text of anybody."""
        shown = one_line(record.message)
        if shown != record.message:
            # A copy: the record is not ours alone, and a layout may name ``msg``.
            record = logging.makeLogRecord({**record.__dict__, "msg": shown, "args": (), "message": shown})
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """The traceback behind a margin, so that no text of an error begins a line."""
        return behind_margin(super().formatException(ei))


def _stderr_handler(values: LogSettings, app_id: str) -> _Stderr:
    handler = _Stderr()
    handler.setLevel(_level(values.level))
    color = values.color and wants_color(sys.stderr)
    handler.setFormatter(_formatter(values.format or STYLES[values.style], values.datefmt, color, app_id))
    return handler


def _file_handler(values: LogSettings, app_id: str) -> _LogFile:
    formatter = _formatter(values.file_format or STYLES[values.file_style], values.datefmt, False, app_id)
    name = f"{values.role}-{_hostname()}.log" if values.role else "main.log"
    path = os.path.abspath(values.file or os.path.join(values.directory, name))
    try:
        make_folder(os.path.dirname(path), values.folder_mode)
        handler = _LogFile(path, values.folder_mode & 0o666)
    except OSError as error:
        raise ConfigError(f"logging.file: cannot open {path}: {error.strerror}") from None
    handler.setLevel(_level(values.file_level))
    handler.setFormatter(formatter)
    return handler


def check_format(layout: str) -> None:
    """Raise `ValueError` where no log line can be made with `layout`."""
    try:
        formatter = _Formatter(layout, "", False, "")
        formatter.format(logging.LogRecord(ROOT, logging.INFO, "", 0, "", None, None))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{in_quotes(layout)} cannot be used: {error}") from None


def _formatter(layout: str, datefmt: str, color: bool, app_id: str) -> _Formatter:
    try:
        check_format(layout)
    except ValueError as error:
        raise ConfigError(f"logging.format: {error}") from None
    return _Formatter(layout, datefmt, color, app_id)


def _level(name: str) -> int:
    return {"trace": TRACE, "devel": DEVEL}.get(name) or int(getattr(logging, name.upper()))


def _level_color(level: int) -> str:
    if level >= logging.ERROR:
        return _ANSI["red"]
    if level >= logging.WARNING:
        return _ANSI["yellow"]
    return _ANSI["green" if level >= logging.INFO else "blue"]


def _hms(milliseconds: float) -> str:
    """``dd-hh:mm:ss.mmm``."""
    seconds, millis = divmod(int(milliseconds), 1000)
    days, rest = divmod(seconds, 86_400)
    return f"{days:02d}-{time.strftime('%H:%M:%S', time.gmtime(rest))}.{millis:03d}"


def _hostname() -> str:
    if hasattr(os, "uname"):
        return escaped(os.uname().nodename)
    return os.environ.get("COMPUTERNAME", "localhost")


def _draw_id() -> str:
    """A random id in the layout of a UUID (RFC 9562, version 4), without the import of `uuid`."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
