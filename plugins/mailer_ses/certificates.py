"""The certificates SNS signs with: fetched once from AWS, and trusted only with their whole chain.

SNS serves the certificate alone, so its issuer is fetched from where the certificate says, and the
chain has to end in a public root. With a directory nothing is fetched: the certificates lie there
under the names their URLs end in, followed by their issuers if there are any, and `roots.pem`
beside them, if there is one, takes the place of the public roots.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AuthorityInformationAccessOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mailer_ses.sns import Topic, refusal

MAX_BYTES: Final = 64 * 1024
TIMEOUT_S: Final = 4.0
FETCH_WITHIN_S: Final = 2.0
"""The longest wait for another fetch to end."""
_ISSUER_URL: Final = re.compile(
    r"http://(crt\.[a-z0-9]{1,32}\.amazontrust\.com|cacerts\.digicert\.com)/[A-Za-z0-9.-]{1,80}"
)
"""Where the authorities of AWS publish themselves, China's last. Its content needs no TLS: an
issuer counts only if a root vouches for it."""

_AUTHORITIES: Final = (b"Amazon Root CA ", b"DigiCert Global Root ")
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")

Connect = Callable[[str, bool], http.client.HTTPConnection]
"""Host, and whether by TLS → a connection."""


def connect(host: str, tls: bool) -> http.client.HTTPConnection:
    """To the one port that AWS serves them at; redirects are never followed."""
    if not tls:
        return http.client.HTTPConnection(host, 80, timeout=TIMEOUT_S)
    context = ssl.create_default_context(cafile=certifi.where())
    return http.client.HTTPSConnection(host, 443, timeout=TIMEOUT_S, context=context)


@dataclass(frozen=True, slots=True)
class _Trusted:
    key: rsa.RSAPublicKey
    until: datetime


class Certificates:
    """Those seen so far; usable by several threads."""

    def __init__(
        self,
        directory: Path | None = None,
        connect: Connect = connect,
        roots: Sequence[x509.Certificate] = (),
    ) -> None:
        """Without `roots`, the public ones or those in the directory count."""
        self._roots = roots or _roots(directory)
        self._directory = directory
        self._connect = connect
        self._trusted: dict[tuple[str, str], _Trusted] = {}
        self._fetching = threading.Lock()

    def key(self, topic: Topic, file: str, now: datetime) -> rsa.RSAPublicKey:
        """The key of the certificate that the topic's region has under this name.

        Raises InvalidRequest for one that is not SNS's or not valid now, OSError when it, its
        issuer or the roots can't be had now.
        """
        trusted = self._trusted.get((topic.host, file))
        if trusted is not None and now <= trusted.until:
            return trusted.key
        # One at a time: names that a stranger made up must not keep all threads waiting.
        if not self._fetching.acquire(timeout=FETCH_WITHIN_S):
            raise ConnectionError("other certificates are being fetched")
        try:
            trusted = self._checked(topic, file, now)
        finally:
            self._fetching.release()
        self._trusted[topic.host, file] = trusted
        return trusted.key

    def _checked(self, topic: Topic, file: str, now: datetime) -> _Trusted:
        found = self._read(topic, file)  # not within `try`: TLS's own error is a ValueError, too
        try:
            leaf, *issuers = x509.load_pem_x509_certificates(found)
        except ValueError:
            raise refusal("SigningCertURL", "names no certificate") from None
        name = next((name for name in _names(leaf) if name in topic.certificate_names), None)
        if name is None:
            raise refusal("SigningCertURL", "its certificate was not issued to SNS")
        if not issuers and self._directory is None:
            issuers = [self._issuer(leaf)]
        policy = PolicyBuilder().store(Store(list(self._roots))).time(now.astimezone(UTC))
        try:
            policy.build_server_verifier(x509.DNSName(name)).verify(leaf, issuers)
        except VerificationError as error:
            problem = f"its certificate is not to be trusted: {error}"
            raise refusal("SigningCertURL", problem) from None
        key = leaf.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise refusal("SigningCertURL", "its certificate has no RSA key")
        return _Trusted(key, leaf.not_valid_after_utc)

    def _read(self, topic: Topic, file: str) -> bytes:
        if self._directory is None:
            return self._fetch(topic.host, f"/{file}", tls=True)
        try:
            return (self._directory / file).read_bytes()
        except FileNotFoundError:
            raise ConnectionError(f"SNS_CERT_DIR has no {file}") from None

    def _issuer(self, leaf: x509.Certificate) -> x509.Certificate:
        url = _issuer_url(leaf)
        if not _ISSUER_URL.fullmatch(url):
            raise ConnectionError(
                "the issuer of SNS's certificate is not where mailer knows it; put both into a"
                " directory and name it in SNS_CERT_DIR"
            )
        parts = urlsplit(url)
        found = self._fetch(parts.netloc, parts.path, tls=False)
        try:
            return x509.load_der_x509_certificate(found)
        except ValueError:
            raise ConnectionError(f"{url} is no certificate") from None

    def _fetch(self, host: str, path: str, *, tls: bool) -> bytes:
        connection = self._connect(host, tls)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            content = answer.read(MAX_BYTES + 1)
        except http.client.HTTPException as error:
            raise ConnectionError(f"{host}: {type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status in {403, 404}:
            raise refusal("SigningCertURL", "names a certificate that SNS does not have")
        if answer.status != 200 or len(content) > MAX_BYTES:
            raise ConnectionError(f"{host} answered {answer.status} with {len(content)} bytes")
        return content


def _roots(directory: Path | None) -> list[x509.Certificate]:
    """Of the public ones, those AWS has certificates from; the others have no say here."""
    own = directory / "roots.pem" if directory else None
    if own and own.exists():
        return x509.load_pem_x509_certificates(own.read_bytes())
    bundle = Path(certifi.where()).read_text("ascii", "ignore")
    ders = (ssl.PEM_cert_to_DER_cert(found[0]) for found in _PEM.finditer(bundle))
    ours = (der for der in ders if any(name in der for name in _AUTHORITIES))
    return [x509.load_der_x509_certificate(der) for der in ours]


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def _issuer_url(leaf: x509.Certificate) -> str:
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ""
    for description in access:
        location = description.access_location
        if description.access_method == AuthorityInformationAccessOID.CA_ISSUERS and isinstance(
            location, x509.UniformResourceIdentifier
        ):
            return location.value
    return ""
