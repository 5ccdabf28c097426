"""Small files have a most, and no text of TOML is given to a parser that it would keep busy."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypershell.configfile import read_toml
from hypershell.errors import ConfigError, InputError
from hypershell.net.auth import read_key_file
from hypershell.net.connectfile import read_connect_file
from hypershell.net.tls import client_tls, server_tls
from hypershell.server.statusfile import StatusFile
from hypershell.smallfile import MOST_TOML, TooLarge, check_toml, read_small
from tests.testbed.net import server_certificate


def test_no_more_than_the_most_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    fd = os.open(path, os.O_RDONLY)
    assert read_small(fd, "file", "list", 100_000) == bytes(100_000)
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(TooLarge, match=r"^file is longer than 99,999 bytes: it is no list$"):
        read_small(fd, "file", "list", 99_999)
    os.close(fd)


def test_what_has_no_end_is_refused_too() -> None:
    fd = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(TooLarge):
        read_small(fd, "/dev/zero", "list", 1 << 20)
    assert os.read(fd, 1) == b"\0"
    os.close(fd)


def config(path: Path) -> object:
    return read_toml(str(path), required=True, guarded=False)


def status(path: Path) -> object:
    return StatusFile(str(path), lambda: None).claim()  # type: ignore[arg-type, return-value]


READERS: dict[str, Callable[[Path], object]] = {
    "configuration file": config,
    "key file": lambda path: read_key_file(str(path)),
    "connect file": lambda path: read_connect_file(str(path)),
    "private key": lambda path: server_tls(server_certificate(), str(path)),
    "certificate": lambda path: server_tls(str(path), server_certificate()),
    "list of authorities": lambda path: client_tls(cafile=str(path)),
    "status file": status,
}


@pytest.mark.parametrize("what", READERS)
def test_each_kind_of_file_is_refused_by_name(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"#\n" * (4 << 20))
    path.chmod(0o600)
    with pytest.raises((ConfigError, InputError)) as caught:
        READERS[what](path)
    text = str(caught.value)
    assert str(path) in text and f"is no {what}" in text and "\n" not in text


@pytest.mark.parametrize("what", ["connect file", "status file"])
def test_json_in_json_is_no_such_file(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    path.touch(0o600)
    for text in ("[" * 60_000, '{"state":' * 6_000, '{"x":' + "[" * 60_000):
        path.write_text(text)
        with pytest.raises((ConfigError, InputError), match=f"is no {what}"):
            READERS[what](path)


#: Texts of TOML that the parser would sit over, or fall over; each far above what is allowed.
LONG: dict[str, str] = {
    "dotted": ".".join(["a"] * 100_000) + " = 1",
    "dotted with blanks": " . ".join(["a"] * 20_000) + " = 1",
    "dotted in quotes": ".".join(['"a"'] * 9_000) + " = 1",
    "dotted in a header": "[" + ".".join(["a"] * 9_000) + "]",
    "dotted in a table": "x = {" + ".".join(["a"] * 9_000) + " = 1}",
    "dotted after a string": 'x = ["""a""""", {' + ".".join(["a"] * 9_000) + " = 1}]",
    "arrays": "x = " + "[" * 9_000 + "]" * 9_000,
    "tables": "x = " + "{a=" * 9_000 + "1" + "}" * 9_000,
}


@pytest.mark.parametrize("name", LONG)
def test_deep_keys_never_reach_the_parser(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(text: str) -> object:
        raise AssertionError("the parser was asked")

    monkeypatch.setattr(tomllib, "loads", never)
    text = LONG[name]
    with pytest.raises(ValueError, match=r"^(a key of more than 32 parts \(near|brackets in more than 32)"):
        check_toml(text)
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}(: not valid TOML: | is longer than {MOST_TOML:,} bytes)"):
        config(path)


def test_what_people_write_passes() -> None:
    dots = "a.b" * 100
    fine = [
        f'x = "{dots}"', f"x = '{dots}' # {dots}", f'x = """\n{dots}\n{"[" * 99}\n"""',
        f"x = '''{dots}{'{' * 99}'''",
        "x = [" + "1.5, " * 100 + "]", "\n".join(f"a.b.c{n} = [{n}.5, {{x.y = [1.0]}}]" for n in range(100)),
        "\n".join(f"[[a.b]]\nc = {n}" for n in range(100)), f'"{dots}" = 1\n\'{dots}x\' = {{"{dots}" = 2}}',
        r'x = "\"' + dots + '"', ".".join("a" * 32) + " = 1", "x = " + "[" * 32 + "]" * 32,
    ]  # fmt: skip
    for text in fine:
        check_toml(text)
        assert tomllib.loads(text)


NAME = st.from_regex(r'[a-x0-9_-]{1,3}|"[a-x.\[# ]{0,3}"|\'[a-x.{# ]{0,3}\'', fullmatch=True)
VALUE = st.sampled_from(['"a.b"', "'#['", "1.5", '"""x\n.[\n"""', "'''\n{{.'''", "1979-05-27T07:32:00.5Z", '"\\""'])


@settings(deadline=None)
@given(st.lists(NAME, min_size=1, max_size=60), st.integers(0, 60), VALUE, st.booleans())
def test_the_count_is_right_wherever_a_key_stands(names: list[str], depth: int, value: str, header: bool) -> None:
    key = ".".join(names)
    before = f"before = {value} # {'.x' * 50}\n" + "yyyy = ['" + "[.x" * 50 + "']\n"
    text = before + (f"[{key}]\n" if header else f"{key} = {'[' * depth}{value}{']' * depth}\n")
    tomllib.loads(text)
    allowed = len(names) <= 32 and (header or depth <= 32)
    if allowed:
        check_toml(text)
    else:
        with pytest.raises(ValueError, match=r"more than 32"):
            check_toml(text)


@pytest.mark.parametrize("rest", ["", "# " + "." * 99])
def test_where_the_bound_is(rest: str) -> None:
    check_toml(".".join("a" * 32) + f" = 1 {rest}")
    with pytest.raises(ValueError, match="of more than 32 parts"):
        check_toml(".".join("a" * 33) + f" = 1 {rest}")
