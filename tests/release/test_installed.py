"""The packages that are made, as scripts/verify-release reads and judges them, and bad ones.

The program in them is a placeholder, so that nothing is built.
"""

import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "scripts/releasing"))

import installed  # noqa: E402, found by the line above

PROGRAM = b"\x7fELF, or so it says"
UNIT = (TOP / "static-pod/systemd/barbican-kms.service").read_bytes()
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}


def tarball(directory, gnu):
    """What scripts/package packs, as far as the packages take it."""
    name = f"barbican-kms-1.2.3-{gnu}"
    tree = directory / name
    texts = ["share/completions/barbican-kms.bash", "share/completions/_barbican-kms", "share/completions/barbican-kms.fish",
             "share/man/man1/barbican-kms.1", "share/doc/README.md", "share/doc/LICENSE", "share/doc/THIRD-PARTY-LICENSES"]
    for path in texts:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(path)
    (tree / "bin").mkdir()
    (tree / "bin/barbican-kms").write_bytes(PROGRAM)
    shutil.copytree(TOP / "static-pod", tree / "static-pod")
    with tarfile.open(directory / f"{name}.tar.gz", "w:gz") as packed:
        packed.add(tree, name)
    return directory / f"{name}.tar.gz"


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="barbican-kms-installed-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        for gnu in ARCHES:
            subprocess.run([TOP / "scripts/releasing/packages", tarball(cls.directory, gnu), cls.directory], check=True)

    def file(self, kind, gnu="x86_64"):
        found, = self.directory.glob(f"*{ARCHES[gnu] if kind == 'deb' else gnu}.{kind}")
        return found

    def faults(self, content, kind="deb", gnu="x86_64", version="1.2.3"):
        package = (installed.deb if kind == "deb" else installed.rpm)(content)
        arch = ARCHES[gnu] if kind == "deb" else gnu
        return list(installed.faults(package, version, arch, PROGRAM, UNIT))

    def rebuilt(self, change):
        """The Debian package after a change to its unpacked tree."""
        tree = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
        subprocess.run(["dpkg-deb", "--raw-extract", self.file("deb"), tree], check=True)
        tree.chmod(0o755)
        change(tree)
        out = tree.with_suffix(".deb")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, out], check=True, stdout=subprocess.DEVNULL)
        return self.faults(out.read_bytes())

    def test_both_kinds_are_as_they_should_be_for_both_architectures(self):
        for gnu in ARCHES:
            for kind in ("deb", "rpm"):
                with self.subTest(gnu=gnu, kind=kind):
                    self.assertEqual(self.faults(self.file(kind, gnu).read_bytes(), kind, gnu), [])

    def test_dpkg_reads_the_same_files_and_modes(self):
        listed = subprocess.run(["dpkg-deb", "--contents", self.file("deb")], check=True, capture_output=True, text=True).stdout
        there = {line.split()[5].removeprefix("./").rstrip("/"): line.split()[0] for line in listed.splitlines()}
        there.pop("", None)
        entries = installed.deb(self.file("deb").read_bytes()).entries
        self.assertEqual(set(there), set(entries))
        for path, entry in entries.items():
            kind = "d" if entry.content is None else "-"
            self.assertEqual(there[path], kind + "".join(c if entry.mode >> (8 - n) & 1 else "-" for n, c in enumerate("rwxrwxrwx")))

    def test_rpm_reads_the_same_files_modes_owners_and_scripts(self):
        query = lambda form: subprocess.run(["rpm", "--query", "--package", "--queryformat", form, self.file("rpm")],
                                            check=True, capture_output=True, text=True).stdout
        package = installed.rpm(self.file("rpm").read_bytes())
        listed = query("[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME} %{FILEGROUPNAME}\n]").splitlines()
        there = {path.strip("/"): (int(mode, 8) & 0o7777, owner, group) for path, mode, owner, group in map(str.split, listed)}
        self.assertEqual(there, {path: entry[:3] for path, entry in package.entries.items()})
        for name, tag in {"pre": "PREIN", "post": "POSTIN", "preun": "PREUN", "postun": "POSTUN"}.items():
            self.assertEqual(query(f"%{{{tag}}}"), package.scripts[name])

    def test_a_script_that_starts_the_service_is_noticed(self):
        def start(tree):
            with open(tree / "DEBIAN/postinst", "a") as script:
                script.write("systemctl restart barbican-kms\n")

        self.assertEqual(self.rebuilt(start), ["postinst starts a service: systemctl restart barbican-kms"])

    def test_another_program_is_noticed(self):
        self.assertEqual(self.rebuilt(lambda tree: (tree / "usr/bin/barbican-kms").write_bytes(b"other")),
                         ["usr/bin/barbican-kms is not the one of the tarball"])

    def test_a_readable_directory_of_credentials_is_noticed(self):
        self.assertEqual(self.rebuilt(lambda tree: (tree / "etc/barbican-kms").chmod(0o755)),
                         ["etc/barbican-kms is not there with mode 750"])

    def test_a_program_with_the_rights_of_root_is_noticed(self):
        wrong = self.rebuilt(lambda tree: (tree / "usr/bin/barbican-kms").chmod(0o4755))
        self.assertIn("usr/bin/barbican-kms has mode 4755, not 755", wrong)

    def test_a_file_outside_usr_is_noticed(self):
        def more(tree):
            (tree / "etc/cron.d").mkdir()
            (tree / "etc/cron.d/more").write_text("")
            (tree / "etc/cron.d/more").chmod(0o644)

        self.assertEqual(self.rebuilt(more), ["etc/cron.d/more: a file of mode 644 that should not be there"])

    def test_another_version_and_architecture_are_noticed(self):
        for kind in ("deb", "rpm"):
            self.assertEqual(len(self.faults(self.file(kind).read_bytes(), kind, version="1.2.4")), 1)
            self.assertEqual(len(self.faults(self.file(kind, "aarch64").read_bytes(), kind)), 1)

    def test_what_is_no_package_is_refused(self):
        for read in (installed.deb, installed.rpm):
            with self.assertRaises(ValueError):
                read(b"not a package at all" * 20)


if __name__ == "__main__":
    unittest.main()
