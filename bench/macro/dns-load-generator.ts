// `node dns-load-generator.ts <name> <in flight> <seconds>`: asks the system's first nameserver for A over UDP from
// one socket, each answer making the next query; prints what it measured as JSON.
import dgram from "node:dgram";
import fs from "node:fs";
import dnsPacket from "dns-packet";

const [name = "", inFlightText = "", secondsText = ""] = process.argv.slice(2);
const server = /^nameserver (\S+)/m.exec(fs.readFileSync("/etc/resolv.conf", "utf8"))?.[1] ?? "";
const inFlight = Number(inFlightText);
const seconds = Number(secondsText);
/** A query without an answer for so long is lost; its place is taken by a new one. */
const LOST_MS = 1000;

const query = dnsPacket.encode({ type: "query", questions: [{ type: "A", name }] });
const socket = dgram.createSocket("udp4");
const sentAt = new Map<number, number>();
const latencies: number[] = [];
let nextId = 0;
let lost = 0;
const startedAt = performance.now();
const endAt = startedAt + seconds * 1000;

socket.on("message", (answer) => {
  const id = answer.readUInt16BE();
  const at = sentAt.get(id);
  const isAnswer = answer.readUInt16BE(6) > 0;
  if (at === undefined || !isAnswer) return;
  sentAt.delete(id);
  const now = performance.now();
  latencies.push(now - at);
  if (now < endAt) ask();
  else finish();
});
socket.connect(53, server, () => {
  for (let i = 0; i < inFlight; i++) ask();
});
setInterval(() => {
  const now = performance.now();
  for (const [id, at] of sentAt) {
    if (now < at + LOST_MS) continue;
    sentAt.delete(id);
    lost += 1;
    if (now < endAt) ask();
  }
  if (now >= endAt + LOST_MS) finish();
}, 100);

function ask(): void {
  const id = nextId++ & 0xffff;
  query.writeUInt16BE(id);
  sentAt.set(id, performance.now());
  socket.send(Buffer.from(query));
}

function finish(): void {
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  const elapsed = (performance.now() - startedAt) / 1000;
  const result = { answers: sorted.length, lost, seconds: elapsed, medianMs: at(0.5), p99Ms: at(0.99) };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  process.exit(0);
}
