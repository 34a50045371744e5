import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { type IpAddress, ip } from "../../host/core/address.ts";
import type { DaemonName } from "../../host/lab/lab.ts";
import { type LogLine, waitForLine } from "../../host/lab/log-watch.ts";
import { LAB_PORTAL } from "../../host/lab/policy.ts";
import { ADDRESSES, type HostName } from "../../host/lab/topology.ts";
import { echo, icmpError, tcp, udp } from "../unit/packet/packets.ts";
import type { Flood } from "./flooder.ts";
import { TestLab } from "./lab-harness.ts";
import { Program } from "./program.ts";
import type { Rogue } from "./rogue-client.ts";
import { SiteCounter } from "./site-counter.ts";

const SERVER = ADDRESSES.siteWeb.v4;
const TUNNEL_PORT = 52625;
const RELAY_PORT = 3478;
const PORTAL_PORT = 8081;
const FLOOD_SECONDS = 10;
/** Buffers and garbage may come and go by this much; a leak under a flood is hundreds of megabytes. */
const FLAT_BYTES = 20 << 20;
const DAEMONS = ["client", "gateway", "relay", "portal"] as const;

describe("hostile datagrams", () => {
  let lab: TestLab;
  before(async () => {
    lab = await TestLab.start();
  });
  after(() => lab.discard());

  test("a flood on every open port leaves honest traffic alone, memory flat, and is counted", async () => {
    const stray = await SiteCounter.create(
      lab.lab.host("site"),
      "meta l4proto udp udp dport != 53",
      "meta l4proto != { tcp, udp, icmp, ipv6-icmp }",
      "tcp dport != 80",
    );
    await lab.fetch(`http://${SERVER}/`);
    // Something real to learn from.
    const honest = new Program(lab.lab.host("client"), ["ping", "-i", "0.2", "-W", "5", SERVER]);
    const flooders = FLOODS.map(([host, flood]) => start(lab, host, "flooder.ts", JSON.stringify(flood)));
    for (const flooder of flooders) {
      const [, learned] = await flooder.outputs(/learned (\d+)/, 20_000);
      assert.ok(Number(learned) > 10 || flooder === flooders[0], `learned ${learned} datagrams`);
    }
    for (const flooder of flooders) flooder.writeLine("go");
    const heckling = heckle(lab);
    // Not from the start: what the first bad datagrams make the runtime compile is no leak.
    await new Promise((resolve) => setTimeout(resolve, (FLOOD_SECONDS * 1000) / 3));
    const before = residentBytes(lab);
    for (let i = 0; i < 3; i++) await lab.fetch(`http://${SERVER}/`);
    const sent = [];
    for (const flooder of flooders) sent.push(Number((await flooder.outputs(/sent (\d+)/, 30_000))[1]));
    await heckling;
    const after = residentBytes(lab);
    await lab.fetch(`http://${SERVER}/`);
    await honest.stop("SIGINT");

    const [, transmitted = "", received = ""] =
      /(\d+) packets transmitted, (\d+) received/.exec(honest.output) ?? [];
    assert.ok(
      Number(received) >= Number(transmitted) / 2,
      `${received} of ${transmitted} pings were answered`,
    );
    assert.equal(await stray.packets(), 0, "nothing of the flood reached the site");
    for (const name of DAEMONS) {
      const growth = after[name] - before[name];
      assert.ok(growth < FLAT_BYTES, `${name} grew by ${growth} bytes`);
    }

    for (const name of DAEMONS) assert.equal(await lab.lab.stop(name), 0, name);
    assert.deepEqual(lab.warnings(), []);
    for (const name of ["client", "gateway"] as const) {
      const { core, datagrams } = counters(lab, name);
      for (const reason of ["unknown-index", "bad-tag", "oversized"])
        assert.ok((core?.[reason] ?? 0) > 100, `${name}: ${reason}`);
      for (const reason of ["not-wireguard", "stun-unmatched", "bad-handshake", "unknown-sender"]) {
        assert.ok((datagrams?.[reason] ?? 0) > 100, `${name}: ${reason} in ${JSON.stringify(datagrams)}`);
      }
    }
    const relay = lab.lab.log("relay").findLast(({ message }) => message === "final counters");
    for (const reason of ["malformed", "not-a-binding-request", "limited"]) {
      assert.ok(Number(relay?.[reason]) > 100, `relay: ${reason} in ${JSON.stringify(relay)}`);
    }
  });
});

describe("hostile peers", () => {
  let lab: TestLab;
  before(async () => {
    lab = await TestLab.start();
    lab.expectWarning(
      /^portal sent a/,
      /^left out a part of a portal message$/,
      /^portal refused the connection$/,
    );
  });
  after(() => lab.finish());

  test("datagrams that were captured and sent again are counted and go nowhere", async () => {
    const arrivals = await SiteCounter.create(lab.lab.host("site"), "icmp type echo-request");
    await lab.fetch(`http://${SERVER}/`);
    const recorder = start(lab, "client-router", "wire-recorder.ts", "internet", "udp", String(TUNNEL_PORT));
    await recorder.outputs(/recording/);
    const output = await lab.onClient("ping", "-c", "5", "-i", "0.2", SERVER);
    assert.match(output, /5 received/);
    assert.equal(await arrivals.packets(), 5);

    recorder.writeLine("replay 3");
    const [, sent] = await recorder.outputs(/replayed (\d+)/);
    assert.ok(Number(sent) >= 15, `${sent} frames`);
    // What comes after them in the same tunnel says that they have been handled.
    await lab.onClient("ping", "-c", "1", SERVER);
    assert.equal(await arrivals.packets(), 6);
    await recorder.stop();

    assert.equal(await lab.lab.stop("gateway"), 0);
    const replayed = counters(lab, "gateway").core?.["replayed"] ?? 0;
    assert.ok(replayed >= 15, `${replayed} replayed`);
    await lab.lab.start("gateway");
  });

  test("a packet with a foreign source does not get past the client itself", async () => {
    const arrivals = await SiteCounter.create(lab.lab.host("site"), "icmp type echo-request");
    await lab.onClient("ip", "addr", "add", "10.99.0.1/32", "dev", "lo");
    const { code } = await lab.lab
      .host("client")
      .exec(["ping", "-c", "2", "-W", "1", "-I", "10.99.0.1", SERVER]);
    assert.notEqual(code, 0);
    await lab.onClient("ping", "-c", "1", "-W", "5", SERVER);
    assert.equal(await arrivals.packets(), 1, "only the honest one");
    assert.equal(await lab.lab.stop("client"), 0);
    assert.equal(counters(lab, "client").machine?.["not-tunnel-source"], 2);
    await lab.lab.start("client");
  });

  test("a client that spoofs addresses or steps outside its grants is refused by the gateway", async () => {
    await lab.fetch(`http://${SERVER}/`);
    const victim = await tunnelAddresses();
    const rogue = start(lab, "internet", "rogue-client.ts", JSON.stringify(await rogueOptions()));
    const [, v4 = "", v6 = ""] = await rogue.outputs(/connected (\S+) (\S+)/, 15_000);
    const own = { v4: ip(v4), v6: ip(v6) };
    const arrivals = await SiteCounter.create(
      lab.lab.host("site"),
      "ip saddr 10.20.0.1",
      "ip saddr 172.21.0.1",
      "ip6 saddr 10:20::1",
    );
    const stray = await SiteCounter.create(lab.lab.host("client"), `ip saddr ${v4}`, `ip6 saddr ${v6}`);

    const server = ip(SERVER);
    for (const [what, packet] of Object.entries({
      "another client's address": tcp({ from: victim.v4, to: server }, 1000, 80),
      "another client's IPv6 address": tcp({ from: victim.v6, to: ip(ADDRESSES.siteWeb.v6) }, 1000, 80),
      "an address of the site": echo({ from: ip("10.20.0.50"), to: server }, 7),
      "an address nobody was given": udp({ from: ip("100.64.99.99"), to: server }, 1, 5201),
      "a server that was not granted": tcp({ from: own.v4, to: ip(ADDRESSES.namedWeb.v4) }, 1001, 80),
      "a port that was not granted": tcp({ from: own.v4, to: server }, 1002, 8080),
      "another client": echo({ from: own.v4, to: victim.v4 }, 8),
      "another client over IPv6": echo({ from: own.v6, to: victim.v6 }, 8),
      "a proxy address of another client": tcp({ from: own.v4, to: ip("100.96.0.1") }, 1003, 80),
      loopback: tcp({ from: own.v4, to: ip("127.0.0.1") }, 1004, 80),
      "the internet": udp({ from: own.v4, to: ip(ADDRESSES.publicWeb.v4) }, 1005, 80),
    })) {
      assert.match(await answerTo(rogue, packet), /^(prohibited|unreachable)$/, what);
    }
    for (const packet of [
      udp({ from: own.v4, to: ip("224.0.0.251") }, 5353, 5353),
      udp({ from: own.v6, to: ip("ff02::fb") }, 5353, 5353),
      icmpError(
        { from: own.v4, to: server },
        { type: 3, code: 3 },
        udp({ from: server, to: own.v4 }, 53, 4000),
      ),
      Buffer.from("no packet at all"),
      new Uint8Array(1200).fill(0x45),
      new Uint8Array(1200).fill(0x60),
    ]) {
      rogue.writeLine(Buffer.from(packet).toString("base64"));
    }
    assert.equal(await arrivals.packets(), 0, "nothing of it reached the site");

    // Behind all of them in the same tunnel: what is allowed is still allowed.
    assert.equal(await answerTo(rogue, echo({ from: own.v4, to: server }, 9)), "echo reply");
    assert.equal(await arrivals.packets(), 1);
    assert.equal(await stray.packets(), 0, "nothing of it reached the other client");
    await lab.fetch(`http://${SERVER}/`);
    await rogue.stop();

    assert.equal(await lab.lab.stop("gateway"), 0);
    const { machine } = counters(lab, "gateway");
    for (const reason of ["multicast", "outbound-icmp-error"])
      assert.ok((machine?.[reason] ?? 0) > 0, reason);
    await lab.lab.start("gateway");
  });

  test("a portal that talks nonsense stops neither daemons nor tunnels", async () => {
    await lab.fetch(`http://${SERVER}/`);
    const pids = [lab.lab.pid("client"), lab.lab.pid("gateway"), lab.lab.pid("relay")];
    assert.equal(await lab.lab.stop("portal"), 0);
    const hostile = start(lab, "portal", "hostile-portal.ts", String(PORTAL_PORT));
    await Promise.all(
      ["client", "gateway", "relay"].map((role) => hostile.outputs(new RegExp(`done ${role}`), 20_000)),
    );
    assert.doesNotMatch(hostile.output, /lost/);
    await lab.fetch(`http://${SERVER}/`);
    assert.ok(pids.every((pid) => pid !== undefined && fs.existsSync(`/proc/${pid}`)));
    const nonsense = ({ message }: LogLine) => message === "portal sent a message that cannot be decoded";
    for (const name of ["client", "gateway"] as const) {
      assert.ok(lab.lab.log(name).filter(nonsense).length > 50, `${name} says what it was told`);
    }

    const from = { client: lab.lab.log("client").length, gateway: lab.lab.log("gateway").length };
    await hostile.stop();
    await lab.lab.start("portal");
    for (const name of ["client", "gateway"] as const) {
      await waitForLine(lab.lab.logFile(name), (line) => line["state"] === "joined", {
        timeoutMs: 15_000,
        from: from[name],
      });
    }
    await lab.fetch("http://web.private.test/");
  });

  async function rogueOptions(): Promise<Rogue> {
    const tokenFile = path.join(lab.lab.directory, "rogue.token");
    const main = path.resolve(import.meta.dirname, "../../host/cli/main.ts");
    const config = ["--config", path.join(lab.lab.directory, "portal.yaml")];
    const { stdout } = await lab.lab
      .host("portal")
      .exec([
        process.execPath,
        main,
        "portal",
        "token",
        "create",
        "--kind",
        "client",
        "--actor",
        "laptop",
        ...config,
      ]);
    fs.writeFileSync(tokenFile, stdout.trim(), { mode: 0o600 });
    return { portal: LAB_PORTAL.url, tokenFile, resource: "Server network" };
  }

  async function tunnelAddresses(): Promise<{ v4: IpAddress; v6: IpAddress }> {
    const text = await lab.onClient("ip", "-j", "addr", "show", "dev", "tun-culvert");
    const [link] = JSON.parse(text) as { addr_info: { family: string; local: string }[] }[];
    const of = (family: string) => ip(link?.addr_info.find((entry) => entry.family === family)?.local ?? "");
    return { v4: of("inet"), v6: of("inet6") };
  }
});

/** Straight at the relay; through the NATs, in the name of those they let in; and from inside each LAN. */
const FLOODS: readonly (readonly [HostName, Flood])[] = [
  [
    "internet",
    {
      device: "br0",
      learnMs: 100,
      seconds: FLOOD_SECONDS,
      streams: [
        ...(["v4", "v6"] as const).flatMap((family) => [
          stream(ADDRESSES.publicResolver[family], 4444, ADDRESSES.relay[family], RELAY_PORT),
          stream(ADDRESSES.relay[family], RELAY_PORT, ADDRESSES.gatewayRouter[family], TUNNEL_PORT),
          stream(ADDRESSES.relay[family], RELAY_PORT, ADDRESSES.clientRouter[family], TUNNEL_PORT),
          stream(ADDRESSES.clientRouter[family], TUNNEL_PORT, ADDRESSES.gatewayRouter[family], TUNNEL_PORT),
          stream(ADDRESSES.gatewayRouter[family], TUNNEL_PORT, ADDRESSES.clientRouter[family], TUNNEL_PORT),
        ]),
        stream(ADDRESSES.publicResolver.v4, 4444, ADDRESSES.portal.v4, PORTAL_PORT),
      ],
    },
  ],
  ["client-router", lanFlood("172.30.0.254", ADDRESSES.client.v4, "172:30::254", ADDRESSES.client.v6)],
  ["gateway-router", lanFlood("172.31.0.254", ADDRESSES.gateway.v4, "172:31::254", ADDRESSES.gateway.v6)],
];

function stream(from: string, fromPort: number, to: string, toPort: number): Flood["streams"][number] {
  return { from: { ip: from, port: fromPort }, to: { ip: to, port: toPort }, via: to };
}

function lanFlood(router4: string, host4: string, router6: string, host6: string): Flood {
  return {
    device: "lan",
    learnMs: 2000,
    seconds: FLOOD_SECONDS,
    streams: [stream(router4, 4444, host4, TUNNEL_PORT), stream(router6, 4444, host6, TUNNEL_PORT)],
  };
}

function start(lab: TestLab, host: HostName, script: string, ...args: string[]): Program {
  return new Program(lab.lab.host(host), [process.execPath, path.join(import.meta.dirname, script), ...args]);
}

/** What the portal's TCP port gets meanwhile: connections with anything but a request in them. */
async function heckle(lab: TestLab): Promise<void> {
  const program = start(
    lab,
    "internet",
    "tcp-heckler.ts",
    ADDRESSES.portal.v4,
    String(PORTAL_PORT),
    String(FLOOD_SECONDS),
  );
  const [, connections] = await program.outputs(/heckled (\d+)/, (FLOOD_SECONDS + 10) * 1000);
  assert.ok(Number(connections) > 100, `${connections} connections`);
}

function residentBytes(lab: TestLab): Record<DaemonName, number> {
  const sizeOf = (name: DaemonName) => {
    const status = fs.readFileSync(`/proc/${lab.lab.pid(name)}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
  };
  return {
    client: sizeOf("client"),
    gateway: sizeOf("gateway"),
    relay: sizeOf("relay"),
    portal: sizeOf("portal"),
  };
}

type Counts = Readonly<Record<string, number>>;

/** The last counters that a daemon logged. */
function counters(
  lab: TestLab,
  name: DaemonName,
): Record<"core" | "machine" | "datagrams", Counts | undefined> {
  const line = lab.lab.log(name).findLast(({ message }) => message === "final counters");
  assert.ok(line, `${name} has logged its counters`);
  return {
    core: line["core"] as Counts,
    machine: line["machine"] as Counts,
    datagrams: line["datagrams"] as Counts,
  };
}

/** Sends a packet into the tunnel, and says what came back. */
async function answerTo(rogue: Program, packet: Uint8Array): Promise<string> {
  const before = rogue.output.split("received ").length;
  rogue.writeLine(Buffer.from(packet).toString("base64"));
  const [, text = ""] = await rogue.outputs(new RegExp(`^(?:[\\s\\S]*?received ){${before}}(\\S+)\n`), 3000);
  return nameOf(Buffer.from(text, "base64"));
}

function nameOf(packet: Uint8Array): string {
  const isV6 = (packet[0] ?? 0) >> 4 === 6;
  const at = isV6 ? 40 : 20;
  const [type, code] = [packet[at], packet[at + 1]];
  if (isV6 ? type === 1 && code === 1 : type === 3 && code === 13) return "prohibited";
  if (isV6 ? type === 1 : type === 3) return "unreachable";
  return type === (isV6 ? 129 : 0) ? "echo reply" : `ICMP ${type}/${code}`;
}
