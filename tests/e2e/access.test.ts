import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { waitForLine } from "../../host/lab/log-watch.ts";
import { portalConfiguration } from "../../host/lab/policy.ts";
import { ADDRESSES } from "../../host/lab/topology.ts";
import { TestLab } from "./lab-harness.ts";
import { Program } from "./program.ts";
import { SiteCounter } from "./site-counter.ts";

const MAIN = path.resolve(import.meta.dirname, "../../host/cli/main.ts");
const SERVER = ADDRESSES.siteWeb.v4;
const CLOSED_UDP_PORT = 9999;
const POLICY = portalConfiguration();
/** What a packet needs from the client's socket to the site, with much to spare. */
const TRAVEL_MS = 500;
const EXPIRES_SECONDS = 6;

describe("access follows the portal's policy", () => {
  let lab: TestLab;
  let arrivals: SiteCounter;
  let applied = 0;
  before(async () => {
    lab = await TestLab.start();
    arrivals = await SiteCounter.create(lab.lab.host("site"), `ip daddr ${SERVER}`);
    lab.expectWarning(/^portal refused the connection$/, /^the token expired/);
  });
  after(() => lab.finish());

  test("a packet that is held while the connection is made arrives: the very first ping is answered", async () => {
    const output = await lab.onClient("ping", "-c", "1", "-W", "5", SERVER);
    assert.match(output, /1 packets transmitted, 1 received/);
    assert.equal(await arrivals.packets(), 1);
  });

  test("a closed UDP port of a named resource refuses the socket that is connected to the proxy address", async () => {
    const rule = `{ protocol: udp, ports: ["${CLOSED_UDP_PORT}"] }`;
    await applyPolicy(POLICY.replaceAll('"7000"] }', `"7000"] }, ${rule}`));
    for (const family of ["ahostsv4", "ahostsv6"] as const) {
      const [proxy = ""] = await lab.resolve("web.private.test", family);
      assert.match(proxy, /^(100\.96\.|fd00:2021:1111:8000:)/);
      assert.equal(await lab.onClient(process.execPath, "-e", UDP_PROBE, proxy), "ECONNREFUSED\n");
    }
  });

  test("a resource that is taken away is out of reach at once, for open connections too, until it comes back", async () => {
    await applyPolicy(POLICY);
    const connection = lab.echo(SERVER);
    await connection.outputs(/connected/);
    connection.writeLine("one");
    await connection.outputs(/one/);

    await applyPolicy(
      POLICY.replace(/ {2}- name: Server network\n(.*\n){4}/, "").replace(
        /.*resource: Server network }\n/,
        "",
      ),
    );
    assert.equal(await tunnelRoutes(), "absent");
    const before = await arrivals.packets();
    connection.writeLine("two");
    const { code } = await lab.lab.host("client").exec(["curl", "-sS", "-m", "1", `http://${SERVER}/`]);
    assert.notEqual(code, 0);
    await passes(TRAVEL_MS);
    assert.equal(await arrivals.packets(), before, "nothing more arrived at the site");
    assert.doesNotMatch(connection.output, /two/);
    await lab.fetch("http://web.private.test/");

    await applyPolicy(POLICY);
    assert.equal(await tunnelRoutes(), "present");
    await lab.fetch(`http://${SERVER}/`);
    await connection.stop();
  });

  test("narrower filters cut an open connection, wider ones let it go on", async () => {
    const connection = lab.echo(SERVER);
    await connection.outputs(/connected/);
    connection.writeLine("one");
    await connection.outputs(/one/);

    await applyPolicy(POLICY.replace('"80", "5201", "7000"] }', '"80", "5201"] }'));
    const before = await arrivals.packets();
    connection.writeLine("two");
    await waitForLine(lab.lab.logFile("client"), ({ message }) => message.startsWith("packet refused"), {
      timeoutMs: 2000,
    });
    await passes(TRAVEL_MS);
    assert.equal(await arrivals.packets(), before, "nothing more arrived at the site");
    await lab.fetch(`http://${SERVER}/`);

    await applyPolicy(POLICY);
    const again = lab.echo(SERVER);
    await again.outputs(/connected/);
    again.writeLine("three");
    await again.outputs(/three/);
    await Promise.all([connection.stop(), again.stop()]);
  });

  test("revoking a client's token ends the client, with the reason, and its access at the gateway", async () => {
    const tokens = await portal("token", "list");
    const [, id = ""] = /^(\S+)\tclient of laptop/m.exec(tokens) ?? [];
    const from = lab.lab.log("client").length;
    await portal("token", "revoke", id);
    const ended = ({ message }: { message: string }) => message === "goodbye";
    await waitForLine(lab.lab.logFile("client"), ended, { timeoutMs: 5000, from });
    assert.equal(await lab.lab.stop("client"), 1);
    const errors = lab.lab
      .log("client")
      .slice(from)
      .filter(({ severity }) => severity === "error");
    assert.deepEqual(errors.length, 1);
    assert.match(errors[0]?.message ?? "", /the token expired, or/);

    const before = await arrivals.packets();
    const { code } = await lab.lab.host("client").exec(["ping", "-c", "1", "-W", "1", SERVER]);
    assert.notEqual(code, 0);
    assert.equal(await arrivals.packets(), before);
  });

  test("a token's end is the end of access at the gateway to the second, with the portal out of reach", async () => {
    const created = await portal(
      ...["token", "create", "--kind", "client", "--actor", "laptop", "--expires", `${EXPIRES_SECONDS}s`],
    );
    fs.writeFileSync(path.join(lab.lab.directory, "client.token"), created.trim());
    const listed = await portal("token", "list");
    const expiry = Date.parse(/client of laptop\texpires (\S+)/.exec(listed)?.[1] ?? "") / 1000;
    await lab.lab.start("client");
    const seconds = Math.ceil(expiry - Date.now() / 1000) + 1;
    const ping = new Program(lab.lab.host("client"), [
      ...["ping", "-D", "-i", "0.1", "-w", String(seconds), SERVER],
    ]);
    await ping.outputs(/bytes from/);
    assert.equal(await lab.lab.stop("portal"), 0);

    await ping.outputs(/packets transmitted/, 15_000);
    const replies = [...ping.output.matchAll(/^\[([\d.]+)\] \d+ bytes from/gm)].map(([, time]) =>
      Number(time),
    );
    const last = replies.at(-1) ?? 0;
    assert.ok(last > expiry - 1, `the last reply came ${expiry - last} s before the end`);
    assert.ok(last < expiry + 0.2, `a reply came ${last - expiry} s after the end`);
    assert.equal(await lab.lab.stop("client"), 0);
  });

  /**
   * Gives the portal a new configuration; resolves once the client follows it. The sign is the route of a resource
   * that is another one each time and stands last, so that it comes behind everything else.
   */
  async function applyPolicy(text: string): Promise<void> {
    const sign = `192.0.2.${++applied}`;
    const withSign = text
      .replace(
        "\npolicies:",
        `  - { name: Sign, type: cidr, address: ${sign}/32, site: Private network }\n\npolicies:`,
      )
      .concat("  - { group: Developers, resource: Sign }\n");
    fs.writeFileSync(path.join(lab.lab.directory, "portal.yaml"), withSign);
    const from = lab.lab.log("portal").length;
    process.kill(lab.lab.pid("portal") ?? 0, "SIGHUP");
    await waitForLine(lab.lab.logFile("portal"), ({ message }) => message === "configuration applied", {
      timeoutMs: 5000,
      from,
    });
    for (let attempt = 0; !(await routes()).includes(sign); attempt++) {
      assert.ok(attempt < 50, "the client follows the portal");
      await passes(100);
    }
    await passes(TRAVEL_MS);
  }

  function routes(): Promise<string> {
    return lab.onClient("ip", "route", "show", "table", String(0x2021fd00));
  }

  async function tunnelRoutes(): Promise<"present" | "absent"> {
    return (await routes()).includes("10.20.0.0/24") ? "present" : "absent";
  }

  async function portal(...args: string[]): Promise<string> {
    const config = ["--config", path.join(lab.lab.directory, "portal.yaml")];
    const { code, stdout, stderr } = await lab.lab
      .host("portal")
      .exec([process.execPath, MAIN, "portal", ...args, ...config]);
    assert.equal(code, 0, stderr);
    return stdout;
  }
});

function passes(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Sends a datagram from a connected socket, and prints the error that comes back. */
const UDP_PROBE = `
const address = process.argv[1];
const socket = require("node:dgram").createSocket(address.includes(":") ? "udp6" : "udp4");
socket.on("error", ({ code }) => { console.log(code); process.exit(); });
socket.connect(${CLOSED_UDP_PORT}, address, () => socket.send("hello"));
setTimeout(() => { console.log("nothing"); process.exit(); }, 3000);
`;
