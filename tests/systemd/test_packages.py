"""The Debian and the RPM package: made twice, installed, upgraded and removed."""

import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import unittest

from host import BINARY, REPO, Host

CONFIG = "/etc/barbican-kms/cloud.conf"
# Nobody answers: the service is up when its socket listens, whatever OpenStack does.
CLOUD = """[Global]
auth-url = "http://127.0.0.1:9/v3"
application-credential-id = "0123456789abcdef0123456789abcdef"
application-credential-secret = "none"
[KeyManager]
key-id = "11111111-1111-4111-8111-111111111111"
"""


def make(tarball, directory, **environment):
    directory.mkdir(exist_ok=True)
    subprocess.run([REPO / "scripts/releasing/packages", tarball, directory], check=True,
                   env={**os.environ, **environment})
    return sorted(directory.iterdir())


def renamed(tarball, version):
    """The same files as a later version."""
    old = tarball.name.split("-")[2]
    later = tarball.with_name(tarball.name.replace(old, version))
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(tarball) as packed:
            packed.extractall(place, filter="tar")
        top = pathlib.Path(place) / tarball.name.removesuffix(".tar.gz")
        with tarfile.open(later, "w:gz") as packed:
            packed.add(top, later.name.removesuffix(".tar.gz"))
    return later


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="kms-packages."))
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        subprocess.run([REPO / "scripts/package", "--binary", BINARY, cls.directory], check=True,
                       stdout=subprocess.DEVNULL)
        cls.tarball, = cls.directory.glob("*.tar.gz")
        cls.deb, cls.rpm = sorted(make(cls.tarball, cls.directory / "old"), key=lambda f: f.suffix)
        later = make(renamed(cls.tarball, "99.0.0"), cls.directory / "new")
        cls.later_deb, cls.later_rpm = sorted(later, key=lambda f: f.suffix)

    def test_the_same_tarball_gives_the_same_bytes(self):
        elsewhere = self.directory / "another place"
        elsewhere.mkdir()
        again = make(self.tarball, self.directory / "again", TMPDIR=str(elsewhere), HOME="/nowhere",
                     TZ="Asia/Tokyo")
        self.assertEqual([file.read_bytes() for file in again],
                         [file.read_bytes() for file in sorted((self.deb, self.rpm))])

    def host(self):
        host = Host(self.directory)
        self.addCleanup(host.end)
        return host

    def in_host(self, file):
        return f"/mnt/{file.relative_to(self.directory)}"

    def test_the_debian_package(self):
        self.goes_its_way(self.host(), ["dpkg", "--install"], ["dpkg", "--install"],
                          ["dpkg", "--remove", "barbican-kms"], self.deb, self.later_deb)

    def test_the_rpm_package(self):
        # Of this system's packages rpm knows nothing.
        self.goes_its_way(self.host(), ["rpm", "--install", "--nodeps"], ["rpm", "--upgrade", "--nodeps"],
                          ["rpm", "--erase", "barbican-kms"], self.rpm, self.later_rpm)

    def goes_its_way(self, host, install, upgrade, remove, package, later):
        host.run(*install, self.in_host(package))
        stat = lambda path: host.run("stat", "--format", "%a %U:%G", path).stdout.strip()
        self.assertEqual(stat("/etc/barbican-kms"), "750 root:barbican-kms")
        self.assertEqual(stat("/usr/bin/barbican-kms"), "755 root:root")
        self.assertEqual(host.property("ActiveState"), "inactive")
        self.assertEqual(host.property("UnitFileState"), "disabled")
        for path in ("/usr/share/man/man1/barbican-kms.1.gz", "/usr/share/man/man1/barbican-kms-serve.1.gz",
                     "/usr/share/bash-completion/completions/barbican-kms"):
            host.run("test", "-s", path)
        # Without a configuration it does not start, and with one it does.
        host.run("systemctl", "enable", "--now", "barbican-kms")
        self.assertEqual(host.property("ActiveState"), "inactive")
        host.write(CONFIG, CLOUD)
        host.run("systemctl", "start", "barbican-kms")
        self.assertEqual(host.property("ActiveState"), "active")
        before = host.property("MainPID")
        said = host.run(*upgrade, self.in_host(later))
        self.assertIn("the old version is still running", said.stdout + said.stderr)
        self.assertEqual(host.property("MainPID"), before, "it lost the key")
        self.assertEqual((stat(CONFIG), stat("/etc/barbican-kms")), ("640 root:barbican-kms", "750 root:barbican-kms"))
        self.assertEqual(host.property("UnitFileState"), "enabled")
        host.run(*remove)
        self.assertEqual(host.property("ActiveState"), "inactive")
        self.assertEqual(host.property("LoadState"), "not-found")
        host.run("test", "!", "-e", "/usr/bin/barbican-kms")
        host.run("test", "!", "-e", "/etc/systemd/system/multi-user.target.wants/barbican-kms.service")
        self.assertEqual(host.run("cat", CONFIG).stdout, CLOUD, "what the operator wrote stays")


if __name__ == "__main__":
    unittest.main()
