// Records what passes an interface. Usage: wire-recorder.ts <device> <udp|tcp> <port>; prints `recording`, then the
// payload of each packet from or to that port in base64, one per line. On the line `replay <n>` it sends the
// recorded UDP frames that left by this interface again, n times, as they were, and prints `replayed <frames sent>`.
import readline from "node:readline";
import { macOf, mendUdpChecksum, parseFrame, RawSocket } from "./raw-packets.ts";

const MAX_FRAMES = 10_000;
const POLL_MS = 5;

const [device = "", protocol = "udp", portText = "0"] = process.argv.slice(2);
const port = Number(portText);
const socket = new RawSocket(device);
const frames: Uint8Array[] = [];
let isRecording = true;

function poll(): void {
  for (let frame = socket.receive(); frame !== undefined; frame = socket.receive()) {
    const seen = parseFrame(frame);
    if (!isRecording || seen === undefined || seen.protocol !== protocol || seen.payload.length === 0)
      continue;
    if (seen.from.port !== port && seen.to.port !== port) continue;
    if (frames.length < MAX_FRAMES) frames.push(frame);
    process.stdout.write(`${Buffer.from(seen.payload).toString("base64")}\n`);
  }
}

function replay(times: number): void {
  isRecording = false;
  const ownMac = macOf(device);
  const outbound = frames.filter((frame) => Buffer.compare(frame.subarray(6, 12), ownMac) === 0);
  let sent = 0;
  for (let i = 0; i < times; i++) {
    for (const frame of outbound) {
      mendUdpChecksum(frame);
      if (socket.send(frame)) sent += 1;
    }
  }
  console.log(`replayed ${sent}`);
}

setInterval(poll, POLL_MS);
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [command, times] = line.split(" ");
  if (command === "replay") replay(Number(times));
});
console.log("recording");
