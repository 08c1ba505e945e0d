"""What a Debian or an RPM package installs and runs, read without dpkg or rpm, and judged.

scripts/verify-release calls it. Only the two forms that scripts/releasing/packages writes are read:
tar in xz, and cpio in gzip.
"""

import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import typing

DIRECTORY = "etc/barbican-kms"
UNIT = "usr/lib/systemd/system/barbican-kms.service"
PROGRAM = "usr/bin/barbican-kms"
WANTED = {
    PROGRAM: 0o755,
    UNIT: 0o644,
    "usr/lib/sysusers.d/barbican-kms.conf": 0o644,
    "usr/share/man/man1/barbican-kms.1.gz": 0o644,
    "usr/share/bash-completion/completions/barbican-kms": 0o644,
    "usr/share/doc/barbican-kms/README.md": 0o644,
    "usr/share/doc/barbican-kms/THIRD-PARTY-LICENSES": 0o644,
}
# What starts a service, now or at the next boot.
STARTS = re.compile(r"\b(systemctl|service|invoke-rc\.d|deb-systemd-\w+)\b.*\b(start|restart|try-restart|reload-or-restart|enable|preset)\b")


class Entry(typing.NamedTuple):
    """A file or a directory; only files have content."""

    mode: int
    owner: str
    group: str
    content: bytes | None


class Package(typing.NamedTuple):
    """Paths have no slash at the front; scripts are by their names."""

    name: str
    version: str
    arch: str
    entries: dict
    scripts: dict


def deb(content):
    """The package in the bytes of a .deb."""
    members = dict(ar(content))
    control = files(members["control.tar.xz"])
    fields = dict(re.findall(r"(?m)^(\w[\w-]*): (.*)$", control.pop("control").content.decode()))
    scripts = {name: entry.content.decode() for name, entry in control.items() if entry.content is not None}
    return Package(fields["Package"], fields["Version"], fields["Architecture"], files(members["data.tar.xz"]), scripts)


def ar(content):
    """Names and contents of the members of an ar archive."""
    if content[:8] != b"!<arch>\n":
        raise ValueError("not a Debian package")
    at = 8
    while at < len(content):
        size = int(content[at + 48:at + 58])
        yield content[at:at + 16].decode().rstrip(" /"), content[at + 60:at + 60 + size]
        at += 60 + size + size % 2


def files(packed):
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(packed))) as archive:
        found = {}
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise ValueError(f"{member.name} is neither a file nor a directory")
            content = archive.extractfile(member).read() if member.isfile() else None
            name = member.name.removeprefix(".").strip("/")
            found[name] = Entry(member.mode, member.uname or str(member.uid), member.gname or str(member.gid), content)
    found.pop("", None)
    return found


# Numbers of the tags in an RPM header.
NAME, VERSION, ARCH, MODES, OWNERS, GROUPS, DIRECTORY_OF, NAMES, DIRECTORIES = 1000, 1001, 1022, 1030, 1039, 1040, 1116, 1117, 1118
SCRIPTS = {"pre": 1023, "post": 1024, "preun": 1025, "postun": 1026, "pretrans": 1151, "posttrans": 1152, "preuntrans": 5104,
           "postuntrans": 5105, "triggers": 1065, "filetriggers": 5066, "transfiletriggers": 5076}


def rpm(content):
    """The package in the bytes of an .rpm."""
    if content[:4] != b"\xed\xab\xee\xdb":
        raise ValueError("not an RPM package")
    _, at = header(content, 96)
    tags, at = header(content, (at + 7) // 8 * 8)
    payload = cpio(gzip.decompress(content[at:]))
    paths = [(tags[DIRECTORIES][n] + name).strip("/") for n, name in zip(tags[DIRECTORY_OF], tags[NAMES])]
    found = {path: Entry(mode & 0o7777, owner, group, payload[path] if stat.S_ISREG(mode) else None)
             for path, mode, owner, group in zip(paths, tags[MODES], tags[OWNERS], tags[GROUPS])}
    scripts = {name: "\n".join(tags[tag]) for name, tag in SCRIPTS.items() if tag in tags}
    return Package(tags[NAME][0], tags[VERSION][0].replace("~", "-"), tags[ARCH][0], found, scripts)


def header(content, at):
    """The tags of the header at an offset, each as a list, and where the header ends."""
    if content[at:at + 3] != b"\x8e\xad\xe8":
        raise ValueError("no RPM header where one should be")
    count, size = struct.unpack_from(">II", content, at + 8)
    store = content[at + 16 + count * 16:at + 16 + count * 16 + size]
    tags = {}
    for index in range(count):
        tag, kind, offset, number = struct.unpack_from(">IIII", content, at + 16 + index * 16)
        if kind in (6, 8, 9):
            tags[tag] = [text.decode() for text in store[offset:].split(b"\0", number)[:number]]
        elif kind in (3, 4):
            tags[tag] = list(struct.unpack_from(f">{number}{'H' if kind == 3 else 'I'}", store, offset))
    return tags, at + 16 + count * 16 + size


def cpio(content):
    """Contents of the files in a cpio archive of the form `newc`, by path."""
    found, at = {}, 0
    aligned = lambda offset: (offset + 3) // 4 * 4
    while True:
        fields = [int(content[at + 6 + n * 8:at + 14 + n * 8], 16) for n in range(13)]
        size, length = fields[6], fields[11]
        name = content[at + 110:at + 109 + length].decode()
        start = aligned(at + 110 + length)
        if name == "TRAILER!!!":
            return found
        found[name.removeprefix(".").strip("/")] = content[start:start + size]
        at = aligned(start + size)


def faults(package, version, arch, program, unit):
    """What is wrong with a package, in words; nothing if it is as it should be."""
    if (package.name, package.version, package.arch) != ("barbican-kms", version, arch):
        yield f"is {package.name} {package.version} for {package.arch}, not barbican-kms {version} for {arch}"
    for path, mode in WANTED.items():
        entry = package.entries.get(path)
        if entry is None:
            yield f"lacks {path}"
        elif entry.mode != mode:
            yield f"{path} has mode {entry.mode:o}, not {mode:o}"
    for path, content in {PROGRAM: program, UNIT: unit}.items():
        if path in package.entries and package.entries[path].content != content:
            yield f"{path} is not the one of the tarball"
    configuration = package.entries.get(DIRECTORY)
    if configuration is None or configuration.mode != 0o750:
        yield f"{DIRECTORY} is not there with mode 750"
    for path, entry in package.entries.items():
        if entry.owner != "root" or entry.group not in ("root", *(["barbican-kms"] if path == DIRECTORY else [])):
            yield f"{path} belongs to {entry.owner}:{entry.group}"
        if entry.content is None:
            if path != DIRECTORY and entry.mode != 0o755:
                yield f"{path}: a directory of mode {entry.mode:o}"
        elif not path.startswith("usr/") or entry.mode != (0o755 if path == PROGRAM else 0o644):
            yield f"{path}: a file of mode {entry.mode:o} that should not be there"
    for name, script in package.scripts.items():
        for line in script.splitlines():
            if STARTS.search(line) and not line.lstrip().startswith("echo "):
                yield f"{name} starts a service: {line.strip()}"
