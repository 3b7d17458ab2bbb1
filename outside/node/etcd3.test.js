// The npm package `etcd3`, used as its users do, against three members of quorate.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { Etcd3, EtcdLockFailedError } from "etcd3";
import { SOON_MS, persist, start, until } from "./cluster.js";

let cluster;
const clients = [];

before(async () => {
  cluster = await start();
});

after(async () => {
  clients.forEach((client) => client.close());
  await cluster?.stop();
});

/** A client of all members, or of those that are named. */
function client(...members) {
  const hosts = members.length ? members.map((at) => cluster.hosts[at]) : cluster.hosts;
  const made = new Etcd3({ hosts });
  clients.push(made);
  return made;
}

test("keys are written, read, listed and deleted", async () => {
  const [one, other] = [client(0), client(1)];
  await one.put("kv/a").value("1");
  await one.put("kv/b").value(Buffer.from([0, 255]));
  assert.equal(await other.get("kv/a").string(), "1");
  assert.deepEqual(await other.get("kv/b").buffer(), Buffer.from([0, 255]));
  assert.deepEqual(await other.getAll().prefix("kv/").keys(), ["kv/a", "kv/b"]);
  const down = await other.getAll().prefix("kv/").sort("Key", "Descend").limit(1).keys();
  assert.deepEqual(down, ["kv/b"]);
  assert.equal(await other.getAll().prefix("kv/").count(), 2);
  const before = await one.put("kv/a").value("2").getPrevious();
  assert.equal(before.value.toString(), "1");
  assert.equal((await one.delete().prefix("kv/")).deleted, "2");
  assert.equal(await other.get("kv/a").string(), null);
  const space = one.namespace("kv/space/");
  await space.put("x").value("y");
  assert.equal(await other.get("kv/space/x").string(), "y");
});

test("a transaction takes one branch", async () => {
  const one = client(0);
  const create = (value) =>
    one.if("txn/a", "Create", "==", 0).then(one.put("txn/a").value(value)).commit();
  assert.equal((await create("1")).succeeded, true);
  assert.equal((await create("2")).succeeded, false);
  const answer = await one
    .if("txn/a", "Value", "==", "1")
    .and("txn/a", "Version", "<", 2)
    .then(one.get("txn/a"), one.put("txn/b").value("yes"), one.delete().key("txn/a"))
    .else(one.put("txn/b").value("no"))
    .commit();
  assert.equal(answer.succeeded, true);
  assert.equal(answer.responses[0].response_range.kvs[0].value.toString(), "1");
  assert.deepEqual(await one.getAll().prefix("txn/").strings(), { "txn/b": "yes" });
});

test("transactional memory counts right under contention", async () => {
  await client().put("stm/n").value(0);
  const add = async (stm) => {
    const value = await stm.get("stm/n").number();
    await stm.put("stm/n").value(value + 1);
  };
  const adders = [0, 1, 2].map(async (at) => {
    const one = client(at);
    for (let round = 0; round < 10; round += 1) await one.stm({ retries: 200 }).transact(add);
  });
  await Promise.all(adders);
  assert.equal(await client().get("stm/n").number(), 30);
});

test("a lease lives while it is kept alive and takes its keys along", async () => {
  const [one, other] = [client(0), client(2)];
  // It keeps itself alive, thrice in its life.
  const lease = one.lease(3);
  await lease.put("lease/a").value("1");
  await pause(9_000);
  assert.equal(await other.get("lease/a").string(), "1");
  await lease.keepaliveOnce();
  await lease.revoke();
  assert.equal(await other.get("lease/a").string(), null);
  const left = one.lease(2);
  await left.put("lease/b").value("1");
  left.release();
  await until("it ends", async () => (await other.get("lease/b").string()) === null);
});

test("locks exclude each other", async () => {
  const [one, other] = [client(0), client(1)];
  let inside = 0;
  const enter = (who) =>
    persist(() =>
      who.lock("door").ttl(30).do(async () => {
        inside += 1;
        assert.equal(inside, 1);
        await assert.rejects(other.lock("door").acquire(), EtcdLockFailedError);
        await pause(20);
        inside -= 1;
      }),
    );
  await Promise.all([enter(one), enter(other), enter(one)]);
  await other.lock("door").ttl(30).do(() => assert.equal(inside, 0));
});

test("one candidate is elected, and the next when it resigns", async () => {
  const election = client(0).election("office", 30);
  const observer = await client(2).election("office", 30).observe();
  const first = election.campaign("first");
  await first.wait();
  assert.equal(await election.leader(), "first");
  await until("it is observed", () => observer.leader() === "first");
  const second = client(1).election("office", 30).campaign("second");
  let elected = false;
  const wait = second.wait().then(() => {
    elected = true;
  });
  await pause(500);
  assert.equal(elected, false);
  await first.proclaim("first, again");
  await until("it is observed", () => observer.leader() === "first, again");
  await first.resign();
  await wait;
  await until("it is observed", () => observer.leader() === "second");
  await second.resign();
  await observer.cancel();
});

test("a watch goes on by itself when its member is killed", async () => {
  const [reader, writer] = [client(), client()];
  const seen = [];
  let lost = 0;
  const watcher = await reader.watch().prefix("watch/").create();
  watcher.on("disconnected", () => (lost += 1));
  watcher.on("data", (answer) => seen.push(...answer.events));
  for (let at = 0; at < 3; at += 1) {
    for (let key = 0; key < 6; key += 1) {
      if (key === 3) cluster.kill(at);
      await persist(() => writer.put(`watch/${at}${key}`).value("x"));
    }
    await until("the member is back", () => cluster.answers(at));
  }
  const kept = await persist(() => writer.getAll().prefix("watch/").exec());
  const last = Math.max(...kept.kvs.map((kv) => Number(kv.mod_revision)));
  await until("the last event is seen", () => Number(seen.at(-1)?.kv.mod_revision) >= last);
  // Every member was killed once, and one of them served it.
  assert.ok(lost >= 1);
  const revisions = seen.map((event) => Number(event.kv.mod_revision));
  assert.deepEqual(revisions, [...new Set(revisions)].sort((a, b) => a - b));
  // A put that was repeated is two events; there is one for each version.
  const versions = kept.kvs.reduce((sum, kv) => sum + Number(kv.version), 0);
  assert.equal(seen.length, versions);
  assert.equal(kept.kvs.length, 18);
  await watcher.cancel();
});

test("a watcher of the past is told of it, and of a compaction", async () => {
  const one = client(0);
  const first = await persist(() => one.put("past").value("1"));
  await one.put("past").value("2");
  const watcher = await one.watch().key("past").startRevision(first.header.revision).create();
  const values = [];
  watcher.on("put", (kv) => values.push(kv.value.toString()));
  await until("both are told", () => values.length === 2);
  assert.deepEqual(values, ["1", "2"]);
  await watcher.cancel();
  const { header } = await one.put("past").value("3");
  await one.kv.compact({ revision: header.revision });
  // The reason is empty, as with etcd: that the past is gone is a field of its own.
  const late = one.watch().key("past").startRevision("1").watcher();
  const signal = AbortSignal.timeout(SOON_MS);
  const [error] = await once(late, "error", { signal }).catch((caught) => [caught]);
  assert.match(error.message, /Watcher canceled/);
});

test("members, status and alarms are told", async () => {
  const one = client(0);
  const { members } = await one.cluster.memberList({});
  assert.deepEqual(members.map((member) => member.name).sort(), ["n1", "n2", "n3"]);
  assert.ok(Number((await one.maintenance.status()).dbSize) > 0);
  assert.deepEqual((await one.maintenance.alarm({ action: "Get" })).alarms, []);
});
