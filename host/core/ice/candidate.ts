import {
  cidr,
  contains,
  type IpAddress,
  isIpv4,
  isMulticast,
  parseIp,
  type SocketAddress,
} from "../address.ts";
import { crc32 } from "../stun/integrity.ts";

export type CandidateKind = "host" | "peer-reflexive" | "server-reflexive" | "relayed";

/** An address at which a node may be reached. */
export interface Candidate {
  readonly kind: CandidateKind;
  readonly address: SocketAddress;
  readonly priority: number;
}

/** One of our own; checks towards any remote candidate leave from its base. */
export interface LocalCandidate extends Candidate {
  readonly base: SocketAddress;
}

/** A candidate as signalled; `ufrag` is the sender's, if it said so. */
export interface ParsedCandidate {
  readonly candidate: Candidate;
  readonly ufrag: string | undefined;
}

// connectivity §7.2
const TYPE_PREFERENCE: { readonly [K in CandidateKind]: number } = {
  host: 126,
  "peer-reflexive": 110,
  "server-reflexive": 100,
  relayed: 2,
};
const LOCAL_PREFERENCE_V6: { readonly [K in CandidateKind]: number } = {
  host: 65535,
  "peer-reflexive": 65535,
  "server-reflexive": 32767,
  relayed: 16383,
};
const LOCAL_PREFERENCE_STEP = 2;
/** Subtracted if the relayed address is not of the family in which we talk to the relay. */
const OTHER_FAMILY_PENALTY = 1000;

const TOKEN_OF_KIND: { readonly [K in CandidateKind]: string } = {
  host: "host",
  "peer-reflexive": "prflx",
  "server-reflexive": "srflx",
  relayed: "relay",
};
const KIND_OF_TOKEN = new Map<string, CandidateKind>(
  (Object.keys(TOKEN_OF_KIND) as CandidateKind[]).map((kind) => [TOKEN_OF_KIND[kind], kind]),
);

/** Longer text is refused unread; the longest sensible candidate has about 200 characters. */
const MAX_TEXT_LENGTH = 512;
const MAX_FOUNDATION_LENGTH = 32;
const LINK_LOCAL_V4 = cidr("169.254.0.0/16");
/** connectivity §7.5: per received candidate. */
const MAX_OPTIMISTIC = 2;

/** `ordinal`: how many candidates of this kind and family we had before it. */
export function candidatePriority(
  kind: CandidateKind,
  ip: IpAddress,
  ordinal: number,
  linkFamily: "same" | "other" = "same",
): number {
  const family = isIpv4(ip) ? 1 : 0;
  const penalty = kind === "relayed" && linkFamily === "other" ? OTHER_FAMILY_PENALTY : 0;
  const preference = LOCAL_PREFERENCE_V6[kind] - family - ordinal * LOCAL_PREFERENCE_STEP - penalty;
  return priorityOf(TYPE_PREFERENCE[kind], Math.max(0, preference));
}

/** What a check from this candidate states: the priority that a peer-reflexive twin of it would have. */
export function peerReflexivePriority(local: Candidate): number {
  return priorityOf(TYPE_PREFERENCE["peer-reflexive"], (local.priority >>> 8) & 0xffff);
}

/** Loopback is allowed: two nodes may share a host. */
export function isUsableAddress(address: SocketAddress): boolean {
  if (address.port === 0 || isMulticast(address.ip)) return false;
  if (address.ip === "0.0.0.0" || address.ip === "255.255.255.255" || address.ip === "::") return false;
  return !contains(LINK_LOCAL_V4, address.ip);
}

/**
 * The string of connectivity §7.3, in the order that positional parsers need.
 * `raddr` and `rport` are placeholders, so that they do not tell the peer about our network; no `ufrag`.
 */
export function formatCandidate(candidate: Candidate): string {
  const { kind, address, priority } = candidate;
  const foundation = foundationOf(kind, address.ip);
  const head = `candidate:${foundation} 1 udp ${priority} ${address.ip} ${address.port} typ ${TOKEN_OF_KIND[kind]}`;
  if (kind === "host") return head;
  return `${head} raddr ${isIpv4(address.ip) ? "0.0.0.0" : "::"} rport 0`;
}

/** Undefined if it is not a candidate that we could send to. Trailing key/value parts may come in any order. */
export function parseCandidate(text: string): ParsedCandidate | undefined {
  if (text.length > MAX_TEXT_LENGTH) return undefined;

  const fields = text.trim().split(/\s+/);
  const [prefixed, component, transport, priority, ip, port, typ, token] = fields;
  const foundation = prefixed?.startsWith("candidate:") ? prefixed.slice("candidate:".length) : "";
  if (foundation.length < 1 || foundation.length > MAX_FOUNDATION_LENGTH) return undefined;
  if (component !== "1" || transport?.toLowerCase() !== "udp" || typ !== "typ") return undefined;

  const kind = KIND_OF_TOKEN.get(token ?? "");
  const address = { ip: parseIp(ip ?? ""), port: decimal(port, 0xffff) };
  const stated = decimal(priority, 0xffffffff);
  if (kind === undefined || stated === undefined) return undefined;
  if (address.ip === undefined || address.port === undefined) return undefined;

  const candidate = { kind, address: { ip: address.ip, port: address.port }, priority: stated };
  if (!isUsableAddress(candidate.address)) return undefined;
  return { candidate, ufrag: optionalPart(fields.slice(8), "ufrag") };
}

/**
 * Guesses that the peer forwards its host port through its NAT (connectivity §7.5): reflexive IP with host port,
 * IPv4 only, at most two that are not in `remotes` yet.
 */
export function optimisticCandidates(remotes: readonly Candidate[]): Candidate[] {
  const known = new Set(remotes.map((remote) => `${remote.address.ip}:${remote.address.port}`));
  const guesses: Candidate[] = [];
  for (const reflexive of remotes) {
    if (reflexive.kind !== "server-reflexive" || !isIpv4(reflexive.address.ip)) continue;
    for (const host of remotes) {
      if (host.kind !== "host" || !isIpv4(host.address.ip)) continue;
      const address = { ip: reflexive.address.ip, port: host.address.port };
      const key = `${address.ip}:${address.port}`;
      if (known.has(key)) continue;

      known.add(key);
      const priority = candidatePriority("server-reflexive", address.ip, 0);
      guesses.push({ kind: "server-reflexive", address, priority });
      if (guesses.length === MAX_OPTIMISTIC) return guesses;
    }
  }
  return guesses;
}

/** Highest priority first; equal ones in a stable order that does not depend on arrival. */
export function byPriority(a: Candidate, b: Candidate): number {
  if (a.priority !== b.priority) return b.priority - a.priority;
  const left = formatCandidate(a);
  const right = formatCandidate(b);
  return left < right ? -1 : left > right ? 1 : 0;
}

function priorityOf(typePreference: number, localPreference: number): number {
  return typePreference * 2 ** 24 + localPreference * 2 ** 8 + 255;
}

function foundationOf(kind: CandidateKind, ip: IpAddress): string {
  return crc32(new TextEncoder().encode(`${kind} ${ip}`)).toString(16);
}

function decimal(text: string | undefined, max: number): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const value = Number(text);
  return value <= max ? value : undefined;
}

function optionalPart(parts: readonly string[], key: string): string | undefined {
  for (let i = 0; i + 1 < parts.length; i += 2) {
    if (parts[i] === key) return parts[i + 1];
  }
  return undefined;
}
