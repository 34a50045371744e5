import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import dgram from "node:dgram";
import { once } from "node:events";
import fs from "node:fs";
import type { ServerResponse } from "node:http";
import https from "node:https";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { ip } from "../../host/core/address.ts";
import { frameMessage } from "../../host/core/dns/stream-framing.ts";
import { DnsForwarder } from "../../host/daemon/dns-forwarder.ts";
import { DohClient } from "../../host/daemon/doh-client.ts";
import { NameserverRanking } from "../../host/daemon/nameserver-ranking.ts";
import { beginConnectMarked } from "../../host/io/linux/marked-socket.ts";
import { queryBytes, upstreamAnswer } from "../unit/dns/queries.ts";

const LOOPBACK = ip("127.0.0.1");
const MARK = 0xca1;

describe("DNS over HTTPS on the host", () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-doh-"));
  const requests: { url: string; accept: string | undefined; socket: net.Socket }[] = [];
  let respond: (message: Buffer, response: ServerResponse) => void = () => {};
  let server: https.Server;
  let client: DohClient;
  let url = "";

  before(async () => {
    const [key, certificate] = ["key.pem", "cert.pem"].map((name) => path.join(directory, name));
    const subject = ["-subj", "/CN=dns.example", "-addext", "subjectAltName=DNS:dns.example"];
    const files = ["-keyout", key!, "-out", certificate!];
    const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    execFileSync("openssl", ["req", "-x509", ...kind, ...files, ...subject], { stdio: "ignore" });
    const ca = fs.readFileSync(certificate!);
    server = https.createServer({ key: fs.readFileSync(key!), cert: ca }, (request, response) => {
      const target = new URL(request.url ?? "", "https://dns.example");
      requests.push({ url: request.url ?? "", accept: request.headers.accept, socket: request.socket });
      respond(Buffer.from(target.searchParams.get("dns") ?? "", "base64url"), response);
    });
    server.listen(0, LOOPBACK);
    await once(server, "listening");
    url = `https://dns.example:${(server.address() as net.AddressInfo).port}/dns-query`;
    client = new DohClient({
      resolve: async (host) => (host === "dns.example" ? [LOOPBACK] : []),
      connect: (remote) => beginConnectMarked(remote, MARK),
      ca,
    });
  });
  after(() => {
    client.reset();
    server.closeAllConnections();
    server.close();
    fs.rmSync(directory, { recursive: true, force: true });
  });

  const query = queryBytes("www.example.org", "A", 0);
  const answer = (message: Uint8Array) => upstreamAnswer(message, { addresses: ["192.0.2.9"], ttl: 60 });

  test("a query is a GET with unpadded base64url, and connections are kept (tunnel-core 24.28)", async () => {
    respond = (message, response) => {
      response.setHeader("content-type", "application/dns-message");
      response.end(answer(message));
    };
    for (let i = 0; i < 2; i++) {
      const result = await client.ask(url, query);
      assert.equal(result.kind, "answer");
      assert.deepEqual(result.kind === "answer" ? Uint8Array.from(result.message) : undefined, answer(query));
    }
    assert.equal(requests[0]?.url, `/dns-query?dns=${Buffer.from(query).toString("base64url")}`);
    assert.ok(!requests[0]?.url.endsWith("="));
    assert.equal(requests[0]?.accept, "application/dns-message");
    assert.equal(requests[0]?.socket, requests[1]?.socket);
  });

  test("any other status or content type, and too long an answer, is a failure (tunnel-core 11.6)", async () => {
    const failures: [number, string, number][] = [
      [404, "application/dns-message", 20],
      [200, "text/html", 20],
      [200, "application/dns-message", 65_536],
    ];
    for (const [status, type, bytes] of failures) {
      respond = (_message, response) => {
        response.writeHead(status, { "content-type": type });
        response.end(Buffer.alloc(bytes));
      };
      assert.deepEqual(await client.ask(url, query), { kind: "failed" }, `${status} ${type} ${bytes}`);
    }
  });

  test("a server that nobody vouches for, has no address or refuses is a failure", async () => {
    const stranger = new DohClient({
      resolve: async () => [LOOPBACK],
      connect: (remote) => beginConnectMarked(remote, MARK),
    });
    assert.deepEqual(await stranger.ask(url, query), { kind: "failed" });
    stranger.reset();
    assert.deepEqual(await client.ask("https://nowhere.example/", query), { kind: "failed" });
    assert.deepEqual(await client.ask("https://dns.example:1/", query), { kind: "failed" });
  });
});

describe("DNS forwarded by the host", () => {
  const forwarder = new DnsForwarder(MARK);
  const query = queryBytes("www.example.org", "A", 99);

  test("over TCP the answer may come in pieces; a wrong id is not it; the end without one is a failure", async () => {
    const answer = upstreamAnswer(query, { addresses: ["192.0.2.9"], ttl: 60 });
    const server = await listen((socket) => {
      socket.once("data", (asked: Buffer) => {
        assert.deepEqual(Uint8Array.from(asked), frameMessage(query));
        const wrong = answer.slice();
        wrong[1] = 1;
        const bytes = Buffer.concat([frameMessage(wrong), frameMessage(answer)]);
        socket.write(bytes.subarray(0, bytes.length - 5));
        setTimeout(() => socket.write(bytes.subarray(bytes.length - 5)), 20);
      });
    });
    const result = await forwarder.forward(addressOf(server), query, "tcp");
    assert.equal(result.kind, "answer");
    assert.deepEqual(result.kind === "answer" ? Uint8Array.from(result.message) : undefined, answer);
    server.close();

    const mute = await listen((socket) => socket.end());
    assert.deepEqual(await forwarder.forward(addressOf(mute), query, "tcp"), { kind: "failed" });
    mute.close();
    assert.deepEqual(await forwarder.forward({ ip: LOOPBACK, port: 1 }, query, "tcp"), { kind: "failed" });
  });

  test("over TCP a server that says nothing is given up in time", async () => {
    const sockets: net.Socket[] = [];
    const server = await listen((socket) => sockets.push(socket));
    assert.deepEqual(await forwarder.forward(addressOf(server), query, "tcp", 100), { kind: "timeout" });
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test("only the latest round ranks nameservers, and the first in the list stands in (tunnel-core 23 Q19)", async () => {
    const addresses = ["127.0.5.1", "127.0.5.2"];
    const delays = [60, 0];
    const sockets = await Promise.all(
      addresses.map((address, i) => serveSlowly(address, () => delays[i] ?? 0)),
    );
    const ranking = new NameserverRanking(forwarder, () => addresses.map((address) => ip(address)));
    assert.equal(ranking.fastest("udp"), addresses[0], "nothing measured yet");
    await ranking.measure();
    assert.equal(ranking.fastest("udp"), addresses[1]);
    assert.equal(ranking.fastest("tcp"), addresses[0], "nobody serves TCP");
    delays.reverse();
    await ranking.measure();
    assert.equal(ranking.fastest("udp"), addresses[0], "one lucky round does not count for ever");
    for (const socket of sockets) socket.close();
  });
});

async function listen(serve: (socket: net.Socket) => void): Promise<net.Server> {
  const server = net.createServer(serve);
  server.listen(0, LOOPBACK);
  await once(server, "listening");
  return server;
}

function addressOf(server: net.Server) {
  return { ip: LOOPBACK, port: (server.address() as net.AddressInfo).port };
}

async function serveSlowly(address: string, delayMs: () => number): Promise<dgram.Socket> {
  const socket = dgram.createSocket("udp4");
  socket.on("message", (message, remote) => {
    const answer = Buffer.from(message);
    answer[2] = 0x81;
    const timer = setTimeout(() => socket.send(answer, remote.port, remote.address), delayMs());
    socket.on("close", () => clearTimeout(timer));
  });
  socket.bind(53, address);
  await once(socket, "listening");
  return socket;
}
