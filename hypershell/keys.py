"""What a shared key and a fingerprint may look like. Text alone; where they come from and go is the network's."""

from __future__ import annotations

__all__ = ["LEAST", "MOST", "check_key", "fingerprint", "parse_fingerprint"]

#: Characters of a key.
LEAST, MOST = 16, 1024
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+/=-")
_DIGEST = 32


def check_key(text: object) -> str:
    """The text of a key that can be used. Raises ``ValueError`` with the reason, which never holds the text."""
    if not isinstance(text, str):
        raise ValueError(f"a key is text, not {type(text).__name__}")
    if len(text) < LEAST:
        raise ValueError(f"a key has at least {LEAST} characters, this one has {len(text)}")
    if len(text) > MOST:
        raise ValueError(f"a key has at most {MOST} characters, this one has {len(text)}")
    if not _ALPHABET.issuperset(text):
        raise ValueError("a key consists of A-Z, a-z, 0-9 and . _ + / = -")
    return text


def fingerprint(digest: bytes) -> str:
    """``SHA256:AB:CD:…``"""
    return "SHA256:" + digest.hex(":").upper()


def parse_fingerprint(text: object) -> bytes:
    """The digest of ``SHA256:AB:CD:…`` or plain hex. Raises ``ValueError`` with the reason."""
    word = text.strip() if isinstance(text, str) else ""
    digits = word.upper().removeprefix("SHA256:").replace(":", "")
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST:
        raise ValueError(f"expected SHA256: and 64 hexadecimal digits, with or without colons, not {text!r:.80}")
    return digest
