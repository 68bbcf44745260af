"""The DTLS certificate that all endpoints of one load test share."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mafalda.media.transport import DtlsFingerprint, DtlsParameters


@dataclass(frozen=True, slots=True)
class Identity:
    """A self-signed certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def dtls_parameters(self) -> DtlsParameters:
        """What a transport is connected with: this endpoint begins the DTLS handshake."""
        value = self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        return DtlsParameters(role="client", fingerprints=(DtlsFingerprint(algorithm="sha-256", value=value),))


def new_identity() -> Identity:
    """A fresh certificate, valid for a week."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mafalda load-test")])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .sign(key, hashes.SHA256())
    )
    return Identity(certificate, key)
