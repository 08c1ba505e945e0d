"""rotate-key against a real Keystone, Barbican and kube-apiserver; the nodes' sidecars are played."""

import concurrent.futures
import json
import os
import signal
import unittest

from world import DAY, NODES, Plane, RealPlane, shared, stamp, until

A_YEAR_AGO, A_MONTH_AGO = stamp(365 * DAY), stamp(31 * DAY)


def setUpModule():
    global WORLD
    WORLD = shared()


def plane(*names):
    return Plane(WORLD, *(names or [[A_YEAR_AGO]]))


def marked(names, prefix):
    return [name for name in names if name.startswith(prefix)]


class Case(unittest.TestCase):
    def assert_rotated(self, plane):
        """One new key that is staged, active and migrated to, and the old one as it was; returns the new."""
        references = plane.references()
        (new,) = plane.new_keys()
        self.assertEqual(references[plane.keys[0]], {A_YEAR_AGO})
        self.assertEqual(len(marked(references[new], "staged 2")), 1, references)
        self.assertEqual(len(marked(references[new], "migrated 2")), 1, references)
        self.assertEqual(len(marked(references[new], "2")), 1, references)
        return new


class Start(Case):
    def test_one_command_orders_stages_activates_and_migrates(self):
        WORLD.kubectl("create", "secret", "generic", "one", "--from-literal=key=value")
        cluster = plane()
        said = cluster.rotate("--json")
        new = self.assert_rotated(cluster)
        report = said.json
        self.assertEqual((report["outcome"], report["exit_code"], report["container_id"]), ("rotated", 0, cluster.id))
        self.assertGreaterEqual(report["migrated"]["secrets"], 1)
        self.assertIn("configmaps", report["migrated"], "the metrics show it as encrypted")
        self.assertEqual([node["name"] for node in report["nodes"]], list(NODES))
        self.assertEqual({node["write_key_id"] for node in report["nodes"]}, {new})
        steps = ("ordered key", "staged key", "until every node holds", "activated key", "until every node writes", "KEP-3299", "migrating", "done:")
        self.assertEqual(sorted(steps, key=said.err.index), list(steps), said.err)

    def test_the_new_key_is_as_readable_as_the_present_one_and_as_private(self):
        cluster = plane()
        reader = WORLD.state["reader"]["id"]
        acl = {"read": {"users": [reader], "project-access": False}}
        WORLD.call("PUT", f"/v1/secrets/{cluster.keys[0]}/acl", acl)
        cluster.rotate()
        new = self.assert_rotated(cluster)
        read = WORLD.call("GET", f"/v1/secrets/{new}/acl").json()["read"]
        self.assertEqual((read["users"], read["project-access"]), ([reader], False))
        about = WORLD.barbican.call("GET", f"/v1/secrets/{new}", WORLD.token, headers={"OpenStack-API-Version": "key-manager 1.1"}).json()
        self.assertEqual([c["resource_id"] for c in about["consumers"]], [cluster.id])
        self.assertEqual((about["algorithm"], about["bit_length"], about["mode"]), ("aes", 256, "cbc"))

    def test_it_works_with_the_real_openstack_command_alone(self):
        cluster = plane()
        cluster.rotate(environment={"PATH": f"{cluster.tools}:{WORLD.client.parent}:{WORLD.environment['PATH']}"})
        self.assert_rotated(cluster)

    def test_killed_after_each_step_and_run_again_it_goes_on(self):
        for step in ("ordered", "staged", "waiting until every node holds", "activated", "waiting until every node writes",
                     "in which no API server", "migrating", "objects$"):
            with self.subTest(step):
                cluster = plane()
                self.assertTrue(cluster.kill_after(step, "--container", cluster.id))
                cluster.rotate()
                self.assert_rotated(cluster)

    def test_a_signal_ends_it_with_its_number_and_leaves_no_proxy(self):
        cluster = plane()
        cluster.node("cp-2", lacks={}, idle=True)
        process = cluster.begin()
        for line in process.stderr:
            if "cp-2: its kube-apiserver has not asked" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)
        self.assertIn("run it again", err)
        cluster.node("cp-2")
        cluster.rotate()
        self.assert_rotated(cluster)

    def test_two_operators_at_once_end_with_one_new_key(self):
        cluster = plane()
        for node in NODES: # they meet while both wait
            cluster.node(node, absent="is starting")
        runs = [cluster.begin("--container", cluster.id) for _ in range(2)]
        for process in runs:
            process.communicate(timeout=120)
        self.assertEqual({process.returncode for process in runs}, {2})
        self.assertEqual(cluster.new_keys(), set(), "nothing is ordered while a node does not answer")
        for node in NODES:
            cluster.node(node)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            said = list(pool.map(lambda _: cluster.rotate("--container", cluster.id), range(2)))
        references, new = cluster.references(), cluster.new_keys()
        active = [key for key in new if marked(references[key], "2")]
        self.assertEqual(len(active), len(new), (references, [s.err for s in said]))
        self.assertTrue(any(marked(references[key], "migrated") for key in active))

    def test_of_two_staged_keys_the_first_is_taken_by_both(self):
        cluster = plane()
        cluster.node("cp-3", lacks={cluster.keys[0]: ""}) # does not hold the write key: nobody begins
        cluster.rotate(code=2)
        first, second = WORLD.key(), WORLD.key()
        cluster.add(second, "staged " + stamp(DAY))
        cluster.node("cp-3", lacks={first: "", second: ""})
        run = cluster.begin()
        for line in run.stderr:
            if "cp-3: is loading the key" in line:
                break
        cluster.add(first, "staged " + stamp(2 * DAY))
        for line in run.stderr:
            if first in line:
                break
        cluster.node("cp-3", lacks={second: ""})
        self.assertEqual(run.wait(timeout=120), 0, run.stderr.read())
        references = cluster.references()
        self.assertEqual(len(marked(references[first], "migrated")), 1)
        self.assertEqual(len(references[second]), 1, "another's staged key is nobody else's to remove")

    def test_a_node_that_does_not_come_is_named_and_nothing_is_activated(self):
        cluster = plane()
        new = WORLD.key()
        cluster.add(new, "staged " + stamp(5))
        cluster.node("cp-2", lacks={new: "Barbican refuses access to it"})
        said = cluster.rotate("--json", "--timeout", "1s", code=3)
        self.assertIn("cp-2: cannot load the key: Barbican refuses access to it", said.json["message"])
        self.assertNotIn("cp-1", said.json["message"])
        self.assertEqual(marked(cluster.references()[new], "2"), [])
        self.assertEqual(said.json["outcome"], "waiting")

    def test_a_node_that_never_read_the_container_again_is_named(self):
        cluster = plane()
        new = WORLD.key()
        cluster.add(new, "staged " + stamp(5))
        cluster.node("cp-2", lacks={new: "unlisted"}, problem_text="OpenStack is unavailable")
        said = cluster.rotate("--timeout", "1s", code=3)
        self.assertIn("cp-2: has not read the container since; its last reading of the container: OpenStack is unavailable", said.err)

    def test_nothing_is_ordered_while_a_node_does_not_follow_the_container(self):
        for differs, text in (({"absent": "connection refused"}, "connection refused"), ({"source": "file"}, "key-id and no key-container"),
                              ({"container_id": "7239dd0c-a3ba-49ea-93f5-9a702819aff5"}, "follows container 7239dd0c")):
            with self.subTest(text):
                cluster = plane()
                cluster.node("cp-3", **differs)
                said = cluster.rotate("--container", cluster.id, code=2)
                self.assertIn("cp-3: ", said.err)
                self.assertIn(text, said.err)
                self.assertEqual(cluster.new_keys(), set())

    def test_a_container_that_is_gone_or_refused_is_named(self):
        cluster = plane()
        WORLD.call("DELETE", f"/v1/containers/{cluster.id}")
        self.assertIn("there is none", cluster.rotate("--container", cluster.id, code=1).err)
        other = plane()
        WORLD.call("PUT", f"/v1/containers/{other.id}/acl", {"read": {"project-access": False, "users": []}})
        WORLD.call("GET", f"/v1/containers/{other.id}") # its creator may
        reader = {"OS_USERNAME": WORLD.state["reader"]["username"], "OS_PASSWORD": WORLD.state["reader"]["password"],
                  "PATH": f"{other.tools}:{WORLD.client.parent}:{WORLD.environment['PATH']}"}
        self.assertIn("not readable with your login", other.rotate("--container", other.id, code=1, environment=reader).err)

    def test_a_container_of_another_type_is_refused(self):
        cluster = plane()
        references = [{"name": name, "secret_ref": WORLD.secret_href(WORLD.key())} for name in ("public_key", "private_key")]
        made = WORLD.call("POST", "/v1/containers", {"type": "rsa", "secret_refs": references}).json()
        self.assertIn("of type rsa", cluster.rotate("--container", made["container_ref"], code=1).err)

    def test_an_outage_of_barbican_is_waited_for(self):
        cluster = plane()
        cluster.node("cp-1", idle=True)
        run = cluster.begin()
        for line in run.stderr:
            if "has not asked for an Encrypt" in line:
                break
        control = (str(WORLD.directory / "openstack"), "barbican")
        WORLD.run(WORLD.repo_openstack, "ctl", control[0], "close", control[1])
        try:
            until("the tool says so", lambda: any("waiting for it" in line for line in [run.stderr.readline()]))
        finally:
            WORLD.run(WORLD.repo_openstack, "ctl", control[0], "open", control[1])
        cluster.node("cp-1")
        self.assertEqual(run.wait(timeout=120), 0, run.stderr.read())
        self.assert_rotated(cluster)


class DryRun(Case):
    def test_it_prints_the_steps_and_changes_nothing(self):
        cluster = plane()
        before = cluster.references()
        said = cluster.rotate("--dry-run")
        self.assertEqual([line.split(". ")[0] for line in said.out.splitlines()], list("12345678"))
        staged = WORLD.key()
        cluster.add(staged, "staged " + stamp(5))
        said = cluster.rotate("--dry-run")
        self.assertIn("1. wait until every node holds it: cp-1, cp-2, cp-3", said.out)
        self.assertIn(f"remove key {staged}", cluster.rotate("abort", "--dry-run").out)
        self.assertEqual(cluster.references(), {**before, staged: cluster.references()[staged]})

    def test_of_a_retirement_too(self):
        cluster = plane([A_YEAR_AGO], [A_MONTH_AGO, "migrated " + stamp(30 * DAY)])
        before = cluster.references()
        self.assertIn(f"remove key {cluster.keys[0]}", cluster.rotate("retire", "--dry-run").out)
        self.assertEqual(cluster.references(), before)


class Abort(Case):
    def test_a_staged_key_is_taken_back(self):
        cluster = plane()
        before = cluster.references()
        cluster.add(WORLD.key(), "staged " + stamp(5))
        self.assertEqual(cluster.rotate("abort", "--json").json["outcome"], "aborted")
        self.assertEqual(cluster.references(), before)

    def test_the_run_that_waits_notices_it(self):
        cluster = plane()
        new = WORLD.key()
        cluster.add(new, "staged " + stamp(5))
        cluster.node("cp-1", lacks={new: ""})
        run = cluster.begin()
        for line in run.stderr:
            if "cp-1: is loading" in line:
                break
        cluster.rotate("abort")
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 6)
        self.assertIn("has taken it back", err)

    def test_a_key_that_is_active_is_not_taken_back(self):
        cluster = plane()
        self.assertIn("must not be used again", cluster.rotate("abort", code=6).err)

    def test_one_whose_time_is_ahead_only_if_no_node_uses_it(self):
        cluster = plane()
        new = WORLD.key()
        cluster.add(new, stamp(-3600))
        cluster.node("cp-1", write_key_id=new)
        self.assertIn("cp-1: it writes with the key already", cluster.rotate("abort", code=2).err)
        cluster.node("cp-1")
        cluster.rotate("abort")
        self.assertEqual(cluster.new_keys(), set())


class Retire(Case):
    def cluster(self):
        return plane([A_YEAR_AGO, "staged " + A_YEAR_AGO], [A_MONTH_AGO, "migrated " + stamp(30 * DAY)])

    def test_the_old_key_goes_and_the_write_key_stays(self):
        cluster = self.cluster()
        said = cluster.rotate("retire", "--json")
        self.assertEqual(said.json["retired"], [cluster.keys[0]])
        self.assertEqual(set(cluster.references()), {cluster.keys[1]})
        self.assertIn("relying on", said.err)
        WORLD.call("GET", f"/v1/secrets/{cluster.keys[0]}") # it is still there
        self.assertEqual(cluster.rotate("retire", "--json").json["outcome"], "nothing-due")

    def test_not_while_a_node_still_uses_it(self):
        cluster = self.cluster()
        before = cluster.references()
        cluster.node("cp-2", unwrapped={cluster.keys[0]: 60})
        said = cluster.rotate("retire", "--json", code=5)
        self.assertIn(f"cp-2: has decrypted with key {cluster.keys[0]}", said.json["message"])
        self.assertEqual(cluster.references(), before)
        cluster.node("cp-2", unwrapped={cluster.keys[0]: 40 * DAY}) # before the migration
        cluster.rotate("retire")

    def test_not_while_a_node_does_not_answer_or_writes_with_it(self):
        cluster = self.cluster()
        cluster.node("cp-2", absent="no route to host")
        self.assertIn("no route to host", cluster.rotate("retire", code=2).err)
        cluster.node("cp-2", write_key_id=cluster.keys[0])
        self.assertIn("still writes with", cluster.rotate("retire", code=2).err)

    def test_not_before_the_migration(self):
        cluster = plane([A_YEAR_AGO], [A_MONTH_AGO])
        self.assertIn("has not been migrated", cluster.rotate("retire", code=5).err)

    def test_interrupted_it_goes_on(self):
        cluster = self.cluster()
        self.assertTrue(cluster.kill_after("relying on", "retire"))
        cluster.rotate("retire")
        self.assertEqual(set(cluster.references()), {cluster.keys[1]})


class Unattended(Case):
    flags = ("--if-older-than", "80d", "--retire-after", "30d", "--json")

    def test_nothing_is_done_when_nothing_is_due(self):
        cluster = plane([A_MONTH_AGO])
        before = cluster.references()
        self.assertEqual(cluster.rotate(*self.flags).json["outcome"], "nothing-due")
        self.assertEqual(cluster.references(), before)

    def test_a_key_that_is_too_old_is_rotated_and_retired_a_month_later(self):
        cluster = plane()
        self.assertEqual(cluster.rotate(*self.flags).json["outcome"], "rotated")
        self.assert_rotated(cluster)
        self.assertEqual(cluster.rotate(*self.flags).json["outcome"], "nothing-due")
        later = plane([A_YEAR_AGO], [A_MONTH_AGO, "migrated " + stamp(30 * DAY + 60)])
        report = later.rotate(*self.flags).json
        self.assertEqual((report["outcome"], report["retired"]), ("retired", [later.keys[0]]))

    def test_a_rotation_that_stopped_goes_on_though_the_write_key_is_young(self):
        cluster = plane([A_MONTH_AGO])
        new = WORLD.key()
        cluster.add(new, "staged " + stamp(5))
        self.assertEqual(cluster.rotate(*self.flags).json["outcome"], "rotated")
        self.assertEqual(len(marked(cluster.references()[new], "migrated")), 1)


class RealSidecar(Case):
    def test_a_rotation_leaves_nothing_in_etcd_under_the_old_key(self):
        names = [f"real-{n}" for n in range(3)]
        for name in names:
            WORLD.kubectl("create", "secret", "generic", name, "--from-literal=key=value")
        cluster = RealPlane(WORLD)
        (old,) = cluster.keys
        self.assertEqual({WORLD.stored_under(name) for name in names}, {old})
        said = cluster.rotate("--json")
        (new,) = cluster.new_keys()
        self.assertGreaterEqual(said.json["migrated"]["secrets"], len(names))
        self.assertEqual({WORLD.stored_under(name) for name in names}, {new})
        self.assertEqual(cluster.rotate("retire", "--json").json["retired"], [old])
        until("the sidecar has dropped it", lambda: [key["id"] for key in self.status(cluster)["keys"]] == [new])
        WORLD.run(os.environ["CLUSTER_PROGRAM"], "restart-apiserver", WORLD.place)
        listed = json.loads(WORLD.kubectl("get", "secrets", "-o", "json"))["items"]
        self.assertLessEqual(set(names), {item["metadata"]["name"] for item in listed})

    @staticmethod
    def status(cluster):
        return json.loads(WORLD.run(os.environ["BARBICAN_KMS_BIN"], "status", "--json", "--socketpath", WORLD.socket))


class Migrating(Case):
    def test_a_migration_by_the_controller_is_waited_for(self):
        cluster = plane()
        run = cluster.begin("--resources", "secrets", "--timeout", "60s", more=("--controller-timeout", "60"))
        found = until("it asks for one", lambda: json.loads(WORLD.kubectl("get", "storageversionmigrations", "-o", "json"))["items"])
        (migration,) = [item["metadata"]["name"] for item in found]
        (new,) = cluster.new_keys()
        self.assertEqual(migration, f"barbican-kms-{new}-secrets")
        self.assertEqual(found[0]["spec"], {"resource": {"group": "", "resource": "secrets"}})
        self.assertIsNone(run.poll())
        condition = {"type": "Succeeded", "status": "True", "reason": "Done", "message": "", "lastTransitionTime": stamp()}
        WORLD.kubectl("patch", "storageversionmigration", migration, "--subresource", "status", "--type", "merge",
                      "-p", json.dumps({"status": {"conditions": [condition], "resourceVersion": "1"}}))
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, err)
        self.assertNotIn("writing each object", err)
        self.assert_rotated(cluster)
        self.assertEqual(WORLD.kubectl("get", "storageversionmigrations", "-o", "name"), "")

    def test_where_no_controller_runs_each_object_is_written(self):
        cluster = plane()
        said = cluster.rotate("--resources", "secrets")
        self.assertIn("no controller has taken it up; writing each object anew instead", said.err)
        self.assertEqual(WORLD.kubectl("get", "storageversionmigrations", "-o", "name"), "")

    def test_a_resource_without_any_object_is_no_failure(self):
        report = plane().rotate("--json", "--resources", "secrets,leases.coordination.k8s.io,podtemplates").json
        self.assertEqual(report["migrated"]["podtemplates"], 0)

    def test_a_resource_that_is_not_there_is_named(self):
        cluster = plane()
        said = cluster.rotate("--resources", "secrets,widgets.example.com", code=1)
        self.assertIn("no resource widgets.example.com", said.err)

    def test_objects_that_cannot_be_written_are_named_and_the_old_key_stays(self):
        cluster = plane()
        policy = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "no"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["secrets"]}]},
            "validations": [{"expression": "object.metadata.name != 'stubborn'", "message": "not this one"}]}}
        binding = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "no"},
                   "spec": {"policyName": "no", "validationActions": ["Deny"]}}
        WORLD.kubectl("create", "secret", "generic", "stubborn")
        for document in (policy, binding):
            WORLD.kubectl("create", "-f", "-", input=json.dumps(document))
        self.addCleanup(WORLD.kubectl, "delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "no")
        until("the policy is in force", lambda: "not this one" in str(self.label("stubborn")))
        said = cluster.rotate("--rewrite", "--resources", "secrets", code=4)
        self.assertIn("default/stubborn: ", said.err)
        self.assertIn("not this one", said.err)
        (new,) = cluster.new_keys()
        self.assertEqual(marked(cluster.references()[new], "migrated"), [])

    @staticmethod
    def label(name):
        try:
            return WORLD.kubectl("annotate", "secret", name, f"at={stamp()}", "--overwrite")
        except AssertionError as refusal:
            return refusal
