"""A release: what is refused, that it is the same bytes everywhere, and that a change is noticed."""

import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
import unittest

from smoke import smoke

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
VERSION = tomllib.loads((TOP / "Cargo.toml").read_text())["package"]["version"]
ARCHES = os.environ.get("RELEASE_ARCHES", "amd64 arm64").split()
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "barbican-kms"
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}


def run(*command, check=True, **options):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, env={**CLEAN, **options.pop("env", {})}, **options)
    if check and result.returncode:
        raise AssertionError(f"{command}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def clone(place):
    """This commit, with the uncommitted state of the tree on top: what is tested is what is there."""
    run("git", "clone", "--quiet", TOP, place)
    for name in run("git", "-C", TOP, "ls-files", "--modified", "--others", "--exclude-standard").stdout.split():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, place / name)
    return place


def commit(place):
    run("git", "-C", place, "add", "--all")
    run("git", "-C", place, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--allow-empty", "--message", "t")


class Refusals(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.place = clone(pathlib.Path(directory.name) / "clone")
        text = (self.place / "CHANGELOG.md").read_text().replace("## Unreleased", f"## {VERSION}", 1)
        (self.place / "CHANGELOG.md").write_text(text)

    def edit(self, name, old, new):
        text = (self.place / name).read_text()
        self.assertIn(old, text)
        (self.place / name).write_text(text.replace(old, new))

    def tagged(self, tag="v" + VERSION):
        commit(self.place)
        run("git", "-C", self.place, "tag", tag)

    def refuses(self, why, *arguments):
        # A toolchain that cannot be: whatever gets past the checks ends there, at once.
        result = run(self.place / "scripts/release", "--out", self.place.parent / "out", *arguments, check=False,
                     env={"BARBICAN_KMS_TOOLCHAIN": "none"})
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, why)

    def test_a_clean_tag_passes_all_checks(self):
        self.tagged()
        self.refuses("BARBICAN_KMS_TOOLCHAIN is")

    def test_a_commit_without_its_tag_is_refused(self):
        commit(self.place)
        self.refuses(f"not at the tag v{VERSION}")

    def test_the_tag_of_another_version_is_refused(self):
        self.tagged("v99.0.0")
        self.refuses(f"not at the tag v{VERSION}")

    def test_a_tree_with_changes_is_refused(self):
        self.tagged()
        (self.place / "README.md").write_text("changed")
        self.refuses("the tree has changes")

    def test_a_changelog_without_the_version_is_refused(self):
        self.edit("CHANGELOG.md", f"## {VERSION}", "## Unreleased")
        self.tagged()
        self.refuses("CHANGELOG.md: no section")

    def test_manifests_of_another_version_are_refused_in_a_snapshot_too(self):
        self.edit("static-pod/kube-apiserver.yaml", f"barbican-kms:{VERSION}", "barbican-kms:99.0.0")
        self.tagged()
        self.refuses("barbican-kms:99.0.0")
        self.refuses("barbican-kms:99.0.0", "--snapshot")

    def test_a_containerfile_of_another_version_is_refused(self):
        self.edit("Containerfile", f"VERSION={VERSION}", "VERSION=99.0.0")
        self.tagged()
        self.refuses("Containerfile")

    def test_a_release_of_one_architecture_is_refused(self):
        self.tagged()
        self.refuses("has both architectures", "--arch", "amd64")

    def test_a_directory_with_files_in_it_is_refused(self):
        self.tagged()
        (self.place.parent / "out").mkdir()
        (self.place.parent / "out/old").touch()
        self.refuses("is not empty")


class Dependencies(unittest.TestCase):
    def test_the_table_tells_of_every_direct_dependency_and_of_no_other(self):
        section = (TOP / "scripts/README.md").read_text().partition("## Dependencies of the program")[2]
        rows = re.findall(r"(?m)^\| ([a-z][^|]*) \|", section)
        told = {name for row in rows for name in row.split(", ")} - {"crate"}
        self.assertEqual(told, set(tomllib.loads((TOP / "Cargo.toml").read_text())["dependencies"]))


class Release(unittest.TestCase):
    """One release, made once for all tests."""

    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="barbican-kms-release-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.source = clone(cls.directory / "source")
        cls.release = cls.directory / "release"
        if given := os.environ.get("RELEASE_DIR"):
            shutil.copytree(given, cls.release)
        else:
            commit(cls.source)
            cls.make(cls.source, cls.release)

    @classmethod
    def make(cls, source, out, *before, **environment):
        arches = [word for arch in ARCHES for word in ("--arch", arch)]
        run(*before, source / "scripts/release", "--snapshot", "--out", out, *arches,
            env={"CARGO_TARGET_DIR": source.parent / ("built-" + source.name), **environment})

    def verify(self, directory):
        return run(self.source / "scripts/verify-release", directory, check=False)

    def tampered(self, name, change):
        """A copy of the release with one file changed, and everything above it made to agree."""
        copy = pathlib.Path(tempfile.mkdtemp(dir=self.directory)) / "release"
        shutil.copytree(self.release, copy)
        file = copy / name
        old = hashlib.sha256(file.read_bytes()).hexdigest()
        file.write_bytes(change(file.read_bytes()))
        self.assertNotEqual(old, hashlib.sha256(file.read_bytes()).hexdigest())
        statement = next(copy.glob("*.intoto.json"))
        for document in (statement, copy / "SHA256SUMS"):
            was = hashlib.sha256(statement.read_bytes()).hexdigest()
            document.write_text(document.read_text().replace(old, hashlib.sha256(file.read_bytes()).hexdigest()))
            if document == statement:
                sums = (copy / "SHA256SUMS").read_text()
                (copy / "SHA256SUMS").write_text(sums.replace(was, hashlib.sha256(statement.read_bytes()).hexdigest()))
        return copy

    def noticed(self, directory, why):
        result = self.verify(directory)
        self.assertNotEqual(result.returncode, 0, result.stdout)
        self.assertRegex(result.stderr, why)

    def test_it_verifies(self):
        result = self.verify(self.release)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        print(result.stdout)

    def test_a_changed_byte_is_noticed(self):
        copy = self.directory / "changed"
        shutil.copytree(self.release, copy)
        with open(copy / "RELEASE-NOTES.md", "a") as file:
            file.write("x")
        self.noticed(copy, "RELEASE-NOTES.md: wrong checksum")

    def test_a_file_too_many_is_noticed(self):
        copy = self.directory / "more"
        shutil.copytree(self.release, copy)
        (copy / "more").touch()
        self.noticed(copy, "SHA256SUMS and the files differ.*more")

    def test_a_crate_that_a_bill_leaves_out_is_noticed(self):
        def without(content):
            document = json.loads(content)
            document["components"] = [c for c in document["components"] if c["name"] != "ring"]
            return json.dumps(document).encode()

        self.noticed(self.tampered(f"barbican-kms-{VERSION}.cdx.json", without), "Cargo.lock differ.*ring")

    def test_another_hash_in_a_bill_is_noticed(self):
        def other(content):
            document = json.loads(content)
            next(p for p in document["packages"] if p["name"] == "ring")["checksums"][0]["checksumValue"] = "0" * 64
            return json.dumps(document).encode()

        self.noticed(self.tampered(f"barbican-kms-{VERSION}.spdx.json", other), "SPDX and Cargo.lock differ")

    def test_an_image_with_another_program_is_noticed(self):
        def other(content):
            # Somewhere in the first program's text.
            at = content.index(b"\x7fELF") + 200000
            return content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]

        self.noticed(self.tampered(f"barbican-kms-{VERSION}-image.tar", other), "image: .* is wrong")

    def test_a_manifest_that_names_another_image_is_noticed(self):
        name = f"barbican-kms-{VERSION}-{'x86_64' if 'amd64' in ARCHES else 'aarch64'}.tar.gz"

        def other(content):
            out = io.BytesIO()
            with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=out, mode="w:gz") as new:
                for member in old:
                    data = old.extractfile(member).read() if member.isfile() else b""
                    if "/static-pod/" in member.name:
                        data = data.replace(b"image: localhost/barbican-kms", b"image: elsewhere.test/barbican-kms")
                    member.size = len(data)
                    new.addfile(member, io.BytesIO(data))
            return out.getvalue()

        self.noticed(self.tampered(name, other), "names elsewhere.test/barbican-kms")

    def test_the_same_commit_gives_the_same_bytes_elsewhere(self):
        revision = json.loads(next(self.release.glob("*.intoto.json")).read_text())[
            "predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"]
        other = self.directory / "a/longer/path/to the"
        other.mkdir(parents=True)
        source = other.parent / "other"
        run("git", "clone", "--quiet", self.source, source)
        run("git", "-C", source, "checkout", "--quiet", revision)
        home = self.directory / "home"
        cargo = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
        (home / "cargo").mkdir(parents=True)
        for name in ("registry", "git"):
            if (cargo / name).exists():
                (home / "cargo" / name).symlink_to(cargo / name)
        environment = {
            "HOME": home, "CARGO_HOME": home / "cargo", "USER": "somebody", "LOGNAME": "somebody",
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", pathlib.Path.home() / ".rustup"), "TZ": "Asia/Tokyo", "LANG": "C.UTF-8",
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")}
        # As root, the host has another name and the builder another number, too.
        private = ["sh", "-euc", 'umask 077; exec "$@"', "sh"]
        if os.geteuid() == 0:
            private = ["unshare", "--uts", "sh", "-euc", 'hostname elsewhere; exec "$@"', "sh",
                       "unshare", "--user", "--map-user=1234", "--map-group=1234", *private]
        again = self.directory / "again"
        self.make(source, again, *private, **environment)
        self.assertEqual({f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in self.release.iterdir()},
                         {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in again.iterdir()})

    @unittest.skipUnless("arm64" in ARCHES, "arm64 is not of this release")
    def test_the_program_for_arm64_serves_under_emulation(self):
        place = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
        with tarfile.open(self.release / f"barbican-kms-{VERSION}-aarch64.tar.gz") as packed:
            packed.extractall(place, filter="data")
        smoke(self, place / f"barbican-kms-{VERSION}-aarch64/bin/barbican-kms", place)

    @unittest.skipUnless(shutil.which("skopeo"), "skopeo is not installed")
    def test_skopeo_copies_the_whole_index_and_keeps_its_digest(self):
        archive = self.release / f"barbican-kms-{VERSION}-image.tar"
        copy = self.directory / "copied"
        run("skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests", f"oci-archive:{archive}", f"oci:{copy}:x")
        digest = json.loads((copy / "index.json").read_text())["manifests"][0]["digest"]
        self.assertIn(digest, (self.release / "RELEASE-NOTES.md").read_text())
        index = json.loads((copy / "blobs" / digest.replace(":", "/")).read_text())
        self.assertEqual([m["platform"]["architecture"] for m in index["manifests"]], sorted(ARCHES))

    @unittest.skipUnless(shutil.which("podman") and "amd64" in ARCHES, "podman is not installed")
    def test_podman_loads_it_under_its_name(self):
        store = ["podman", "--root", self.directory / "store", "--runroot", self.directory / "runroot", "--storage-driver", "vfs"]
        run(*store, "load", "--input", self.release / f"barbican-kms-{VERSION}-image.tar")
        image = json.loads(run(*store, "image", "inspect", f"localhost/barbican-kms:{VERSION}").stdout)[0]
        self.assertEqual((image["User"], image["Labels"]["org.opencontainers.image.version"]), ("65532:65532", VERSION))


if __name__ == "__main__":
    unittest.main()
