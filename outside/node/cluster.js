// Three members of quorate for the tests beside this file, by `quorate up`, as a user starts them.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

// Ports are searched for from here; `quorate up` gives ten to each member.
const PORT_MIN = 12_000;
const PORT_MAX = 30_000;
const PORTS_EACH = 10;
const MEMBERS = 3;
// A machine that is busy may take long for anything; a test that waits longer has failed.
export const SOON_MS = 60_000;

/** Waits until `condition` gives something true, and returns that. */
export async function until(what, condition) {
  const end = Date.now() + SOON_MS;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${SOON_MS} ms`);
    await pause(50);
  }
}

/** Tries `action` again while it fails; it must be safe to repeat. */
export async function persist(action) {
  const end = Date.now() + SOON_MS;
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (Date.now() > end) throw error;
      await pause(100);
    }
  }
}

/** Starts a cluster and waits until it serves. */
export async function start() {
  const data = mkdtempSync(join(tmpdir(), "quorate-node-"));
  const words = ["up", "--json", "--nodes", `${MEMBERS}`, "--port-base", `${await freePorts()}`];
  const up = spawn(process.env.QUORATE_BIN, [...words, "--data", join(data, "data")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => up.once("exit", resolve));
  const lines = createInterface({ input: up.stdout });
  const hosts = await new Promise((resolve, reject) => {
    lines.on("line", (line) => {
      const event = JSON.parse(line);
      if (event.event === "ready") resolve(event.endpoints);
    });
    ended.then(() => reject(new Error("quorate up ended before it served")));
  });
  return {
    hosts,
    /** Kills the process of a member; `quorate up` starts another in its place. */
    kill(at) {
      const name = `--name=n${at + 1} `;
      const found = execFileSync("pgrep", ["-P", `${up.pid}`, "-f", "--", name]);
      process.kill(Number(`${found}`), "SIGKILL");
    },
    /** The member takes connections. */
    answers: (at) => dial(hosts[at]),
    async stop() {
      up.kill("SIGINT");
      await ended;
      rmSync(data, { recursive: true });
    },
  };
}

function dial(address) {
  const [host, port] = address.split(":");
  return new Promise((resolve) => {
    const socket = connect(Number(port), host);
    socket.once("connect", () => resolve(true) || socket.destroy());
    socket.once("error", () => resolve(false));
  });
}

async function freePorts() {
  const span = MEMBERS * PORTS_EACH;
  const first = PORT_MIN + 200 * span + (process.pid % 200) * span;
  for (let base = first; base < PORT_MAX; base += span) {
    const ports = Array.from({ length: span }, (_, offset) => base + offset);
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean)) return base;
  }
  throw new Error("no free ports");
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
