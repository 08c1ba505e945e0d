"""static-pod/README.md, Before you begin, and static-pod/rotation: what they say works."""

import json
import os
import re
import shutil
import subprocess
import unittest

from world import REPO, TOOL, Plane, shared, stamp, tool, until
from rest import Api, application_credential_identity, login  # world knows where

EXAMPLES = REPO / "static-pod/rotation"


def setUpModule():
    global WORLD
    WORLD = shared()


def guide(number):
    """The n-th block of commands of the section."""
    text = (REPO / "static-pod/README.md").read_text()
    section = re.search(r"(?ms)^## Before you begin.*?\n(.*?)(?=^## )", text)[1]
    return re.findall(r"(?ms)^```sh\n(.*?)^```", section)[number - 1]


class Guide(unittest.TestCase):
    def shell(self, text, who=None):
        account = WORLD.state[who] if who else WORLD.state["user"]
        login = {"OS_USERNAME": account["username"], "OS_PASSWORD": account["password"]}
        path = f"{WORLD.client.parent}:{os.environ['PATH']}"
        return WORLD.run("bash", "-euc", text, env={**WORLD.environment, **login, "PATH": path})

    def test_its_container_and_credential_can_be_used_and_read_no_other_secret(self):
        reader = WORLD.state["reader"]["id"] # as the first block makes one
        for words in ("--password-prompt", "--user kms-reader reader"):
            self.assertIn(words, guide(1))
        said = self.shell(guide(2).replace("READER-ID", reader))
        container = re.search(r'key-container = "(.*)"', said)[1]
        made = self.shell(guide(3).replace("CONTAINER-ID", container).strip() + " -f json", "reader")
        credential = json.loads(made)
        config = WORLD.directory / "guide.conf"
        config.write_text(f'[Global]\nauth-url = "{WORLD.state["auth_url"]}"\napplication-credential-id = "{credential["ID"]}"\n'
                          f'application-credential-secret = "{credential["Secret"]}"\n[KeyManager]\nkey-container = "{container}"\n')
        socket = WORLD.directory / "guide.sock"
        sidecar = subprocess.Popen([os.environ["BARBICAN_KMS_BIN"], "serve", "--socketpath", socket, "--cloud-config", config],
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(sidecar.communicate)
        self.addCleanup(sidecar.terminate)
        status = self.ready(socket)
        self.assertEqual((status["ring"]["container_id"], status["ring"]["problem"], status["ring"]["warnings"]), (container, None, []))
        self.assertIsNotNone(status["write_key_id"])
        token = self.token({"id": credential["ID"], "secret": credential["Secret"]})
        for path, expected in ((f"/v1/secrets/{status['write_key_id']}/payload", 200), (f"/v1/containers/{container}", 200),
                               (f"/v1/secrets/{WORLD.state['secret_id']}/payload", 403), (f"/v1/secrets/{status['write_key_id']}", 401),
                               ("/v1/containers", 401), ("/v1/secrets", 401)):
            accept = "application/octet-stream" if "payload" in path else "application/json"
            answer = WORLD.barbican.raw("GET", path, token, headers={"Accept": accept})
            self.assertEqual(answer.status, expected, path)
        member = json.loads(WORLD.run(REPO / "scripts/openstack", "ctl", WORLD.directory / "openstack", "user-create"))
        other = json.loads(WORLD.run(REPO / "scripts/openstack", "ctl", WORLD.directory / "openstack", "token",
                                     "--user", member["id"], "--password", member["password"]))["token"]
        answer = WORLD.barbican.raw("POST", f"/v1/containers/{container}/secrets", other,
                                    {"name": stamp(), "secret_ref": WORLD.secret_href(WORLD.state["secret_id"])})
        self.assertEqual(answer.status, 403, "another member of the project cannot choose the key")

    @staticmethod
    def ready(socket):

        def status():
            done = subprocess.run([os.environ["BARBICAN_KMS_BIN"], "status", "--json", "--socketpath", socket], capture_output=True, text=True)
            return done.returncode == 0 and json.loads(done.stdout)
        return until("the sidecar is ready", status)

    @staticmethod
    def token(credential):
        return login(Api(WORLD.state["auth_url"], WORLD.state), application_credential_identity(credential))[0]


class CronJob(unittest.TestCase):
    def test_its_rights_are_enough_for_a_rotation_and_read_no_secret(self):
        WORLD.kubectl("create", "namespace", "barbican-kms-rotation")
        WORLD.kubectl("apply", "-f", EXAMPLES / "cronjob.yaml")
        account = "system:serviceaccount:barbican-kms-rotation:rotate-key"
        for words, expected in ((("create", "pods", "--subresource=exec", "-n", "kube-system"), "yes"), (("create", "pods", "--subresource=exec", "-n", "default"), "no"),
                                (("get", "secrets", "-n", "kube-system"), "no"), (("list", "secrets", "-A"), "no"),
                                (("patch", "secrets", "-n", "default"), "no"), (("delete", "pods", "-n", "kube-system"), "no")):
            # The rights are known a moment after they were applied.
            can = ("auth", "can-i", *words, "--as", account)
            until(f"{words}: {expected}", lambda: WORLD.kubectl(*can, check=False).strip() == expected, 20)
        token = WORLD.kubectl("create", "token", "rotate-key", "-n", "barbican-kms-rotation").strip()
        cluster = Plane(WORLD, [stamp(365 * 86400)])
        config = json.loads(WORLD.kubectl("config", "view", "--raw", "-o", "json"))
        config["users"][0]["user"] = {"token": token}
        own = cluster.directory / "kubeconfig"
        own.write_text(json.dumps(config))
        wrapper = cluster.tools / "kubectl"
        wrapper.write_text(wrapper.read_text().replace(str(WORLD.kubeconfig), str(own)))
        run = cluster.begin("--if-older-than=80d", "--retire-after=30d", "--json", "--resources=secrets", "--controller-timeout", "60")
        found = until("it asks for a migration", lambda: WORLD.kubectl("get", "storageversionmigrations", "-o", "name").strip())
        condition = {"type": "Succeeded", "status": "True", "reason": "Done", "message": "", "lastTransitionTime": stamp()}
        WORLD.kubectl("patch", found, "--subresource", "status", "--type", "merge",
                      "-p", json.dumps({"status": {"conditions": [condition], "resourceVersion": "1"}}))
        out, err = run.communicate(timeout=120)
        self.assertEqual(run.returncode, 0, err)
        self.assertEqual(json.loads(out)["outcome"], "rotated")
        self.assertEqual(json.loads(out)["migrated"], {"secrets": None}, "it may not even count them")


class Timer(unittest.TestCase):
    def test_systemd_takes_both_units(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze")
        place = WORLD.directory / "units"
        place.mkdir()
        for unit in EXAMPLES.glob("barbican-kms-rotation.*"):
            text = unit.read_text().replace("/opt/barbican-kms/scripts/rotate-key", str(TOOL))
            (place / unit.name).write_text(text)
        said = subprocess.run(["systemd-analyze", "verify", *map(str, sorted(place.iterdir()))], capture_output=True, text=True)
        self.assertEqual(said.stderr, "")

    def test_its_options_are_those_of_the_tool(self):
        line = re.search(r"ExecStart=\S+ (.*)", (EXAMPLES / "barbican-kms-rotation.service").read_text())[1]
        options = tool().arguments(line.split())
        self.assertEqual((options.if_older_than, options.retire_after, options.json), (80 * 86400, 30 * 86400, True))
