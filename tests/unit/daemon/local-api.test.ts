import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { afterEach, test } from "node:test";
import { ip } from "../../../host/core/address.ts";
import type { Explanation, Question } from "../../../host/core/explanation.ts";
import { LocalApi, type LocalApiHandlers, MAX_CONNECTIONS } from "../../../host/daemon/local-api.ts";
import { askExplain, askStatus } from "../../../host/daemon/local-client.ts";
import { MAX_REQUEST_BYTES } from "../../../host/daemon/local-protocol.ts";
import { SetupError } from "../../../host/daemon/preflight.ts";
import type { DaemonStatus } from "../../../host/daemon/status.ts";

const STATUS: DaemonStatus = {
  role: "gateway",
  tun: "tun0",
  uptimeMs: 5,
  portal: { url: "wss://portal.example", state: "joined", forMs: 3 },
  ipv4: ip("100.64.0.2"),
  ipv6: ip("fd00:2021:1111::2"),
  peers: [],
  natEntries: 0,
};
const QUESTION: Question = {
  to: { kind: "address", address: ip("10.0.0.7") },
  protocol: "tcp",
  port: 80,
  from: undefined,
};

const opened: (LocalApi | net.Server)[] = [];
const directories: string[] = [];

afterEach(() => {
  for (const api of opened.splice(0)) api.close();
  for (const directory of directories.splice(0)) fs.rmSync(directory, { recursive: true });
});

test("makes directory and socket for their owner alone, and removes the socket when it closes", async () => {
  const socket = path.join(scratch(), "run", "client.sock");
  const api = await open(socket);
  assert.equal(mode(path.dirname(socket)), 0o750);
  assert.equal(mode(socket), 0o600);
  assert.ok(fs.statSync(socket).isSocket());

  api.close();
  assert.deepEqual(fs.readdirSync(path.dirname(socket)), []);
});

test("leaves the mode of a directory that was there before", async () => {
  const directory = scratch();
  fs.chmodSync(directory, 0o711);
  await open(path.join(directory, "client.sock"));
  assert.equal(mode(directory), 0o711);
});

test("answers status and explain, with the question as it was asked", async () => {
  const socket = path.join(scratch(), "s");
  const asked: Question[] = [];
  await open(socket, {
    explain: async (question) => {
      asked.push(question);
      return { role: "client", question, verdict: "refused", reason: "filter" };
    },
  });
  assert.deepEqual(await askStatus(socket), STATUS);
  const answer = await askExplain(socket, QUESTION);
  assert.deepEqual([answer.verdict, answer.reason], ["refused", "filter"]);
  assert.deepEqual(asked, [QUESTION]);
});

test("answers several requests of one connection in order, one at a time", async () => {
  const socket = path.join(scratch(), "s");
  let running = 0;
  await open(socket, {
    explain: async (question) => {
      running += 1;
      assert.equal(running, 1);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      return explained(question);
    },
  });
  const lines = [1, 2, 3].map((port) => `${JSON.stringify(request({ ...QUESTION, port }))}\n`).join("");
  const answers = await exchange(socket, lines, 3);
  assert.deepEqual(
    answers.map((answer) => (answer["result"] as Explanation).question.port),
    [1, 2, 3],
  );
});

test("refuses what is no request, and goes on", async () => {
  const socket = path.join(scratch(), "s");
  await open(socket);
  const bad = [
    "",
    "nonsense",
    "[]",
    '{"method":"shutdown"}',
    '{"method":"status","extra":1}',
    JSON.stringify(request({ ...QUESTION, port: 65_536 })),
    '{"method":"explain","question":{"to":{"kind":"address","address":"10.0.0"},"protocol":"tcp","port":1}}',
    `{"method":"explain","question":{"to":{"kind":"name","name":"${"a".repeat(300)}"},"protocol":"tcp","port":1}}`,
  ];
  const answers = await exchange(socket, [...bad, '{"method":"status"}', ""].join("\n"), bad.length + 1);
  assert.deepEqual(
    answers.map(({ ok, error }) => ok === true || (error as { code: string }).code),
    [...bad.map(() => "bad-request"), true],
  );
});

test("a line without end is refused and the connection closed", async () => {
  const socket = path.join(scratch(), "s");
  await open(socket);
  const connection = net.connect(socket);
  connection.write("x".repeat(MAX_REQUEST_BYTES + 1));
  const said = await textOf(connection);
  assert.match(said, /^\{"ok":false.*too long.*\}\n$/);
  assert.deepEqual(await askStatus(socket), STATUS);
});

test("answers a bounded number of connections, and says so to the rest", async () => {
  const socket = path.join(scratch(), "s");
  await open(socket);
  const held = Array.from({ length: MAX_CONNECTIONS }, () => net.connect(socket));
  await Promise.all(held.map((connection) => once(connection, "connect")));
  await assert.rejects(askStatus(socket), (error: Error) => {
    assert.ok(error instanceof SetupError);
    return /busy/.test(error.message);
  });
  held[0]?.destroy();
  for (let attempt = 0; ; attempt++) {
    const answer = await askStatus(socket).catch(() => undefined);
    if (answer !== undefined) break;
    assert.ok(attempt < 100, "a place that became free is given again");
  }
  for (const connection of held) connection.destroy();
});

test("an answer that cannot be given is an error for the asker alone", async () => {
  const socket = path.join(scratch(), "s");
  await open(socket, { explain: () => Promise.reject(new Error("the daemon is starting")) });
  await assert.rejects(askExplain(socket, QUESTION), /the daemon is starting \(unavailable\)/);
  assert.deepEqual(await askStatus(socket), STATUS);
});

test("a second daemon on the same path is refused, and the first goes on", async () => {
  const socket = path.join(scratch(), "s");
  await open(socket);
  await assert.rejects(open(socket), /another daemon listens on .*--socket/);
  assert.deepEqual(await askStatus(socket), STATUS);
});

test("the socket of a process that was killed is replaced", async () => {
  const socket = path.join(scratch(), "s");
  const script = `require("node:net").createServer().listen(${JSON.stringify(socket)}, () => console.log("up"))`;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.ok(fs.statSync(socket).isSocket(), "it is left behind");

  await open(socket);
  assert.deepEqual(await askStatus(socket), STATUS);
});

test("a file that is no socket stays, as does the socket of a successor", async () => {
  const directory = scratch();
  const file = path.join(directory, "file");
  fs.writeFileSync(file, "precious");
  await assert.rejects(open(file), /exists and is no socket/);
  assert.equal(fs.readFileSync(file, "utf8"), "precious");

  const socket = path.join(directory, "s");
  const first = await open(socket);
  fs.renameSync(socket, `${socket}.old`);
  await open(socket);
  first.close();
  assert.deepEqual(await askStatus(socket), STATUS);
});

test("paths that cannot be are refused with what to do", async () => {
  await assert.rejects(open(`/tmp/${"x".repeat(120)}`), /longer than 107 bytes/);
  await assert.rejects(open("/proc/nowhere/s"), /cannot listen on .*--socket/);
});

test("without a daemon the commands say where they looked", async () => {
  const socket = path.join(scratch(), "s");
  await assert.rejects(askStatus(socket), (error: Error) => {
    assert.ok(error instanceof SetupError);
    return error.message.includes(socket) && /is it running/.test(error.message);
  });
});

function scratch(): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-api-"));
  directories.push(directory);
  return directory;
}

async function open(socket: string, handlers: Partial<LocalApiHandlers> = {}): Promise<LocalApi> {
  const api = await LocalApi.open(socket, {
    status: async () => STATUS,
    explain: async (question) => explained(question),
    ...handlers,
  });
  opened.push(api);
  return api;
}

function explained(question: Question): Explanation {
  return { role: "client", question, verdict: "passes", reason: "permitted" };
}

function request(question: Question): unknown {
  return { method: "explain", question };
}

async function exchange(socket: string, text: string, count: number): Promise<Record<string, unknown>[]> {
  const connection = net.connect(socket);
  connection.write(text);
  let said = "";
  for await (const chunk of connection) {
    said += String(chunk);
    if (said.split("\n").length > count) break;
  }
  return said
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function textOf(connection: net.Socket): Promise<string> {
  let said = "";
  for await (const chunk of connection) said += String(chunk);
  return said;
}

function mode(file: string): number {
  return fs.statSync(file).mode & 0o777;
}
