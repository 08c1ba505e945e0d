"""The Cluster API component over the OpenStack provider's own templates, by the real types and code."""

import base64
import json
import os
import pathlib
import re
import shutil
import tempfile
import unittest

from node import HERE, STATIC_POD, decode, guide, programs, run

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


def own_secret(objects):
    return next(o for o in objects if o["metadata"]["name"].startswith("barbican-kms-"))


class ClusterAPI(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.templates = templates()

    def build(self, template, edit=lambda text: text, after="", component=STATIC_POD):
        """kustomize's output over a template, by the guide's own kustomization.yaml."""
        directory = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        (directory / "cluster-template.yaml").write_text(edit((self.templates / template).read_text()))
        component = os.path.relpath(component, os.path.realpath(directory))
        here_document = re.search(r"(?s)^cat .*?\nEND\n", guide("Cluster API"))[0]
        run("sh", "-euc", here_document.replace("../barbican-kms/static-pod", component), cwd=directory)
        with open(directory / "kustomization.yaml", "a") as file:
            file.write(after)
        return run(programs()[0] / "kubectl", "kustomize", directory).stdout

    def control_plane(self, template, **options):
        objects = decode(text=substitute(self.build(template, **options)))
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
            after.remove(own_secret(after))
            spec = of_kind(after, "KubeadmControlPlane")["spec"]["kubeadmConfigSpec"]
            del spec["files"], spec["preKubeadmCommands"], spec["clusterConfiguration"]["apiServer"]
            del spec["initConfiguration"]["patches"], spec["joinConfiguration"]["patches"]
            by_name = lambda objects: sorted(objects, key=lambda o: (o["kind"], o["metadata"]["name"]))
            self.assertEqual(by_name(before), by_name(after))

    def test_the_files_on_the_nodes_are_those_of_this_directory(self):
        objects, spec = self.control_plane("cluster-template.yaml")
        secret = own_secret(objects)
        self.assertEqual(secret["metadata"]["labels"], {"clusterctl.cluster.x-k8s.io/move": "true"})
        files = {f["path"]: f["contentFrom"]["secret"] for f in spec["files"]}
        for path, source in (
            ("/etc/kubernetes/patches/kube-apiserver-barbican-kms+strategic.yaml",
             "kubeadm/patches/kube-apiserver-barbican-kms+strategic.yaml"),
            ("/etc/kubernetes/encryption/encryption-config.yaml", "encryption-config.yaml"),
        ):
            self.assertEqual(files[path]["name"], secret["metadata"]["name"])
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

    def test_a_changed_file_changes_the_spec_and_so_replaces_the_nodes(self):
        changed = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, changed)
        shutil.copytree(STATIC_POD, changed / "static-pod")
        with open(changed / "static-pod/encryption-config.yaml", "a") as file:
            file.write("# changed\n")
        for template in ("cluster-template.yaml", "cluster-template-capi-v1beta1.yaml"):
            before = self.control_plane(template)[1]
            objects, after = self.control_plane(template, component=changed / "static-pod")
            self.assertEqual(self.control_plane(template)[1], before)
            names = [{f["contentFrom"]["secret"]["name"] for f in spec["files"][:2]} for spec in (before, after)]
            self.assertNotEqual(names[0], names[1])
            self.assertEqual(names[1], {own_secret(objects)["metadata"]["name"]})
        self.assertNotEqual(*(self.class_template({"image": "x"}, component=c) for c in (STATIC_POD, changed / "static-pod")))

    def test_a_cluster_that_runs_starts_with_the_read_config(self):
        for template in ("cluster-template.yaml", "cluster-template-capi-v1beta1.yaml"):
            objects, spec = self.control_plane(template, after=guide("Cluster API", language="yaml"))
            self.assert_read_config(objects, spec)
        image = {"image": "x", "readOnly": True}
        objects = decode(text=substitute(self.build("clusterclass-dev-test.yaml")))
        self.assert_read_config(objects, self.class_template(image))

    def assert_read_config(self, objects, spec):
        file = next(f for f in spec["files"] if f["path"] == "/etc/kubernetes/encryption/encryption-config.yaml")
        source = file["contentFrom"]["secret"]
        secret = own_secret(objects)
        self.assertEqual(source["name"], secret["metadata"]["name"])
        self.assertEqual(base64.b64decode(secret["data"][source["key"]]), (STATIC_POD / "encryption-config-read.yaml").read_bytes())

    def test_a_template_with_lists_of_its_own_is_refused_not_overwritten(self):
        lists = {
            "files": lambda spec: spec.__setitem__("files", [{"path": "/etc/mine", "content": "mine"}]),
            "preKubeadmCommands": lambda spec: spec.__setitem__("preKubeadmCommands", ["true"]),
            "apiServer": lambda spec: spec["clusterConfiguration"].__setitem__("apiServer", {"certSANs": ["mine"]}),
        }
        for template in ("cluster-template.yaml", "cluster-template-capi-v1beta1.yaml", "clusterclass-dev-test.yaml"):
            for field, put in lists.items():
                with self.subTest(template=template, field=field):
                    with self.assertRaisesRegex(AssertionError, f"(?i)test(ing)?.*{field}"):
                        self.build(template, lambda text: self.edited(text, put))

    def edited(self, text, put):
        """A template with a change in its control plane's spec; other documents stay as they are."""
        documents = re.split(r"(?m)^---\n", text)
        for i, document in enumerate(documents):
            if re.search(r"(?m)^kind: KubeadmControlPlane(Template)?$", document):
                control_plane = json.loads(run(programs()[0] / "kubectl", "patch", "--local", "-f", "-", "--type", "json",
                                               "-p", "[]", "-o", "json", input=document).stdout)
                spec = control_plane["spec"]
                put(spec.get("template", {}).get("spec", spec)["kubeadmConfigSpec"])
                documents[i] = json.dumps(control_plane) + "\n"
        return "---\n".join(documents)

    # -- ClusterClass

    def class_template(self, value, template="clusterclass-dev-test.yaml", **options):
        text = substitute(self.build(template, **options))
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
