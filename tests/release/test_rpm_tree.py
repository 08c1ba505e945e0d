"""The RPM package on a system of RPM packages: rpm decides on dependencies, runs the scripts in the
system's tree, and verifies what is there.

The tree is made here: a shell and systemd-sysusers of this machine, and a package that stands for
the systemd that owns them. The program is a placeholder, so that nothing is built.
"""

import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
import unittest

from test_installed import TOP, tarball

STAND_IN = """Name: systemd
Version: 252
Release: 1
Summary: Stands for systemd and a shell
License: none
Provides: /bin/sh
AutoReqProv: no
%description
%files
"""
MACHINE = os.uname().machine


def libraries(program):
    """The shared libraries of a program of this machine."""
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)


@unittest.skipUnless(os.geteuid() == 0, "only root may change the root directory")
class RpmTree(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="barbican-kms-rpm-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        made = cls.directory / "made"
        made.mkdir()
        for version in ("1.2.3", "1.2.4"):
            subprocess.run([TOP / "scripts/releasing/packages", tarball(cls.directory, MACHINE, version), made], check=True)
        cls.package, cls.later = sorted(made.glob("*.rpm"))
        (cls.directory / "systemd.spec").write_text(STAND_IN)
        subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {cls.directory}/build", "--define", f"_rpmdir {cls.directory}/build",
                        cls.directory / "systemd.spec"], check=True, capture_output=True)
        cls.systemd, = (cls.directory / "build").rglob("systemd-*.rpm")

    def setUp(self):
        self.tree = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
        self.tree.chmod(0o755)
        for directory in ("etc", "usr/bin", "usr/lib", "usr/lib64", "run", "dev", "proc"):
            (self.tree / directory).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (self.tree / name).symlink_to("usr/" + name)
        for program in ("sh", "systemd-sysusers"):
            there = shutil.which(program)
            for file in (there, *libraries(there)):
                copy = self.tree / file.lstrip("/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
        (self.tree / "dev/null").touch()
        for name in ("passwd", "group"):
            (self.tree / "etc" / name).write_text("root:x:0:0::/root:/bin/sh\n" if name == "passwd" else "root:x:0:\n")

    def rpm(self, *command, check=True):
        done = subprocess.run(["rpm", "--root", self.tree, "--define", "_dbpath /var/lib/rpm", *command], capture_output=True, text=True)
        if check:
            self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
            # What a script that fails leaves behind, for rpm goes on.
            self.assertNotRegex(done.stderr, r"scriptlet failed|error:|warning: %")
        return done

    def installed(self):
        self.rpm("--install", self.systemd, self.package)

    def group(self):
        return dict(re.findall(r"(?m)^([\w-]+):[^:]*:(\d+):", (self.tree / "etc/group").read_text()))["barbican-kms"]

    def test_without_systemd_it_is_refused(self):
        done = self.rpm("--install", self.package, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("systemd is needed by barbican-kms-1.2.3-1", done.stderr)
        self.assertFalse((self.tree / "usr/bin/barbican-kms").exists())

    def test_it_needs_systemd_and_a_shell_alone(self):
        needed = self.rpm("--query", "--requires", "--package", self.package).stdout.splitlines()
        self.assertEqual({line.split()[0] for line in needed if not line.startswith("rpmlib(")}, {"systemd", "/bin/sh"})

    def test_its_digests_are_right(self):
        self.assertIn("digests OK", self.rpm("--checksig", self.package).stdout)

    def test_it_installs_with_its_user_and_rpm_finds_nothing_changed(self):
        self.installed()
        self.assertRegex((self.tree / "etc/passwd").read_text(), r"(?m)^barbican-kms:")
        there = (self.tree / "etc/barbican-kms").stat()
        self.assertEqual((stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid), (0o750, 0, int(self.group())))
        self.rpm("--verify", "barbican-kms")

    def test_a_changed_mode_is_what_rpm_finds(self):
        self.installed()
        (self.tree / "etc/barbican-kms").chmod(0o755)
        self.assertIn("/etc/barbican-kms", self.rpm("--verify", "barbican-kms", check=False).stdout)

    def test_nothing_is_enabled(self):
        self.installed()
        self.assertFalse((self.tree / "etc/systemd").exists())

    def test_an_upgrade_and_a_removal_keep_what_the_operator_wrote(self):
        self.installed()
        config = self.tree / "etc/barbican-kms/cloud.conf"
        config.write_text("[Global]\n")
        self.rpm("--upgrade", self.later)
        self.assertEqual(self.rpm("--query", "barbican-kms").stdout.strip(), f"barbican-kms-1.2.4-1.{MACHINE}")
        self.rpm("--verify", "barbican-kms")
        self.assertEqual(config.read_text(), "[Global]\n")
        # rpm warns of the directory that is not empty.
        self.assertEqual(self.rpm("--erase", "barbican-kms", check=False).returncode, 0)
        self.assertFalse((self.tree / "usr/bin/barbican-kms").exists())
        self.assertEqual(config.read_text(), "[Global]\n")


if __name__ == "__main__":
    unittest.main()
