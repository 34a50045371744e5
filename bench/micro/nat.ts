// Nanoseconds per packet for parse + flow lookup + NAT refresh + rewrite, and the cost of the NAT's timing wheel.
import assert from "node:assert/strict";
import { KIND_TCP, KIND_UDP, NAT_TTL_UNCONFIRMED_MS, SLOTS_BASE, UDP_IN_BASE } from "../../assembly/abi.ts";
import { TCP, UDP } from "../../tests/kernel/twins/checksum.ts";
import { flowTemplate } from "../../tests/kernel/twins/flow.ts";
import { ipv4, ipv6, packet } from "../../tests/kernel/twins/packets.ts";
import { loadVariant, type Variant, type VariantName } from "../../tests/kernel/variants.ts";

interface TranslateExports {
  translateBatch(
    first: number,
    count: number,
    stride: number,
    length: number,
    scope: number,
    now: number,
  ): number;
  flowAdd(template: number): number;
  natOutgoing(
    owner: number,
    kind: number,
    value: number,
    proxy: number,
    real: number,
    version: number,
    now: number,
  ): number;
  natTick(now: number): number;
  natCount(): number;
}
type Core = Variant<TranslateExports>;

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: "ns/packet" | "ns/entry" | "ns/tick";
}

const BATCH = 64;
/** Like the datagrams of a train; a power of two would put all headers into the same lines of the cache. */
const STRIDE = 1344;
const PEER = 1;
const SIZES = [64, 576, 1280];
const FLOW_COUNTS = [64, 8192];
const NAT_ENTRIES = 100_000;
const SHAPES = [
  { name: "v4 udp", protocol: UDP, kind: KIND_UDP, version: 4, headers: 28 },
  { name: "v4 tcp", protocol: TCP, kind: KIND_TCP, version: 4, headers: 40 },
  { name: "v6 udp", protocol: UDP, kind: KIND_UDP, version: 6, headers: 48 },
] as const;
type Shape = (typeof SHAPES)[number];

/** Runs everything in about three seconds; `samples` batches are timed per figure, and the fastest tenth counts. */
export function benchNat(variant: VariantName = "release", samples = 400): Figure[] {
  const figures: Figure[] = [];
  for (const shape of SHAPES) {
    for (const flows of FLOW_COUNTS) {
      if (flows > BATCH && shape !== SHAPES[0]) continue;
      for (const bytes of SIZES) {
        const value = translate(load(variant), shape, flows, bytes, samples);
        figures.push({ name: `${shape.name}, ${bytes} bytes, ${flows} flows`, value, unit: "ns/packet" });
      }
    }
  }
  return [...figures, ...wheel(load(variant))];
}

function load(variant: VariantName): Core {
  return loadVariant<TranslateExports>(variant, "assembly/__tests__/kernels/translate.ts");
}

function translate(core: Core, shape: Shape, flows: number, bytes: number, samples: number): number {
  const capacity = Math.min(flows, 1024);
  for (let i = 0; i < flows; i++) install(core, shape, bytes, i, UDP_IN_BASE + (i % capacity) * STRIDE);
  const run = (batch: number): number => {
    const first = UDP_IN_BASE + ((batch * BATCH) % capacity) * STRIDE;
    return core.exports.translateBatch(first, BATCH, STRIDE, bytes, PEER, batch);
  };
  const before = core.bytes.slice(UDP_IN_BASE, UDP_IN_BASE + bytes);
  for (let i = 0; i < capacity / BATCH; i++) assert.equal(run(i), BATCH);
  // The rewrite puts in what was there before, so that the same packets can be timed again and again.
  assert.deepEqual(core.bytes.slice(UDP_IN_BASE, UDP_IN_BASE + bytes), before);

  const perSample = 20;
  for (let i = 0; i < 2000; i++) run(i);
  const times = Array.from({ length: samples }, (_, sample) => {
    const start = process.hrtime.bigint();
    for (let i = 0; i < perSample; i++) run(sample * perSample + i);
    return Number(process.hrtime.bigint() - start) / (perSample * BATCH);
  });
  return fastestTenth(times);
}

/** Puts packet number `i` at `at`, with a flow whose NAT entry maps addresses and port to themselves. */
function install(core: Core, shape: Shape, bytes: number, i: number, at: number): void {
  const host = [10, 0, i >> 8, i & 255].join(".");
  const destination = shape.version === 4 ? ipv4(host) : ipv6(0xfd00, i);
  const sourcePort = 1024 + (i % 60000);
  const built = packet({
    source: shape.version === 4 ? ipv4("100.64.0.1") : ipv6(0xfd01, 1),
    destination,
    protocol: shape.protocol,
    sourcePort,
    destinationPort: 443,
    payload: new Uint8Array(bytes - shape.headers).fill(i),
  });
  core.bytes.set(built, at);
  core.bytes.set(destination, SLOTS_BASE);
  const { natOutgoing, flowAdd } = core.exports;
  const natEntry = natOutgoing(PEER, shape.kind, sourcePort, SLOTS_BASE, SLOTS_BASE, shape.version, 0);
  const rewrite = { direction: "outgoing", address: destination, port: sourcePort } as const;
  core.bytes.set(flowTemplate(built, { scope: PEER, peer: PEER, now: 0, natEntry, rewrite }), SLOTS_BASE);
  assert.notEqual(flowAdd(SLOTS_BASE), 0);
}

/** New entries, a tick at which none of many is due, and one at which all are. */
function wheel(core: Core): Figure[] {
  core.bytes.set(ipv4("10.0.0.1"), SLOTS_BASE);
  const { natOutgoing, natTick, natCount } = core.exports;
  const created = timed(() => {
    for (let i = 0; i < NAT_ENTRIES; i++) {
      natOutgoing(i >> 16, KIND_UDP, i & 0xffff, SLOTS_BASE, SLOTS_BASE, 4, 0);
    }
  });
  assert.equal(natCount(), NAT_ENTRIES);
  const ticks = 50;
  const idle = timed(() => {
    for (let i = 1; i <= ticks; i++) natTick(i * 1000);
  });
  assert.equal(natCount(), NAT_ENTRIES);
  const expired = timed(() => natTick(NAT_TTL_UNCONFIRMED_MS));
  assert.equal(natCount(), 0);
  return [
    { name: "new NAT entry", value: created / NAT_ENTRIES, unit: "ns/entry" },
    { name: `tick, ${NAT_ENTRIES} entries, none due`, value: idle / ticks, unit: "ns/tick" },
    { name: `tick, ${NAT_ENTRIES} entries, all due`, value: expired / NAT_ENTRIES, unit: "ns/entry" },
  ];
}

function timed(body: () => void): number {
  const start = process.hrtime.bigint();
  body();
  return Number(process.hrtime.bigint() - start);
}

function fastestTenth(times: number[]): number {
  const fastest = times.sort((a, b) => a - b).slice(0, Math.max(1, times.length / 10));
  return fastest.reduce((total, time) => total + time, 0) / fastest.length;
}

if (import.meta.main) {
  for (const { name, value, unit } of benchNat()) {
    console.log(`${name.padEnd(40)} ${value.toFixed(1).padStart(10)} ${unit}`);
  }
}
