"""barbican-kms.service: start, order, rotation, outage, watchdog, restart, credentials."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from host import REPO, UNIT, Host, wait_until

SOCKET = "/run/barbican-kms/kms.sock"
CONFIG = "/etc/barbican-kms/cloud.conf"


class Cloud:
    """A real Keystone and Barbican."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="kms-systemd-cloud.")
        done = subprocess.run([REPO / "scripts/openstack", "up", self.directory], check=True,
                              stdout=subprocess.PIPE)
        self.state = json.loads(done.stdout)
        self.keys = self.state["secret_ids"]

    def ctl(self, *arguments):
        subprocess.run([REPO / "scripts/openstack", "ctl", self.directory, *arguments], check=True,
                       stdout=subprocess.DEVNULL)

    def config(self, write, *decrypt):
        base = pathlib.Path(self.state["cloud_configs"]["application_credential_narrow"])
        base = re.sub(r"(?m)^key-id.*$", "", base.read_text())
        return f"{base}\nkey-id = {write}\ndecrypt-key-ids = \"{', '.join(decrypt)}\"\n"

    def end(self):
        subprocess.run([REPO / "scripts/openstack", "down", self.directory], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


class Unit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.end)

    def setUp(self):
        self.host = Host()
        self.addCleanup(self.host.end)

    def start(self, *decrypt):
        self.host.write(CONFIG, self.cloud.config(self.cloud.keys[0], *decrypt))
        self.host.run("systemctl", "start", "barbican-kms")

    def wait_ready(self, key):
        wait_until(f"{key} in use", lambda: self.host.property("StatusText") ==
                   f"ready: write key {key}" or self.host.property("StatusText") + self.host.journal())

    def test_a_start_ends_when_the_socket_listens_and_the_state_is_told(self):
        self.start()
        self.host.run("test", "-S", SOCKET)
        self.wait_ready(self.cloud.keys[0])
        self.host.run("barbican-kms", "probe", "--deep", "--socketpath", SOCKET)
        self.assertEqual(self.host.property("User"), "barbican-kms")
        self.assertIn('"memory":"memfd_secret"', self.host.journal())

    def test_without_a_configuration_nothing_is_started_and_nothing_fails(self):
        self.host.run("systemctl", "start", "barbican-kms")
        self.assertEqual(self.host.property("ActiveState"), "inactive")
        self.assertEqual(self.host.property("ConditionResult"), "no")

    def test_what_needs_it_is_started_after_the_socket_listens(self):
        self.host.write("/etc/systemd/system/k3s.service",
                        f"[Service]\nType=oneshot\nExecStart=/usr/bin/test -S {SOCKET}\n"
                        "RemainAfterExit=yes\n[Install]\nWantedBy=multi-user.target\n", "0644")
        self.host.write(CONFIG, self.cloud.config(self.cloud.keys[0]))
        self.host.run("systemctl", "daemon-reload")
        self.host.run("systemctl", "enable", "barbican-kms", "k3s")
        self.host.run("systemctl", "start", "k3s")
        self.assertEqual(self.host.property("ActiveState", "k3s.service"), "active")
        self.assertEqual(self.host.property("ActiveState"), "active")

    def test_a_rotation_and_a_reload_need_no_restart(self):
        old, new = self.cloud.keys[:2]
        self.start()
        self.wait_ready(old)
        pid = self.host.property("MainPID")
        self.host.write(CONFIG, self.cloud.config(old, new))
        wait_until("the new key held", lambda: bool(re.search(rf"decrypt +held +{new}", self.host.status()))
                   or self.host.status())
        self.host.write(CONFIG, self.cloud.config(new, old))
        self.host.run("systemctl", "reload", "barbican-kms")
        self.wait_ready(new)
        self.assertEqual(self.host.property("MainPID"), pid)

    def test_an_outage_neither_blocks_a_start_nor_needs_one_to_end(self):
        self.start()
        self.wait_ready(self.cloud.keys[0])
        self.cloud.ctl("close", "barbican")
        try:
            self.host.run("barbican-kms", "probe", "--deep", "--socketpath", SOCKET)
            self.host.run("systemctl", "restart", "barbican-kms")
            self.assertEqual(self.host.property("ActiveState"), "active")
            wait_until("the outage told", lambda: self.host.property("StatusText").startswith("not ready: ")
                       or self.host.property("StatusText"))
        finally:
            self.cloud.ctl("open", "barbican")
        self.wait_ready(self.cloud.keys[0])

    def test_a_restart_keeps_the_directory_of_the_socket(self):
        self.start()
        inode = self.host.run("stat", "--format=%i", "/run/barbican-kms").stdout
        self.host.run("systemctl", "restart", "barbican-kms")
        self.assertEqual(self.host.run("stat", "--format=%i", "/run/barbican-kms").stdout, inode)
        self.wait_ready(self.cloud.keys[0])

    def test_a_process_that_hangs_is_restarted_by_the_watchdog(self):
        self.host.run("mkdir", "-p", "/etc/systemd/system/barbican-kms.service.d")
        self.host.write("/etc/systemd/system/barbican-kms.service.d/test.conf",
                        "[Service]\nWatchdogSec=2\n", "0644")
        self.host.run("systemctl", "daemon-reload")
        self.start()
        self.wait_ready(self.cloud.keys[0])
        pid = self.host.property("MainPID")
        self.host.run("sh", "-c", f"kill -STOP {pid}")
        wait_until("another process", lambda: self.host.property("MainPID") not in (pid, "0") or pid)
        self.wait_ready(self.cloud.keys[0])
        self.assertIn("watchdog", self.host.journal().lower())

    def test_the_cloud_config_may_be_a_credential_of_systemd(self):
        self.host.run("mkdir", "-p", "/etc/systemd/system/barbican-kms.service.d")
        self.host.run("install", "-m", "0644", "/mnt/systemd/credential.conf",
                      "/etc/systemd/system/barbican-kms.service.d/credential.conf")
        self.host.run("systemctl", "daemon-reload")
        self.host.write(CONFIG, self.cloud.config(self.cloud.keys[0]), "0600")
        self.host.run("chown", "root:root", CONFIG)
        self.host.run("systemctl", "start", "barbican-kms")
        self.wait_ready(self.cloud.keys[0])

    def test_a_wrong_configuration_is_tried_again_and_can_be_corrected(self):
        self.host.write(CONFIG, "[Global]\n")
        self.host.run("systemctl", "start", "barbican-kms", check=False)
        self.assertIn("auth-url", self.host.journal())
        self.host.write(CONFIG, self.cloud.config(self.cloud.keys[0]))
        self.wait_ready(self.cloud.keys[0])


class Hardening(unittest.TestCase):
    def test_systemd_rates_its_exposure_at_most_at_1_5(self):
        done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager",
                               "--threshold=15", UNIT / "barbican-kms.service"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_unit_is_valid(self):
        unit = (UNIT / "barbican-kms.service").read_text()
        unit = unit.replace("/usr/bin/barbican-kms", os.environ["BARBICAN_KMS_BIN"])
        with tempfile.TemporaryDirectory() as place:
            file = pathlib.Path(place) / "barbican-kms.service"
            file.write_text(unit)
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", file],
                                  capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
