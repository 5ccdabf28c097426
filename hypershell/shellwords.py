"""What the shell makes of a word however well it is quoted: the name of a command, or text that it reads once more.

Follows one simple command of sh at a time (assignments, redirections, name, arguments). It knows what dash and bash
do with arguments of their own commands, and the programs whose purpose it is to start another one. Pure; used by
``shellplaces``.
"""

from __future__ import annotations

import re

__all__ = ["HOLE", "Words"]

#: Marks the place of an insertion: no command can hold it.
HOLE = "\0"

# Patterns are text: compiled at first use.
_STRETCH = r"[ \t]+|\n|&&|\|\||;;|>>|>\||<>|[<>]&|[;&|<>]|[^ \t\n;&|<>]+"
_ASSIGNMENT = r"[A-Za-z_][A-Za-z0-9_]*\+?="
_PASSED_OVER = rf"[-+].*|[0-9.,:-]+[a-zA-Z]?|{_ASSIGNMENT}.*"
_LOOKS_UP = r"-[vR]"

#: The command stands behind these.
_BEFORE_A_COMMAND = frozenset(["if", "then", "elif", "else", "while", "until", "do", "!", "{", "}"])
_RUNNERS = frozenset(
    {
        "exec", "command", "builtin", "coproc", "time", "env", "nohup", "nice", "ionice", "setsid",
        "stdbuf", "timeout", "sudo", "doas", "chrt", "taskset", "numactl", "xargs", "srun", "mpirun",
        "mpiexec",
    }
)  # fmt: skip
_SHELLS = frozenset(["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "csh", "tcsh", "fish"])
#: Builtins that run an argument, or read it as a name: bash runs the $( ) in a name such as a[$(x)].
_READERS = frozenset(
    {
        "eval", "trap", "alias", "let", "declare", "typeset", "local", "unset", "read", "readarray",
        "mapfile", "getopts", "wait", "bind", "compgen", "complete", "compopt", "enable", "fc", "jobs",
        "history", "hash", "function", "[[",
    }
)  # fmt: skip


class Words:
    """The simple command that is being read."""

    __slots__ = ("_is_target", "_names", "_runs", "_word")

    def __init__(self) -> None:
        self._names: list[str] = []
        self._word: str | None = None
        self._is_target = False
        self._runs = False
        """A program that runs another one was named: options and numbers before that are its own."""

    def feed(self, text: str) -> None:
        """Unquoted text."""
        for piece in re.findall(_STRETCH, text):
            if piece[0] in " \t":
                self.stop()
            elif piece[0] in "<>":
                if self._word is not None and self._word.isdecimal():
                    self._word = None  # a descriptor
                self.stop()
                self._is_target = True
            elif piece[0] in "\n;&|":
                self.end()
            else:
                self.add(piece)

    def add(self, text: str) -> None:
        """More of the word; quoted text, or what stands for it."""
        self._word = (self._word or "") + text

    def stop(self) -> None:
        """The word ends."""
        word, self._word = self._word, None
        if word is None:
            return
        if self._is_target:
            self._is_target = False
        elif self._names:
            if word == "do" and self._names[0] in ("for", "select"):
                self._names.clear()
            else:
                self._names.append(word)
        elif word in _BEFORE_A_COMMAND or re.match(_ASSIGNMENT, word):
            return
        elif _base(word) in _RUNNERS:
            self._runs = True
        elif not (self._runs and re.fullmatch(_PASSED_OVER, word, re.DOTALL)):
            self._names.append(word)

    def end(self) -> None:
        """The command ends."""
        self.stop()
        self._names.clear()
        self._is_target = self._runs = False

    def takes_many(self) -> bool:
        """Whether several words in the place of the present one are arguments, and nothing else."""
        return not self._is_target and bool(self._names) and self._names[0] not in ("[", "test", "case")

    def refusal(self) -> str | None:
        """Why the present word, up to where it is read, cannot hold what an insertion brings; None: it can."""
        word, names = self._word, self._names
        if word is None or self._is_target:
            return None
        if not names:
            return None if re.match(_ASSIGNMENT, word) else "it would be the name of the command, or a part of it"
        name = _base(names[0])
        if name in _READERS or (name in ("for", "select") and len(names) < 3):
            return f"{name} reads it as a command or a name"
        if name in ("export", "readonly"):
            return None if re.match(_ASSIGNMENT, word) else f"{name} reads it as a name"
        if name in (".", "source"):
            return f"{name} would read commands from it" if len(names) == 1 else None
        if name == "printf":
            return _as_format(names)
        if name in ("[", "test"):
            return _in_test(name, names)
        return _behind_a_shell(names)


def _base(word: str) -> str:
    return word.rpartition("/")[2]


def _as_format(names: list[str]) -> str | None:
    if len(names) > 1 and not names[1].startswith("-") and HOLE not in names[1]:
        return None
    return "printf reads it as a format or an option (write printf '%s\\n' before it)"


def _in_test(name: str, names: list[str]) -> str | None:
    """bash looks variables up by -v and -R, and an insertion before this one may be one of these."""
    last = names[-1]
    if (HOLE in last and last[0] in (HOLE, "-")) or re.fullmatch(_LOOKS_UP, last):
        return f"{name} may read it as the name of a variable (compare it with something, or put x before both)"
    return None


def _behind_a_shell(names: list[str]) -> str | None:
    """A shell runs what is behind -c, and else the first word that is no option."""
    shells = [place for place, word in enumerate(names) if _base(word) in _SHELLS]
    if not shells:
        return None
    behind = names[shells[0] + 1 :]
    script = any(word[:1] not in ("-", "+") and HOLE not in word for word in behind)
    if script and not re.fullmatch(r"-[A-Za-z]*c", names[-1]):
        return None
    return f"{_base(names[shells[0]])} runs it (write sh -c '... \"$1\"' sh, and then the insertion)"
