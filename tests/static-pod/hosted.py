"""A control plane in pods of a node's cluster: static-pod/hosted, as its README installs it.

No controller manager runs on the node; the pods of the Deployment are made here from its template.
"""

import json

from node import ADDRESS, STATIC_POD, VERSION, guide, until
from pod_network import GATEWAY

NAMESPACE, PLACE = "tenant-1", "/root/tenant"
PODS = "kube-apiserver-0", "kube-apiserver-1"
PKI = {"etcd-ca.crt": "etcd/ca.crt", **{name: name for name in (
    "apiserver-etcd-client.crt", "apiserver-etcd-client.key", "ca.crt", "apiserver.crt", "apiserver.key", "sa.pub", "sa.key")}}
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
# As far as the PodMonitor of the example needs it.
POD_MONITORS = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com"},
    "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced",
             "names": {"plural": "podmonitors", "singular": "podmonitor", "kind": "PodMonitor", "listKind": "PodMonitorList"},
             "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                 "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}
KUBEADM = f"""\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {ADDRESS}}}
nodeRegistration: {{name: node-1, criSocket: unix:///run/containerd/containerd.sock}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {VERSION}
certificatesDir: {PLACE}/pki
apiServer: {{certSANs: [{", ".join(PODS)}]}}
etcd: {{local: {{serverCertSANs: [etcd]}}}}
"""


def etcd_pod(image):
    """An etcd whose data lives as long as the pod."""
    command = ("etcd --data-dir=/data/etcd --listen-client-urls=https://0.0.0.0:2379 --advertise-client-urls=https://etcd:2379 "
               "--cert-file=/pki/server.crt --key-file=/pki/server.key --trusted-ca-file=/pki/ca.crt --client-cert-auth")
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd", "namespace": NAMESPACE},
        "spec": {
            "nodeName": "node-1", "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534, "fsGroup": 65534,
                                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "etcd", "image": image, "command": command.split(),
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "pki", "mountPath": "/pki"}]}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "pki", "secret": {"secretName": "etcd-pki"}}]}}


class ControlPlane:
    """Two API servers with a sidecar each, and their etcd; their cluster has no nodes."""

    def __init__(self, node, etcd_image):
        self.node, self.etcd_image = node, etcd_image
        self.addresses = {}

    def kubectl(self, *words, **options):
        """Asks the management cluster, in the namespace of the control plane."""
        return self.node.kubectl("-n", NAMESPACE, *words, **options)

    def apply(self, thing):
        self.kubectl("apply", "-f", "-", input=json.dumps(thing))

    def shell(self, text):
        """Runs commands of the README, where cloud.conf and ca.crt are."""
        return self.node.exec("env", f"NAMESPACE={NAMESPACE}", "bash", "-euo", "pipefail", "-c", f"cd {PLACE}\n{text}").stdout

    def install(self, cloud_conf, ca):
        node = self.node
        node.write(f"{PLACE}/kubeadm.yaml", KUBEADM)
        node.exec("kubeadm", "init", "phase", "certs", "all", "--config", f"{PLACE}/kubeadm.yaml")
        for user in ("admin", "super-admin"): # the second takes names from the first
            node.exec("kubeadm", "init", "phase", "kubeconfig", user, "--kubeconfig-dir", PLACE, "--config", f"{PLACE}/kubeadm.yaml")
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": RESTRICTED}})
        self.kubectl("create", "serviceaccount", "default")
        self.pki("etcd-pki", {name: f"etcd/{name}" for name in ("ca.crt", "server.crt", "server.key")})
        self.pki("kube-apiserver-pki", PKI)
        self.apply(etcd_pod(self.etcd_image))
        node.write(f"{PLACE}/cloud.conf", cloud_conf)
        node.write(f"{PLACE}/ca.crt", ca)
        node.exec("ln", "-s", STATIC_POD, f"{PLACE}/static-pod")
        self.shell(guide("Install", 1, document="hosted/README.md"))
        self.apply(POD_MONITORS)
        node.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/podmonitors.monitoring.coreos.com")
        self.shell("kubectl apply -k static-pod/hosted/example")
        self.alias("etcd", self.address("etcd"))
        for pod in PODS:
            self.start(pod)

    def pki(self, name, files):
        self.kubectl("create", "secret", "generic", name, *(f"--from-file={key}={PLACE}/pki/{path}" for key, path in files.items()))

    def start(self, pod):
        """One replica of the Deployment, where there is a name service of a hosts file."""
        template = json.loads(self.kubectl("get", "deployment", "kube-apiserver", "-o", "json"))["spec"]["template"]
        template["metadata"] |= {"name": pod, "namespace": NAMESPACE}
        template["spec"] |= {"nodeName": "node-1", "hostAliases": [
            {"ip": self.addresses["etcd"], "hostnames": ["etcd"]},
            {"ip": GATEWAY, "hostnames": ["keystone.example.com", "barbican.example.com"]}]}
        self.apply({"apiVersion": "v1", "kind": "Pod", **template})
        self.alias(pod, self.address(pod))
        config, n = self.node.read(f"{PLACE}/super-admin.conf"), f"https://{ADDRESS}:6443"
        assert config.count(n) == 1
        self.node.write(self.kubeconfig(pod), config.replace(n, f"https://{pod}:6443"))

    @staticmethod
    def kubeconfig(pod):
        return f"{PLACE}/{pod}.conf"

    def address(self, pod):
        return until(lambda: f"{pod} has an address\n" + self.kubectl("describe", "pod", pod),
                     lambda: self.kubectl("get", "pod", pod, "-o", "jsonpath={.status.podIP}"))

    def alias(self, name, address):
        """For the commands of the node."""
        self.addresses[name] = address
        lines = [line for line in self.node.read("/etc/hosts").splitlines() if line.split()[1:] != [name]]
        self.node.write("/etc/hosts", "\n".join([*lines, f"{address} {name}", ""]), 0o644)

    def ready(self, *pods):
        for pod in pods or PODS:
            until(lambda: f"{pod} is ready\n" + self.report(pod), lambda: "True" == self.kubectl(
                "get", "pod", pod, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'))

    def report(self, pod):
        logs = [self.kubectl("logs", pod, "-c", name, "--tail=30", check=False) for name in ("barbican-kms", "kube-apiserver")]
        return "\n-- ".join([self.kubectl("describe", "pod", pod), *logs])

    def status(self, pod):
        """What the sidecar of a pod says."""
        return json.loads(self.kubectl("exec", pod, "-c", "barbican-kms", "--", "/bin/barbican-kms", "status", "--json",
                                       "--socketpath", "/run/barbican-kms/kms.sock"))

    def change(self, cloud_conf):
        """Changes the Secret by the README's command."""
        self.node.write(f"{PLACE}/cloud.conf", cloud_conf)
        self.shell(guide("Change the configuration, rotate the key", 1, document="hosted/README.md"))

    def ask(self, pod, *words):
        """kubectl in the hosted cluster, by one of its API servers."""
        return self.node.kubectl("--kubeconfig", self.kubeconfig(pod), *words)

    def stored(self, name):
        """A Secret in the hosted cluster's etcd."""
        return self.node.etcd_value(f"/registry/secrets/default/{name}", f"{PLACE}/pki/etcd", "https://etcd:2379")

    def restarts(self):
        """For each pod the number of restarts of its containers."""
        counts = {}
        for pod in PODS:
            status = json.loads(self.kubectl("get", "pod", pod, "-o", "json"))["status"]
            counts[pod] = [one["restartCount"] for one in status["initContainerStatuses"] + status["containerStatuses"]]
        return counts
