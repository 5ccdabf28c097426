"""What a submission lays over the lines of its FILE before they are stored: tags, resources, a template.

``hs submit`` expands its template at once, so the rows hold finished commands; its terms are kept with the
submission, so that a server can read the rest of a FILE whose submitter was killed. Knows nothing of databases.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from hypershell.core.model import Scalar
from hypershell.ostext import beside, cut_beside, escaped, from_bytes, raw_of, to_bytes
from hypershell.tags import Directives
from hypershell.template import ExpansionError, Template

__all__ = ["Expander", "Terms", "Wishes", "exports_options"]

_KEY = "submit"


class Wishes(Struct, frozen=True):
    """What is asked for the results of a submission; in column ``options``, so retries and restarts have it too.

    `keep_output`: what the tasks print comes back with their results. `waited_for`: each result goes back, and is
    committed, at once.
    """

    keep_output: bool = False
    waited_for: bool = False

    @property
    def options(self) -> dict[str, bool]:
        """The keys for column ``options``; what is not wished has none: submissions of before stay as they were."""
        return {name: True for name in self.__struct_fields__ if getattr(self, name)}

    @classmethod
    def of_options(cls, text: str) -> Wishes:
        """The wishes in column ``options``."""
        return msgspec.json.decode(text, type=cls)


def exports_options(exports: Mapping[str, str]) -> dict[str, object]:
    """The keys for column ``options`` that tell of exports; those that are not UTF-8 are there as bytes too."""
    shown = {escaped(name): escaped(text) for name, text in exports.items()}
    pairs = (f"{name}={text}" for name, text in exports.items())
    raws = [raw.hex() for pair in pairs if (raw := raw_of(pair)) is not None]
    return {"exports": shown, **({"exports_raw": raws} if raws else {})}


class Terms(Struct, frozen=True):
    """Memory in bytes, timeout in seconds; None is not said."""

    template: str = "{}"
    tags: dict[str, Scalar] = {}
    group: int | None = None
    cores: int | None = None
    memory: int | None = None
    timeout: float | None = None

    @property
    def defaults(self) -> Directives:
        """What directives of lines are laid over."""
        return Directives(dict(self.tags), self.group, self.cores, self.memory, self.timeout)

    def to_options(self, wishes: Wishes) -> str:
        """The text of column ``options``."""
        submit = {**msgspec.structs.asdict(self), **beside({"template": self.template})}
        return msgspec.json.encode({_KEY: submit, **wishes.options}, order="sorted").decode()

    @staticmethod
    def are_in(text: str) -> bool:
        """Whether column ``options`` is that of ``hs submit``, and not that of a run."""
        return _submitted(text) is not None

    @classmethod
    def of_options(cls, text: str) -> Terms:
        """The terms in column ``options``; those that change nothing for a submission of a run."""
        found = _submitted(text)
        if found is None:
            return cls()
        terms = msgspec.convert(found, cls)
        return msgspec.structs.replace(terms, **cut_beside(found, {"template": terms.template}))


class _Options(Struct):
    submit: dict[str, Any] | None = None


def _submitted(text: str) -> dict[str, Any] | None:
    return msgspec.json.decode(text, type=_Options).submit


class Expander:
    """Makes the command of a line as ``Template.expand`` does, and runs the commands of ``{% %}`` here and now."""

    def __init__(self, template: Template, cwd: str) -> None:
        self._template = template
        self._cwd = cwd
        self.runs_commands = bool(template.commands(""))

    def __call__(self, args: str) -> str:
        """The command; raises ``ExpansionError``."""
        outputs = [self._output(command) for command in self._template.commands(args)]
        return self._template.expand(args, outputs)

    def _output(self, command: str) -> str:
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", to_bytes(command)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                cwd=self._cwd,
                check=False,
            )
        except (OSError, ValueError) as error:
            raise ExpansionError(f"template command cannot run: {error}: {command[:60]}") from None
        if done.returncode:
            raise ExpansionError(f"template command ended with status {done.returncode}: {command[:60]}")
        if b"\0" in done.stdout:
            raise ExpansionError(f"template command printed a NUL byte: {command[:60]}")
        return from_bytes(done.stdout).strip()
