"""The image: what is in it, that it is reproducible, and the Containerfile's two ways."""

import json
import os
import pathlib
import shutil
import tarfile
import tempfile
import unittest

from node import REPO, Images, programs, run

BUDGET = 6 << 20


@unittest.skipUnless(os.geteuid() == 0, "buildah is run as root here")
class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="barbican-kms-images-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.store = Images(cls.directory / "store")
        cls.addClassCleanup(cls.store.close)
        cls.archive, cls.said = cls.pack("one.tar")

    @classmethod
    def pack(cls, name, *arguments):
        archive = cls.directory / name
        said = run(REPO / "scripts/image", "--archive", archive, "--binary", os.environ["BARBICAN_KMS_BIN"],
                   *arguments, env=cls.store.env).stderr
        return archive, said

    def open(self, archive):
        """The image's config, and the members of its layers."""
        with tarfile.open(archive) as outer:
            manifest = json.load(outer.extractfile("manifest.json"))[0]
            config = json.load(outer.extractfile(manifest["Config"]))
            members = {}
            for layer in manifest["Layers"]:
                with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                    members.update({m.name.rstrip("/"): m for m in inner})
        return config, members

    def test_there_is_one_program_under_two_names_and_nothing_else(self):
        _, members = self.open(self.archive)
        self.assertEqual(set(members), {"bin", "bin/barbican-kms", "bin/barbican-kms-plugin"})
        self.assertEqual(members["bin/barbican-kms-plugin"].linkname, "barbican-kms")
        self.assertEqual(members["bin/barbican-kms"].mode & 0o777, 0o755)
        self.assertEqual({(m.uid, m.gid) for m in members.values()}, {(0, 0)})

    def test_it_is_small(self):
        size = self.archive.stat().st_size
        print(f"\nthe image has {size} bytes")
        # With --binary, scripts/image itself does not look at its budget.
        if "dist" not in pathlib.Path(os.environ["BARBICAN_KMS_BIN"]).parts:
            self.skipTest("BARBICAN_KMS_BIN is not of the profile that is shipped")
        self.assertLessEqual(size, BUDGET)

    def test_it_starts_without_a_shell_as_nobody_in_particular(self):
        config = self.open(self.archive)[0]["config"]
        self.assertEqual((config["Entrypoint"], config.get("Cmd"), config["User"]), (["/bin/barbican-kms"], None, "65532:65532"))

    def test_it_is_labelled(self):
        labels = self.open(self.archive)[0]["config"]["Labels"]
        for name in ("title", "description", "licenses", "version", "revision"):
            self.assertTrue(labels["org.opencontainers.image." + name], name)

    def test_the_same_program_gives_the_same_image(self):
        self.assertEqual(self.pack("two.tar")[1], self.said)

    def test_a_dynamic_program_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "is not static"):
            run(REPO / "scripts/image", "--binary", shutil.which("ls"), env=self.store.env)

    def test_the_containerfile_builds_from_source(self):
        # Its Rust image cannot be had without a registry: an image of that name with this
        # machine's toolchain mounted into it runs the same steps, in the cheapest profile.
        cargo = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
        rustup = pathlib.Path(os.environ.get("RUSTUP_HOME", pathlib.Path.home() / ".rustup"))
        if os.environ.get("BARBICAN_KMS_FULL") is None:
            self.skipTest("takes minutes: BARBICAN_KMS_FULL=1")
        name = "localhost/rust:host"
        context = self.directory / "rust"
        context.mkdir()
        for top in ("bin", "lib", "lib64", "usr", "etc", "tmp"):
            if os.path.islink("/" + top):
                os.symlink(os.readlink("/" + top), context / top)
            else:
                (context / top).mkdir()
        (context / "Containerfile").write_text(
            f"FROM scratch\nCOPY . /\nENV PATH={cargo}/bin:/usr/bin:/bin CARGO_HOME={cargo} RUSTUP_HOME={rustup} HOME={pathlib.Path.home()}\n")
        run("buildah", "bud", "--quiet", "--tag", name, context, env=self.store.env)
        mounts = [arg for path in ("/usr", "/etc", cargo, rustup) for arg in ("--volume", f"{path}:{path}")]
        run("buildah", "bud", "--isolation", "chroot", "--network", "host", "--tag", "localhost/built:1", *mounts,
            # buildah 1.28 looks for a stage of this name only when it is told.
            "--build-arg", "BINARY_FROM=build", "--build-arg", f"RUST_IMAGE={name}", "--build-arg", "PROFILE=release", "--file", REPO / "Containerfile", REPO,
            env=self.store.env)
        config, members = self.open(self.store.archive("localhost/built:1"))
        self.assertEqual(set(members), {"bin", "bin/barbican-kms", "bin/barbican-kms-plugin"})
        self.assertEqual(config["config"]["Entrypoint"], ["/bin/barbican-kms"])


if __name__ == "__main__":
    unittest.main()
