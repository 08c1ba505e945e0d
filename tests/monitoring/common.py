"""What the checks and the recording share: a deployment, a sidecar, a scrape."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "barbican-kms"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def say(*words):
    print(*words, flush=True)


def die(text):
    sys.exit(f"monitoring: {text}")


def until(what, look, seconds=60):
    """Waits for a state."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    die(f"waited {seconds} s: {what} did not happen")


def tool(name):
    """prometheus or promtool: of this machine, or out of Debian's package."""
    found = shutil.which(name)
    if found:
        return found
    kept = CACHE / "prometheus" / "usr" / "bin" / name
    if not kept.exists():
        if not shutil.which("apt-get"):
            die(f"{name} is needed: install Prometheus")
        place = CACHE / "prometheus"
        place.mkdir(parents=True, exist_ok=True)
        download = ["apt-get", "download", "-q", "prometheus"]
        quiet = {"cwd": place, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if subprocess.run(download, **quiet).returncode and os.getuid() == 0:
            subprocess.run(["apt-get", "update", "-q"], check=True, **quiet)
            subprocess.run(download, check=True, **quiet)
        # Unpacked, not installed: a package would start a service.
        for package in place.glob("prometheus_*.deb"):
            subprocess.run(["dpkg", "-x", package, place], check=True)
            package.unlink()
    if not kept.exists():
        die(f"{name} is needed: apt-get install prometheus")
    return str(kept)


def packages(tests):
    """Makes the packages of some tests' requirements.lock importable; fetches them once."""
    lock = TOP / "tests" / tests / "requirements.lock"
    place = CACHE / f"{tests}-venv-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (place / ".ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
            subprocess.run([place / "bin/python", "-m", "pip", "install", "-q", "--no-deps",
                            "--disable-pip-version-check", "--only-binary", ":all:", "-r", lock],
                           check=True)
            (place / ".ready").touch()
    for found in place.glob("lib/python*/site-packages"):
        sys.path.insert(0, str(found))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(url, accept=None):
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


class Cloud:
    """A real Keystone and Barbican."""

    def __init__(self, directory):
        self.directory = directory
        self.state = json.loads(self.script("up"))

    def script(self, command, *arguments):
        words = [TOP / "scripts/openstack", command, self.directory, *arguments]
        return subprocess.run(words, check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True).stdout

    def ctl(self, *arguments):
        return json.loads(self.script("ctl", *arguments) or "null")

    def down(self):
        self.script("down")


class Sidecar:
    """The real binary."""

    def __init__(self, place, config, *more):
        self.place = Path(place)
        self.binary = binary()
        self.write(config)
        self.port = free_port()
        self.log = open(self.place / "log", "w")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--socketpath", self.place / "kms.sock",
             "--cloud-config", self.place / "cloud.conf",
             "--metrics-address", f"127.0.0.1:{self.port}", *more],
            stderr=self.log)
        until("metrics are served", lambda: self.scrape())

    def write(self, config):
        """Replaces the cloud-config at once, as configuration management does."""
        new = self.place / "new"
        new.touch(mode=0o600)
        new.write_text(config)
        new.rename(self.place / "cloud.conf")

    def scrape(self, accept=None):
        try:
            return get(f"http://127.0.0.1:{self.port}/metrics", accept)
        except OSError:
            if self.process.poll() is not None:
                die("the sidecar has ended: " + (self.place / "log").read_text())
            return None

    def value(self, sample):
        found = re.search(rf"^barbican_kms_{re.escape(sample)} (\S+)$", self.scrape(), re.M)
        return float(found[1]) if found else None

    def values(self, family):
        """Of every key."""
        found = re.findall(rf"^barbican_kms_{family}\{{.*\}} (\S+)$", self.scrape(), re.M)
        return [float(value) for value in found]

    def probe(self):
        command = [self.binary, "probe", "--socketpath", self.place / "kms.sock", "--deep"]
        return subprocess.run(command, capture_output=True).returncode == 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()


def binary():
    """The program as the sources have it now; cargo is quick when it is."""
    profile = os.environ.get("BARBICAN_KMS_PROFILE", "dev")
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--bin", "barbican-kms",
                    "--profile", profile], cwd=TOP, check=True)
    target = TOP / os.environ.get("CARGO_TARGET_DIR", "target")
    return target / ("debug" if profile == "dev" else profile) / "barbican-kms"
