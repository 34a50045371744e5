import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";
import type { ClientIngress, GatewayIngress } from "../../host/core/messages.ts";
import { PortalConnection, type PortalMessages } from "../../host/daemon/portal-connection.ts";
import { type RunningPortal, startPortal } from "../../host/daemon/portal-server.ts";
import { updateTokenFile } from "../../host/daemon/token-file.ts";
import type { ChannelFatal, ChannelState } from "../../host/portal/channel.ts";
import { createToken, type TokenOwner } from "../../host/portal/server/tokens.ts";
import type { PortalRole } from "../../host/portal/wire.ts";

const YAML = `
account: { slug: loopback }
listen: { sockets: { host: 127.0.0.1, port: 0 } }
actors: [{ name: Mira, kind: user }]
sites: [{ name: Rack 4 }]
resources:
  - { name: Wiki, type: dns, address: wiki.corp.example, site: Rack 4 }
  - { name: Lab, type: cidr, address: 10.31.0.0/16, site: Rack 4 }
policies:
  - { group: Everyone, resource: Wiki }
  - { group: Everyone, resource: Lab }
`;
const CANDIDATE = "candidate:8421337 1 udp 2130706431 192.168.7.20 52625 typ host";
const random = { bytes: (length: number) => crypto.randomBytes(length), uniform: Math.random };

const cleanups: (() => unknown)[] = [];
after(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

interface Lab {
  readonly portal: RunningPortal;
  readonly configFile: string;
  readonly tokenFile: string;
  readonly warnings: string[];
}

function temporaryFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-portal-"));
  cleanups.push(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function startLab(yaml = YAML): Promise<Lab> {
  const folder = temporaryFolder();
  const configFile = path.join(folder, "portal.yaml");
  fs.writeFileSync(configFile, yaml);
  const warnings: string[] = [];
  const warn = (fields: object, message: string) => warnings.push(`${message} ${JSON.stringify(fields)}`);
  const portal = await startPortal({ configFile, log: { debug() {}, info() {}, warn, error: warn } });
  cleanups.push(() => portal.close());
  return { portal, configFile, tokenFile: path.join(folder, "tokens.json"), warnings };
}

function issue(lab: Lab, owner: TokenOwner): { text: string; id: string } {
  const { record, text } = createToken(owner, undefined, Math.floor(Date.now() / 1000), random);
  updateTokenFile(lab.tokenFile, (tokens) => tokens.set(record.id, record));
  return { text, id: record.id };
}

const clientOwner = (): TokenOwner => ({
  kind: "client",
  actor: "Mira",
  expiresAt: Math.floor(Date.now() / 1000) + 3600,
});
const GATEWAY_OWNER: TokenOwner = { kind: "gateway", site: "Rack 4", expiresAt: undefined };
const RELAY_OWNER: TokenOwner = { kind: "relay", expiresAt: undefined };

/** A connection with everything that happened to it. */
class Peer<Role extends PortalRole> {
  readonly messages: PortalMessages[Role]["ingress"][] = [];
  readonly states: ChannelState[] = [];
  readonly connection: PortalConnection<Role>;
  fatal: ChannelFatal | undefined;

  constructor(
    role: Role,
    url: string,
    token: string,
    more: Partial<ConstructorParameters<typeof PortalConnection<Role>>[0]> = {},
  ) {
    this.connection = new PortalConnection<Role>(
      { url, role, token, externalId: `${role}-1`, publicKey: crypto.randomBytes(32), ...more },
      {
        onMessage: (message) => this.messages.push(message),
        onState: (state) => this.states.push(state),
        onFatal: (error) => {
          this.fatal = error;
        },
      },
    );
    cleanups.push(() => this.connection.close());
  }

  async message<T extends PortalMessages[Role]["ingress"]>(kind: T["kind"]): Promise<T> {
    const found = () => this.messages.find((message) => message.kind === kind);
    await until(
      () => found() !== undefined,
      `${kind}; got ${this.messages.map((m) => m.kind).join()} in ${this.states.join()}`,
    );
    return found() as T;
  }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 8_000;
  while (!condition()) {
    if (Date.now() > end) assert.fail(`did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

type Init = Extract<ClientIngress, { kind: "init" }>;
type Created = Extract<ClientIngress, { kind: "authorization-created" }>;
type Create = Extract<GatewayIngress, { kind: "create-authorization" }>;

test("client, gateway and relay connect, and a grant with candidates goes through", async () => {
  const lab = await startLab();
  const url = lab.portal.url;
  const stampSecret = crypto.randomBytes(32).toString("hex");
  const relay = new Peer("relay", url, issue(lab, RELAY_OWNER).text, {
    relay: { ipv4: "198.51.100.20", ipv6: "2001:db8:20::1", port: 3478, stampSecret },
  });
  await relay.message("init");
  const gateway = new Peer("gateway", url, issue(lab, GATEWAY_OWNER).text);
  await gateway.message("init");
  // A token with white space in it, as files have it.
  const client = new Peer("client", `${url}`, `${issue(lab, clientOwner()).text}\n`);
  const init = await client.message<Init>("init");
  assert.deepEqual(
    init.resources.map(({ name }) => name),
    ["Wiki", "Lab"],
  );
  assert.deepEqual(init.relays[0]?.v6, { ip: "2001:db8:20::1", port: 3478 });
  assert.deepEqual(client.states, ["connecting", "joining", "joined"]);

  const [wiki] = init.resources;
  assert.ok(wiki !== undefined);
  assert.equal(
    client.connection.send({ kind: "request-authorization", resource: wiki.id, connectedGateways: [] }),
    true,
  );
  const asked = await gateway.message<Create>("create-authorization");
  gateway.connection.send({ kind: "authorization-created", ref: asked.ref });
  gateway.connection.send({ kind: "ice-candidates", clients: [asked.client.id], candidates: [CANDIDATE] });
  const created = await client.message<Created>("authorization-created");
  assert.deepEqual(created.presharedKey, asked.client.presharedKey);
  await client.message("ice-candidates");
  client.connection.send({ kind: "ice-candidates", gateway: created.gateway, candidates: [CANDIDATE] });
  await gateway.message("ice-candidates");
  assert.deepEqual(lab.portal.status(), { clients: 1, gateways: 1, relays: 1, grants: 1 });
  assert.deepEqual(lab.warnings, []);
});

test("answers a bad token in one write, with Content-Length and a problem body (portal 25.4)", async () => {
  const lab = await startLab();
  const chunks = await rawUpgrade(
    lab.portal,
    "/client/v2/websocket?external_id=a",
    "X-Authorization: Bearer junk",
  );
  assert.equal(chunks.length, 1);
  const [head = "", body = ""] = (chunks[0] ?? "").split("\r\n\r\n");
  assert.match(head, /^HTTP\/1\.1 401 Unauthorized\r\n/);
  assert.match(head, /\r\nContent-Type: application\/problem\+json; charset=utf-8(\r\n|$)/);
  assert.match(head, new RegExp(`\\r\\nContent-Length: ${Buffer.byteLength(body)}(\\r\\n|$)`));
  assert.doesNotMatch(head, /Transfer-Encoding|Content-Encoding/i);
  assert.deepEqual(JSON.parse(body), {
    type: "about:blank",
    title: "Unauthorized",
    status: 401,
    detail: "Invalid token",
    code: "invalid_token",
  });
});

test("every refusal is a problem with its code (portal 25.4)", async () => {
  const lab = await startLab();
  const { text } = issue(lab, clientOwner());
  const bearer = `X-Authorization: Bearer ${text}`;
  const cases: readonly (readonly [string, string, number, string])[] = [
    ["/client/v2/websocket", "X-Nothing: 1", 401, "missing_token"],
    ["/client/v2/websocket", bearer, 400, "invalid_connect_params"],
    ["/client/v2/websocket", bearer, 503, "rate_limit"],
    ["/elsewhere", bearer, 404, "not_found"],
  ];
  for (const [target, header, status, code] of cases) {
    const response = (await rawUpgrade(lab.portal, target, header)).join("");
    assert.ok(response.startsWith(`HTTP/1.1 ${status} `), response);
    assert.equal(JSON.parse(response.split("\r\n\r\n")[1] ?? "").code, code);
    assert.equal(/\r\nRetry-After: 1\r\n/.test(response), status === 503);
  }
});

test("answers the upgrade without extensions or subprotocol, and Connection is exactly Upgrade", async () => {
  const lab = await startLab();
  const { text } = issue(lab, clientOwner());
  const query = `external_id=a&name=b&public_key=${encodeURIComponent(Buffer.alloc(32, 1).toString("base64"))}`;
  const headers = [
    `X-Authorization: Bearer ${text}`,
    "User-Agent: Ubuntu/24.04 headless-client/1.5.12",
    "Sec-WebSocket-Protocol: phoenix",
    "Sec-WebSocket-Extensions: permessage-deflate",
  ].join("\r\n");
  const response = (await rawUpgrade(lab.portal, `/client/v2/websocket?${query}`, headers)).join("");
  assert.match(response, /^HTTP\/1\.1 101 /);
  assert.match(response, /\r\nConnection: Upgrade\r\n/);
  assert.doesNotMatch(response, /Sec-WebSocket-(Protocol|Extensions)/i);
});

test("a rejected token is fatal, a missing portal is not (portal 25.12)", async () => {
  const lab = await startLab();
  const rejected = new Peer(
    "gateway",
    lab.portal.url,
    ".cv1.gateway.AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  );
  await until(() => rejected.fatal !== undefined, "fatal");
  assert.deepEqual(rejected.fatal, { kind: "token-rejected", code: "invalid_token" });

  const port = await freePort();
  const lonely = new Peer("gateway", `ws://127.0.0.1:${port}`, "x");
  await until(() => lonely.states.includes("retrying"), "retrying");
  assert.equal(lonely.fatal, undefined);
});

test("a token that is revoked signs its holder out within seconds, and a new one works at once", async () => {
  const lab = await startLab();
  const { text, id } = issue(lab, clientOwner());
  const client = new Peer("client", lab.portal.url, text);
  await client.message("init");
  updateTokenFile(lab.tokenFile, (tokens) => tokens.delete(id));
  await until(() => client.fatal !== undefined, "sign-out");
  assert.deepEqual(client.fatal, { kind: "token-expired" });
});

test("reload applies the file, and keeps the old configuration when the new is wrong", async () => {
  const lab = await startLab();
  const client = new Peer("client", lab.portal.url, issue(lab, clientOwner()).text);
  await client.message("init");
  fs.writeFileSync(lab.configFile, YAML.replace("10.31.0.0/16", "10.31.0.1/16"));
  lab.portal.reload();
  assert.match(lab.warnings.join(), /did you mean 10\.31\.0\.0\/16\?/);

  fs.writeFileSync(lab.configFile, YAML.replace("  - { group: Everyone, resource: Lab }\n", ""));
  lab.portal.reload();
  await client.message("resource-deleted");
});

test("peers reconnect to a restarted portal and keep ids and addresses (portal 25.19)", async () => {
  const port = await freePort();
  const lab = await startLab(YAML.replace("port: 0", `port: ${port}`));
  const client = new Peer("client", lab.portal.url, issue(lab, clientOwner()).text);
  const before = await client.message<Init>("init");
  client.messages.length = 0;
  await lab.portal.close();
  await until(() => client.states.includes("retrying"), "retrying");

  const portal = await startPortal({
    configFile: lab.configFile,
    log: { debug() {}, info() {}, warn() {}, error() {} },
  });
  cleanups.push(() => portal.close());
  assert.deepEqual((await client.message<Init>("init")).interface, before.interface);
  assert.equal(client.fatal, undefined);
});

test("the hook makes the TCP connection, before or after it is connected", async () => {
  const lab = await startLab();
  const { port } = lab.portal.address;
  const targets: unknown[] = [];
  const createSocket = async (target: { host: string; port: number }) => {
    targets.push(target);
    const socket = net.connect(port, "127.0.0.1");
    if (targets.length > 1) await new Promise((resolve) => socket.once("connect", resolve));
    return socket;
  };
  const peer = new Peer("client", `ws://portal.invalid:${port}`, issue(lab, clientOwner()).text, {
    createSocket,
  });
  await peer.message("init");
  peer.messages.length = 0;
  peer.connection.reconnect(crypto.randomBytes(32));
  await peer.message("init");
  assert.deepEqual(targets, Array(2).fill({ host: "portal.invalid", port }));

  const failing = new Peer("client", `ws://portal.invalid:${port}`, "x", {
    createSocket: () => Promise.reject(new Error("no route")),
  });
  await until(() => failing.states.includes("retrying"), "retrying");
});

test("serves TLS from certificate files, which peers verify, with and without the socket hook", async () => {
  const folder = temporaryFolder();
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const made = spawnSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
    ].concat(...["-keyout", path.join(folder, "key.pem"), "-out", path.join(folder, "cert.pem")], subject),
  );
  assert.equal(made.status, 0, "openssl makes the certificate");
  const files = `cert: ${folder}/cert.pem, key: ${folder}/key.pem`;
  const lab = await startLab(YAML.replace("port: 0", `port: 0, ${files}`));
  const ca = fs.readFileSync(path.join(folder, "cert.pem"), "utf8");
  const { port } = lab.portal.address;
  const url = `https://localhost:${port}/`;
  const lookup: net.LookupFunction = (_host, options, callback) => {
    if (options.all) callback(null, [{ address: "127.0.0.1", family: 4 }]);
    else callback(null, "127.0.0.1", 4);
  };
  const token = () => issue(lab, clientOwner()).text;
  await new Peer("client", url, token(), { ca, lookup, externalId: "a" }).message("init");
  const createSocket = () => net.connect(port, "127.0.0.1");
  await new Peer("client", url, token(), { ca, createSocket, externalId: "b" }).message("init");

  for (const distrustful of [{ lookup }, { createSocket }]) {
    const peer = new Peer("client", url, token(), { ...distrustful, externalId: "c" });
    await until(() => peer.states.includes("retrying"), "refused certificate");
    assert.deepEqual(peer.messages, []);
  }
});

test("health and readiness, and nothing else over plain requests", async () => {
  const lab = await startLab();
  const status = async (target: string) => (await fetch(new URL(target, lab.portal.url))).status;
  assert.deepEqual(
    [
      await status("healthz"),
      await status("readyz"),
      await status("client/websocket"),
      await status("other"),
    ],
    [200, 200, 400, 404],
  );
});

test("closes binary frames with 1003 and huge ones with 1009", async () => {
  const lab = await startLab();
  for (const [payload, code] of [
    [Buffer.from([1, 2]), 1003],
    ["x".repeat(70_000), 1009],
  ] as const) {
    const query = `external_id=${code}&public_key=${encodeURIComponent(Buffer.alloc(32, 1).toString("base64"))}`;
    const socket = new WebSocket(`${lab.portal.url.replace("http", "ws")}client/v2/websocket?${query}`, {
      headers: {
        "X-Authorization": `Bearer ${issue(lab, clientOwner()).text}`,
        "User-Agent": "A/1 gui-client/1.5.13",
      },
    });
    socket.on("open", () => socket.send(payload));
    assert.equal(await new Promise((resolve) => socket.on("close", resolve)), code);
  }
  await until(() => lab.portal.status().clients === 0, "clients forgotten");
});

test("drain closes connections with 1012 and then the portal", async () => {
  const lab = await startLab();
  const peers = ["a", "b", "c"].map(
    (externalId) => new Peer("client", lab.portal.url, issue(lab, clientOwner()).text, { externalId }),
  );
  await Promise.all(peers.map((peer) => peer.message("init")));
  await lab.portal.drain();
  await until(() => peers.every((peer) => peer.states.includes("retrying")), "all retry");
  await assert.rejects(fetch(new URL("readyz", lab.portal.url)));
});

test("the command line checks, issues, lists and revokes", async () => {
  const folder = temporaryFolder();
  const config = path.join(folder, "portal.yaml");
  fs.writeFileSync(config, YAML);
  const run = (...args: string[]) => runPortal(...args, "--config", config);

  assert.match((await run("check")).stdout, /ok \(1 actors, 1 sites, 2 resources, 2 policies\)/);
  const created = await run("token", "create", "--kind", "gateway", "--site", "Rack 4", "--label", "one");
  assert.match(created.stdout, /^\.cv1\.gateway\.[\w-]+\.[\w-]+\n$/);
  const [, id = ""] = /created token ([0-9a-f-]{36})/.exec(created.stderr) ?? [];
  assert.equal((await run("token", "list")).stdout, `${id}\tgateway of Rack 4\tdoes not expire\tone\n`);
  assert.equal((await run("token", "revoke", id)).code, 0);
  assert.equal((await run("token", "list")).stdout, "");
  assert.equal((await run("token", "revoke", id)).code, 1);
  assert.equal((await run("token", "create", "--kind", "client")).code, 2);
  const slip = await run("token", "create", "--kind", "client", "--actor", "Mia");
  assert.deepEqual([slip.code, slip.stderr], [1, 'no actor is named "Mia"; did you mean "Mira"?\n']);

  fs.writeFileSync(config, YAML.replace("10.31.0.0/16", "10.31.0.1/8"));
  const wrong = await run("check");
  assert.equal(wrong.code, 1);
  assert.equal(
    wrong.stderr,
    `${config}:8: resources[1].address: "10.31.0.1/8" has host bits set; did you mean 10.0.0.0/8?\n`,
  );
  assert.equal((await run()).code, 1);
});

/** Runs `culvert portal …` in its own process. */
async function runPortal(
  ...args: string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const cli = fileURLToPath(new URL("../../host/cli/portal.ts", import.meta.url));
  const script = `const { portalCommand } = await import(${JSON.stringify(cli)});
    const exit = (command) => { command.exitOverride((error) => process.exit(error.exitCode)); command.commands.forEach(exit); };
    const portal = portalCommand(); exit(portal);
    await portal.parseAsync(process.argv.slice(1), { from: "user" });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, "--", ...args]);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += String(chunk);
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += String(chunk);
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, stdout, stderr };
}

/** Sends an upgrade by hand; answers the chunks as they arrived, until the portal closes or falls silent. */
async function rawUpgrade({ address }: RunningPortal, target: string, headers: string): Promise<string[]> {
  const socket = net.connect(address.port, "127.0.0.1");
  const chunks: string[] = [];
  socket.write(
    `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${headers}\r\n\r\n`,
  );
  socket.on("data", (chunk) => chunks.push(String(chunk)));
  await new Promise<void>((resolve) => {
    socket.on("close", () => resolve());
    socket.setTimeout(500, () => resolve());
  });
  socket.destroy();
  return chunks;
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
