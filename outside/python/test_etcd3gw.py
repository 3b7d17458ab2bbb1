"""The `etcd3gw` package, which speaks JSON over HTTP, used as its users do."""

import base64
import queue
import time
import unittest

import requests
from etcd3gw import exceptions
from etcd3gw.client import Etcd3Client
from etcd3gw.watch import Watcher

from cluster import SOON, Cluster, persist, until

DOWN = (exceptions.Etcd3Exception, requests.exceptions.RequestException)


def code(text):
    return base64.b64encode(text.encode()).decode()


class Etcd3gw(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()

    def client(self, at=0):
        # It asks `/version` for the path of the API by itself.
        return Etcd3Client(host="127.0.0.1", port=self.cluster.ports[at], timeout=30)

    def test_keys_are_written_read_listed_and_deleted(self):
        client, other = self.client(), self.client(1)
        self.assertTrue(client.put("kv/a", "1"))
        self.assertTrue(client.put("kv/b", "zwei"))
        self.assertEqual(other.get("kv/a"), [b"1"])
        value, about = other.get("kv/a", metadata=True)[0]
        self.assertEqual((value, about["key"], about["version"]), (b"1", b"kv/a", "1"))
        listed = [(about["key"], value) for value, about in other.get_prefix("kv/")]
        self.assertEqual(listed, [(b"kv/a", b"1"), (b"kv/b", b"zwei")])
        self.assertTrue(client.delete("kv/a"))
        self.assertFalse(client.delete("kv/a"))
        self.assertTrue(client.delete_prefix("kv/"))
        self.assertEqual(client.get("kv/b"), [])

    def test_a_transaction_takes_one_branch(self):
        client = self.client()
        self.assertTrue(client.create("txn/a", "1"))
        self.assertFalse(client.create("txn/a", "2"))
        self.assertFalse(client.replace("txn/a", "0", "3"))
        self.assertTrue(client.replace("txn/a", "1", "2"))
        key, other = code("txn/a"), code("txn/b")
        answer = client.transaction(
            {
                "compare": [{"key": key, "result": "GREATER", "target": "VERSION", "version": 1}],
                "success": [
                    {"request_put": {"key": other, "value": code("yes")}},
                    {"request_range": {"key": key}},
                ],
                "failure": [{"request_delete_range": {"key": key}}],
            }
        )
        self.assertTrue(answer["succeeded"])
        self.assertEqual(answer["responses"][1]["response_range"]["kvs"][0]["value"], code("2"))
        self.assertEqual(client.get("txn/b"), [b"yes"])

    def test_a_lease_lives_while_it_is_kept_alive_and_takes_its_keys_along(self):
        client, other = self.client(), self.client(2)
        lease = client.lease(2)
        client.put("lease/a", "1", lease=lease)
        for _ in range(12):
            self.assertGreater(lease.refresh(), 0)
            time.sleep(0.5)
        self.assertEqual(other.get("lease/a"), [b"1"])
        self.assertEqual(lease.keys(), [b"lease/a"])
        until("it ends when nobody keeps it alive", lambda: other.get("lease/a") == [])
        lease = client.lease(600)
        client.put("lease/b", "1", lease=lease)
        self.assertGreater(lease.ttl(), 500)
        self.assertTrue(lease.revoke())
        self.assertEqual(client.get("lease/b"), [])

    def test_locks_exclude_each_other(self):
        held, late = self.client().lock("door", ttl=60), self.client(1).lock("door", ttl=2)
        self.assertTrue(held.acquire())
        self.assertFalse(late.acquire())
        self.assertTrue(held.is_acquired())
        self.assertGreater(held.refresh(), 0)
        self.assertTrue(held.release())
        self.assertTrue(late.acquire())
        self.assertFalse(held.release())
        # A holder that does not refresh loses it.
        until("it is free when its lease has ended", held.acquire)
        held.release()

    def test_a_watch_tells_a_burst_one_line_at_a_time(self):
        client = self.client()
        events, cancel = client.watch_prefix("burst/")
        for number in range(200):
            client.put(f"burst/{number}", str(number))
        for number in range(200):
            kv = next(events)["kv"]
            self.assertEqual((kv["key"], kv["value"]), (f"burst/{number}".encode(), b"%d" % number))
        client.delete("burst/7")
        event = next(events)
        self.assertEqual((event["type"], event["kv"]["key"]), ("DELETE", b"burst/7"))
        cancel()

    def test_a_watch_goes_on_at_another_member_where_it_ended(self):
        """A broken stream is silent in this client: its users watch for silence, then go on."""
        self.addCleanup(self.wait_for_all)
        seen, revision = [], 1
        for at in range(3):
            found = queue.Queue()
            # From the last that was seen: what is told twice is told with the same revision.
            watcher = persist(lambda: self.watch(at, revision, found.put), *DOWN)
            for key in range(4):
                if key == 2:
                    self.cluster.kill(at)
                writer = self.client((at + 1) % 3)
                persist(lambda: writer.put(f"watch/{at}{key}", "x"), *DOWN)
                if key < 2:
                    self.take(found, seen, f"watch/{at}{key}")
            watcher.stop()
            revision = int(seen[-1]["kv"]["mod_revision"]) + 1
            self.wait_for_all()
        found = queue.Queue()
        watcher = persist(lambda: self.watch(0, revision, found.put), *DOWN)
        self.take(found, seen, "watch/23")
        watcher.stop()
        revisions = [int(event["kv"]["mod_revision"]) for event in seen]
        self.assertEqual(revisions, sorted(set(revisions)), "in order, and none twice")
        kept = persist(lambda: self.client(1).get_prefix("watch/"), *DOWN)
        self.assertEqual(len(kept), 12)
        self.assertEqual(len(seen), sum(int(about["version"]) for _, about in kept))

    def watch(self, at, revision, callback):
        client = self.client(at)
        return Watcher(client, "watch/", callback, range_end="watch0", start_revision=revision)

    def wait_for_all(self):
        for member in range(3):
            until("the member is back", lambda: self.cluster.answers(member))

    def take(self, found, seen, key):
        """Moves events over until that of `key`."""
        while not seen or seen[-1]["kv"]["key"] != key.encode():
            seen.append(found.get(timeout=SOON))

    def test_members_and_status_are_told(self):
        client = self.client()
        self.assertEqual(sorted(member["name"] for member in client.members()), ["n1", "n2", "n3"])
        self.assertGreater(int(client.status()["dbSize"]), 0)


if __name__ == "__main__":
    unittest.main()
