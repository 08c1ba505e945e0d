"""The image: what is in it, that it is reproducible, and the Containerfile's two ways."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import socketserver
import struct
import tarfile
import tempfile
import threading
import unittest

from node import REPO, Images, programs, run

BUDGET = 6 << 20
# Where nobody else has a name server; it must be on port 53.
NAME_SERVER = "127.77.0.53"


class NameServer(socketserver.UDPServer):
    """Has one IPv4 address for every name, and no other records."""

    def __init__(self, address):
        super().__init__((NAME_SERVER, 53), socketserver.BaseRequestHandler)
        self.address = socket.inet_aton(address)
        self.asked = set()
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def finish_request(self, request, client_address):
        query, answering = request
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        self.asked.add(".".join(labels))
        question = query[12:at + 5]
        ipv4 = question[-4:-2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\4" + self.address if ipv4 else b""
        header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(answer), 0, 0)
        answering.sendto(header + question + answer, client_address)

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


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

    @contextlib.contextmanager
    def unpacked(self, archive):
        """The image's config, and its layers as open archives."""
        with contextlib.ExitStack() as stack:
            outer = stack.enter_context(tarfile.open(archive))
            manifest = json.load(outer.extractfile("manifest.json"))[0]
            layers = [stack.enter_context(tarfile.open(fileobj=outer.extractfile(layer))) for layer in manifest["Layers"]]
            yield json.load(outer.extractfile(manifest["Config"])), layers

    def open(self, archive):
        """The image's config, and the members of its layers."""
        with self.unpacked(archive) as (config, layers):
            return config, {m.name.rstrip("/"): m for layer in layers for m in layer}

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

    def test_it_asks_the_name_server_without_any_library(self):
        root = self.directory / "root"
        with self.unpacked(self.archive) as (_, layers):
            for layer in layers:
                layer.extractall(root, filter="tar")
        (root / "etc").mkdir()
        (root / "etc/resolv.conf").write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:3\n")
        # Nothing listens there: the name is all that is wanted.
        (root / "cloud.conf").write_text(
            "[Global]\nauth-url = https://keystone.dns.test:1/v3\nusername = u\npassword = p\ntenant-name = t\ndomain-name = d\n"
            "[KeyManager]\nkey-id = 11111111-2222-4333-8444-555555555555\n")
        (root / "cloud.conf").chmod(0o644)
        with NameServer("127.9.8.7") as server:
            result = run("chroot", "--userspec=65532:65532", root, "/bin/barbican-kms", "check", "--cloud-config", "/cloud.conf",
                         check=False)
        self.assertIn("keystone.dns.test is 127.9.8.7", result.stdout)
        self.assertEqual(server.asked, {"keystone.dns.test"})

    def test_a_dynamic_program_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "is not static"):
            run(REPO / "scripts/image", "--binary", shutil.which("ls"), env=self.store.env)

    def test_the_containerfile_builds_from_source(self):
        # Its Rust image cannot be pulled without a registry: an image of that name with this
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
