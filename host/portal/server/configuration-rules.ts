// Rules for single values of the configuration file (portal §20.1). A rule answers what is wrong and what
// would be right, as half a sentence, or undefined.
import {
  type Cidr,
  cidr,
  cidrText,
  contains,
  type IpAddress,
  isIpv4,
  networkOf,
  parseCidr,
  parseIp,
} from "../../core/address.ts";
import type { FilterRule } from "../../core/packet-core.ts";

/** Networks that tunnels use themselves (portal §10.6). */
const RESERVED: readonly Cidr[] = [cidr("100.64.0.0/10"), cidr("fd00:2021:1111::/48")];
const LOOPBACK: readonly Cidr[] = [cidr("127.0.0.0/8"), cidr("::1/128")];

const MAX_NAME = 255;
const MAX_DNS_ADDRESS = 253;
const MAX_LABEL = 63;

export function checkName(name: string, limit = MAX_NAME): string | undefined {
  if (name.trim() === "") return "is empty; expected a name";
  if (name !== name.trim()) return `"${name}" begins or ends with a space; did you mean "${name.trim()}"?`;
  if (name.length > limit) return `has ${name.length} characters; expected at most ${limit}`;
  return undefined;
}

export function checkSlug(slug: string): string | undefined {
  if (/^[a-z0-9][a-z0-9_-]{0,62}$/.test(slug)) return undefined;
  return `"${slug}" is no slug; expected up to 63 lower-case letters, digits, "-" and "_"`;
}

/** A value, or what is wrong with the text. */
export type Checked<T> = { readonly value: T } | { readonly problem: string };

export function checkNetwork(text: string): Checked<Cidr> {
  const network = parseCidr(text);
  if (network === undefined || !text.includes("/")) return { problem: explainNetwork(text) };
  if (network.prefix === 0) {
    return { problem: `"${text}" is everything; use a resource of type internet instead` };
  }
  const problem = checkPlace(network, text);
  return problem === undefined ? { value: network } : { problem };
}

/** An address of type `ip`: the network of that address alone. */
export function checkHost(text: string): Checked<Cidr> {
  const ip = parseIp(text);
  if (ip === undefined) {
    return { problem: `"${text}" is not an IP address; expected one such as 10.0.0.5 or 2001:db8::5` };
  }
  const network = networkOf(ip, isIpv4(ip) ? 32 : 128);
  const problem = checkPlace(network, text);
  return problem === undefined ? { value: network } : { problem };
}

/** A resolver: an address without port. */
export function checkServer(text: string): Checked<IpAddress> {
  const host = checkHost(text);
  return "problem" in host ? host : { value: host.value.ip };
}

function explainNetwork(text: string): string {
  const [address, length] = text.split("/");
  const ip = parseIp(address ?? "");
  const bits = ip === undefined || isIpv4(ip) ? 32 : 128;
  if (ip === undefined) return `"${text}" is not a network; expected one such as 10.0.0.0/8`;
  if (length === undefined) {
    return `"${text}" has no prefix length; did you mean ${text}/${bits}, or type ip?`;
  }
  const prefix = Number(length);
  if (!/^\d{1,3}$/.test(length) || prefix > bits) {
    return `"${text}" has a bad prefix length; expected 1 to ${bits}`;
  }
  return `"${text}" has host bits set; did you mean ${cidrText(networkOf(ip, prefix))}?`;
}

function checkPlace(network: Cidr, text: string): string | undefined {
  const reserved = RESERVED.find((range) => overlaps(range, network));
  if (reserved !== undefined) return `"${text}" overlaps ${cidrText(reserved)}, which tunnels use themselves`;
  const loopback = LOOPBACK.find((range) => overlaps(range, network));
  return loopback && `"${text}" is a loopback address, which means another machine to everybody`;
}

function overlaps(a: Cidr, b: Cidr): boolean {
  return contains(a, b.ip) || contains(b, a.ip);
}

/** Top labels that are registries for everybody, besides those of countries, which have two letters. */
const PUBLIC_TOP_LABELS = new Set([
  ...["com", "net", "org", "edu", "gov", "mil", "int", "arpa"],
  ...["info", "biz", "name", "pro", "app", "dev", "cloud", "online", "site", "xyz"],
]);

/** A name or pattern: `wiki.corp.example`, `*.corp.example`, `**.corp.example`, `web-?.corp.example`. */
export function checkPattern(text: string): string | undefined {
  if (text === "" || text.length > MAX_DNS_ADDRESS) {
    return `has ${text.length} characters; expected 1 to ${MAX_DNS_ADDRESS}`;
  }
  if (parseIp(text) !== undefined) return `"${text}" is an IP address; use type ip`;
  if (/:\d+$/.test(text)) return `"${text}" has a port; ports belong into filters`;

  const labels = text.split(".");
  for (const label of labels) {
    const problem = checkLabel(label, text);
    if (problem !== undefined) return problem;
  }
  const top = labels.at(-1)?.toLowerCase() ?? "";
  if (/[*?]/.test(top))
    return `"${text}" has a wildcard in its last label; expected a literal one, such as ".example"`;
  if (top === "localhost") return `"${text}" means another machine to everybody; expected another last label`;
  const isOpen = labels.slice(0, -1).every((label) => /[*?]/.test(label));
  if (labels.length > 1 && isOpen && (PUBLIC_TOP_LABELS.has(top) || /^[a-z]{2}$/.test(top))) {
    return `"${text}" covers all of ".${top}"; expected a literal label before it, such as "*.example.${top}"`;
  }
  return undefined;
}

function checkLabel(label: string, text: string): string | undefined {
  if (label === "") return `"${text}" has an empty label; expected no leading, trailing or double dot`;
  if (label.length > MAX_LABEL) return `"${text}" has a label of more than ${MAX_LABEL} characters`;
  if (label.includes("**") && label !== "**") {
    return `"${text}" mixes "**" with other characters; expected "**" as a whole label, or a single "*"`;
  }
  const bad = /[^\p{L}\p{M}\p{N}*?-]/u.exec(label);
  return bad === null
    ? undefined
    : `"${text}" contains "${bad[0]}"; expected letters, digits, "-", "*", "?" and dots`;
}

export function checkPorts(entry: string | number): Checked<{ first: number; last: number }> {
  const match = /^(\d{1,5})(?:\s*-\s*(\d{1,5}))?$/.exec(String(entry).trim());
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (match === null || first < 1 || first > 65535 || last > 65535) {
    return { problem: `"${entry}" is no port; expected 1 to 65535, or a range such as "8000-8100"` };
  }
  if (last < first) return { problem: `"${entry}" ends before it starts; did you mean "${last}-${first}"?` };
  return { value: { first, last } };
}

/** The rule that `rule` has a port in common with. */
export function overlapping(rules: readonly FilterRule[], rule: FilterRule): FilterRule | undefined {
  return rules.find(({ kind, firstPort, lastPort }) => {
    return (
      kind === rule.kind && (kind === "icmp" || (firstPort <= rule.lastPort && rule.firstPort <= lastPort))
    );
  });
}

export function isLoopbackHost(host: string): boolean {
  if (host === "localhost") return true;
  const ip = parseIp(host);
  return ip !== undefined && LOOPBACK.some((range) => contains(range, ip));
}

/** The known name that differs least from the text, if it can be a slip. */
export function nearest(text: string, names: readonly string[]): string | undefined {
  let best: { name: string; distance: number } | undefined;
  for (const name of names) {
    const distance = editDistance(text.toLowerCase(), name.toLowerCase());
    if (distance <= Math.max(1, Math.floor(text.length / 3)) && distance < (best?.distance ?? Infinity)) {
      best = { name, distance };
    }
  }
  return best?.name;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
