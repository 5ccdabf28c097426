"""Where files live: configuration, library (database, captured output) and logs, for system, user and local site.

Knows paths and nothing of what is in them. Called by `hypershell.config` and `hypershell.apps`.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from hypershell.errors import HyperShellError
from hypershell.making import PRIVATE_FOLDER, make_folder

__all__ = ["Site", "SiteError", "Sites", "ensure_directory", "find_sites", "working_directory"]


class SiteError(HyperShellError):
    """A directory of the site cannot be made or used."""


@dataclass(frozen=True, slots=True)
class Site:
    """The paths of one site; nothing of it needs to exist. `root` holds what has no place of its own."""

    name: str
    root: str
    config: str
    lib: str
    log: str
    database: str
    task: str


@dataclass(frozen=True, slots=True)
class Sites:
    """The three sites and the one that holds database and logs; `chosen` if the user named it (HYPERSHELL_SITE)."""

    system: Site
    user: Site
    local: Site
    default: Site
    chosen: bool


def find_sites(
    environ: Mapping[str, str] | None = None,
    *,
    platform: str = sys.platform,
    admin: bool | None = None,
    home: str | None = None,
    cwd: str | None = None,
) -> Sites:
    """The sites for this environment and operating system.

    HYPERSHELL_SITE replaces the local site and makes it the default; else that is the system's for an
    administrator and the user's for everybody else. Where the current directory is gone nothing is found there, and
    a relative HYPERSHELL_SITE is a `SiteError`.
    """
    environ = os.environ if environ is None else environ
    home = os.path.expanduser("~") if home is None else home
    flavour = ntpath if platform == "win32" else posixpath
    chosen = environ.get("HYPERSHELL_SITE", "")
    root = os.path.expanduser(chosen) if chosen else ".hypershell"
    if cwd is None and not flavour.isabs(root):
        try:
            cwd = working_directory()
        except SiteError:
            if chosen:
                raise
    root = flavour.join(cwd or "", root)
    build = {"win32": _windows, "darwin": _macos}.get(platform, _posix)
    system, user, local = build(environ, home, root)
    if chosen:
        default = local
    else:
        default = system if (_is_admin() if admin is None else admin) else user
    return Sites(system, user, local, default, bool(chosen))


def ensure_directory(path: str, mode: int = PRIVATE_FOLDER) -> str:
    """Make `path` and what is above it where missing, each with just this `mode`, and return it.

    Raises `SiteError`.
    """
    try:
        make_folder(path, mode)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SiteError(f"cannot make directory {path}: {reason} (HYPERSHELL_SITE names another place)") from error
    return path


def _posix(environ: Mapping[str, str], home: str, root: str) -> tuple[Site, Site, Site]:
    user = posixpath.join(home, ".hypershell")
    return (
        _site(
            "system", "/var/lib/hypershell", "/etc/hypershell.toml", "/var/lib/hypershell", "/var/log/hypershell"
        ),
        _site("user", user, f"{user}/config.toml", f"{user}/lib", f"{user}/log"),
        _site("local", root, f"{root}/config.toml", f"{root}/lib", f"{root}/log"),
    )


def _macos(environ: Mapping[str, str], home: str, root: str) -> tuple[Site, Site, Site]:
    def library(name: str, top: str) -> Site:
        return _site(
            name,
            f"{top}/Library/HyperShell",
            f"{top}/Library/Preferences/HyperShell/config.toml",
            f"{top}/Library/HyperShell",
            f"{top}/Library/Logs/HyperShell",
            database="Main.db",
        )

    local = _site("local", root, f"{root}/config.toml", f"{root}/Library", f"{root}/Logs", database="Main.db")
    return library("system", ""), library("user", home), local


def _windows(environ: Mapping[str, str], home: str, root: str) -> tuple[Site, Site, Site]:
    def folder(name: str, top: str) -> Site:
        return _site(
            name,
            top,
            ntpath.join(top, "Config.toml"),
            ntpath.join(top, "Library"),
            ntpath.join(top, "Logs"),
            database="Main.db",
            separator="\\",
        )

    system = environ.get("ProgramData") or environ.get("PROGRAMDATA") or "C:\\ProgramData"
    user = environ.get("AppData") or environ.get("APPDATA") or ntpath.join(home, "AppData", "Roaming")
    return (
        folder("system", ntpath.join(system, "HyperShell")),
        folder("user", ntpath.join(user, "HyperShell")),
        folder("local", root),
    )


def _site(
    name: str,
    root: str,
    config: str,
    lib: str,
    log: str,
    *,
    database: str = "main.db",
    separator: str = "/",
) -> Site:
    return Site(name, root, config, lib, log, lib + separator + database, lib + separator + "task")


def working_directory() -> str:
    """The current directory; raises `SiteError` where it is gone."""
    try:
        return os.getcwd()
    except OSError as error:
        raise SiteError(f"the current directory cannot be used: {error.strerror} (change to another)") from error


def _is_admin() -> bool:
    if sys.platform == "win32":
        import ctypes

        return bool(ctypes.windll.shell32.IsUserAnAdmin())
    return os.geteuid() == 0
