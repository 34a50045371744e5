// Nanoseconds per packet of encapsulate and decapsulate, known flows, one core.
// Run with: node bench/micro/pipeline.ts [release|plain]

import * as abi from "../../assembly/abi.ts";
import { ip } from "../../host/core/address.ts";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";
import { keyOf, link, NOW, newCore, type Train } from "../../tests/kernel/pipeline-driver.ts";
import { TCP, UDP } from "../../tests/kernel/twins/checksum.ts";
import { encodeFrame, type Frame, GSO_TCPV4, PLAIN, splitSlowly } from "../../tests/kernel/twins/offload.ts";
import { ipv4, packet } from "../../tests/kernel/twins/packets.ts";
import { Seeded } from "../../tests/kernel/twins/seeded.ts";
import type { VariantName } from "../../tests/kernel/variants.ts";

const MINIMUM_MS = 400;
const ENDS = {
  source: ipv4("100.64.0.1"),
  destination: ipv4("10.1.2.3"),
  sourcePort: 40000,
  destinationPort: 443,
};

/** Nanoseconds per packet. */
export interface PipelineFigure {
  readonly name: string;
  readonly encapsulate: number;
  readonly decapsulate: number;
}

export function measurePipeline(variant: VariantName = "release"): PipelineFigure[] {
  const random = new Seeded(1);
  const cases: PipelineCase[] = [];
  for (const size of [64, 576, 1280]) {
    const plain = packet({ ...ENDS, protocol: UDP, payload: random.bytes(size - 28) });
    const frames = Array<Frame>(64).fill({ virtio: PLAIN, packet: plain });
    cases.push({ name: `${size} bytes, 64 a batch`, frames, packets: 64, mode: "none" });
    cases.push({ name: `${size} bytes, NAT`, frames, packets: 64, mode: "nat" });
    cases.push({ name: `${size} bytes, coalesced`, frames, packets: 64, mode: "coalesce" });
  }
  const whole = packet({ ...ENDS, protocol: TCP, payload: random.bytes(1240 * 52) });
  const tso = { virtio: { ...PLAIN, flags: 1, gsoType: GSO_TCPV4, gsoSize: 1240 }, packet: whole };
  const packets = 4 * splitSlowly(whole, 1240).length;
  cases.push({
    name: "64 KiB TSO frames, 4 a batch",
    frames: Array<Frame>(4).fill(tso),
    packets,
    mode: "coalesce",
  });
  return cases.map((each) => measure(each, variant, random));
}

interface PipelineCase {
  readonly name: string;
  readonly frames: readonly Frame[];
  readonly packets: number;
  readonly mode: "none" | "nat" | "coalesce";
}

function measure(
  { name, frames, packets, mode }: PipelineCase,
  variant: VariantName,
  random: Seeded,
): PipelineFigure {
  const left = newCore(variant);
  const right = newCore(variant);
  const pair = link(left, right, (length) => random.bytes(length));
  right.batch.setCoalesce(mode === "coalesce");
  const inner = frames[0]!.packet;
  left.addFlow(keyOf(inner, "tun"), pair.left, undefined, NOW);
  const inside = { kind: "udp", port: 40000, ip: ip("10.1.2.3") } as const;
  const nat = right.natOutgoing(pair.right, inside, ip("10.9.9.9"), NOW)!;
  const rewrite = {
    direction: "outgoing",
    address: ip("10.9.9.9"),
    port: nat.outside.port,
    natEntry: nat.entry,
  } as const;
  right.addFlow(keyOf(inner, pair.right), pair.right, mode === "nat" ? rewrite : undefined, NOW);

  return {
    name,
    encapsulate: encapsulateRepeatedly(left, frames, packets),
    decapsulate: decapsulateRepeatedly(left, right, frames, packets),
  };
}

function encapsulateRepeatedly(core: WasmPacketCore, frames: readonly Frame[], packets: number): number {
  let spent = 0;
  let done = 0;
  while (spent < MINIMUM_MS * 1e6) {
    // The core splits in place, so every round writes its frames anew.
    load(core, frames);
    const start = process.hrtime.bigint();
    if (core.encapsulate(NOW) !== abi.BATCH_DONE || core.slowCount > 0) throw new Error("not measured");
    spent += Number(process.hrtime.bigint() - start);
    core.batch.clearTrains();
    done += packets;
  }
  return spent / done;
}

function decapsulateRepeatedly(
  left: WasmPacketCore,
  right: WasmPacketCore,
  frames: readonly Frame[],
  packets: number,
): number {
  let spent = 0;
  let done = 0;
  while (spent < MINIMUM_MS * 1e6) {
    load(left, frames);
    left.encapsulate(NOW);
    receive(right, trainsOf(left));
    const start = process.hrtime.bigint();
    if (right.decapsulate(NOW) !== abi.BATCH_DONE || right.batch.frameOutCount === 0)
      throw new Error("not measured");
    spent += Number(process.hrtime.bigint() - start);
    right.batch.clearFrames();
    right.clearSlow();
    done += packets;
  }
  return spent / done;
}

function load(core: WasmPacketCore, frames: readonly Frame[]): void {
  let at = abi.TUN_IN_BASE;
  for (const [i, frame] of frames.entries()) {
    const bytes = encodeFrame(frame);
    core.bytes.set(bytes, at);
    core.batch.setFrameIn(i, at, bytes.length);
    at += bytes.length;
  }
  core.batch.setFrameInCount(frames.length);
}

function trainsOf(core: WasmPacketCore): Pick<Train, "bytes" | "segmentLength">[] {
  const trains = Array.from({ length: core.batch.trainCount }, (_, i) => {
    const offset = core.batch.trainOffset(i);
    const bytes = core.bytes.slice(offset, offset + core.batch.trainLength(i));
    return { bytes, segmentLength: core.batch.trainSegmentLength(i) };
  });
  core.batch.clearTrains();
  return trains;
}

function receive(core: WasmPacketCore, trains: readonly Pick<Train, "bytes" | "segmentLength">[]): void {
  for (const [i, { bytes, segmentLength }] of trains.entries()) {
    const at = abi.UDP_IN_BASE + i * abi.UDP_IN_BUFFER_BYTES;
    core.bytes.set(bytes, at);
    core.batch.setDatagramIn(i, at, bytes.length, segmentLength, 0);
  }
  core.batch.setDatagramInCount(trains.length);
}

if (import.meta.main) {
  const variant = process.argv[2] === "plain" ? "plain" : "release";
  console.log(`${variant} build, Node ${process.version}, ns per packet`);
  console.log("case".padEnd(34), "encapsulate".padStart(12), "decapsulate".padStart(12));
  for (const { name, encapsulate, decapsulate } of measurePipeline(variant)) {
    console.log(name.padEnd(34), encapsulate.toFixed(0).padStart(12), decapsulate.toFixed(0).padStart(12));
  }
}
