"""TLS for both ends: the certificate that makes itself, contexts, fingerprints.

A certificate of ours needs no distribution: the proof of the key holds its hash (``proto.session``). Whoever wants
more pins the fingerprint or brings an authority. ``ssl`` and ``cryptography`` are imported when they are needed.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from hypershell.errors import ConfigError
from hypershell.making import make_folder
from hypershell.net.private import check_private, write_private
from hypershell.smallfile import read_small

if TYPE_CHECKING:
    import ssl

__all__ = [
    "ClientTls",
    "ServerTls",
    "client_tls",
    "ensure_certificate",
    "server_tls",
]

_YEARS = 10
#: Bytes of a certificate with those that vouch for it and a key, and of the authorities of a whole system.
_MOST = 256 << 10
_MOST_AUTHORITIES = 4 << 20


class ServerTls(NamedTuple):
    """What a listener needs; `digest` is SHA-256 of the certificate's DER."""

    context: ssl.SSLContext
    digest: bytes


class ClientTls(NamedTuple):
    """What a dialer needs; `pin` is the digest that the server's certificate must have."""

    context: ssl.SSLContext
    pin: bytes | None = None
    server_name: str | None = None


def server_tls(
    cert: str, key: str | None = None, *, minimum: str = "TLSv1.2", ciphers: str | None = None
) -> ServerTls:
    """The listener's side with the certificate (chain) of file `cert`.

    :param key: file of its private key; None: in `cert` too.
    Raises ``ConfigError`` where the files cannot be used.
    """
    import ssl

    private = key or cert
    try:
        check_private(private, "private key", os.stat(private), 0o007 if key else 0o077)
        _read(private, "private key", _MOST)
        text = _read(cert, "certificate", _MOST).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, minimum, ciphers)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        context.load_cert_chain(cert, key, lambda: _refuse_password(private))
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(_unusable(cert, key, error)) from None
    return ServerTls(context, _digest_of(text, cert))


def client_tls(
    *,
    pin: bytes | None = None,
    cafile: str | None = None,
    server_name: str | None = None,
    minimum: str = "TLSv1.2",
    ciphers: str | None = None,
) -> ClientTls:
    """The dialer's side.

    :param pin: the digest that the certificate must have.
    :param cafile: authorities, one of which must have signed the certificate; None: the proof of the key suffices.
    :param server_name: the name that is asked for, and with `cafile` the one that the certificate must be for.
    Raises ``ConfigError`` where `cafile` cannot be used.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context, minimum, ciphers)
    context.check_hostname = cafile is not None and server_name is not None
    context.verify_mode = ssl.CERT_NONE if cafile is None else ssl.CERT_REQUIRED
    if cafile is not None:
        try:
            _read(cafile, "list of authorities", _MOST_AUTHORITIES)
            context.load_verify_locations(cafile)
        except (ssl.SSLError, OSError) as error:
            reason = error.strerror if isinstance(error, FileNotFoundError) else "it holds no certificates"
            raise ConfigError(f"cannot use the authorities in {cafile}: {reason}") from None
    return ClientTls(context, pin, server_name)


def ensure_certificate(directory: str, host: str) -> str:
    """The path of our own certificate with its key, made on first use.

    Both are in one file that appears whole, so that no reader ever sees the key of one and the certificate of
    another, however many processes begin at once on a shared home. Raises ``ConfigError``.

    :param host: the name of this machine.
    """
    path = os.path.join(directory, "server.pem")
    if os.path.exists(path):
        return path
    try:
        make_folder(directory)
        write_private(path, _self_signed(host), keep=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write the certificate {path}: {error.strerror} (--tls-cert names another one)"
        ) from None
    return path


def _self_signed(host: str) -> bytes:
    """Key and certificate in PEM: P-256, ten years, for `host` and the loopback names."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64] or "localhost")])
    names = dict.fromkeys(filter(None, (host, host.partition(".")[0], "localhost")))
    alternatives: list[x509.GeneralName] = [x509.DNSName(one) for one in names if one.isascii()]
    alternatives += [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1")]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks of clients differ
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def _read(path: str, what: str, most: int) -> bytes:
    """The file as it is, before OpenSSL reads it to whatever end it has. Raises ``OSError``, ``ConfigError``."""
    with open(path, "rb", buffering=0) as file:
        return read_small(file.fileno(), path, what, most)


def _restrict(context: ssl.SSLContext, minimum: str, ciphers: str | None) -> None:
    import ssl

    strict = minimum.lower() == "tlsv1.3"
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if strict else ssl.TLSVersion.TLSv1_2
    if ciphers is not None:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError:
            raise ConfigError(f"OpenSSL knows no cipher in '{ciphers}'") from None


def _digest_of(text: str, path: str) -> bytes:
    """SHA-256 of the DER of the first certificate of a PEM file, which is the server's own."""
    import ssl

    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.find(begin)
    stop = text.find(end, start)
    if start < 0 or stop < 0:
        raise ConfigError(f"{path} holds no certificate in PEM")
    der = ssl.PEM_cert_to_DER_cert(text[start : stop + len(end)])
    return hashlib.sha256(der).digest()


def _refuse_password(path: str) -> NoReturn:
    raise ConfigError(f"the private key in {path} is encrypted: a server can only use one without a password")


def _unusable(cert: str, key: str | None, error: Exception) -> str:
    if "KEY_VALUES_MISMATCH" in str(error):
        return f"the private key in {key or cert} is not that of the certificate in {cert}"
    if key is None:
        return f"{cert} holds no certificate with its private key: remove it, and another one is made"
    return f"cannot use the certificate {cert} with the private key {key}: they are not in PEM, or damaged"
