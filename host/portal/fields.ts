// Wire forms that several messages share (portal §5): schemas to decode, functions to encode.
import { z } from "zod";
import {
  type Cidr,
  type IpAddress,
  isIpv4,
  parseCidr,
  parseIp,
  parseSocketAddress,
  type SocketAddress,
  socketAddressText,
} from "../core/address.ts";
import type { IceCredentials, Key, Relay } from "../core/messages.ts";
import type { FilterRule } from "../core/packet-core.ts";
import { fromBase64, toBase64 } from "./base64.ts";
import { decodeEach } from "./decode.ts";

/** A schema from a parser of text that answers undefined for what it refuses. */
export function parsed<T>(parse: (text: string) => T | undefined, expected: string) {
  return z.string().transform((text, context): T => {
    const value = parse(text);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message: `expected ${expected}` });
    return z.NEVER;
  });
}

/** Lower-case hyphenated form of any UUID text. */
export function parseUuid(text: string): string | undefined {
  const lower = text.toLowerCase();
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(lower)) return lower;
  if (!/^[0-9a-f]{32}$/.test(lower)) return undefined;
  return lower.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The branded type is the caller's claim about what the UUID names. */
export function uuid<Id extends string>() {
  return parsed((text) => parseUuid(text) as Id | undefined, "a UUID");
}

export const relayId = uuid<Relay["id"]>();

/** A list whose entries are decoded one by one; absent and null read as empty. */
export const rawList = z
  .array(z.unknown())
  .nullish()
  .transform((entries) => entries ?? []);

/** An address with or without prefix length (portal §16.5). */
export const ipv4 = parsed((text) => parseFamily(text, 4), "an IPv4 address");
export const ipv6 = parsed((text) => parseFamily(text, 6), "an IPv6 address");
export const ipAddress = parsed(parseIp, "an IP address");
export const cidrField = parsed((text): Cidr | undefined => parseCidr(text), "a network without host bits");

export const key = parsed(parseKey, "32 bytes in base64");

/** 32 bytes in standard base64; undefined if it is anything else. */
export function parseKey(text: string): Key | undefined {
  const bytes = fromBase64(text);
  return bytes?.length === 32 ? bytes : undefined;
}

export function encodeKey(bytes: Key): string {
  return toBase64(bytes);
}

export const unixSeconds = z.number().transform(Math.floor);

export const iceCredentials = z.object({
  username: z.string().min(1).max(256),
  password: z.string().min(1).max(256),
}) satisfies z.ZodType<IceCredentials>;

/** Longest candidate line and longest list taken from one message (portal §22.5, with room for other portals). */
const MAX_CANDIDATE_LENGTH = 512;
const MAX_CANDIDATES = 256;

export const candidateList = z.array(z.unknown()).transform((lines) => lines.filter(isCandidate));

/** Whether a line is a candidate: it has the prefix and a numeric priority (portal §5). */
function isCandidate(line: unknown): line is string {
  if (typeof line !== "string" || line.length > MAX_CANDIDATE_LENGTH) return false;
  return /^candidate:\S+ \S+ \S+ \d+( |$)/.test(line);
}

/** The candidates that are used of a list, first ones first; the rest is refused. */
export function boundCandidates(lines: readonly string[], skipped: string[]): readonly string[] {
  if (lines.length <= MAX_CANDIDATES) return lines;
  skipped.push(`candidates: ${lines.length - MAX_CANDIDATES} beyond the first ${MAX_CANDIDATES}`);
  return lines.slice(0, MAX_CANDIDATES);
}

// ── Relays ──────────────────────────────────────────────────────────────────────────────────────

const relayEntry = z.object({
  type: z.string(),
  id: relayId,
  addr: parsed(parseSocketAddress, "an address with port"),
  username: z.string().optional(),
  password: z.string().optional(),
  expires_at: unixSeconds.optional(),
});

/**
 * Merges the entries of one relay into one, wherever they stand: first IPv4, first IPv6, and the
 * credentials of the first entry. Entries that are not of type `turn` are ignored (connectivity §3).
 */
export function decodeRelays(entries: readonly unknown[], list: string, skipped: string[]): Relay[] {
  const relays = new Map<string, Relay>();
  for (const entry of decodeEach(relayEntry, entries, list, skipped)) {
    const { id, addr, username, password, expires_at } = entry;
    if (entry.type !== "turn") continue;
    if (username === undefined || password === undefined || expires_at === undefined) {
      skipped.push(`${list}: a relay without credentials`);
      continue;
    }
    const known = relays.get(id) ?? {
      id,
      v4: undefined,
      v6: undefined,
      username,
      password,
      expiresAt: expires_at,
    };
    relays.set(id, isIpv4(addr.ip) ? { ...known, v4: known.v4 ?? addr } : { ...known, v6: known.v6 ?? addr });
  }
  return [...relays.values()];
}

/** One entry per address; those of one relay are neighbours, IPv4 first, as released peers need it (portal §5). */
export function encodeRelays(relays: readonly Relay[]): unknown[] {
  return relays.flatMap((relay) =>
    [relay.v4, relay.v6]
      .filter((address): address is SocketAddress => address !== undefined)
      .map((address) => ({
        id: relay.id,
        type: "turn",
        addr: socketAddressText(address),
        username: relay.username,
        password: relay.password,
        expires_at: relay.expiresAt,
      })),
  );
}

// ── Filters ─────────────────────────────────────────────────────────────────────────────────────

const port = z.number().int().min(0).max(65535);

const filter = z
  .discriminatedUnion("protocol", [
    z.object({ protocol: z.literal("icmp") }),
    z.object({
      protocol: z.enum(["tcp", "udp"]),
      port_range_start: port.nullish(),
      port_range_end: port.nullish(),
    }),
  ])
  .transform((value): FilterRule => {
    if (value.protocol === "icmp") return { kind: "icmp", firstPort: 0, lastPort: 0 };
    return {
      kind: value.protocol,
      firstPort: value.port_range_start ?? 0,
      lastPort: value.port_range_end ?? 65535,
    };
  })
  .refine((rule) => rule.firstPort <= rule.lastPort, "port range ends before it starts");

/**
 * One bad filter spoils the list: leaving it out could turn "only this" into the empty list, which
 * permits everything.
 */
export const filterList = z
  .array(filter)
  .nullish()
  .transform((rules): readonly FilterRule[] => rules ?? []);

export function encodeFilters(rules: readonly FilterRule[]): unknown[] {
  return rules.map((rule) =>
    rule.kind === "icmp"
      ? { protocol: "icmp" }
      : { protocol: rule.kind, port_range_start: rule.firstPort, port_range_end: rule.lastPort },
  );
}

function parseFamily(text: string, family: 4 | 6): IpAddress | undefined {
  const [address, length, ...rest] = text.split("/");
  if (address === undefined || rest.length > 0) return undefined;
  if (length !== undefined && length !== (family === 4 ? "32" : "128")) return undefined;
  const value = parseIp(address);
  return value !== undefined && isIpv4(value) === (family === 4) ? value : undefined;
}
