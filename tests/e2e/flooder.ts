// Sends hostile datagrams as fast as one thread can. Usage: flooder.ts <JSON of Flood>; prints `learned <n>` after it
// has watched the interface for real traffic, waits for the line `go`, floods, prints `sent <n>` and ends.
import readline from "node:readline";
import { ip, type SocketAddress } from "../../host/core/address.ts";
import { hostileDatagrams } from "./hostile-datagrams.ts";
import { macOf, macOfNeighbour, parseFrame, RawSocket, udpFrame } from "./raw-packets.ts";

export interface Flood {
  readonly device: string;
  readonly learnMs: number;
  readonly seconds: number;
  readonly streams: readonly {
    /** Need not be an address of this host. */
    readonly from: { readonly ip: string; readonly port: number };
    readonly to: { readonly ip: string; readonly port: number };
    /** Neighbour that the frames are handed to. */
    readonly via: string;
  }[];
}

const FRAMES_PER_STREAM = 3000;
const SLICE_MS = 5;

const flood = JSON.parse(process.argv[2] ?? "") as Flood;
const socket = new RawSocket(flood.device);

async function learn(): Promise<Uint8Array[]> {
  const seen: Uint8Array[] = [];
  const end = performance.now() + flood.learnMs;
  while (performance.now() < end) {
    for (let frame = socket.receive(); frame !== undefined; frame = socket.receive()) {
      const datagram = parseFrame(frame);
      if (datagram?.protocol === "udp" && datagram.payload.length > 0) seen.push(datagram.payload);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return seen;
}

function prepare(seen: readonly Uint8Array[]): Uint8Array[] {
  const sourceMac = macOf(flood.device);
  const perStream = flood.streams.map(({ from, to, via }) => {
    const parts = {
      from: address(from),
      to: address(to),
      sourceMac,
      destinationMac: macOfNeighbour(ip(via)),
    };
    return hostileDatagrams(FRAMES_PER_STREAM, seen).map((payload, i) =>
      udpFrame({ ...parts, payload, breakChecksum: i % 16 === 0 ? "udp" : i % 16 === 8 ? "ip" : undefined }),
    );
  });
  return Array.from({ length: FRAMES_PER_STREAM }, (_, i) =>
    perStream.map((frames) => frames[i] ?? []),
  ).flat() as Uint8Array[];
}

function address(text: { ip: string; port: number }): SocketAddress {
  return { ip: ip(text.ip), port: text.port };
}

async function send(frames: readonly Uint8Array[]): Promise<number> {
  let sent = 0;
  let next = 0;
  const end = performance.now() + flood.seconds * 1000;
  while (performance.now() < end) {
    const sliceEnd = performance.now() + SLICE_MS;
    while (performance.now() < sliceEnd) {
      if (socket.send(frames[next++ % frames.length] as Uint8Array)) sent += 1;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  return sent;
}

const seen = await learn();
const frames = prepare(seen);
console.log(`learned ${seen.length}`);
for await (const line of readline.createInterface({ input: process.stdin })) if (line === "go") break;
console.log(`sent ${await send(frames)}`);
process.exit(0);
