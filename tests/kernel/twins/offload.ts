// Slow twins of assembly/offload: platform §6.2, rule by rule, on byte arrays.
import { checksumAt, l4Sum, TCP, UDP, wordSum } from "./checksum.ts";
import { type PacketParts, packet, writeL4Checksum } from "./packets.ts";
import { type Parsed, parseSlowly } from "./parse.ts";

export interface Virtio {
  readonly flags: number;
  readonly gsoType: number;
  readonly headerLength: number;
  readonly gsoSize: number;
  readonly csumStart: number;
  readonly csumOffset: number;
}

export interface Frame {
  readonly virtio: Virtio;
  readonly packet: Uint8Array;
}

export const PLAIN: Virtio = {
  flags: 0,
  gsoType: 0,
  headerLength: 0,
  gsoSize: 0,
  csumStart: 0,
  csumOffset: 0,
};
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
export const GSO_UDP = 5;
const FIN = 1;
const PSH = 8;
const ACK = 16;
const CWR = 128;
const DESTINATION_OPTIONS = 60;

export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(10 + frame.packet.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = frame.virtio.flags;
  bytes[1] = frame.virtio.gsoType;
  view.setUint16(2, frame.virtio.headerLength, true);
  view.setUint16(4, frame.virtio.gsoSize, true);
  view.setUint16(6, frame.virtio.csumStart, true);
  view.setUint16(8, frame.virtio.csumOffset, true);
  bytes.set(frame.packet, 10);
  return bytes;
}

export function decodeFrame(bytes: Uint8Array): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return {
    virtio: {
      flags: view.getUint8(0),
      gsoType: view.getUint8(1),
      headerLength: view.getUint16(2, true),
      gsoSize: view.getUint16(4, true),
      csumStart: view.getUint16(6, true),
      csumOffset: view.getUint16(8, true),
    },
    packet: bytes.slice(10),
  };
}

export interface TcpParts {
  readonly sequence: number;
  readonly acknowledgement?: number;
  readonly window?: number;
  /** Multiple of 4 bytes. */
  readonly tcpOptions?: Uint8Array;
  readonly identification?: number;
}

/** A TCP packet with header fields that `packet` does not set. */
export function tcpPacket(parts: Omit<PacketParts, "protocol">, tcp: TcpParts): Uint8Array {
  const options = tcp.tcpOptions ?? new Uint8Array(0);
  const payload = concat([options, parts.payload ?? new Uint8Array(0)]);
  const bytes = packet({ ...parts, protocol: TCP, payload });
  const { l4 } = parsed(bytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(l4 + 4, tcp.sequence);
  view.setUint32(l4 + 8, tcp.acknowledgement ?? 7777);
  bytes[l4 + 12] = (5 + options.length / 4) << 4;
  view.setUint16(l4 + 14, tcp.window ?? 500);
  if (bytes[0]! >> 4 === 4) view.setUint16(4, tcp.identification ?? 0);
  finish(bytes);
  return bytes;
}

/** Puts the folded pseudo-header sum where the checksum goes, as a kernel does that leaves it to the device. */
export function makePartial(bytes: Uint8Array): Virtio {
  const { l4, protocol, version } = parsed(bytes);
  const addresses = version === 4 ? bytes.subarray(12, 20) : bytes.subarray(8, 40);
  const length = bytes.length - l4;
  const trailer = wordSum(Uint8Array.of(0, protocol, length >> 8, length & 0xff));
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint16(l4 + checksumAt(protocol), wordSum(addresses, trailer));
  return { ...PLAIN, flags: 1, csumStart: l4, csumOffset: checksumAt(protocol) };
}

/** The packets that a super-packet stands for. */
export function splitSlowly(superPacket: Uint8Array, gsoSize: number): Uint8Array[] {
  const { l4, payload, protocol, length } = parsed(superPacket);
  const count = Math.ceil((length - payload) / gsoSize);
  const packets: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const from = payload + i * gsoSize;
    const bytes = concat([superPacket.subarray(0, payload), superPacket.subarray(from, from + gsoSize)]);
    const view = new DataView(bytes.buffer);
    if (bytes[0]! >> 4 === 4) view.setUint16(4, (view.getUint16(4) + i) & 0xffff);
    if (protocol === TCP) {
      view.setUint32(l4 + 4, (view.getUint32(l4 + 4) + i * gsoSize) >>> 0);
      if (i < count - 1) bytes[l4 + 13] = bytes[l4 + 13]! & ~(FIN | PSH);
      if (i > 0) bytes[l4 + 13] = bytes[l4 + 13]! & ~CWR;
    }
    finish(bytes);
    packets.push(bytes);
  }
  return packets;
}

interface Run {
  flow: string;
  packets: Uint8Array[];
  isOpen: boolean;
}

/** The frames that packets become when they arrive in this order. */
export function coalesceSlowly(packets: readonly Uint8Array[]): Frame[] {
  const runs: Run[] = [];
  for (const bytes of packets) {
    const flow = flowKey(bytes);
    const latest = runs.findLast((run) => run.flow === flow);
    if (latest?.isOpen && joins(latest.packets, bytes)) {
      latest.packets.push(bytes);
      latest.isOpen = !endsRun(latest.packets[0]!, bytes);
    } else {
      runs.push({ flow, packets: [bytes], isOpen: isCandidate(bytes) && !endsRun(bytes, bytes) });
    }
  }
  return runs.map((run) => merged(run.packets));
}

function flowKey(bytes: Uint8Array): string {
  const p = parsed(bytes);
  const addresses = p.version === 4 ? bytes.subarray(12, 20) : bytes.subarray(8, 40);
  return `${p.protocol} ${addresses.join()} ${p.sourcePort} ${p.destinationPort}`;
}

function isCandidate(bytes: Uint8Array): boolean {
  const p = parsed(bytes);
  if (p.length === p.payload || p.l4 !== (p.version === 4 ? 20 : 40)) return false;
  if (l4Sum(bytes, p.l4, p.protocol) !== 0xffff) return false;
  if (p.protocol === UDP) return bytes[p.l4 + 6] !== 0 || bytes[p.l4 + 7] !== 0;
  return p.protocol === TCP && (p.tcpFlags === ACK || p.tcpFlags === (ACK | PSH));
}

function joins(run: readonly Uint8Array[], bytes: Uint8Array): boolean {
  const first = run[0]!;
  const [a, b] = [parsed(first), parsed(bytes)];
  const size = a.length - a.payload;
  const total = a.payload + run.reduce((sum, each) => sum + parsed(each).length - parsed(each).payload, 0);
  const payload = b.length - b.payload;
  if (!isCandidate(bytes) || payload > size || total + payload > 65526) return false;
  if (ipFields(first, a).join() !== ipFields(bytes, b).join()) return false;
  if (b.protocol === UDP) return run.length < 128;
  const sequence = new DataView(first.buffer).getUint32(a.l4 + 4) + total - a.payload;
  if (new DataView(bytes.buffer).getUint32(b.l4 + 4) !== sequence >>> 0) return false;
  return tcpFields(first, a).join() === tcpFields(bytes, b).join();
}

/** Version, header length, TOS; fragment bits; TTL. Or version, traffic class, flow label; hop limit. */
function ipFields(bytes: Uint8Array, p: Parsed): number[] {
  return p.version === 4
    ? [bytes[0]!, bytes[1]!, bytes[6]!, bytes[7]!, bytes[8]!]
    : [...bytes.subarray(0, 4), bytes[7]!];
}

/** Acknowledgement, header length, window, urgent pointer, options. */
function tcpFields(bytes: Uint8Array, p: Parsed): number[] {
  const tcp = bytes.subarray(p.l4, p.payload);
  return [...tcp.subarray(8, 13), ...tcp.subarray(14, 16), ...tcp.subarray(18)];
}

function endsRun(first: Uint8Array, bytes: Uint8Array): boolean {
  const [a, b] = [parsed(first), parsed(bytes)];
  return b.length - b.payload < a.length - a.payload || (b.protocol === TCP && (b.tcpFlags & PSH) !== 0);
}

function merged(packets: readonly Uint8Array[]): Frame {
  const first = packets[0]!;
  if (packets.length === 1) return { virtio: PLAIN, packet: first };
  const p = parsed(first);
  const bytes = concat([
    first.subarray(0, p.payload),
    ...packets.map((each) => each.subarray(parsed(each).payload)),
  ]);
  if (p.protocol === TCP)
    bytes[p.l4 + 13] = packets.reduce((flags, each) => flags | parsed(each).tcpFlags, 0);
  finish(bytes);
  const virtio = {
    ...makePartial(bytes),
    gsoType: p.protocol === UDP ? GSO_UDP : p.version === 4 ? GSO_TCPV4 : GSO_TCPV6,
    headerLength: p.payload,
    gsoSize: p.length - p.payload,
  };
  return { virtio, packet: bytes };
}

/** Lengths and checksums that agree with the bytes; knows at most one IPv6 extension header. */
function finish(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer);
  const isIpv4 = bytes[0]! >> 4 === 4;
  if (isIpv4) {
    const header = (bytes[0]! & 15) * 4;
    view.setUint16(2, bytes.length);
    view.setUint16(10, 0);
    view.setUint16(10, ~wordSum(bytes.subarray(0, header)) & 0xffff);
  } else {
    view.setUint16(4, bytes.length - 40);
  }
  const hasExtension = !isIpv4 && bytes[6] === DESTINATION_OPTIONS;
  const l4 = isIpv4 ? (bytes[0]! & 15) * 4 : hasExtension ? 40 + (bytes[41]! + 1) * 8 : 40;
  const protocol = isIpv4 ? bytes[9]! : hasExtension ? bytes[40]! : bytes[6]!;
  if (protocol === UDP) view.setUint16(l4 + 4, bytes.length - l4);
  writeL4Checksum(bytes, l4, protocol);
}

function parsed(bytes: Uint8Array): Parsed {
  const result = parseSlowly(bytes, 70_000);
  if (typeof result === "number") throw new Error(`test packet is refused: ${result}`);
  return result;
}

export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
