"""What rotate-key reads from a container, and which step it finds to be next."""

import itertools
import unittest

from world import DAY, tool, unused_id

rotate_key = tool()
A, B, C = sorted(unused_id() for _ in range(3))
NOW = rotate_key.unix_time("2026-06-01T00:00:00Z")
JANUARY, MAY, JULY = "2026-01-01T00:00:00Z", "2026-05-01T00:00:00Z", "2026-07-01T00:00:00Z"


def ring(*references):
    return rotate_key.Ring({"name": "k", "secret_refs": [
        {"name": name, "secret_ref": f"https://elsewhere.example.com/v1/secrets/{key}"} for key, name in references]})


class Times(unittest.TestCase):
    def test_a_time_is_rfc_3339_in_utc(self):
        self.assertEqual(rotate_key.unix_time("1970-01-02T00:00:00Z"), DAY)
        self.assertEqual(rotate_key.unix_time("1970-01-01T00:00:01.25Z"), 1.25)
        self.assertEqual(rotate_key.stamp(DAY), "1970-01-02T00:00:00Z")

    def test_the_lower_case_of_the_openstack_command_is_the_same_time(self):
        self.assertEqual(rotate_key.unix_time("2026-06-01t00:00:00z"), NOW)

    def test_what_is_nearly_a_time_is_none(self):
        for name in ("2026-12-01", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-12-01T00:00:00", "2026-12-01T00:00:00+01:00",
                     "2026-12-01 00:00:00Z", "2026-12-31T23:59:60Z", "2026-12-01T24:00:00Z", " 2026-12-01T00:00:00Z", "", "staged"):
            self.assertIsNone(rotate_key.unix_time(name), name)

    def test_the_years_1_and_9999_are_times(self):
        self.assertLess(rotate_key.unix_time("0001-01-01T00:00:00Z"), 0)
        self.assertGreater(rotate_key.unix_time("9999-12-31T23:59:59Z"), NOW)


class Keys(unittest.TestCase):
    def test_the_write_key_is_the_one_with_the_latest_time_that_has_come(self):
        self.assertEqual(ring((A, JANUARY), (B, MAY), (C, JULY)).write(NOW).id, B)

    def test_between_equal_times_the_greater_id_counts(self):
        self.assertEqual(ring((B, MAY), (A, MAY)).write(NOW).id, B)

    def test_of_several_times_of_a_key_the_earliest_counts(self):
        self.assertEqual(ring((A, JANUARY), (A, JULY), (B, MAY)).write(NOW).id, B)
        self.assertEqual(ring((A, MAY), (A, JANUARY)).key(A).since, rotate_key.unix_time(JANUARY))

    def test_references_that_are_no_keys_are_ignored(self):
        document = {"secret_refs": [{"name": MAY, "secret_ref": "https://b/v1/orders/" + A}, {"name": MAY, "secret_ref": "https://b/v1/secrets/x"},
                                    {"secret_ref": "https://b/v1/secrets/" + B}]}
        self.assertEqual([key.id for key in rotate_key.Ring(document).keys], [B])

    def test_a_key_that_is_half_retired_never_becomes_the_write_key_and_is_not_staged(self):
        first = [(A, "staged 2025-12-31T00:00:00Z"), (A, JANUARY), (A, JULY), (A, "migrated " + JANUARY)]
        order = ring(*first).key(A).removal_order()
        self.assertEqual(order[-1], JANUARY)
        for removed in range(1, len(order)):
            left = ring((B, MAY), *((A, name) for name in order[removed:]))
            self.assertEqual(left.write(NOW).id, B, order[removed:])
            self.assertIsNone(left.candidate())


class NextStep(unittest.TestCase):
    def test_between_rotations_there_is_none(self):
        self.assertIsNone(ring((A, JANUARY)).under_way(NOW))
        self.assertIsNone(ring((A, JANUARY), (B, MAY), (B, "migrated 2026-05-02T00:00:00Z")).under_way(NOW))

    def test_a_staged_key_waits_for_the_nodes(self):
        step, key = ring((A, JANUARY), (B, "staged " + MAY)).under_way(NOW)
        self.assertEqual((step, key.id), ("hold", B))

    def test_an_active_key_waits_for_the_migration(self):
        step, key = ring((A, JANUARY), (B, "staged " + JANUARY), (B, MAY)).under_way(NOW)
        self.assertEqual((step, key.id), ("settle", B))

    def test_a_key_that_took_the_place_of_a_deleted_one_waits_for_the_migration(self):
        step, key = ring((B, "staged " + JANUARY), (B, MAY)).under_way(NOW)
        self.assertEqual((step, key.id), ("settle", B), "what was written before is still under the deleted key")
        self.assertIsNone(ring((B, "staged " + JANUARY), (B, MAY), (B, "migrated " + MAY)).under_way(NOW))

    def test_a_key_ahead_is_waited_for(self):
        step, key = ring((A, JANUARY), (B, JULY)).under_way(NOW)
        self.assertEqual((step, key.id), ("settle", B))

    def test_all_operators_choose_the_same_of_two_staged_keys(self):
        references = [(A, JANUARY), (C, "staged " + MAY), (B, "staged " + MAY)]
        for order in itertools.permutations(references):
            self.assertEqual(ring(*order).under_way(NOW)[1].id, B)

    def test_a_key_that_was_left_over_begins_no_rotation(self):
        left = ring((A, "staged 2026-04-30T00:00:00Z"), (B, JANUARY), (C, MAY), (C, "migrated " + MAY))
        self.assertIsNone(left.under_way(NOW))
        self.assertEqual(left.candidate().id, A)

    def test_other_names_are_readable_keys_and_no_candidates(self):
        for name in ("k8s", "", "staged", "staged soon", "Staged " + MAY):
            self.assertIsNone(ring((A, JANUARY), (B, name)).under_way(NOW), name)

    def test_a_key_was_left_when_any_later_one_was_migrated_to(self):
        found = ring((A, JANUARY), (B, MAY), (B, "migrated " + MAY), (C, "2026-05-20T00:00:00Z"))
        self.assertEqual(found.migrated_away(found.key(A)), rotate_key.unix_time(MAY))
        self.assertIsNone(found.migrated_away(found.key(B)))


class Arguments(unittest.TestCase):
    def test_ages(self):
        self.assertEqual(rotate_key.arguments(["--if-older-than", "80d"]).if_older_than, 80 * DAY)
        for text in ("80", "d", "-1d", "1.5h", "80 d"):
            with self.assertRaises(SystemExit) as end:
                rotate_key.arguments(["--retire-after", text])
            self.assertEqual(end.exception.code, 64)

    def test_the_container_is_an_id_or_an_href(self):
        for text in (A, f"https://b.example.com/v1/containers/{A}"):
            self.assertEqual(rotate_key.arguments(["--container", text]).container, A)
        for text in ("kubernetes", A[:-1], f"https://b/v1/secrets/{A}", A.upper()):
            with self.assertRaises(SystemExit):
                rotate_key.arguments(["--container", text])

    def test_the_help_names_every_option_that_is_not_for_tests(self):
        import re
        said = set(re.findall(r"^  (--[a-z-]+)", rotate_key.__doc__, re.M))
        known = {"--" + name.replace("_", "-") for name in vars(rotate_key.arguments([]))}
        self.assertEqual(known - said, {"--command", "--poll", "--quiet", "--controller-timeout"})
        self.assertEqual(said - known, set())
