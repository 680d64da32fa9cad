"""Certificates that are valid for seconds, as a CA with short renewals gives them."""

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec



class Authority:
    """The CA of `certs/NAME.crt` and `.key`."""

    def __init__(self, certs, name):
        self.certificate = x509.load_pem_x509_certificate((certs / f"{name}.crt").read_bytes())
        self.key = serialization.load_pem_private_key((certs / f"{name}.key").read_bytes(), None)

    def renew(self, prefix, seconds):
        """Puts a certificate with the names of the one in PREFIX.crt, and a new key, in its place, valid for that long. Gives its serial number."""
        path = Path(f"{prefix}.crt")
        former = x509.load_pem_x509_certificate(path.read_bytes())
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self.certificate.subject, subject_name=former.subject, public_key=key.public_key(), serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(seconds=60), not_valid_after=now + datetime.timedelta(seconds=seconds))
        for extension in former.extensions:
            if isinstance(extension.value, (x509.SubjectAlternativeName, x509.ExtendedKeyUsage, x509.KeyUsage, x509.AuthorityKeyIdentifier)):
                builder = builder.add_extension(extension.value, extension.critical)
        made = builder.sign(self.key, hashes.SHA256())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for ending, content in (("key", pem), ("crt", made.public_bytes(serialization.Encoding.PEM))):
            fresh = Path(f"{prefix}.{ending}.new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(content)
            os.replace(fresh, f"{prefix}.{ending}")
        return made.serial_number
