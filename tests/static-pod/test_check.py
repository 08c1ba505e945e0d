"""`check --manifest` beside the kubelet's own code: what that refuses must fail here too.

The corpus, and mutations of it from a seed that is printed; SEED and MUTATIONS change them.
"""

import copy
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

from node import REPO, programs, run

CORPUS = REPO / "tests/static-pod/corpus"
# What the kubelet refuses, by the place that it is put into.
POD = [{"serviceAccountName": "x"}, {"serviceAccount": "x"}, {"imagePullSecrets": [{"name": "x"}]},
       {"resourceClaims": [{"name": "x", "resourceClaimName": "y"}]}]
VOLUMES = [{"secret": {"secretName": "x"}}, {"configMap": {"name": "x"}},
           {"persistentVolumeClaim": {"claimName": "x"}},
           {"csi": {"driver": "x.example"}},
           {"azureFile": {"secretName": "x", "shareName": "y"}},
           {"cephfs": {"monitors": ["x"], "secretRef": {"name": "x"}}},
           {"projected": {"sources": [{"secret": {"name": "x"}}]}},
           {"projected": {"sources": [{"configMap": {"name": "x"}}]}},
           {"projected": {"sources": [{"serviceAccountToken": {"path": "x"}}]}},
           {"hostPath": {"path": "/a/../b"}}, {"hostPath": {"path": "/a", "type": "Dir"}},
           {"hostPath": {"path": "/a"}, "emptyDir": {}}]
CONTAINERS = [{"envFrom": [{"secretRef": {"name": "x"}}]}, {"envFrom": [{"configMapRef": {"name": "x"}}]},
              {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]},
              {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}]},
              {"image": ""}, {"image": " x"}, {"command": "x"}, {"args": [1]}, {"name": "A_B"}]


def mutate(pod, chance):
    """Changes one thing, and says which."""
    spec = pod["spec"]
    containers = spec["containers"] + spec.get("initContainers", [])
    container, volume = chance.choice(containers), chance.choice(spec["volumes"])
    kind = chance.choice(["pod", "volume", "container", "remove", "double", "mount"])
    if kind == "pod":
        spec.update(change := chance.choice(POD))
    elif kind == "volume":
        change = {"name": volume["name"], **chance.choice(VOLUMES)}
        volume.clear()
        volume.update(change)
    elif kind == "container":
        container.update(change := chance.choice(CONTAINERS))
    elif kind == "remove":
        parent = chance.choice([pod, pod["metadata"], spec, container, volume])
        del parent[change := chance.choice(sorted(parent))]
    elif kind == "double":
        some = chance.choice([spec["containers"], spec["volumes"], container["volumeMounts"]])
        some.append(copy.deepcopy(change := chance.choice(some)))
    else:
        mount = chance.choice(container["volumeMounts"])
        mount.update(change := chance.choice([{"name": "x"}, {"mountPath": ""}, {"subPath": "../x"}, {"subPath": "/x"}]))
    return f"{kind}: {change}"


class Check(unittest.TestCase):
    def test_what_the_kubelet_refuses_fails(self):
        seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
        print(f"SEED={seed}", flush=True)
        chance = random.Random(seed)
        directory = pathlib.Path(tempfile.mkdtemp(prefix="barbican-kms-check-"))
        self.addCleanup(shutil.rmtree, directory)
        pods = programs()[1] / "pods"
        corpus = sorted(CORPUS.glob("*.yaml"))
        # Of what is fine, so that nothing else fails.
        verdicts = map(json.loads, (CORPUS / "verdicts.jsonl").read_text().splitlines())
        fine = [CORPUS / v["file"] for v in verdicts if v["verdict"] == "fine"]
        read = [json.loads(line) for line in run(pods, "json", *fine).stdout.splitlines()]
        cases = {file: "as it is" for file in corpus}
        for number in range(int(os.environ.get("MUTATIONS") or 1000)):
            pod = copy.deepcopy(chance.choice(read))
            file = directory / f"{number}.json"
            cases[file] = mutate(pod, chance)
            file.write_text(json.dumps(pod))
        verdicts = [json.loads(line) for line in run(pods, "judge", *cases).stdout.splitlines()]
        refused = {v["file"]: v["refused"] for v in verdicts if "refused" in v}
        self.assertGreater(len(refused), len(cases) // 4)
        # Beside each other they would all be called copies.
        alone = directory / "alone"
        alone.mkdir()
        passed = []
        for file, why in refused.items():
            link = alone / "pod.yaml"
            shutil.copy(file, link)
            result = subprocess.run([os.environ["BARBICAN_KMS_BIN"], "check", "--manifest", link],
                                    capture_output=True, text=True, check=False)
            self.assertIn(result.returncode, (0, 1), result.stderr)
            if result.returncode == 0:
                passed.append(f"{file}, {cases[pathlib.Path(file)]}: {why}")
        self.assertEqual(passed, [], f"SEED={seed}")


if __name__ == "__main__":
    unittest.main()
