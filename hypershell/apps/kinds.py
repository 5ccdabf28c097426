"""What a single word after ``hs submit`` is: a command, a file of commands, or in doubt.

Looks at files and PATH, and at nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import sys

from hypershell.units import shown

__all__ = ["doubt", "is_list"]

#: What the shell reads in its own way: a word that has some of it was meant as a command line.
_SHELL = re.compile(r"""[\s;&|()<>$`"'*?\[\]{}!#=]""")

#: A name with an ending, such as ``tasks.in``.
_ENDING = re.compile(r"[^.].*\.[^.]+", re.DOTALL)

#: The first bytes of a file in which a NUL shows that it is no text.
_HEAD = 4096


def is_list(word: str) -> bool:
    """Whether `word` is a path whose lines are commands: anything there that cannot be executed."""
    return os.path.exists(word) and not _is_executable(word)


def doubt(word: str) -> str | None:
    """Why a word that is no list is hardly a command either; None where it may well be one.

    A file that can be executed is a program where the system can tell which one runs it: a script that begins with
    ``#!``, or what is no text.
    """
    if os.path.exists(word):
        return None if _is_program(word) else f"{shown(word)} can be executed and is no program (no #!, no binary)"
    if _SHELL.search(word) or not _looks_like_a_path(word) or shutil.which(os.path.expanduser(word)):
        return None
    return f"there is no file and no program {shown(word)}"


def _looks_like_a_path(word: str) -> bool:
    return "/" in word or os.sep in word or _ENDING.fullmatch(word) is not None


def _is_executable(path: str) -> bool:
    """Whether a file can be executed; on Windows its name says so, and every file has the right."""
    if not os.path.isfile(path):
        return False
    if sys.platform == "win32":
        endings = os.environ.get("PATHEXT", ".COM;.EXE;.BAT;.CMD")
        return os.path.splitext(path)[1].upper() in endings.upper().split(";")
    return os.access(path, os.X_OK)


def _is_program(path: str) -> bool:
    if sys.platform == "win32":
        return True
    try:
        with open(path, "rb") as source:
            head = source.read(_HEAD)
    except OSError:
        return True  # who may execute it need not be allowed to read it
    return head.startswith(b"#!") or b"\0" in head
