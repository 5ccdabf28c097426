"""The key that server and clients share: where it may come from, what it may be, and that it shows nowhere."""

from __future__ import annotations

import re
import secrets
from typing import IO, NoReturn

from hypershell.errors import ConfigError
from hypershell.keys import MOST, check_key
from hypershell.net.private import read_private

__all__ = ["Key", "generate_key", "key_from_stream", "read_key_file"]

#: Fewer characters than this can be guessed by patience: typed keys hardly hold four bits in each.
_STRONG = 32
#: What `generate_key` makes, and ``openssl rand -hex 32``: 256 random bits, which nobody guesses.
_RANDOM = re.compile(r"[0-9a-f]{64}", re.ASCII)
#: What one guess at any other key costs; 32 MiB of memory. Why so: ``docs/decisions/0013-handshake.md``.
_COST = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20, "dklen": 32}
_SALT = b"hypershell key 7"


class Key:
    """A shared key. Its text is in no repr, no error and no pickle; `reveal` is for the connect file alone."""

    __slots__ = ("__proving", "__text")

    def __init__(self, text: str) -> None:
        """Raises ``ValueError`` as `check_key`."""
        self.__text = check_key(text)
        self.__proving = text.encode() if _RANDOM.fullmatch(text) else b""

    def stretch(self) -> None:
        """Make ready to prove: takes a tenth of a second, once, for a key that is not of the form of random ones.

        Raises ``ConfigError`` where the system's library has no scrypt.
        """
        if not self.__proving:
            self.__proving = _stretched(self.__text)

    def prove(self, data: bytes) -> bytes:
        """HMAC-SHA256 of `data` under the stretched key."""
        import hmac

        self.stretch()
        return hmac.digest(self.__proving, data, "sha256")

    def reveal(self) -> str:
        return self.__text

    @property
    def weak(self) -> bool:
        """Whether it is so short that somebody who gets a proof could guess it."""
        return len(self.__text) < _STRONG

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return secrets.compare_digest(self.__text, other.__text)

    def __hash__(self) -> int:
        return hash((Key, self.__text))

    def __repr__(self) -> str:
        return "Key(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")


def _stretched(text: str) -> bytes:
    import hashlib

    try:
        return hashlib.scrypt(text.encode(), salt=_SALT, **_COST)
    except (AttributeError, ValueError):  # built without it, or forbidden (FIPS)
        way_out = "use a key of 64 random hexadecimal digits, which needs none: openssl rand -hex 32"
        raise ConfigError(f"OpenSSL of this machine has no scrypt to stretch this key: {way_out}") from None


def generate_key() -> Key:
    """A new key of 256 random bits."""
    return Key(secrets.token_hex(32))


def read_key_file(path: str) -> Key:
    """The key in a file of mode 0600, blanks around it ignored. Raises ``ConfigError``."""
    return _key_of(read_private(path, "key file", MOST + 64), f"key file {path}")


def key_from_stream(stream: IO[bytes], name: str = "stdin") -> Key:
    """The key on the first line of a stream. Raises ``ConfigError``."""
    return _key_of(stream.readline(MOST + 64), name)


def _key_of(data: bytes, source: str) -> Key:
    try:
        return Key(data.decode("ascii").strip())
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: a key consists of A-Z, a-z, 0-9 and . _ + / = -") from None
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
