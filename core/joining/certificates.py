"""X.509: the installation's own authority, and the certificates it signs for its gateway and its nodes.

The only file that knows `cryptography`. The authority signs for nobody else, so whoever shows one of its certificates
is of this installation; for which purpose, the certificate says, so that no node passes for the gateway.
"""

import os
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.clock import now
from core.errors import Invalid

#: By which name nodes know the gateway, whatever its address.
GATEWAY_NAME = "gateway.millrace.internal"
NODE_LIFETIME = timedelta(days=90)
#: With so much left, a node asks for its next one.
RENEW_BEFORE = timedelta(days=30)
_AUTHORITY_LIFETIME = timedelta(days=20 * 365)
#: Clocks differ: what is signed now is valid for whoever is late.
_BACKDATED = timedelta(days=1)
_FILE = "gateway/authority.pem"


@dataclass(frozen=True, slots=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def sign_gateway(self) -> str:
        """A new key and its certificate, in PEM."""
        key = _new_key()
        names = x509.SubjectAlternativeName([x509.DNSName(GATEWAY_NAME)])
        builder = self._builder(_name(GATEWAY_NAME), key.public_key(), _AUTHORITY_LIFETIME, _usage(server=True))
        return _key_pem(key) + _pem(self._sign(builder.add_extension(names, critical=False)))

    def sign_node(self, request: str, id: str, name: str, lifetime: timedelta = NODE_LIFETIME) -> str:
        """For the key that asks, whatever else is in the request. Raises `Invalid`."""
        try:
            asked = x509.load_pem_x509_csr(request.encode())
            proven = asked.is_signature_valid
        except (ValueError, InvalidSignature):
            proven = False
        if not proven or not isinstance(asked.public_key(), ec.EllipticCurvePublicKey):
            raise Invalid("What asks for a certificate is no request of a node.")
        subject = _name(name, id)
        return _pem(self._sign(self._builder(subject, asked.public_key(), lifetime, _usage(server=False))))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta, usage: x509.ExtensionType
    ) -> x509.CertificateBuilder:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            _dated(x509.CertificateBuilder(), subject, self.certificate.subject, key, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(issuer, critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self.key, hashes.SHA256())


def load_authority(data: Path) -> Authority:
    """The one kept under the data folder, made by whoever asks first; whoever has its file is the installation."""
    file = data / _FILE
    if not file.exists():
        _make_authority(file)
    text = file.read_bytes()
    key = serialization.load_pem_private_key(text, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(key, x509.load_pem_x509_certificate(text))


def _make_authority(file: Path) -> None:
    key = _new_key()
    subject = _name("Millrace authority")
    builder = (
        _dated(x509.CertificateBuilder(), subject, subject, key.public_key(), _AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent) as draft:
        draft.write(_key_pem(key) + _pem(builder.sign(key, hashes.SHA256())))
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, file)
        except FileExistsError:
            return  # Somebody was faster, and theirs is the one.


# --- on a node --------------------------------------------------------------------------------------------------------


def new_request() -> tuple[str, str]:
    """A new key, and what asks for its certificate; both in PEM. For whom it is, the authority knows better."""
    key = _new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(_name("node")).sign(key, hashes.SHA256())
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM).decode()


def fingerprint(certificate: str) -> str:
    """Raises `ValueError`."""
    return x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256()).hex()


def expiry(certificate: str) -> datetime:
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def is_due(certificate: str) -> bool:
    """Whether it is time for the next one."""
    return expiry(certificate) - now() < RENEW_BEFORE


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(name: str, id: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    return x509.Name(attributes + ([x509.NameAttribute(NameOID.SERIAL_NUMBER, id)] if id else []))


def _dated(
    builder: x509.CertificateBuilder,
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        builder.subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - _BACKDATED)
        .not_valid_after(now() + lifetime)
    )


def _usage(server: bool) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH])


def _key_usage(key_cert_sign: bool) -> x509.KeyUsage:
    nothing = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")
    more = ("encipher_only", "decipher_only")
    return x509.KeyUsage(
        digital_signature=not key_cert_sign, key_cert_sign=key_cert_sign, **dict.fromkeys((*nothing, *more), False)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
