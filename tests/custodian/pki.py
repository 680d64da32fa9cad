"""Certificates of a test: a CA, server and clients, each client with one SPIFFE id."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Identity:
    """A certificate and its key, as files."""

    def __init__(self, folder, name, certificate, key):
        self.certificate, self.key = certificate, key
        self.certificate_file, self.key_file = folder / f"{name}.pem", folder / f"{name}.key"
        self.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key_file.touch(mode=0o600)
        self.key_file.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    def der(self):
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, message):
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def files(self):
        return str(self.certificate_file), str(self.key_file)


class Authority:
    """A CA that issues into a folder."""

    def __init__(self, folder):
        self.folder = folder
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [(x509.BasicConstraints(ca=True, path_length=0), True)]
        self.identity = Identity(folder, "ca", self._certificate("test CA", key, key, "test CA", extensions), key)
        self.file = self.identity.certificate_file

    def server(self):
        names = x509.SubjectAlternativeName([
            x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.UniformResourceIdentifier("spiffe://example.org/region/us/custodian/custodian-1")])
        return self._issue("server", names, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name, spiffe):
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe)])
        return self._issue(name, names, ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, name, names, usage):
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [(names, False), (x509.ExtendedKeyUsage([usage]), False),
                      (x509.BasicConstraints(ca=False, path_length=None), True)]
        return Identity(self.folder, name, self._certificate(name, key, self.identity.key, "test CA", extensions), key)

    @staticmethod
    def _certificate(subject, key, issuer_key, issuer, extensions):
        def name(text):
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(
            issuer_name=name(issuer), subject_name=name(subject), public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1), not_valid_after=now + datetime.timedelta(days=1))
        extensions = extensions + [
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256())
