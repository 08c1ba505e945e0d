#!/usr/bin/env python3
"""Whether a program for arm64 does its work: under emulation where this machine is of another kind.

    tests/release/smoke.py PROGRAM

It serves a key of a real Keystone and Barbican, wraps and unwraps with it, and ends when asked to.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


def run(*command):
    return subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=False)


def smoke(test, binary, place):
    """Fails the test if the program does not do it. `place` is a directory for sockets and logs."""
    emulator = subprocess.run([TOP / "scripts/releasing/emulator", "arm64"], stdout=subprocess.PIPE, text=True, check=True).stdout
    program = [*emulator.splitlines(), str(binary)]
    cloud, socket, log = place / "openstack", place / "kms.sock", place / "log"
    test.addCleanup(run, TOP / "scripts/openstack", "down", cloud)
    subprocess.run([TOP / "scripts/openstack", "up", cloud], stdout=subprocess.DEVNULL, check=True)
    config = json.loads((cloud / "state.json").read_text())["cloud_configs"]["application_credential_narrow"]
    test.assertEqual(run(*program, "check", "--cloud-config", config).returncode, 0)
    with open(log, "w") as out:
        sidecar = subprocess.Popen([*program, "serve", "--socketpath", str(socket), "--cloud-config", config], stderr=out)
    test.addCleanup(sidecar.kill)
    end = time.monotonic() + 60
    # --deep has it wrap and unwrap.
    while run(*program, "probe", "--socketpath", socket, "--deep").returncode:
        test.assertIsNone(sidecar.poll(), log.read_text())
        test.assertLess(time.monotonic(), end, log.read_text())
        time.sleep(0.1)
    if emulator:
        # It has no memfd_secret: keys are held in the other way.
        test.assertIn('"memory":"mlock"', log.read_text())
    sidecar.terminate()
    test.assertEqual(sidecar.wait(60), 0)
    test.assertFalse(socket.exists())


class Smoke(unittest.TestCase):
    def test_it_serves_a_key_of_a_real_barbican(self):
        with tempfile.TemporaryDirectory() as place:
            smoke(self, os.environ["BARBICAN_KMS_BIN"], pathlib.Path(place))
            self.doCleanups()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.environ["BARBICAN_KMS_BIN"] = sys.argv.pop(1)
    unittest.main()
