// The packet kernels (parse, checksum, rewrite, flows, NAT, filters) as tests and benchmarks see them.
import { SLOTS_BASE, TUN_IN_BASE } from "../../assembly/abi.ts";
import { loadVariant, type VariantName } from "./variants.ts";

interface Global {
  readonly value: number;
}

interface NetExports {
  sum(ptr: number, length: number, initial: number): number;
  pseudoHeaderSum(packet: number, version: number, protocol: number, l4Length: number): number;
  finishL4(packet: number, version: number, l4: number, protocol: number, l4Length: number): void;
  ipv4HeaderChecksum(packet: number, headerLength: number): void;
  delta16(before: number, after: number): number;
  deltaBytes(before: number, after: number, length: number): number;
  updated(checksum: number, delta: number): number;
  updateField(ptr: number, delta: number, isUdp: number): void;
  parse(packet: number, length: number, maxLength: number): number;
  parsePadded(packet: number, length: number, maxLength: number): number;
  isControlFrame(packet: number): number;
  readonly parsedVersion: Global;
  readonly parsedProtocol: Global;
  readonly parsedKind: Global;
  readonly parsedL4: Global;
  readonly parsedPorts: Global;
  readonly parsedTcpFlags: Global;
  readonly parsedLength: Global;
  readonly parsedPayload: Global;
  readonly parsedEcn: Global;
  applyRewrite(
    packet: number,
    flow: number,
    l4: number,
    kind: number,
    version: number,
    updateL4: number,
  ): void;
  mergeEcn(packet: number, outer: number): void;
  flowFind(packet: number, scope: number): number;
  flowAdd(template: number): number;
  flowsRemoveAll(): void;
  flowsRemovePeer(peer: number): void;
  flowTouch(flow: number, payloadBytes: number, now: number): void;
  natOutgoing(
    owner: number,
    kind: number,
    value: number,
    proxy: number,
    real: number,
    version: number,
    now: number,
  ): number;
  natIncoming(owner: number, kind: number, value: number, real: number, version: number, now: number): number;
  natNote(entry: number, outgoing: number, tcpFlags: number, now: number): void;
  natEntry(entry: number): number;
  natIsLive(entry: number): number;
  natGeneration(entry: number): number;
  natReset(owner: number): void;
  natTick(now: number): number;
  natCount(): number;
  hashSeed(a: number, b: number, c: number, d: number): void;
  filterPermits(set: number, kind: number, port: number): number;
}

/** Where tests put packets, and where they put arguments (addresses, flow templates). */
export const PACKET_AT = TUN_IN_BASE + 64;
export const ARGUMENT_AT = SLOTS_BASE;

export interface Net extends NetExports {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Copies `bytes` to `at` and returns the address. */
  put(bytes: Uint8Array, at?: number): number;
  /** Copies `length` bytes out of memory. */
  take(at: number, length: number): Uint8Array;
}

export function loadNet(name: VariantName): Net {
  const { exports, bytes, view } = loadVariant<NetExports>(name, "assembly/__tests__/kernels/net.ts");
  return {
    ...exports,
    bytes,
    view,
    put(source, at = PACKET_AT) {
      bytes.set(source, at);
      return at;
    },
    take: (at, length) => bytes.slice(at, at + length),
  };
}
