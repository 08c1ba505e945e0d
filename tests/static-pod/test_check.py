"""`check --manifest` beside the kubelet's own code: what that refuses must fail here too, and
nothing may be called refused that it takes.

The corpus, and mutations of it from a seed that is printed; SEED (a number, or `random`) and MUTATIONS
change them.
"""

import copy
import json
import os
import pathlib
import random
import re
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


# What may be added to a part of the pod, right and wrong.
PARTS = {
    "pod": [{"restartPolicy": "OnFailure"}, {"dnsPolicy": "Default"}, {"dnsPolicy": "None"}, {"hostname": "A_B"},
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}}, {"hostUsers": False},
            {"dnsConfig": {"nameservers": ["x"]}}, {"nodeSelector": {"a": "b c"}}, {"nodeSelector": {"/": ""}},
            {"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}]}, {"hostAliases": [{"hostnames": ["a"]}]},
            {"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["A"]}]}, {"activeDeadlineSeconds": 0},
            {"terminationGracePeriodSeconds": 30}, {"terminationGracePeriodSeconds": -1}, {"preemptionPolicy": "x"},
            {"ephemeralContainers": [{"name": "x", "image": "x"}]}, {"schedulingGates": [{"name": "x"}]},
            {"shareProcessNamespace": True, "hostPID": True}, {"shareProcessNamespace": True}, {"os": {"name": "linux"}},
            {"os": {"name": "x"}}, {"os": {}}, {"runtimeClassName": "A"}, {"hostnameOverride": "x"},
            {"tolerations": [{"operator": "Exists"}]}, {"tolerations": [{"operator": "x"}]}, {"tolerations": [{}]},
            {"tolerations": [{"key": "a", "value": "b"}]}, {"tolerations": [{"key": "a b", "operator": "Exists"}]},
            {"tolerations": [{"operator": "Exists", "value": "x"}]},
            {"tolerations": [{"key": "a", "operator": "Exists", "effect": "x"}]},
            {"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]},
            {"securityContext": {"fsGroup": -1}}, {"securityContext": {"supplementalGroups": [1, -1]}},
            {"securityContext": {"fsGroupChangePolicy": "x"}}, {"securityContext": {"supplementalGroupsPolicy": "Strict"}}],
    "container": [{"restartPolicy": "x"}, {"restartPolicy": ""}, {"imagePullPolicy": "Sometimes"}, {"imagePullPolicy": ""},
                  {"terminationMessagePolicy": "x"}, {"terminationMessagePolicy": "File"}, {"stdin": "x"},
                  {"env": [{"name": "A=B", "value": "x"}]}, {"env": [{"name": "", "value": "x"}]},
                  {"env": [{"name": "A", "value": 1}]}, {"env": [{"name": "A", "value": "x"}]}, {"env": [{"value": "x"}]},
                  {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]},
                  {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]},
                  {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
                  {"env": [{"name": "A", "valueFrom": {}}]}, {"envFrom": [{}]}, {"volumeDevices": [{"name": "x"}]},
                  {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}]},
                  {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "memory"}}}]},
                  {"lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}, {"lifecycle": {"preStop": {}}},
                  {"lifecycle": {"stopSignal": "SIGTERM"}}, {"lifecycle": {"postStart": {"exec": {}}}},
                  {"resources": {"limits": {"memory": "1Mi"}, "requests": {"memory": "2Mi"}}},
                  {"resources": {"requests": {"memory": "2Mi"}}}, {"resources": {"limits": {"memory": "64MB"}}},
                  {"resources": {"limits": {"memory": "-1"}}}, {"resources": {"limits": {"disk": "1"}}},
                  {"resources": {"limits": {"example.com/x": "1"}}}, {"resources": {"requests": {"example.com/x": "1"}}},
                  {"resources": {"limits": {"cpu": 0.5}}}, {"resources": {"claims": [{"name": "x"}]}},
                  {"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]},
                  {"resizePolicy": [{"resourceName": "x", "restartPolicy": "NotRequired"}]}, {"resizePolicy": [{}]},
                  {"ports": [{"containerPort": 0}]}, {"ports": [{"containerPort": 65536}]}, {"ports": [{}]},
                  {"ports": [{"containerPort": 1}, {"containerPort": 1}]},
                  {"ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "UDP"}]},
                  {"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
                  {"ports": [{"containerPort": 1, "hostPort": 2}]}, {"ports": [{"containerPort": 1, "hostPort": 1}]},
                  {"ports": [{"containerPort": 1, "name": "Not-One"}]}, {"ports": [{"containerPort": 1, "protocol": "tcp"}]}],
    "probe": [{"exec": {"command": ["x"]}}, {"exec": {}}, {"tcpSocket": {"port": 1}}, {"grpc": {"port": 0}}, {"grpc": {"port": 1}},
              {"httpGet": {"path": "/", "port": "x"}}, {"httpGet": {"path": "/"}}, {"httpGet": {"port": 70000}},
              {"httpGet": {"port": 1, "scheme": "http"}}, {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": ""}]}},
              {"httpGet": {"port": 1, "httpHeaders": [{"name": "Host", "value": "x"}]}}, {"httpGet": {"port": "Not-One"}},
              {"successThreshold": 2}, {"successThreshold": 0}, {"periodSeconds": -1}, {"timeoutSeconds": 0},
              {"terminationGracePeriodSeconds": 0}, {"terminationGracePeriodSeconds": 1}],
    "security": [{"runAsUser": -1}, {"runAsGroup": 1 << 31}, {"privileged": True}, {"procMount": "x"}, {"procMount": "Default"},
                 {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}, {"capabilities": {"add": ["NET_BIND_SERVICE"]}},
                 {"seccompProfile": {"type": "Localhost"}}, {"seccompProfile": {"type": "x"}}, {"seccompProfile": {}},
                 {"seccompProfile": {"type": "Localhost", "localhostProfile": "a"}},
                 {"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "a"}},
                 {"appArmorProfile": {"type": "Unconfined"}}, {"appArmorProfile": {"type": "Localhost"}}],
    "mount": [{"subPath": "a"}, {"subPathExpr": "../a"}, {"subPath": "a", "subPathExpr": "b"}, {"mountPropagation": "x"},
              {"mountPropagation": "Bidirectional"}, {"mountPropagation": "HostToContainer"},
              {"recursiveReadOnly": "Enabled"}, {"recursiveReadOnly": "x"}, {"bindMountOptions": ["noexec"]}],
    "volume": [{"hostPath": {"path": "/a", "type": ""}}, {"hostPath": {"path": "a"}}, {"hostPath": {}}, {"emptyDir": {}}, {},
               {"emptyDir": {"sizeLimit": "-1"}}, {"emptyDir": {"sizeLimit": "1 Mi"}},
               {"nfs": {"server": "x", "path": "/a"}}, {"nfs": {"server": "x", "path": "a"}}, {"nfs": {}}],
    "metadata": [{"namespace": "A"}, {"name": "A_B"}, {"name": "a.b"}, {"labels": {"a": "b c"}}, {"labels": {"a b": "c"}},
                 {"labels": {"a": ""}}, {"annotations": {"a b": "c"}}, {"annotations": {"A/B": "c d"}}, {"finalizers": ["x y"]},
                 {"ownerReferences": [{"name": "x"}]}, {"creationTimestamp": "x"}, {"generation": -1},
                 {"creationTimestamp": "2026-01-31T00:00:00Z"}],
}
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
OTHERS = ["x", "7", "true", "", 7, -1, 1.5, 1 << 40, True, False, [], ["x"], [7], [None], {}, {"x": "y"}, {"x": 7}, None]


def texts(yaml, line):
    """One pod in several forms, which the kubelet takes or not."""
    return {
        "twice.yaml": f"{yaml}---\n{yaml}",
        "key-twice.yaml": f"kind: Job\n{yaml}",
        "key-twice.json": line.replace('"kind": "Pod"', '"kind": "Job", "kind": "Pod"'),
        "float.yaml": yaml.replace("periodSeconds: 10", "periodSeconds: 10.0"),
        "float.json": line.replace('"periodSeconds": 10', '"periodSeconds": 10.0'),
        "exponent.json": line.replace('"periodSeconds": 10', '"periodSeconds": 1e1'),
        "yes.yaml": yaml.replace("hostNetwork: true", "hostNetwork: yes"),
        "no-key.yaml": f"? [a]\n: b\n{yaml}",
        "tab.yaml": f"\t{yaml}",
        "flow.yaml": line.replace('"kind"', "kind"),
        "flow-below.yaml": "# Not JSON.\n" + line.replace('"kind"', "kind"),
        "more.json": line + " x",
        "comment.json": line + " # x",
    }


def places(value):
    """Every mapping and list below a value."""
    found = [value]
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, (dict, list)) and one:
            found += places(one)
    return found


def part(pod, kind, chance):
    containers = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    container = chance.choice(containers)
    if kind == "probe":
        return chance.choice([one[name] for one in containers for name in PROBES if name in one])
    return {"pod": pod["spec"], "metadata": pod["metadata"], "container": container,
            "mount": chance.choice(container["volumeMounts"]), "volume": chance.choice(pod["spec"]["volumes"]),
            "security": container.setdefault("securityContext", {})}[kind]


def mutate(pod, chance):
    """Changes one thing, and says which."""
    spec = pod["spec"]
    kind = chance.choice(["add", "add", "of the API", "type", "type", "remove", "rename", "double", "word", "number"])
    mappings = [one for one in places(pod) if isinstance(one, dict)]
    if kind == "add":
        kind = chance.choice(sorted(PARTS))
        change = chance.choice(PARTS[kind])
        of = part(pod, kind, chance)
        if kind == "volume":
            change = {"name": of["name"], **change}
            of.clear()
        elif kind == "probe" and chance.random() < 0.5:
            for handler in ("exec", "httpGet"):
                of.pop(handler, None)
        of.update(copy.deepcopy(change))
    elif kind == "of the API":
        change = chance.choice(POD + VOLUMES + CONTAINERS)
        if change in POD:
            spec.update(change)
        elif change in CONTAINERS:
            part(pod, "container", chance).update(change)
        else:
            volume = part(pod, "volume", chance)
            name = volume["name"]
            volume.clear()
            volume.update({"name": name, **change})
    elif kind == "double":
        some = chance.choice([one for one in places(pod) if isinstance(one, list)])
        some.append(copy.deepcopy(change := chance.choice(some)))
    elif kind in ("remove", "rename", "type"):
        parent = chance.choice(mappings)
        key = change = chance.choice(sorted(parent))
        if kind == "type":
            parent[key] = chance.choice(OTHERS)
            change = f"{key} = {parent[key]!r}"
        else:
            value = parent.pop(key)
            if kind == "rename":
                parent[chance.choice([key.lower(), key.upper(), key + "s", key[:-1]])] = value
    else:
        of = str if kind == "word" else int
        fields = [(one, key) for one in mappings for key in sorted(one) if type(one[key]) is of]
        parent, key = chance.choice(fields)
        old = parent[key]
        words = ["", "A_B", "-a", "a" * 64, "a b", "a/b/c", "../a", str(old).lower(), str(old).upper(), str(old) + " "]
        parent[key] = chance.choice(words if of is str else [-1, 0, 1, 65535, 65536, 1 << 31, 1 << 63])
        change = f"{key} = {parent[key]!r}"
    return f"{kind}: {change}"


class Check(unittest.TestCase):
    def test_the_types_are_those_of_the_kubelet(self):
        types = (REPO / "src/cli/check/manifest/types.txt").read_text()
        self.assertEqual(run(programs()[1] / "pods", "types").stdout, types)

    def test_check_refuses_what_the_kubelet_refuses_and_says_so_of_nothing_else(self):
        wanted = os.environ.get("SEED", "22")
        seed = random.SystemRandom().randrange(1 << 32) if wanted == "random" else int(wanted)
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
        for name, text in texts(fine[0].read_text(), json.dumps(read[0])).items():
            cases[directory / name] = "another text"
            (directory / name).write_text(text)
        verdicts = [json.loads(line) for line in run(pods, "judge", *cases).stdout.splitlines()]
        refused = {v["file"]: v["refused"] for v in verdicts if "refused" in v}
        self.assertGreater(len(refused), len(cases) // 4)
        # Beside each other they would all be called copies.
        alone = directory / "alone"
        alone.mkdir()
        wrong = []
        for file, case in cases.items():
            link = alone / "pod.yaml"
            shutil.copy(file, link)
            result = subprocess.run([os.environ["BARBICAN_KMS_BIN"], "check", "--manifest", link],
                                    capture_output=True, text=True, check=False)
            self.assertIn(result.returncode, (0, 1), result.stderr)
            why = refused.get(str(file))
            said = [line for line in result.stdout.splitlines() if re.search("(the kubelet|Kubernetes) refuses", line)]
            if why and result.returncode == 0:
                wrong.append(f"{file.name}, {case}: passes, and the kubelet says {why}")
            elif said and not why:
                wrong.append(f"{file.name}, {case}: the kubelet takes it, and check says {said}")
        self.assertEqual(wrong, [], f"SEED={seed}, {len(wrong)} of {len(cases)}:\n" + "\n".join(wrong))


if __name__ == "__main__":
    unittest.main()
