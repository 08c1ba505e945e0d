#!/usr/bin/env python3
"""Write the golden vectors of the stored format with an independent implementation.

Needs the Python package `cryptography`. The output is committed; run this only to add
cases, never to change one: the format is frozen.

    python3 tests/vectors/generate.py
"""
import hashlib
import hmac
import json
import pathlib
import struct

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HERE = pathlib.Path(__file__).parent
KEY_ID = "b5309dfb-b326-4148-b0ad-e9cd1ec223a8"
SUFFIXED = KEY_ID + "_002"


def stream(label, count):
    """Deterministic bytes that look random."""
    out = b""
    while len(out) < count:
        out += hashlib.sha256(f"{label}/{len(out)}".encode()).digest()
    return out[:count]


def encrypt(kek, iv, padded):
    encryptor = Cipher(algorithms.AES(kek), modes.CBC(iv)).encryptor()
    return iv + encryptor.update(padded) + encryptor.finalize()


def pad(plaintext):
    padder = padding.PKCS7(128).padder()
    return padder.update(plaintext) + padder.finalize()


def tag(kek, key_id, ciphertext):
    mac_key = HKDF(
        algorithm=hashes.SHA256(), length=32, salt=None, info=b"barbican-kms/v1/hmac"
    ).derive(kek)
    text = b"barbican-kms/v1" + struct.pack(">I", len(key_id)) + key_id.encode() + ciphertext
    return hmac.new(mac_key, text, hashlib.sha256).digest()


def case(name, kek, key_id, plaintext, tagged=True):
    iv = stream(name + "/iv", 16)
    ciphertext = encrypt(kek, iv, pad(plaintext))
    return {
        "name": name,
        "kek": kek.hex(),
        "key_id": key_id,
        "iv": iv.hex(),
        "plaintext": plaintext.hex(),
        "ciphertext": ciphertext.hex(),
        "tag": tag(kek, key_id, ciphertext).hex() if tagged else None,
    }


def failing(name, base, **changes):
    return {**base, "name": name, "plaintext": None, "iv": None, **changes}


def write(name, cases):
    with open(HERE / name, "w", encoding="utf-8") as out:
        for item in cases:
            out.write(json.dumps({k: v for k, v in item.items() if v is not None}) + "\n")


keks = {bits: stream(f"kek{bits}", bits // 8) for bits in (128, 192, 256)}
good = [
    case(f"aes-{bits}, {length} bytes, key id {label}", kek, key_id, stream(f"p{length}", length))
    for bits, kek in keks.items()
    for label, key_id in (("plain", KEY_ID), ("with suffix", SUFFIXED))
    for length in (0, 1, 15, 16, 17, 32, 33, 1007)
]


def untagged(bits, length):
    """As the Go plugin writes it."""
    name = f"legacy aes-{bits}, {length} bytes"
    return case(name, keks[bits], KEY_ID, stream(f"l{length}", length), False)


legacy = [untagged(bits, 32) for bits in keks]
# Among them seeds that end like padding.
legacy += [
    case(f"legacy aes-{bits}, 32 bytes of {byte}", kek, KEY_ID, bytes([byte] * 32), False)
    for bits, kek in keks.items()
    for byte in (0, 1, 16)
]
# Nothing but a seed was ever wrapped; and to open these would be a padding oracle.
fail_untagged = [
    failing(item["name"], item)
    for bits in keks
    for item in (untagged(bits, length) for length in (0, 1, 16, 24, 31, 33, 47, 48, 1007))
]
kek = keks[256]
base = case("base", kek, KEY_ID, stream("seed", 32))
ciphertext, mac = bytes.fromhex(base["ciphertext"]), bytes.fromhex(base["tag"])


def flipped(data, at):
    return (data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]).hex()


fail_tag = [
    failing("tag of another key id", base, key_id=SUFFIXED),
    failing("tag under another key", base, kek=stream("other", 32).hex()),
    failing("first bit of the IV flipped", base, ciphertext=flipped(ciphertext, 0)),
    failing("last block flipped", base, ciphertext=flipped(ciphertext, len(ciphertext) - 1)),
    failing("first bit of the tag flipped", base, tag=flipped(mac, 0)),
    failing("last bit of the tag flipped", base, tag=flipped(mac, 31)),
    failing("tag cut to 31 bytes", base, tag=mac[:31].hex()),
    failing("tag cut to 16 bytes", base, tag=mac[:16].hex()),
    failing("empty tag", base, tag=""),
    failing("tag with a byte too many", base, tag=mac.hex() + "00"),
    failing("plain SHA-256 in place of the tag", base, tag=hashlib.sha256(ciphertext).hexdigest()),
    failing(
        "HMAC with the KEK itself",
        base,
        tag=hmac.new(kek, b"barbican-kms/v1" + struct.pack(">I", 36) + KEY_ID.encode() + ciphertext,
                     hashlib.sha256).hexdigest(),
    ),
]


def sized(name, count):
    data = stream(name, count)
    return failing(name, base, ciphertext=data.hex(), tag=tag(kek, KEY_ID, data).hex())


fail_length = [
    sized(f"{count} bytes with a right tag", count)
    for count in (0, 1, 15, 16, 17, 31, 33, 47, 1008 + 17, 1040, 2048)
]


def badly_padded(name, last_block, head=stream("head", 16)):
    data = encrypt(kek, stream(name, 16), head + last_block)
    return failing(name, base, ciphertext=data.hex(), tag=tag(kek, KEY_ID, data).hex())


fail_padding = [
    badly_padded("padding of zero", bytes(16)),
    badly_padded("padding of 17", bytes([17] * 16)),
    badly_padded("padding of 255", bytes([255] * 16)),
    badly_padded("padding that is not uniform", bytes(8) + bytes([7] + [8] * 7)),
    badly_padded("padding of 16 with one byte wrong", bytes([15] + [16] * 15)),
]
fail_padding += [
    {k: v for k, v in item.items() if k != "tag"} | {"name": "legacy seed, " + item["name"]}
    for item in (
        badly_padded(name, last, stream("head", 32))
        for name, last in (
            ("padding of zero", bytes(16)),
            ("padding of 17", bytes([17] * 16)),
            ("first byte of the padding wrong", bytes([15] + [16] * 15)),
            ("last byte of the padding wrong", bytes([16] * 15 + [15])),
            ("padding of one byte", bytes(15) + b"\x01"),
            ("padding of 15 bytes", bytes([0] + [15] * 15)),
        )
    )
] + [
    {k: v for k, v in item.items() if k != "tag"} | {"name": "legacy, " + item["name"]}
    for item in fail_padding
]
write("envelope.jsonl", good)
write("envelope_legacy.jsonl", legacy)
write("fail_envelope_tag.jsonl", fail_tag)
write("fail_envelope_length.jsonl", fail_length)
write("fail_envelope_padding.jsonl", fail_padding)
write("fail_envelope_untagged.jsonl", fail_untagged)
