// Two packet cores with keys for each other, and what a data loop does around them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as abi from "../../assembly/abi.ts";
import { type IpAddress, ipFromBytes } from "../../host/core/address.ts";
import type { PathId, PeerId } from "../../host/core/id.ts";
import type { FlowKey } from "../../host/core/packet-core.ts";
import { loadPacketCore } from "../../host/wasm/loader.ts";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";
import { decodeFrame, encodeFrame, type Frame } from "./twins/offload.ts";
import { parseSlowly } from "./twins/parse.ts";
import { buildVariant, type VariantName } from "./variants.ts";

export const NOW = 1_000_000;
export const PATH: PathId = 9;

export function newCore(variant: VariantName = "release"): WasmPacketCore {
  return loadPacketCore(readFileSync(buildVariant(variant, "assembly/index.ts")));
}

export interface Train {
  readonly path: number;
  readonly ecn: number;
  readonly segmentLength: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface Slow {
  readonly reason: number;
  readonly peer: number;
  readonly source: number;
  readonly detail: number;
  readonly packet: Uint8Array<ArrayBuffer>;
}

export interface Output {
  readonly trains: Train[];
  readonly frames: Frame[];
  readonly slow: Slow[];
  /** How often the core said BATCH_MORE. */
  more: number;
}

/** Called for each slow packet before it is forgotten; may install flows and `reinject`. */
export type OnSlow = (core: WasmPacketCore, index: number) => void;

/** Runs frames, as they are in memory, through the core; drains as a data loop does. */
export function encapsulateRaw(
  core: WasmPacketCore,
  frames: readonly Uint8Array[],
  now = NOW,
  onSlow?: OnSlow,
): Output {
  let at = abi.TUN_IN_BASE;
  for (const [i, frame] of frames.entries()) {
    core.bytes.set(frame, at);
    core.batch.setFrameIn(i, at, frame.length);
    at += frame.length;
  }
  if (at > abi.TUN_IN_BASE + abi.TUN_IN_BYTES) throw new RangeError("too many frames for TUN_IN");
  core.batch.setFrameInCount(frames.length);
  return drainUntilDone(core, () => core.encapsulate(now), onSlow);
}

export function encapsulate(
  core: WasmPacketCore,
  frames: readonly Frame[],
  now = NOW,
  onSlow?: OnSlow,
): Output {
  return encapsulateRaw(core, frames.map(encodeFrame), now, onSlow);
}

/** Runs trains through the core, one receive buffer each. */
export function decapsulate(
  core: WasmPacketCore,
  trains: readonly Pick<Train, "bytes" | "segmentLength" | "ecn">[],
  now = NOW,
  onSlow?: OnSlow,
): Output {
  const all: Output = { trains: [], frames: [], slow: [], more: 0 };
  for (let from = 0; from < trains.length; from += abi.UDP_IN_BUFFERS) {
    const chunk = trains.slice(from, from + abi.UDP_IN_BUFFERS);
    for (const [i, train] of chunk.entries()) {
      const at = abi.UDP_IN_BASE + i * abi.UDP_IN_BUFFER_BYTES;
      core.bytes.set(train.bytes, at);
      core.batch.setDatagramIn(i, at, train.bytes.length, train.segmentLength, train.ecn);
    }
    core.batch.setDatagramInCount(chunk.length);
    const output = drainUntilDone(core, () => core.decapsulate(now), onSlow);
    all.frames.push(...output.frames);
    all.slow.push(...output.slow);
    all.more += output.more;
  }
  return all;
}

export function single(bytes: Uint8Array<ArrayBuffer>, ecn = 0): Train {
  return { path: 0, ecn, segmentLength: 0, bytes };
}

export function datagramsOf(trains: readonly Train[]): Uint8Array<ArrayBuffer>[] {
  const datagrams: Uint8Array<ArrayBuffer>[] = [];
  for (const { bytes, segmentLength } of trains) {
    for (let at = 0; at < bytes.length; at += segmentLength)
      datagrams.push(bytes.slice(at, at + segmentLength));
  }
  return datagrams;
}

export function drainOutputs(core: WasmPacketCore, output: Output): void {
  const { batch } = core;
  for (let i = 0; i < batch.trainCount; i++) {
    const offset = batch.trainOffset(i);
    output.trains.push({
      path: batch.trainPath(i),
      ecn: batch.trainEcn(i),
      segmentLength: batch.trainSegmentLength(i),
      bytes: core.bytes.slice(offset, offset + batch.trainLength(i)),
    });
  }
  batch.clearTrains();
  for (let i = 0; i < batch.frameOutCount; i++) {
    const offset = batch.frameOutOffset(i);
    output.frames.push(decodeFrame(core.bytes.subarray(offset, offset + batch.frameOutLength(i))));
  }
  batch.clearFrames();
}

function drainUntilDone(core: WasmPacketCore, call: () => number, onSlow: OnSlow | undefined): Output {
  const output: Output = { trains: [], frames: [], slow: [], more: 0 };
  for (;;) {
    const result = call();
    drainOutputs(core, output);
    for (let i = 0; i < core.slowCount; i++) {
      output.slow.push({
        reason: core.slowReason(i),
        peer: core.slowPeer(i),
        source: core.slowSource(i),
        detail: core.slowDetail(i),
        packet: core.slowPacket(i).slice(),
      });
      onSlow?.(core, i);
      drainOutputs(core, output);
    }
    core.clearSlow();
    if (result === abi.BATCH_DONE) return output;
    output.more += 1;
  }
}

/** The keys of both directions, for tests that open or forge messages themselves. */
export interface Link {
  readonly left: PeerId;
  readonly right: PeerId;
  readonly leftIndex: number;
  readonly rightIndex: number;
  readonly toRight: Uint8Array;
  readonly toLeft: Uint8Array;
}

/** Gives `left` and `right` a peer slot for each other, a path, and keypair number `handshake`; `left` initiated. */
export function link(
  left: WasmPacketCore,
  right: WasmPacketCore,
  random: (length: number) => Uint8Array,
  handshake = 1,
): Link {
  const leftPeer = left.addPeer()!;
  const rightPeer = right.addPeer()!;
  const pair: Link = {
    left: leftPeer,
    right: rightPeer,
    leftIndex: 0x5a000000 | (leftPeer << 8) | handshake,
    rightIndex: 0x3c000000 | (rightPeer << 8) | handshake,
    toRight: random(32),
    toLeft: random(32),
  };
  left.addKeypair(leftPeer, {
    localIndex: pair.leftIndex,
    remoteIndex: pair.rightIndex,
    sendKey: pair.toRight,
    receiveKey: pair.toLeft,
    initiated: true,
  });
  right.addKeypair(rightPeer, {
    localIndex: pair.rightIndex,
    remoteIndex: pair.leftIndex,
    sendKey: pair.toLeft,
    receiveKey: pair.toRight,
    initiated: false,
  });
  left.selectKeypair(leftPeer, pair.leftIndex);
  right.selectKeypair(rightPeer, pair.rightIndex);
  left.setPath(leftPeer, PATH);
  right.setPath(rightPeer, PATH);
  return pair;
}

/** Seals each packet for `peer` without any lookup, and returns the datagrams in trains. */
export function sealAll(
  core: WasmPacketCore,
  peer: PeerId,
  packets: readonly Uint8Array[],
  now = NOW,
): Train[] {
  const output: Output = { trains: [], frames: [], slow: [], more: 0 };
  core.onOutputFull(() => drainOutputs(core, output));
  for (const packet of packets) {
    if (!core.seal(peer, packet, now)) throw new Error("not sealed");
  }
  drainOutputs(core, output);
  core.onOutputFull(() => {});
  return output.trains;
}

/** The key under which a flow for this packet is installed. */
export function keyOf(packet: Uint8Array, from: FlowKey["from"]): FlowKey {
  const parsed = parseSlowly(packet, 70_000);
  if (typeof parsed === "number") throw new Error(`test packet is refused: ${parsed}`);
  const address = (at4: number, at6: number): IpAddress =>
    ipFromBytes(parsed.version === 4 ? packet.subarray(at4, at4 + 4) : packet.subarray(at6, at6 + 16));
  return {
    from,
    source: address(12, 8),
    destination: address(16, 24),
    protocol: parsed.protocol,
    sourcePort: parsed.sourcePort,
    destinationPort: parsed.destinationPort,
  };
}

/** Fails with the first packet and byte that differ: shorter to read than a comparison of arrays. */
export function assertSamePackets(
  actual: readonly Uint8Array[],
  expected: readonly Uint8Array[],
  message: string,
): void {
  for (let i = 0; i < Math.max(actual.length, expected.length); i++) {
    const [a, b] = [actual[i], expected[i]];
    if (a === undefined || b === undefined) {
      assert.fail(`${actual.length} packets instead of ${expected.length}; ${message}`);
    }
    const at = b.findIndex((byte, k) => a[k] !== byte);
    if (at >= 0 || a.length !== b.length) {
      const hex = (bytes: Uint8Array) => Buffer.from(bytes.subarray(0, 100)).toString("hex");
      assert.fail(`packet ${i} of ${b.length} bytes differs at ${at}:\n${hex(a)}\n${hex(b)}\n${message}`);
    }
  }
}
