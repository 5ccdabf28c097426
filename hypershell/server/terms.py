"""What a submission lays over the lines of its FILE before they are stored: tags, resources, a template.

``hs submit`` expands its template at once, so the rows hold finished commands, unless it asks for the slot of a
task, or quotes for the shell of the client: then clients do. Its terms are kept with the submission, so that a
server can read the rest of a FILE whose submitter was killed. Knows nothing of databases.
"""

from __future__ import annotations

import subprocess
from typing import Any

import msgspec
from msgspec import Struct

from hypershell.core.model import Scalar
from hypershell.ostext import beside, cut_beside, from_bytes, to_bytes
from hypershell.tags import Directives
from hypershell.template import ExpansionError, Template

__all__ = ["Expander", "Terms", "Wishes"]

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


class Terms(Struct, frozen=True):
    """Memory in bytes, timeout in seconds; None is not said."""

    template: str = "{}"
    tags: dict[str, Scalar] = {}
    group: int | None = None
    cores: int | None = None
    memory: int | None = None
    timeout: float | None = None
    plain: bool = False
    """Lines are taken whole."""

    @property
    def defaults(self) -> Directives:
        """What directives of lines are laid over."""
        return Directives(dict(self.tags), self.group, self.cores, self.memory, self.timeout)

    @property
    def template_of_clients(self) -> str:
        """What clients make commands with: a template that is for them; any other is done with before."""
        return self.template if _is_for_clients(Template(self.template)) else "{}"

    def expander(self, cwd: str) -> Expander | None:
        """What makes the commands that are stored; None: lines are stored as they are."""
        template = Template(self.template)
        return None if template.trivial or _is_for_clients(template) else Expander(template, cwd)

    def to_options(self, wishes: Wishes, is_update: bool = False) -> str:
        """The text of column ``options``; `is_update`: of a submission that has only the new lines of its FILE."""
        more = {"update": True} if is_update else {}
        submit = {**msgspec.structs.asdict(self), **beside({"template": self.template})}
        if not self.plain:  # as the submissions of before
            del submit["plain"]
        return msgspec.json.encode({_KEY: submit, **wishes.options, **more}, order="sorted").decode()

    @staticmethod
    def submitted(text: str) -> tuple[Terms | None, bool]:
        """The terms in column ``options``, None where it is that of a run; and whether it is an update."""
        found = msgspec.json.decode(text, type=_Options)
        return _terms(found), found.update

    @staticmethod
    def are_in(text: str) -> bool:
        """Whether column ``options`` is that of ``hs submit``, and not that of a run."""
        return Terms.submitted(text)[0] is not None

    @classmethod
    def of_options(cls, text: str) -> Terms:
        """The terms in column ``options``; those that change nothing for a submission of a run."""
        return cls.submitted(text)[0] or cls()


def _is_for_clients(template: Template) -> bool:
    """Whether it asks for the slot of a task, or quotes for the shell of its client."""
    return template.needs_slot or template.quotes


class _Options(Struct):
    submit: dict[str, Any] | None = None
    update: bool = False


def _terms(options: _Options) -> Terms | None:
    if options.submit is None:
        return None
    terms = msgspec.convert(options.submit, Terms)
    return msgspec.structs.replace(terms, **cut_beside(options.submit, {"template": terms.template}))


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
