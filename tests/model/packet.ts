// Tagged packets: each says which probe it belongs to, and can be built again byte by byte for comparison.
import { type IpAddress, ipFromBytes, isIpv4 } from "../../host/core/address.ts";
import { ACK, FIN, icmp, ip as ipPacket, RST, SYN, TCP, tcp, UDP, u16, u32 } from "../unit/packet/packets.ts";
import type { Protocol } from "./policy.ts";

const MAGIC = 0x43564c54;
const ESP = 50;

export interface Shape {
  readonly protocol: Protocol;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** For echo the identifier, at both ends. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Number of the probe; its reply has the same, negated. */
  readonly tag: number;
  /** Bytes of payload behind the tag; TCP segments here have none. */
  readonly size: number;
  readonly tcp?: "open" | "data" | "fin" | "reset" | undefined;
}

const FLAGS = { open: SYN, data: ACK, fin: FIN | ACK, reset: RST } as const;

export function build(shape: Shape): Uint8Array {
  const { protocol, source: from, destination: to, sourcePort, destinationPort, tag } = shape;
  const isReply = tag < 0;
  const payload = [...u32(MAGIC), ...u32(tag >>> 0), ...filler(shape)];
  switch (protocol) {
    case "udp": {
      const segment = [
        ...u16(sourcePort),
        ...u16(destinationPort),
        ...u16(8 + payload.length),
        0,
        0,
        ...payload,
      ];
      return ipPacket({ from, to }, UDP, segment, 6);
    }
    case "tcp": {
      const flags = FLAGS[shape.tcp ?? "open"] | (isReply && shape.tcp === "open" ? ACK : 0);
      return tcp({ from, to }, sourcePort, destinationPort, { flags, sequence: tag >>> 0, timestamp: MAGIC });
    }
    case "echo": {
      const [request, reply] = isIpv4(from) ? [8, 0] : [128, 129];
      return icmp({ from, to }, [isReply ? reply : request, 0, 0, 0, ...u16(sourcePort), 0, 1, ...payload]);
    }
    case "other":
      return ipPacket({ from, to }, ESP, payload);
  }
}

function filler({ size, tag }: Shape): number[] {
  return Array.from({ length: size }, (_, i) => (i * 31 + Math.abs(tag)) & 0xff);
}

export interface Seen {
  readonly kind: Protocol | "icmp-error";
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Undefined: not one of ours, or cut off. */
  readonly tag: number | undefined;
  /** Type and code of an ICMP error, and the packet that it quotes. */
  readonly error: { readonly type: number; readonly code: number; readonly quoted: Seen } | undefined;
  readonly payload: Uint8Array;
}

/** Reads as much of the packet as there is; undefined if not even addresses are. */
export function read(bytes: Uint8Array): Seen | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  const headerBytes = version === 4 ? ((bytes[0] ?? 0) & 15) * 4 : 40;
  if ((version !== 4 && version !== 6) || bytes.length < headerBytes) return undefined;
  const [source, destination] = version === 4 ? slices(bytes, 12, 4) : slices(bytes, 8, 16);
  const protocol = bytes[version === 4 ? 9 : 6] ?? 0;
  const body = bytes.subarray(headerBytes);
  const ends = { source: ipFromBytes(source), destination: ipFromBytes(destination), error: undefined };
  const ports = { sourcePort: wordAt(body, 0), destinationPort: wordAt(body, 2) };
  if (protocol === UDP) {
    return { kind: "udp", ...ends, ...ports, tag: tagAt(body, 8), payload: body.subarray(8) };
  }
  if (protocol === TCP) {
    const tag = body.length < 8 ? undefined : longAt(body, 4) | 0;
    return { kind: "tcp", ...ends, ...ports, tag, payload: body.subarray(20) };
  }
  if (protocol === 1 || protocol === 58) return readIcmp(body, ends);
  return { kind: "other", ...ends, sourcePort: 0, destinationPort: 0, tag: tagAt(body, 0), payload: body };
}

function readIcmp(body: Uint8Array, ends: Pick<Seen, "source" | "destination" | "error">): Seen | undefined {
  const [type = 0, code = 0] = body;
  const payload = body.subarray(8);
  if ([0, 8, 128, 129].includes(type)) {
    const identifier = wordAt(body, 4);
    const ports = { sourcePort: identifier, destinationPort: identifier };
    return { kind: "echo", ...ends, ...ports, tag: tagAt(body, 8), payload };
  }
  const quoted = read(payload);
  if (quoted === undefined) return undefined;
  return {
    kind: "icmp-error",
    ...ends,
    sourcePort: 0,
    destinationPort: 0,
    tag: quoted.tag,
    error: { type, code, quoted },
    payload,
  };
}

function tagAt(body: Uint8Array, at: number): number | undefined {
  return body.length >= at + 8 && longAt(body, at) === MAGIC ? longAt(body, at + 4) | 0 : undefined;
}

function wordAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function longAt(bytes: Uint8Array, at: number): number {
  return wordAt(bytes, at) * 65536 + wordAt(bytes, at + 2);
}

function slices(bytes: Uint8Array, at: number, length: number): [Uint8Array, Uint8Array] {
  return [bytes.slice(at, at + length), bytes.slice(at + length, at + 2 * length)];
}

export function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
