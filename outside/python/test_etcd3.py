"""The `etcd3` package (python-etcd3, over gRPC), used as its users do."""

import io
import time
import unittest

import etcd3

from cluster import Cluster, persist, until

DOWN = (etcd3.exceptions.ConnectionFailedError, etcd3.exceptions.ConnectionTimeoutError)


class Etcd3(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()

    def client(self, at=0):
        # Not closed: its thread would complain, in the midst of the results, that it was.
        return etcd3.client(port=self.cluster.ports[at], timeout=30)

    def test_keys_are_written_read_listed_and_deleted(self):
        client, other = self.client(), self.client(1)
        client.put("kv/a", "1")
        client.put("kv/b", b"\x00\xff")
        value, about = other.get("kv/a")
        self.assertEqual((value, about.key, about.version), (b"1", b"kv/a", 1))
        pairs = [(about.key, value) for value, about in other.get_prefix("kv/")]
        self.assertEqual(pairs, [(b"kv/a", b"1"), (b"kv/b", b"\x00\xff")])
        down = [about.key for _, about in other.get_prefix("kv/", sort_order="descend")]
        self.assertEqual(down, [b"kv/b", b"kv/a"])
        self.assertTrue(client.delete("kv/a"))
        self.assertFalse(client.delete("kv/a"))
        self.assertEqual(client.delete_prefix("kv/").deleted, 1)
        self.assertEqual(client.get("kv/b"), (None, None))

    def test_a_transaction_takes_one_branch(self):
        client = self.client()
        of = client.transactions
        self.assertTrue(client.put_if_not_exists("txn/a", "1"))
        self.assertFalse(client.put_if_not_exists("txn/a", "2"))
        self.assertFalse(client.replace("txn/a", "0", "3"))
        self.assertTrue(client.replace("txn/a", "1", "2"))
        held, answers = client.transaction(
            compare=[of.value("txn/a") == "2", of.version("txn/a") > 1],
            success=[of.put("txn/b", "yes"), of.get("txn/a"), of.delete("txn/a")],
            failure=[of.put("txn/b", "no")],
        )
        self.assertTrue(held)
        self.assertEqual(answers[1][0][0], b"2")
        self.assertEqual([value for value, _ in client.get_prefix("txn/")], [b"yes"])
        held, _ = client.transaction([of.create("txn/b") == 0], [], [of.put("txn/b", "no")])
        self.assertFalse(held)
        self.assertEqual(client.get("txn/b")[0], b"no")

    def test_a_lease_lives_while_it_is_kept_alive_and_takes_its_keys_along(self):
        client, other = self.client(), self.client(2)
        lease = client.lease(2)
        client.put("lease/a", "1", lease=lease)
        self.assertEqual(client.get("lease/a")[1].lease_id, lease.id)
        # Three times as long as it would last.
        for _ in range(12):
            self.assertGreater(lease.refresh()[0].TTL, 0)
            time.sleep(0.5)
        self.assertEqual(other.get("lease/a")[0], b"1")
        self.assertEqual(lease.keys, [b"lease/a"])
        until("it ends when nobody keeps it alive", lambda: other.get("lease/a")[0] is None)
        lease = client.lease(600)
        client.put("lease/b", "1", lease=lease)
        lease.revoke()
        self.assertIsNone(client.get("lease/b")[0])

    def test_locks_exclude_each_other(self):
        """By its steps, because the wait of this client fails with today's `tenacity`."""
        client, other = self.client(), self.client(1)
        of = other.transactions
        with client.lock("door", ttl=60) as held:
            self.assertTrue(held.is_acquired())
            self.assertGreater(held.refresh()[0].TTL, 0)
            late = other.lock("door", ttl=60)
            self.assertFalse(late.is_acquired())
            taken, _ = other.transaction([of.create(late.key) == 0], [of.put(late.key, "x")], [])
            self.assertFalse(taken)
            events, cancel = other.watch(late.key)
        self.assertIsInstance(next(events), etcd3.events.DeleteEvent)
        cancel()
        self.assertTrue(late.acquire())
        self.assertFalse(held.is_acquired())
        self.assertFalse(held.release())
        self.assertTrue(late.release())

    def test_a_watch_goes_on_at_another_member_where_it_ended(self):
        """This client tells its user of a lost connection; the user goes on elsewhere."""
        self.addCleanup(self.wait_for_all)
        seen, revision = [], 1
        for at in range(3):
            # What was written while nobody watched is told first.
            events, _ = self.watch(at, revision)
            writer = self.client((at + 1) % 3)
            for key in range(4):
                persist(lambda: writer.put(f"watch/{at}{key}", "x"), *DOWN)
                if key < 2:
                    while not seen or seen[-1].key != f"watch/{at}{key}".encode():
                        seen.append(next(events))
                if key == 1:
                    self.cluster.kill(at)
                    with self.assertRaises(DOWN):
                        seen.append(next(events))
            revision = seen[-1].mod_revision + 1
            self.wait_for_all()
        events, cancel = self.watch(0, revision)
        while seen[-1].key != b"watch/23":
            seen.append(next(events))
        cancel()
        revisions = [event.mod_revision for event in seen]
        self.assertEqual(revisions, sorted(set(revisions)), "in order, and none twice")
        # A put that was repeated is two events; there is one for each version.
        kept = persist(lambda: list(self.client(1).get_prefix("watch/")), *DOWN)
        self.assertEqual(len(kept), 12)
        self.assertEqual(len(seen), sum(about.version for _, about in kept))

    def watch(self, at, revision):
        return persist(
            lambda: self.client(at).watch_prefix("watch/", start_revision=revision), *DOWN
        )

    def wait_for_all(self):
        for member in range(3):
            until("the member is back", lambda: self.cluster.answers(member))

    def test_maintenance_is_answered(self):
        client = self.client()
        names = sorted(member.name for member in client.members)
        self.assertEqual(names, ["n1", "n2", "n3"])
        self.assertIn(client.status().leader.name, names)
        self.assertEqual(list(client.list_alarms()), [])
        client.put("upkeep", "1")
        client.compact(client.get("upkeep")[1].mod_revision)
        client.defragment()
        copy = io.BytesIO()
        client.snapshot(copy)
        self.assertGreater(len(copy.getvalue()), 32)


if __name__ == "__main__":
    unittest.main()
