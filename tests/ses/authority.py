"""A certificate authority of our own that signs SNS messages as AWS does.

Its directory is what SNS_CERT_DIR may name: `roots.pem`, and the signing certificates under the
file names that their URLs end in. The private key lies beside them, for other processes.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
FIELDS["UnsubscribeConfirmation"] = FIELDS["SubscriptionConfirmation"]
GOOD = "SimpleNotificationService-00000000000000000000000000000000.pem"


@dataclass
class Authority:
    """Signs with the certificate `file` of its directory."""

    directory: Path
    key: rsa.RSAPrivateKey
    file: str = GOOD

    @classmethod
    def make(cls, directory: Path, name: str = "sns.amazonaws.com") -> Authority:
        """An authority with one good signing certificate."""
        root_key = ec.generate_private_key(ec.SECP256R1())
        root = _certificate("test root", "test root", root_key, root_key, ca=True)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (directory / "roots.pem").write_bytes(_pem(root))
        (directory / "root_key.pem").write_bytes(_private(root_key))
        (directory / "key.pem").write_bytes(_private(key))
        made = cls(directory, key)
        made.issue(GOOD, name)
        return made

    @classmethod
    def at(cls, directory: Path) -> Authority:
        """The one that another process made there."""
        key = serialization.load_pem_private_key((directory / "key.pem").read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return cls(directory, key)

    def issue(self, file: str, name: str, *, days: int = 30, ca: bool = False) -> Authority:
        """Write another certificate for the same key; with negative `days` it has expired."""
        root_key = serialization.load_pem_private_key(
            (self.directory / "root_key.pem").read_bytes(), None
        )
        leaf = _certificate(name, "test root", self.key, root_key, days=days, ca=ca)
        (self.directory / file).write_bytes(_pem(leaf))
        return Authority(self.directory, self.key, file)

    def sign(self, envelope: dict[str, Any], version: str = "2") -> dict[str, Any]:
        """The envelope with the signature's fields."""
        names = FIELDS.get(envelope.get("Type", ""), FIELDS["Notification"])
        text = "".join(f"{name}\n{envelope[name]}\n" for name in names if name in envelope)
        algorithm = {"1": hashes.SHA1(), "2": hashes.SHA256()}[version]
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), algorithm)
        region = envelope.get("TopicArn", ":::eu-central-1").split(":")[3]
        return {
            **envelope,
            "SignatureVersion": version,
            "Signature": base64.b64encode(signature).decode(),
            "SigningCertURL": f"https://sns.{region}.amazonaws.com/{self.file}",
        }


@dataclass
class Chain:
    """A root, an authority below it, and a signing certificate that says where that one lies."""

    root: x509.Certificate
    issuer: x509.Certificate
    leaf: x509.Certificate

    @classmethod
    def make(cls, issuer_url: str) -> Chain:
        root_key, issuer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = "sns.amazonaws.com"
        return cls(
            _certificate("root", "root", root_key, root_key, ca=True),
            _certificate("issuer", "root", issuer_key, root_key, ca=True),
            _certificate(name, "issuer", key, issuer_key, issuer_url=issuer_url),
        )


def _certificate(
    subject: str,
    issuer: str,
    key: Any,
    issuer_key: Any,
    *,
    ca: bool = False,
    days: int = 30,
    issuer_url: str = "",
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(not ca, False, not ca, False, False, ca, ca, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
    )
    if not ca:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False
        ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    if issuer_url:
        description = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuer_url)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([description]), False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: Any) -> bytes:
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return encoded
