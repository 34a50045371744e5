// Slow twin of assembly/ip/parse.ts: tunnel-core §3.1 and §3.2, rule by rule, on a DataView.
import {
  DROP_FRAGMENT,
  DROP_MALFORMED,
  DROP_OVERSIZED,
  KIND_ECHO,
  KIND_ICMP,
  KIND_OTHER,
  KIND_TCP,
  KIND_UDP,
} from "../../../assembly/abi.ts";

export interface Parsed {
  readonly version: number;
  readonly protocol: number;
  readonly kind: number;
  readonly l4: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly tcpFlags: number;
  readonly length: number;
  readonly payload: number;
  readonly ecn: number;
}

type Network = Pick<Parsed, "version" | "protocol" | "l4" | "length" | "ecn">;
type Transport = Pick<Parsed, "kind" | "sourcePort" | "destinationPort" | "tcpFlags" | "payload">;

/** The parsed packet, or a DROP_* code. `isPadded`: bytes behind the length field are tolerated. */
export function parseSlowly(bytes: Uint8Array, maxLength: number, isPadded = false): Parsed | number {
  if (!isPadded && bytes.length > maxLength) return DROP_OVERSIZED;
  if (bytes.length < 20) return DROP_MALFORMED;
  const version = bytes[0]! >> 4;
  const network =
    version === 4
      ? parseIpv4(bytes, isPadded, maxLength)
      : version === 6
        ? parseIpv6(bytes, isPadded, maxLength)
        : DROP_MALFORMED;
  if (typeof network === "number") return network;
  const transport = parseTransport(network, bytes.subarray(network.l4, network.length));
  return typeof transport === "number" ? transport : { ...network, ...transport };
}

function parseIpv4(bytes: Uint8Array, isPadded: boolean, maxLength: number): Network | number {
  const view = viewOf(bytes);
  const l4 = (bytes[0]! & 15) * 4;
  const length = view.getUint16(2);
  if (l4 < 20 || l4 > length) return DROP_MALFORMED;
  if (isPadded ? length > bytes.length : length !== bytes.length) return DROP_MALFORMED;
  if (length > maxLength) return DROP_OVERSIZED;
  const hasMoreFragments = (bytes[6]! & 0x20) !== 0;
  const fragmentOffset = view.getUint16(6) & 0x1fff;
  if (hasMoreFragments || fragmentOffset !== 0) return DROP_FRAGMENT;
  return { version: 4, protocol: bytes[9]!, l4, length, ecn: bytes[1]! & 3 };
}

function parseIpv6(bytes: Uint8Array, isPadded: boolean, maxLength: number): Network | number {
  if (bytes.length < 40) return DROP_MALFORMED;
  const view = viewOf(bytes);
  const length = 40 + view.getUint16(4);
  if (isPadded ? length > bytes.length : length !== bytes.length) return DROP_MALFORMED;
  if (length > maxLength) return DROP_OVERSIZED;

  let protocol = bytes[6]!;
  let l4 = 40;
  while ([0, 43, 44, 51, 60].includes(protocol)) {
    if (protocol === 0 && l4 !== 40) return DROP_MALFORMED;
    if (l4 + 8 > length) return DROP_MALFORMED;
    if (protocol === 44) {
      const field = view.getUint16(l4 + 2);
      const isAtomic = field >> 3 === 0 && (field & 1) === 0;
      if (!isAtomic) return DROP_FRAGMENT;
    }
    const size = protocol === 44 ? 8 : protocol === 51 ? (bytes[l4 + 1]! + 2) * 4 : (bytes[l4 + 1]! + 1) * 8;
    protocol = bytes[l4]!;
    l4 += size;
    if (l4 > length) return DROP_MALFORMED;
  }
  return { version: 6, protocol, l4, length, ecn: (view.getUint16(0) >> 4) & 3 };
}

function parseTransport({ version, protocol, l4 }: Network, body: Uint8Array): Transport | number {
  const view = viewOf(body);
  const none = { sourcePort: 0, destinationPort: 0, tcpFlags: 0 };
  if (protocol === 6) {
    if (body.length < 20) return DROP_MALFORMED;
    const header = (body[12]! >> 4) * 4;
    if (header < 20 || header > body.length) return DROP_MALFORMED;
    return { kind: KIND_TCP, ...ports(view), tcpFlags: body[13]!, payload: l4 + header };
  }
  if (protocol === 17) {
    if (body.length < 8 || view.getUint16(4) !== body.length) return DROP_MALFORMED;
    return { ...none, kind: KIND_UDP, ...ports(view), payload: l4 + 8 };
  }
  if (protocol === 1 || protocol === 58) {
    if ((protocol === 1) !== (version === 4) || body.length < 8) return DROP_MALFORMED;
    const echoTypes = protocol === 1 ? [0, 8] : [128, 129];
    if (!echoTypes.includes(body[0]!) || body[1] !== 0) return { ...none, kind: KIND_ICMP, payload: l4 + 8 };
    return { ...none, kind: KIND_ECHO, sourcePort: view.getUint16(4), payload: l4 + 8 };
  }
  return { ...none, kind: KIND_OTHER, payload: l4 };
}

function ports(view: DataView): { sourcePort: number; destinationPort: number } {
  return { sourcePort: view.getUint16(0), destinationPort: view.getUint16(2) };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
