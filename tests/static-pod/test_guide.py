"""static-pod/README.md: its blocks are valid, and what they name is there.

Most blocks are run as well, by test_pod and test_install.
"""

import re
import unittest

from node import REPO, STATIC_POD, run

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

    def test_every_option_of_the_tools_exists(self):
        for tool in ("install-sidecar", "image"):
            help_text = (REPO / "scripts" / tool).read_text()
            for line in re.findall(rf"(?m)^scripts/{tool} (.*)", "\n".join(BLOCKS)):
                for option in re.findall(r"--[\w-]+", line):
                    self.assertIn(f"{option}", help_text)

    def test_the_sections_that_the_tool_points_to_exist(self):
        for section in ("An existing kubeadm cluster", "Rollback"):
            self.assertIn(f"\n## {section}\n", TEXT)


if __name__ == "__main__":
    unittest.main()
