import { once } from "node:events";
import type { LabHost } from "./host.ts";
import type { Lab } from "./lab.ts";
import { waitForLine } from "./log-watch.ts";
import { ADDRESSES } from "./topology.ts";

/** One thing the lab shows. `run` answers with what was seen; throws when it was not what it should be. */
export interface Step {
  readonly title: string;
  readonly run: (lab: Lab) => Promise<string>;
}

const TRANSFER_SECONDS = 5;

/** The story of a first visit, in order: a name, a page, a ping, networks, a refusal, a transfer, the path. */
export const STEPS: readonly Step[] = [
  { title: "look up web.private.test with the system's resolver", run: lookUpName },
  { title: "fetch a page from http://web.private.test/", run: fetchPage },
  { title: "ping web.private.test", run: pingName },
  {
    title: `fetch from http://${ADDRESSES.siteWeb.v4}/ (a network, IPv4)`,
    run: (lab) => fetchFrom(lab, ADDRESSES.siteWeb.v4),
  },
  {
    title: "fetch from http://[10:20::100]/ (a network, IPv6)",
    run: (lab) => fetchFrom(lab, "[10:20::100]"),
  },
  { title: `try port 8080 of ${ADDRESSES.siteWeb.v4}, which the policy does not allow`, run: tryForbidden },
  { title: `transfer over TCP for ${TRANSFER_SECONDS} s`, run: transfer },
  { title: "show the path", run: showPath },
];

async function lookUpName(lab: Lab): Promise<string> {
  const output = await succeed(lab.host("client"), ["getent", "ahosts", "web.private.test"]);
  const address = output.split(/\s/)[0] ?? "";
  const proxies = [...new Set(output.split("\n").map((line) => line.split(/\s/)[0] ?? ""))].filter(Boolean);
  if (!proxies.some((proxy) => proxy.startsWith("100.96.")))
    throw new Error(`no proxy address came back: ${output}`);
  return `${address} and ${proxies.length - 1} more: proxy addresses, the name never left this machine`;
}

async function fetchPage(lab: Lab): Promise<string> {
  const page = await succeed(lab.host("client"), [
    "curl",
    "-sS",
    "--fail",
    "--max-time",
    "10",
    "http://web.private.test/",
  ]);
  if (!page.includes("private network")) throw new Error(`unexpected page: ${page}`);
  return `${page.length} bytes: ${/<p>(.*)<\/p>/.exec(page)?.[1] ?? ""}`;
}

async function pingName(lab: Lab): Promise<string> {
  const output = await succeed(lab.host("client"), [
    "ping",
    "-4",
    "-c",
    "3",
    "-i",
    "0.2",
    "-W",
    "2",
    "web.private.test",
  ]);
  return output
    .split("\n")
    .filter((line) => line.includes("transmitted") || line.startsWith("rtt"))
    .join("; ");
}

async function fetchFrom(lab: Lab, host: string): Promise<string> {
  const text = await succeed(lab.host("client"), [
    "curl",
    "-sS",
    "--fail",
    "--max-time",
    "10",
    `http://${host}/get`,
  ]);
  const { from, to } = JSON.parse(text) as { from: string; to: string };
  return `${to} saw us as ${from}`;
}

async function tryForbidden(lab: Lab): Promise<string> {
  const url = `http://${ADDRESSES.siteWeb.v4}:8080/`;
  const { code, stderr } = await lab.host("client").exec(["curl", "-sS", "--max-time", "5", url]);
  if (code === 0) throw new Error("port 8080 was reachable");

  const answer = await lab.ask("client", "explain", "--to", ADDRESSES.siteWeb.v4, "--port", "8080");
  if (!/ refused\. /.test(answer.stdout)) throw new Error(`not refused: ${answer.stderr || answer.stdout}`);
  return [
    `curl says "${stderr.trim()}"; the client refused it, and culvert explain says why:`,
    ...answer.stdout.trimEnd().split("\n"),
  ].join("\n    ");
}

async function transfer(lab: Lab): Promise<string> {
  const server = lab.spawn("iperf3", lab.host("site"), [
    "iperf3",
    "-s",
    "-1",
    "-B",
    ADDRESSES.siteWeb.v4,
    "--forceflush",
  ]);
  await waitForLine(lab.logFile("iperf3"), (line) => line.message.includes("Server listening"), {
    timeoutMs: 5000,
  });
  const output = await succeed(lab.host("client"), [
    ...["iperf3", "-c", ADDRESSES.siteWeb.v4, "-t", String(TRANSFER_SECONDS), "-J", "-C", "cubic"],
  ]);
  if (server.exitCode === null) await once(server, "exit");
  const { end } = JSON.parse(output) as { end: { sum_received: { bits_per_second: number; bytes: number } } };
  const gigabits = end.sum_received.bits_per_second / 1e9;
  return `${gigabits.toFixed(2)} Gbit/s, ${(end.sum_received.bytes / 2 ** 20).toFixed(0)} MiB`;
}

async function showPath(lab: Lab): Promise<string> {
  const { code, stdout, stderr } = await lab.ask("client", "status", "--json");
  if (code !== 0) throw new Error(`culvert status: ${stderr.trim()}`);
  const { peers } = JSON.parse(stdout) as { peers: { path?: string; via?: string; roundTripMs?: number }[] };
  const [gateway] = peers;
  if (gateway?.path === undefined) throw new Error(`no path: ${stdout}`);
  return `${gateway.via}: ${gateway.path}, round trip ${gateway.roundTripMs?.toFixed(1)} ms`;
}

async function succeed(host: LabHost, command: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await host.exec(command);
  if (code !== 0)
    throw new Error(`${command.join(" ")}: exit code ${code}: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}
