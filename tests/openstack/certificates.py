"""A CA of its own and a certificate for 127.0.0.1, localhost, and NAMES, which a test may give another address."""
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rest import write_private

DAYS = 365
NAMES = "keystone.example.com", "barbican.example.com"


def make(folder):
    """Write ca.pem, ca.key, server.pem, server.key, client.pem, client.key."""
    os.makedirs(folder, exist_ok=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = name("barbican-kms test CA")
    ca = sign(ca_name, ca_key, ca_name, ca_key, [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage(key_cert_sign=True, crl_sign=True), True)])
    save(folder, "ca", ca, ca_key)
    names = x509.SubjectAlternativeName([
        *map(x509.DNSName, ("localhost", *NAMES)),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    for who, purpose, more in (
            ("server", ExtendedKeyUsageOID.SERVER_AUTH, [(names, False)]),
            ("client", ExtendedKeyUsageOID.CLIENT_AUTH, [])):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = sign(name("test " + who), key, ca_name, ca_key, more + [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (usage(digital_signature=True), True),
            (x509.ExtendedKeyUsage([purpose]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(
                ca_key.public_key()), False)])
        save(folder, who, certificate, key)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(**on):
    every = ("digital_signature", "content_commitment", "key_encipherment",
             "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
             "encipher_only", "decipher_only")
    return x509.KeyUsage(**{k: on.get(k, False) for k in every})


def sign(subject, key, issuer, issuer_key, extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(
            key.public_key()), False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def save(folder, who, certificate, key):
    pem = serialization.Encoding.PEM
    write_private(os.path.join(folder, who + ".pem"),
                  certificate.public_bytes(pem).decode())
    write_private(os.path.join(folder, who + ".key"), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()).decode())
