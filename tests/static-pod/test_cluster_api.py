"""The Cluster API component over the OpenStack provider's own templates, by the real types and code."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from node import HERE, STATIC_POD, decode, programs, run

VARIABLES = {
    "CLUSTER_NAME": "c1", "KUBERNETES_VERSION": "v1.37.2", "CONTROL_PLANE_MACHINE_COUNT": "3", "WORKER_MACHINE_COUNT": "1",
    "OPENSTACK_CLOUD": "openstack", "OPENSTACK_CLOUD_YAML_B64": "e30=", "OPENSTACK_CLOUD_CACERT_B64": "e30=",
    "OPENSTACK_EXTERNAL_NETWORK_ID": "00000000-0000-0000-0000-000000000000", "OPENSTACK_DNS_NAMESERVERS": "192.0.2.53",
    "OPENSTACK_FAILURE_DOMAIN": "nova", "OPENSTACK_CONTROL_PLANE_MACHINE_FLAVOR": "m1", "OPENSTACK_NODE_MACHINE_FLAVOR": "m1",
    "OPENSTACK_IMAGE_NAME": "ubuntu", "OPENSTACK_SSH_KEY_NAME": "key",
    "BARBICAN_KMS_IMAGE": "registry.example.com/barbican-kms:0.1.0",
}


def templates():
    """The provider's templates, from its Go module."""
    out = run("go", "mod", "download", "-json", "sigs.k8s.io/cluster-api-provider-openstack", cwd=HERE / "manifests").stdout
    return pathlib.Path(json.loads(out)["Dir"]) / "templates"


def substitute(text):
    return run(programs()[1] / "manifests", "substitute", input=text, env={**os.environ, **VARIABLES}).stdout


def of_kind(objects, kind):
    return next(o for o in objects if o["kind"] == kind)


class ClusterAPI(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.templates = templates()

    def build(self, template, edit=lambda text: text):
        """kustomize's output over a template, as in an operator's own directory."""
        directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        (directory / "template.yaml").write_text(edit((self.templates / template).read_text()))
        component = os.path.relpath(STATIC_POD, os.path.realpath(directory))
        (directory / "kustomization.yaml").write_text(f"resources: [template.yaml]\ncomponents: ['{component}']\n")
        return run(programs()[0] / "kubectl", "kustomize", directory).stdout

    def control_plane(self, template):
        objects = decode(text=substitute(self.build(template)))
        return objects, of_kind(objects, "KubeadmControlPlane")["spec"]["kubeadmConfigSpec"]

    def test_both_api_versions_get_the_sidecar(self):
        for template, flags in (
            ("cluster-template.yaml", lambda args: {a["name"]: a["value"] for a in args}),
            ("cluster-template-capi-v1beta1.yaml", dict),
            ("cluster-template-without-lb.yaml", lambda args: {a["name"]: a["value"] for a in args}),
        ):
            with self.subTest(template=template):
                _, spec = self.control_plane(template)
                self.assertEqual(flags(spec["clusterConfiguration"]["apiServer"]["extraArgs"]), {
                    "encryption-provider-config": "/etc/kubernetes/encryption/encryption-config.yaml",
                    "encryption-provider-config-automatic-reload": "true"})
                for when in ("initConfiguration", "joinConfiguration"):
                    self.assertEqual(spec[when]["patches"]["directory"], "/etc/kubernetes/patches")
                    self.assertTrue(spec[when]["nodeRegistration"])
                self.assertEqual(spec["preKubeadmCommands"][0], f"ctr -n k8s.io images pull {VARIABLES['BARBICAN_KMS_IMAGE']}")

    def test_the_template_keeps_all_that_it_had(self):
        for template in ("cluster-template.yaml", "cluster-template-capi-v1beta1.yaml"):
            before = decode(text=substitute((self.templates / template).read_text()))
            had = of_kind(before, "KubeadmControlPlane")["spec"]["kubeadmConfigSpec"]
            self.assertEqual(had.pop("files", []), [])
            after = decode(text=substitute(self.build(template)))
            after = [o for o in after if o["metadata"]["name"] != "barbican-kms"]
            spec = of_kind(after, "KubeadmControlPlane")["spec"]["kubeadmConfigSpec"]
            del spec["files"], spec["preKubeadmCommands"], spec["clusterConfiguration"]["apiServer"]
            del spec["initConfiguration"]["patches"], spec["joinConfiguration"]["patches"]
            by_name = lambda objects: sorted(objects, key=lambda o: (o["kind"], o["metadata"]["name"]))
            self.assertEqual(by_name(before), by_name(after))

    def test_the_files_on_the_nodes_are_those_of_this_directory(self):
        objects, spec = self.control_plane("cluster-template.yaml")
        secret = next(o for o in objects if o["metadata"]["name"] == "barbican-kms")
        self.assertEqual(secret["metadata"]["labels"], {"clusterctl.cluster.x-k8s.io/move": "true"})
        files = {f["path"]: f["contentFrom"]["secret"] for f in spec["files"]}
        for path, source in (
            ("/etc/kubernetes/patches/kube-apiserver-barbican-kms+strategic.yaml",
             "kubeadm/patches/kube-apiserver-barbican-kms+strategic.yaml"),
            ("/etc/kubernetes/encryption/encryption-config.yaml", "encryption-config.yaml"),
        ):
            self.assertEqual(files[path]["name"], "barbican-kms")
            content = base64.b64decode(secret["data"][files[path]["key"]])
            self.assertEqual(content, (STATIC_POD / source).read_bytes())
        self.assertEqual(files["/etc/kubernetes/barbican-kms/cloud.conf"], {"name": "c1-barbican-kms", "key": "cloud.conf"})
        # The provider's own Secret, which has the CA.
        ca = files["/etc/kubernetes/barbican-kms/ca.crt"]
        self.assertIn(ca["key"], next(o for o in objects if o["metadata"]["name"] == ca["name"])["data"])

    def test_every_secret_on_a_node_is_for_root_only(self):
        _, spec = self.control_plane("cluster-template.yaml")
        self.assertEqual({(f["owner"], f["permissions"]) for f in spec["files"]}, {("root:root", "0600")})

    def test_the_image_is_tagged_with_the_name_in_the_patch(self):
        patch = decode(STATIC_POD / "kubeadm/patches/kube-apiserver-barbican-kms+strategic.yaml")[0]
        name = patch["spec"]["initContainers"][0]["image"]
        for template in ("cluster-template.yaml", "cluster-template-capi-v1beta1.yaml"):
            _, spec = self.control_plane(template)
            self.assertTrue(spec["preKubeadmCommands"][1].endswith(" " + name))
        self.assertTrue(self.class_template({"image": "x"})["preKubeadmCommands"][1].endswith(" " + name))

    def test_both_api_versions_differ_in_the_flags_only(self):
        _, new = self.control_plane("cluster-template.yaml")
        _, old = self.control_plane("cluster-template-capi-v1beta1.yaml")
        for field in ("files", "preKubeadmCommands"):
            self.assertEqual(new[field], old[field])

    def test_a_template_with_files_of_its_own_is_refused_not_overwritten(self):
        with self.assertRaisesRegex(AssertionError, "test failed|testing (value|path)"):
            self.build("cluster-template.yaml", lambda text: text.replace(
                "  kubeadmConfigSpec:\n", "  kubeadmConfigSpec:\n    files: [{path: /etc/mine, content: mine}]\n"))

    # -- ClusterClass

    def class_template(self, value, template="clusterclass-dev-test.yaml"):
        text = substitute(self.build(template))
        self.assertTrue(decode(text=text))
        directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        (directory / "class.yaml").write_text(text)
        variables = {"imageName": "ubuntu", "addImageVersion": False, "injectIgnitionSysext": False,
                     "identityRef": {"name": "c", "cloudName": "c"}}
        if value:
            variables["barbicanKMS"] = value
        out = run(programs()[1] / "manifests", "class", directory / "class.yaml", json.dumps(variables), "c1").stdout
        return decode(text=out)[0]["spec"]["template"]["spec"]["kubeadmConfigSpec"]

    def test_a_class_gives_the_same_as_the_template(self):
        image = VARIABLES["BARBICAN_KMS_IMAGE"]
        made = self.class_template({"image": image, "caSecret": {"name": "c1-cloud-config", "key": "cacert"}})
        _, spec = self.control_plane("cluster-template.yaml")
        for field in ("files", "preKubeadmCommands"):
            self.assertEqual(made[field], spec[field])
        self.assertEqual(made["clusterConfiguration"]["apiServer"], spec["clusterConfiguration"]["apiServer"])
        for when in ("initConfiguration", "joinConfiguration"):
            self.assertEqual(made[when]["patches"], spec[when]["patches"])
            self.assertTrue(made[when]["nodeRegistration"])

    def test_a_cluster_of_the_class_without_the_variable_is_as_before(self):
        text = substitute((self.templates / "clusterclass-dev-test.yaml").read_text())
        before = of_kind(decode(text=text), "KubeadmControlPlaneTemplate")["spec"]["template"]["spec"]["kubeadmConfigSpec"]
        self.assertEqual(self.class_template(None), before)

    def test_a_class_without_a_ca_delivers_none(self):
        made = self.class_template({"image": "registry.example.com/x"})
        self.assertEqual([f["path"] for f in made["files"]][-1], "/etc/kubernetes/barbican-kms/cloud.conf")


if __name__ == "__main__":
    unittest.main()
