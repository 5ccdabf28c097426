"""Configuration in layers: defaults < preload < system < user < local file < environment < command line.

Owns where a value comes from and what is wrong with it. Knows options only through the table of
`hypershell.options`. Called by `hypershell.apps` when a command starts; nothing is read at import.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from cmdkit.config import Configuration, Namespace

from hypershell import values
from hypershell.checkout import refused_export, refused_key
from hypershell.configfile import read_toml
from hypershell.errors import ConfigError
from hypershell.log import LogSettings
from hypershell.making import PRIVATE_FOLDER
from hypershell.options import COMMANDS, ENV_PREFIX, EXPORT_PREFIX, OPTIONS, Option, find_option
from hypershell.ostext import from_bytes
from hypershell.site import Sites, find_sites

__all__ = ["Config", "ConfigFile", "Origin"]

_VARIANTS = ("", "_env", "_eval")
_PATHS = frozenset(f"path{suffix}" for suffix in _VARIANTS)
_SPECIAL = frozenset({"HYPERSHELL_SITE", "HYPERSHELL_CONFIG_FILE"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: the layer, and the file, variable or flag (empty for built-in values)."""

    layer: str
    source: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.source}" if self.source else self.layer


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that was looked for; `state` is ``read``, ``not there``, or ``not read`` with the reason."""

    layer: str
    path: str
    state: str


class Config:
    """The merged configuration of one command.

    `warnings` are lines for the log: unknown keys and variables, files that were passed over; `notes` are of less
    weight: keys without effect.
    `layers` is the cmdkit object, whose namespaces are the layers as they were read; `files` tells which they are.
    """

    def __init__(self, command: str, sites: Sites, environ: Mapping[str, str]) -> None:
        self.command = command
        self.sites = sites
        self.layers = Configuration()
        self._environ = environ
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.files: list[ConfigFile] = []
        self._sources: dict[str, str] = {}
        self._env_sources: dict[str, str] = {}
        self._level = next(entry.log_level for entry in COMMANDS if entry.name == command)

    @classmethod
    def load(
        cls,
        command: str,
        given: Mapping[str, object] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        sites: Sites | None = None,
    ) -> Config:
        """Read all sources for `command`; `given` holds typed values of the command line by `dest`.

        Values are checked only when they are read. Raises `ConfigError` for a file that cannot be read or is no
        TOML, and for a table where a value is due.
        """
        environ = os.environ if environ is None else environ
        config = cls(command, find_sites(environ) if sites is None else sites, environ)
        config._add("default", "", _default_layer(config._level))
        config._add("preload", "", {"database": {"file": config.sites.default.database}})
        for label, path, guarded in _files(environ, config.sites):
            config._add_file(label, path, guarded)
        config._add("env", "", config._environment(environ))
        config._add("cli", "", _command_line_layer(given or {}))
        return config

    def value(self, dest: str) -> object:
        """The typed value of an option with a key; raises `ConfigError` naming source, key and reason."""
        option = find_option(dest)
        if option.key is None:
            raise KeyError(dest)
        return self.get(option.key)

    def get(self, key: str) -> object:
        """The typed value of a key such as ``server.bundlesize``.

        A null (``""``, ``null``, ``<none>``) is the built-in default. ``_env`` and ``_eval`` forms are resolved
        here, so a command of ``_eval`` runs only for a key that is read. Raises `ConfigError`, and `KeyError`
        for an unknown key.
        """
        option = _by_key(key)
        for label in self._labels():
            found = self._variant(label, key)
            if found is None:
                continue
            name, raw = found
            try:
                self._check_place(label, key, name, raw)
                resolved = _resolve(name.removeprefix(key), raw, self._environ)
                if values.is_null(resolved):
                    return self._built_in(option)
                return option.from_config(resolved)
            except ValueError as error:
                raise ConfigError(f"{self._place(label, name)}: {error}") from None
        return option.default

    def which(self, key: str) -> Origin:
        """Where the value of a key comes from, without computing it."""
        _by_key(key)
        for label in self._labels():
            found = self._variant(label, key)
            if found is not None:
                return Origin(label, self._source(label, found[0]))
        return Origin("default", "")

    def form(self, key: str) -> tuple[str, object]:
        """The form of a key that counts (plain, ``_env``, ``_eval``) and its raw value, without computing it.

        Raises `KeyError` for an unknown key.
        """
        _by_key(key)
        found = (self._variant(label, key) for label in self._labels())
        return next(filter(None, found), (key, None))

    def _check_place(self, label: str, key: str, name: str, raw: object) -> None:
        """Raises `ValueError` where the form `name` of a key does not count in the file of this layer."""
        if self._may_be_foreign(label):
            self._refuse(refused_key(key, name.removeprefix(key), raw))

    def _may_be_foreign(self, label: str) -> bool:
        return label == "local" and not self.sites.chosen

    def _refuse(self, reason: str) -> None:
        if reason:
            raise ValueError(f"a file in the current directory {reason}: put this into {self.sites.user.config}")

    def exports(self) -> dict[str, str]:
        """What ``[export]`` and HYPERSHELL_EXPORT_* add to the environment of every task.

        Names in files become upper case, nested tables are joined by ``_``, lists by the path separator.
        Variables keep the case of their name and their exact text. Raises `ConfigError`.
        """
        result: dict[str, str] = {}
        for label, layer in self.layers.namespaces.items():
            table = layer.get("export", {})
            if label == "env":
                result.update(table)
                continue
            for path, value in _leaves(table):
                name = "_".join(path).upper()
                try:
                    if self._may_be_foreign(label):
                        self._refuse(refused_export(name))
                    result[name] = _exported(name, value)
                except ValueError as error:
                    raise ConfigError(f"{self._sources[label]}: export.{'.'.join(path)}: {error}") from None
        return result

    def folder_mode(self) -> int | None:
        """The mode that ``site.mode`` names for the folders of the site; raises `ConfigError`."""
        mode = self.value("site_mode")
        return mode if isinstance(mode, int) else None

    def new_folder_mode(self) -> int:
        """The mode of such a folder that is made now; raises `ConfigError`."""
        return self.folder_mode() or PRIVATE_FOLDER

    def logging(self) -> LogSettings:
        """How to log; raises `ConfigError`."""
        path = self.value("log_file")
        return LogSettings(
            level=str(self.value("log_level")),
            style=str(self.value("log_style")),
            format=_text(self.value("log_format")),
            datefmt=str(self.value("log_datefmt")),
            color=bool(self.value("log_color")),
            file=_text(path),
            directory=self.sites.default.log,
            role=self.command if self.command in ("cluster", "mpi", "submit") else "",
            file_level=str(self.value("log_file_level")),
            file_style=str(self.value("log_file_style")),
            file_format=_text(self.value("log_file_format")),
            folder_mode=self.new_folder_mode(),
        )

    def _add(self, label: str, source: str, tree: Mapping[str, object]) -> None:
        self._sources[label] = source
        self.layers.extend(**{label: Namespace(tree)})

    def _add_file(self, label: str, path: str, guarded: bool) -> None:
        tree, refusal = read_toml(path, required=label == "file", guarded=guarded)
        if refusal:
            self.warnings.append(refusal)
        state = refusal.removeprefix(f"{path}: ") or ("not there" if tree is None else "read")
        self.files.append(ConfigFile(label, path, state))
        if tree is None:
            return
        _normalize(tree, path)
        known, idle = _known_keys(), _idle_keys()
        for keys, _ in _leaves({name: table for name, table in tree.items() if name != "export"}):
            key = ".".join(keys)
            if key in idle:
                self.notes.append(f"{path}: key {key} is accepted without effect")
            elif key not in known:
                self.warnings.append(f"{path}: unknown key {key} (ignored{_near(key, known)})")
        if not isinstance(tree.get("export", {}), dict):
            raise ConfigError(f"{path}: export: expected a table of names and values")
        self._add(label, path, tree)

    def _environment(self, environ: Mapping[str, str]) -> dict[str, object]:
        """The environment as a layer, read through the table: a key may contain underscores."""
        tree: dict[str, object] = {}
        names, idle = _env_names(), _idle_keys()
        for name, key in names.items():
            if name in environ:
                _put(tree, key, environ[name])
                self._env_sources[key] = name
                if key in idle:
                    self.notes.append(f"variable {name} is accepted without effect")
        exports: dict[str, object] = {}
        for name, text in environ.items():
            if name.startswith(EXPORT_PREFIX) and name != EXPORT_PREFIX:
                exports[name.removeprefix(EXPORT_PREFIX)] = text
            elif name.startswith(ENV_PREFIX) and name not in names and name not in _SPECIAL:
                self.warnings.append(f"unknown environment variable {name} (ignored{_near(name, names)})")
        tree["export"] = exports
        return tree

    def _labels(self) -> list[str]:
        return list(reversed(self.layers.namespaces))

    def _variant(self, label: str, key: str) -> tuple[str, object] | None:
        """The one form of `key` in a layer (plain, ``_env``, ``_eval``), None without any."""
        layer = self.layers.namespaces[label]
        found = [(key + suffix, _find(layer, key + suffix)) for suffix in _VARIANTS]
        found = [(name, value) for name, value in found if value is not _ABSENT]
        if len(found) > 1:
            names = " and ".join(name for name, _ in found)
            raise ConfigError(f"{self._sources[label] or label}: {names} exclude each other (keep one)")
        return found[0] if found else None

    def _built_in(self, option: Option) -> object:
        if option.dest == "db":
            return self.sites.default.database
        return self._level if option.dest == "log_level" else option.default

    def _source(self, label: str, name: str) -> str:
        if label == "env":
            return self._env_sources[name]
        if label == "cli":
            return "/".join(_by_key(name).flags)
        return self._sources[label]

    def _place(self, label: str, name: str) -> str:
        if label in ("env", "cli"):
            return self._source(label, name)
        return f"{self._sources[label] or label}: {name}"


class _Absent:
    """The type of the mark for "no such key", where None is a value."""


_ABSENT = _Absent()


def _files(environ: Mapping[str, str], sites: Sites) -> Iterator[tuple[str, str, bool]]:
    """Label, path, and whether the file must be guarded against other users, in rising order."""
    only = environ.get("HYPERSHELL_CONFIG_FILE")
    if only is not None:
        if only:
            yield "file", os.path.expanduser(only), False
        return
    yield "system", sites.system.config, False
    yield "user", sites.user.config, False
    # A file that merely lies where the user happens to be may be a trap; a site that was named is not.
    if not _is_same_file(sites.local.config, sites.user.config):  # in the home directory
        yield "local", sites.local.config, not sites.chosen


def _is_same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return one == other


def _default_layer(level: str) -> dict[str, object]:
    tree: dict[str, object] = {}
    for option in OPTIONS:
        if option.key is not None:
            _put(tree, option.key, option.to_config(option.default))
    _put(tree, "logging.level", level)
    return tree


def _command_line_layer(given: Mapping[str, object]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for dest, value in given.items():
        option = find_option(dest)
        if option.key is not None:
            _put(tree, option.key, option.to_config(value))
    return tree


def _by_key(key: str) -> Option:
    for option in OPTIONS:
        if option.key == key:
            return option
    raise KeyError(key)


def _known_keys() -> frozenset[str]:
    return frozenset(option.key + suffix for option in OPTIONS if option.key for suffix in _VARIANTS)


def _idle_keys() -> frozenset[str]:
    return frozenset(option.key + suffix for option in OPTIONS if option.key if option.idle for suffix in _VARIANTS)


def _near(word: str, known: Collection[str]) -> str:
    """A question after the known word that is most like `word`; empty where none is."""
    import difflib

    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.85)
    return f"; did you mean {names[found[0]]}?" if found else ""


def _env_names() -> dict[str, str]:
    """Variable to key, with the short forms (aliases) and the ``_ENV`` and ``_EVAL`` forms."""
    names = {}
    for option in OPTIONS:
        for form in (option.alias, option.key):
            if form and option.key:
                for suffix in _VARIANTS:
                    names[ENV_PREFIX + (form + suffix).replace(".", "_").upper()] = option.key + suffix
    return names


def _normalize(tree: dict[str, object], path: str) -> None:
    """Bring short forms (``database = "x"``, ``logging.file = true``) to their keys; refuse values for tables."""
    for option in OPTIONS:
        if option.alias is None or option.key is None:
            continue
        value = _find(tree, option.alias)
        if value is not _ABSENT and not isinstance(value, dict):
            _put(tree, option.alias, {option.key.rpartition(".")[2]: value})
        elif isinstance(value, dict) and option.dest == "log_file" and not _PATHS & set(value):
            _put(tree, option.key, True)  # a table of the log file wants one, wherever it is
    for key in _known_keys():
        for section in _sections(key):
            value = _find(tree, section)
            if value is not _ABSENT and not isinstance(value, dict):
                raise ConfigError(f"{path}: {section}: expected a table, not {value!r}")


def _sections(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _find(tree: Mapping[str, object], key: str) -> object:
    node: object = tree
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def _put(tree: dict[str, object], key: str, value: object) -> None:
    *sections, last = key.split(".")
    node = tree
    for part in sections:
        inner = node.setdefault(part, {})
        if not isinstance(inner, dict):
            return
        node = inner
    node[last] = value


def _leaves(tree: Mapping[str, object], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _resolve(suffix: str, raw: object, environ: Mapping[str, str]) -> object:
    """What the plain, ``_env`` or ``_eval`` form of a key stands for."""
    if suffix == "_env":
        return _from_variable(raw, environ)
    return _from_command(raw) if suffix == "_eval" else raw


def _from_variable(name: object, environ: Mapping[str, str]) -> str:
    value = environ.get(values.text(name))
    if value is None:
        raise ValueError(f"the variable {name} is not set")
    return value


def _from_command(command: object) -> str:
    """The output of a shell command, without blanks around it."""
    import subprocess

    done = subprocess.run(
        values.text(command), shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
    )
    if done.returncode != 0:
        raise ValueError(f"the command ended with status {done.returncode}: {command}")
    return from_bytes(done.stdout).strip()


def _exported(name: str, value: object) -> str:
    if isinstance(value, list):
        return os.pathsep.join(_exported(name, part) for part in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else str(value)
    if "\0" in text or "=" in name or "\0" in name or not name:
        raise ValueError("no environment variable can hold this")
    return text


def _text(value: object) -> str | None:
    return None if value is None else str(value)
