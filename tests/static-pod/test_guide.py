"""static-pod/README.md: its blocks are valid, and what they name is there.

The block for OpenStack is run here; those for nodes by test_pod and test_install, those for
Cluster API by test_cluster_api and test_pod.
"""

import json
import os
import pathlib
import re
import shutil
import tempfile
import unittest

from node import REPO, STATIC_POD, guide, run

TEXT = (STATIC_POD / "README.md").read_text()
BLOCKS = re.findall(r"(?ms)^```sh\n(.*?)^```", TEXT)


class Guide(unittest.TestCase):
    def test_every_block_is_valid_shell(self):
        self.assertGreater(len(BLOCKS), 10)
        for block in BLOCKS:
            run("bash", "-n", "-c", block)

    def test_every_path_of_the_repository_exists(self):
        for path in re.findall(r"(?:static-pod|scripts)/[\w./-]+", "\n".join(BLOCKS)):
            self.assertTrue((REPO / path).exists(), path)
        for path in re.findall(r"`((?:\.\./scripts|kubeadm|cluster-api)/[\w./-]*)`", TEXT):
            self.assertTrue((STATIC_POD / path).exists(), path)
        for path in re.findall(r"`([\w-]+\.yaml)`", TEXT):
            self.assertTrue((STATIC_POD / path).exists() or path in ("kustomization.yaml",), path)

    def options(self, tool):
        """The labels of the `case` that reads the command line."""
        case = re.search(r"(?ms)^ *case \$1 in\n(.*?)^ *esac", (REPO / "scripts" / tool).read_text())[1]
        return {option for labels in re.findall(r"(?m)^ *(--[^)]*)\)", case) for option in labels.split(" | ")}

    def test_every_option_of_the_tools_exists(self):
        for tool in ("install-sidecar", "image"):
            options = self.options(tool)
            for line in re.findall(rf"scripts/{tool}\b([^|\n`#]*)", TEXT):
                self.assertLessEqual(set(re.findall(r"--[\w-]+", line)), options, line)
        lone = set(re.findall(r"`(--[\w-]+)`", TEXT)) - {"--patches", "--no-project-access"}
        self.assertLessEqual(lone, self.options("install-sidecar"))

    def test_every_option_of_rotate_key_exists(self):
        options = set(re.findall(r"(?m)^  (--[\w-]+)", run(REPO / "scripts/rotate-key", "--help").stdout))
        used = set(re.findall(r"--[\w-]+", " ".join(re.findall(r"scripts/rotate-key\b([^|\n`#]*)", TEXT)))) - {"--help"}
        self.assertGreater(len(used), 2)
        self.assertLessEqual(used, options)

    def test_the_help_names_every_option_and_no_other(self):
        result = run(REPO / "scripts/install-sidecar", "--help", check=False)
        self.assertEqual(result.returncode, 64)
        self.assertEqual(set(re.findall(r"(?m)^  (--[\w-]+)", result.stderr)), self.options("install-sidecar"))

    def test_the_sections_that_the_tool_points_to_exist(self):
        tool = (REPO / "scripts/install-sidecar").read_text() + (STATIC_POD / "install-checks.bash").read_text()
        sections = set(re.findall(r"static-pod/README\.md, ([A-Z][\w ]*\w)", tool))
        self.assertGreaterEqual(len(sections), 3)
        for section in sections:
            self.assertIn(f"\n## {section}\n", TEXT)


class OpenStack(unittest.TestCase):
    """What the guide has its reader do before there is a node, for both ways to name the keys."""

    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="barbican-kms-guide-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.addClassCleanup(run, REPO / "scripts/openstack", "down", cls.directory, check=False)
        cls.state = json.loads(run(REPO / "scripts/openstack", "up", cls.directory, "--tls").stdout)

    def shell(self, text, who="user"):
        # The client is where the servers are.
        state = self.state
        server = pathlib.Path(f"/proc/{state['keystone_pid']}/cmdline").read_text().split("\0")[0]
        return run("bash", "-euc", text, env={
            "HOME": str(self.directory), "PATH": f"{os.path.dirname(server)}:{os.environ['PATH']}",
            "OS_AUTH_URL": state["auth_url"], "OS_CACERT": state["ca_file"], "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": state[who]["username"], "OS_PASSWORD": state[who]["password"],
            "OS_USER_DOMAIN_NAME": state["domain"]["name"], "OS_PROJECT_ID": state["project"]["id"], "OS_REGION_NAME": state["region"],
        }).stdout

    def check(self, credential, edit=lambda text: text, **values):
        """What `check` says of the guide's cloud-config with the reader's values in it."""
        text = edit(guide("Before you begin: key, credential, files", language="ini"))
        values = {"auth-url": self.state["auth_url"], "application-credential-id": credential["ID"],
                  "application-credential-secret": credential["Secret"], "ca-file": self.state["ca_file"], **values}
        for name, value in values.items():
            text, n = re.subn(rf"(?m)^{name} = .*", f'{name} = "{value}"', text)
            self.assertEqual(n, 1, name)
        file = self.directory / "cloud.conf"
        file.write_text(text)
        return run(os.environ["BARBICAN_KMS_BIN"], "check", "--cloud-config", file).stdout

    def test_container_credential_and_file_of_the_guide_work(self):
        section = "Before you begin: key, credential, files"
        said = self.shell(guide(section, 2).replace("READER-ID", self.state["reader"]["id"]))
        container = re.search(r'key-container = "(.*)"', said)[1]
        made = self.shell(guide(section, 3).replace("CONTAINER-ID", container).strip() + " -f json", "reader")
        said = self.check(json.loads(made), **{"key-container": container})
        self.assertRegex(said, rf"ok +key container .*{container}: 1 key")
        self.assertIn(": an AES key of 256 bits", said)
        self.assertIn("not readable with this credential, as recommended", said)

    def test_credential_and_file_for_one_key_work(self):
        key = self.state["secret_id"]
        made = self.shell(guide("One key in the file").replace("KEY-ID", key).strip() + " -f json")
        said = self.check(json.loads(made), lambda text: text.replace("key-container", "key-id"), **{"key-id": key})
        # The credential reads this payload, and nothing else.
        self.assertIn(f"{key}: an AES key of 256 bits", said)
        self.assertIn("not readable with this credential, as recommended", said)


if __name__ == "__main__":
    unittest.main()
