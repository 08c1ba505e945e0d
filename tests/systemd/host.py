"""A Debian system with systemd as its first process, in a container of its own."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parents[2]
UNIT = REPO / "static-pod/systemd"
BINARY = os.environ["BARBICAN_KMS_BIN"]
TREE = os.environ["SYSTEMD_TREE"]
PATIENCE = 60


def wait_until(what, condition):
    """Polls; the last answer of `condition` is in the error."""
    end = time.monotonic() + PATIENCE
    while True:
        answer = condition()
        if answer is True:
            return
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {PATIENCE} s; at last: {answer}")
        time.sleep(0.05)


class Host:
    """Installed as the guide says, or with nothing of ours but a directory at /mnt; nothing is
    started yet."""

    def __init__(self, directory=None):
        binds = [f"--bind-ro={directory}:/mnt"] if directory else [
            f"--bind-ro={BINARY}:/usr/bin/barbican-kms", f"--bind-ro={UNIT}:/mnt/systemd"]
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="kms-systemd."))
        self.log = open(self.directory / "boot.log", "wb")
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--directory", TREE, "--volatile=overlay", "--register=no",
             "--keep-unit", "--boot",
             # As on a host; its own filter forbids them.
             "--system-call-filter=memfd_secret @memlock", "--console=pipe", "--kill-signal=SIGRTMIN+4",
             *binds],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            wait_until("the container's first process", self.find_leader)
            wait_until("systemd", lambda: self.run("systemctl", "is-system-running", check=False)
                       .stdout.strip() in ("running", "degraded") or "still starting")
            if not directory:
                self.install()
        except BaseException:
            self.end()
            raise

    def install(self):
        """As the guide says."""
        self.run("install", "-D", "-m", "0644", "/mnt/systemd/barbican-kms.service",
                 "/etc/systemd/system/barbican-kms.service")
        self.run("systemd-sysusers", "/mnt/systemd/barbican-kms.sysusers")
        self.run("install", "-d", "-m", "0750", "-g", "barbican-kms", "/etc/barbican-kms")
        self.run("systemctl", "daemon-reload")

    def find_leader(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                self.leader = child
                return True
        return f"none yet, {(self.directory / 'boot.log').read_text()[-500:]}"

    def run(self, *command, check=True, text=None):
        """A command in the container."""
        done = subprocess.run(["nsenter", "--target", self.leader, "--all", "--", *command],
                              input=text, capture_output=True, text=True, cwd="/")
        if check and done.returncode:
            raise AssertionError(f"{command}: exit code {done.returncode}\n{done.stdout}\n"
                                 f"{done.stderr}\n{self.journal()}")
        return done

    def write(self, path, text, mode="0640"):
        """A file of the service's group, replaced by renaming."""
        self.run("sh", "-c", f"cat >{path}.new && chgrp barbican-kms {path}.new && "
                 f"chmod {mode} {path}.new && mv {path}.new {path}", text=text)

    def property(self, name, unit="barbican-kms.service"):
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def status(self):
        return self.run("barbican-kms", "status", "--socketpath", "/run/barbican-kms/kms.sock",
                        check=False).stdout

    def journal(self):
        return subprocess.run(["nsenter", "--target", self.leader, "--all", "--", "journalctl",
                               "--no-pager", "--lines=60", "--unit=barbican-kms"],
                              capture_output=True, text=True).stdout

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
