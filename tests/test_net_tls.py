"""Certificates and contexts: made once by whoever is first, refused by name where they cannot be used."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from hypershell.errors import ConfigError
from hypershell.keys import fingerprint, parse_fingerprint
from hypershell.net import private, tls


@pytest.fixture
def made(tmp_path: Path) -> str:
    return tls.ensure_certificate(str(tmp_path / "tls"), "node7.example.org")


def shaken(server: tls.ServerTls, client: tls.ClientTls) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Both ends after a handshake in this one thread; raises what either says."""
    left, right = socket.socketpair()
    ends = [
        server.context.wrap_socket(left, server_side=True, do_handshake_on_connect=False),
        client.context.wrap_socket(right, do_handshake_on_connect=False, server_hostname=client.server_name),
    ]
    left, right = ends
    for end in ends:
        end.setblocking(False)
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
    return ends[0], ends[1]


def test_the_certificate_that_makes_itself(made: str) -> None:
    assert os.stat(made).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(made)).st_mode & 0o777 == 0o700
    assert os.listdir(os.path.dirname(made)) == ["server.pem"]
    assert tls.ensure_certificate(os.path.dirname(made), "another") == made
    server = tls.server_tls(made)
    ours, theirs = shaken(server, tls.client_tls())
    der = theirs.getpeercert(binary_form=True)
    assert der is not None and hashlib.sha256(der).digest() == server.digest
    assert theirs.version() == "TLSv1.3"
    ours.close()
    theirs.close()


@pytest.mark.parametrize("name", ["node7.example.org", "node7", "localhost", "127.0.0.1", "::1"])
def test_it_is_good_as_an_authority_for_its_names(made: str, name: str) -> None:
    for end in shaken(tls.server_tls(made), tls.client_tls(cafile=made, server_name=name)):
        end.close()


def test_another_authority_or_name_is_refused(made: str, tmp_path: Path) -> None:
    other = tls.ensure_certificate(str(tmp_path / "other"), "node7.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(tls.server_tls(made), tls.client_tls(cafile=other))
    with pytest.raises(ssl.SSLCertVerificationError, match="node8"):
        shaken(tls.server_tls(made), tls.client_tls(cafile=made, server_name="node8"))


def test_many_that_are_first_at_once_share_one_certificate(tmp_path: Path) -> None:
    """Defect 32: key and certificate of two generators must never meet."""
    folder = tmp_path / "tls"
    code = (
        "import sys\nfrom hypershell.net import tls\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        f"made = tls.ensure_certificate({str(folder)!r}, 'h')\nprint(tls.server_tls(made).digest.hex())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    digests = {process.communicate(timeout=60)[0] for process in running}
    assert len(digests) == 1 and all(len(digest.strip()) == 64 for digest in digests)
    assert os.listdir(folder) == ["server.pem"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(private.os, "link", refuse)
    made = tls.ensure_certificate(str(tmp_path / "tls"), "h")
    assert tls.server_tls(made).digest
    private.write_private(made, b"late", keep=True)
    assert tls.server_tls(made).digest
    assert os.listdir(tmp_path / "tls") == ["server.pem"]


def test_certificate_and_key_in_two_files(made: str, tmp_path: Path) -> None:
    text = Path(made).read_text()
    cut = text.index("-----BEGIN CERTIFICATE")
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    cert.write_text("Subject: whatever\n" + text[cut:])
    key.write_text(text[:cut])
    key.chmod(0o640)
    assert tls.server_tls(str(cert), str(key)).digest == tls.server_tls(made).digest
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=f"{key} can be read by others .mode 0644"):
        tls.server_tls(str(cert), str(key))


def test_files_that_cannot_be_used_are_named(made: str, tmp_path: Path) -> None:
    other = tls.ensure_certificate(str(tmp_path / "other"), "h")
    with pytest.raises(ConfigError, match=f"{other} is not that of the certificate in {made}"):
        tls.server_tls(made, other)
    with pytest.raises(ConfigError, match="none: No such file"):
        tls.server_tls(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="none: No such file"):
        tls.server_tls(made, str(tmp_path / "none"))
    for content in ("", "junk", Path(made).read_text()[:-40], Path(made).read_text()[40:]):
        bad = tmp_path / "bad.pem"
        bad.write_text(content)
        bad.chmod(0o600)
        with pytest.raises(ConfigError, match=r"bad.pem.*(another one is made|holds no certificate)"):
            tls.server_tls(str(bad))
    os.chmod(made, 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        tls.server_tls(made)
    with pytest.raises(ConfigError, match=r"authorities.*No such file"):
        tls.client_tls(cafile=str(tmp_path / "none"))
    (tmp_path / "bad.pem").write_text("junk")
    with pytest.raises(ConfigError, match=r"authorities.*no certificates"):
        tls.client_tls(cafile=str(tmp_path / "bad.pem"))


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path: Path, made: str) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(made).read_bytes(), None)
    locked = tmp_path / "locked.pem"
    password = serialization.BestAvailableEncryption(b"x")
    form = serialization.PrivateFormat.PKCS8
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, password))
    locked.chmod(0o600)
    with pytest.raises(ConfigError, match=r"locked.pem is encrypted"):
        tls.server_tls(made, str(locked))


def test_the_minimum_version(made: str) -> None:
    old = tls.client_tls()
    old.context.maximum_version = ssl.TLSVersion.TLSv1_2
    for end in shaken(tls.server_tls(made), old):
        assert end.version() == "TLSv1.2"
        end.close()
    with pytest.raises(ssl.SSLError):
        shaken(tls.server_tls(made, minimum="TLSv1.3"), old)
    with pytest.raises(ConfigError, match="no cipher in 'nonsense'"):
        tls.server_tls(made, ciphers="nonsense")
    tls.server_tls(made, ciphers="ECDHE+AESGCM")


def test_fingerprints() -> None:
    digest = hashlib.sha256(b"x").digest()
    text = fingerprint(digest)
    assert text.startswith("SHA256:") and text.count(":") == 32
    for form in (text, text.lower(), digest.hex(), digest.hex().upper(), f" SHA256:{digest.hex()}\n"):
        assert parse_fingerprint(form) == digest
    for form in ("", "SHA256:", "SHA1:" + digest.hex(), digest.hex()[2:], digest.hex() + "00", "zz" * 32, None):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            parse_fingerprint(form)
