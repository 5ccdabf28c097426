"""Keys, private files and connect files: what is taken, what is refused by name, and that no key ever shows."""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import pickle
import subprocess
import traceback
from pathlib import Path
from typing import Any

import pytest

from hypershell.apps.find_key import BETTER, find_key
from hypershell.config import Config
from hypershell.errors import ConfigError
from hypershell.keys import check_key
from hypershell.net.auth import Key, generate_key, key_from_stream, read_key_file
from hypershell.net.connectfile import ConnectInfo, read_connect_file, write_connect_file
from hypershell.net.private import write_private

SECRET = "correct.horse_battery+staple/="


def private(path: Path, content: str | bytes, mode: int = 0o600) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return str(path)


def test_a_key_proves_and_does_not_show() -> None:
    key = Key(SECRET)
    assert key.prove(b"x") != hmac.digest(SECRET.encode(), b"x", "sha256"), "a typed key is stretched"
    assert key.reveal() == SECRET
    for text in (repr(key), str(key), f"{key}", repr([key]), repr({"k": key})):
        assert SECRET not in text
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert key == Key(SECRET) and key != Key(SECRET + "x") and key != SECRET
    assert len({key, Key(SECRET)}) == 1
    assert not hasattr(key, "__dict__")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<not-secure>", "at least 16"),
        ("", "at least 16"),
        ("a" * 15, "at least 16 characters, this one has 15"),
        ("a" * 1025, "at most 1024"),
        ("with a blank inside it", "consists of"),
        ("sixteen-letters-é", "consists of"),
        ("semicolon;;;;;;;;", "consists of"),
        (12345678901234567, "text, not int"),
    ],
)
def test_a_bad_key_is_refused_and_not_repeated(text: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        check_key(text)
    shown = "".join(traceback.format_exception(caught.value))
    assert not text or str(text) not in shown.replace(repr(reason), "")


def test_generated_keys_have_256_bits_and_typed_ones_may_be_weak() -> None:
    first, second = generate_key(), generate_key()
    assert first != second and len(bytes.fromhex(first.reveal())) == 32
    assert not first.weak and Key("sixteen-letters.").weak


def test_a_guess_at_a_typed_key_costs_a_scrypt_and_a_random_one_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides see from the key itself which it is; each process pays once."""
    paid: list[dict[str, Any]] = []
    whole = hashlib.scrypt

    def scrypt(password: bytes, **cost: Any) -> bytes:
        paid.append(cost)
        return whole(password, **cost)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    random = generate_key()
    assert random.prove(b"x") == hmac.digest(random.reveal().encode(), b"x", "sha256") and paid == []
    for text in ("sixteen-letters.", SECRET, "A" * 64, "0" * 63):
        key = Key(text)
        assert paid == [], "not before it is needed"
        first = key.prove(b"x")
        assert key.prove(b"x") == first == Key(text).prove(b"x") != hmac.digest(text.encode(), b"x", "sha256")
        assert len(paid) == 2 and all(one["n"] * one["r"] * 128 == 32 << 20 for one in paid)
        paid.clear()


def test_a_library_without_scrypt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> bytes:
        raise ValueError("unsupported")

    monkeypatch.setattr(hashlib, "scrypt", forbidden)
    generate_key().stretch()
    with pytest.raises(ConfigError, match=r"no scrypt .* openssl rand -hex 32") as caught:
        Key(SECRET).stretch()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("length", "lines"), [(16, 1), (31, 1), (32, 0)])
def test_a_short_key_is_warned_of_once_with_a_line_that_makes_a_better_one(
    length: int, lines: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The line is run, and what it makes is a random key."""
    path = private(tmp_path / "key", "k" * length)
    found = find_key(Config.load("server", {}, environ={}), path)
    assert found is not None and found.weak is bool(lines)
    said = [one for one in caplog.messages if "key is short" in one]
    assert len(said) == lines and all(BETTER in one for one in said)
    command = BETTER.partition(", then")[0].replace("KEYFILE", "better")
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)
    better = read_key_file(str(tmp_path / "better"))
    assert not better.weak and better.prove(b"x") == hmac.digest(better.reveal().encode(), b"x", "sha256")


def test_a_key_file(tmp_path: Path) -> None:
    path = private(tmp_path / "key", f"  {SECRET}\n")
    assert read_key_file(path) == Key(SECRET)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_file_that_others_can_read_is_refused_by_name(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "key", SECRET, mode)
    with pytest.raises(ConfigError, match=f"{path} can be read by others .mode {mode:04o}.: chmod 600 {path}"):
        read_key_file(path)


def test_what_is_no_key_file(tmp_path: Path) -> None:
    cases = [("short", "at least 16"), (b"\xff\xfe" * 20, "consists of"), ("x" * 2000, "longer than")]
    for content, words in cases:
        path = private(tmp_path / "key", content)
        with pytest.raises(ConfigError, match=words) as caught:
            read_key_file(path)
        assert path in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="No such file"):
        read_key_file(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no regular file"):
        read_key_file(str(tmp_path))
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ConfigError, match="no regular file"):
        read_key_file(str(tmp_path / "fifo"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "key", SECRET)
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to another user"):
        read_key_file(path)


def test_a_key_from_stdin() -> None:
    assert key_from_stream(io.BytesIO(f"{SECRET}\nrest".encode())) == Key(SECRET)
    with pytest.raises(ConfigError, match=r"stdin: .* at least 16"):
        key_from_stream(io.BytesIO(b""))


def info(**changes: object) -> ConnectInfo:
    whole = ConnectInfo(("node7", "10.0.0.7", "fd00::7"), 50001, hashlib.sha256(b"c").digest(), Key(SECRET), "run")
    return whole._replace(**changes)  # type: ignore[arg-type]


def test_a_connect_file_comes_back_and_is_private(tmp_path: Path) -> None:
    path = str(tmp_path / "connect.json")
    old = os.umask(0)
    try:
        for one in (info(), info(certificate=None, server="other")):
            write_connect_file(path, one)
            assert read_connect_file(path) == one
            assert os.stat(path).st_mode & 0o777 == 0o600
    finally:
        os.umask(old)
    assert os.listdir(tmp_path) == ["connect.json"], "nothing temporary stays"
    assert SECRET not in repr(read_connect_file(path))


def test_a_wider_file_of_that_name_becomes_private(tmp_path: Path) -> None:
    path = private(tmp_path / "connect.json", "{}", 0o644)
    write_connect_file(path, info())
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"hypershell": 1', '"hypershell": 2', "format 2.*same version"),
        ('"port": 50001', '"port": 0', "no port"),
        ('"port": 50001', '"port": 70000', "no port"),
        ('"port": 50001', '"port": "x"', "no connect file"),
        ('"node7"', '""', "no address"),
        ("SHA256:", "SHA256:00", "64 hexadecimal digits"),
        (SECRET, "short", "at least 16"),
        ("{", "[", "no connect file"),
    ],
)
def test_a_connect_file_that_cannot_be_used_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "connect.json"
    write_connect_file(str(path), info())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=words) as caught:
        read_connect_file(str(path))
    assert str(path) in str(caught.value) and SECRET not in str(caught.value) and "\n" not in str(caught.value)


def test_a_connect_file_that_is_not_there_or_not_ours_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"connect file .*none: No such file.* \(the server makes it"):
        read_connect_file(str(tmp_path / "none"))
    path = tmp_path / "connect.json"
    write_connect_file(str(path), info())
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_connect_file(str(path))
    with pytest.raises(ConfigError, match=r"cannot write the connect file .*No such file"):
        write_connect_file(str(tmp_path / "none" / "c.json"), info())


def test_who_comes_second_keeps_what_is_there(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    write_private(path, b"first", keep=True)
    write_private(path, b"second", keep=True)
    assert Path(path).read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x"]
