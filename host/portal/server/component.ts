// What a peer is, read from its User-Agent (portal §2.4), and what that implies (portal §14.2).
import type { Resource } from "../../core/policy/resource.ts";
import type { SiteSpelling } from "../resources.ts";
import type { Generation } from "../wire.ts";

export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
}

export type ClientKind = "apple" | "gui" | "headless" | "android";

export interface Component {
  readonly kind: ClientKind | "gateway" | "relay";
  readonly version: Version;
  /** As reported. */
  readonly versionText: string;
}

export interface UserAgent {
  readonly text: string;
  readonly osName: string | undefined;
  readonly osVersion: string | undefined;
  /** Undefined: no known component with a version that can be read. */
  readonly component: Component | undefined;
}

const NAMES: readonly (readonly [string, Component["kind"]])[] = [
  ["headless-client/", "headless"],
  ["gui-client/", "gui"],
  ["apple-client/", "apple"],
  ["android-client/", "android"],
  ["gateway/", "gateway"],
  ["relay/", "relay"],
];
const CONNLIB = "connlib/";

export function parseUserAgent(text: string): UserAgent {
  const [osName, rest] = splitOnce(text, "/");
  const [osVersion] = rest === undefined ? [undefined] : splitOnce(rest, " ");
  return {
    text,
    osName: rest === undefined || osName === "" ? undefined : osName,
    osVersion: osVersion === "" ? undefined : osVersion,
    component: findComponent(text),
  };
}

function findComponent(text: string): Component | undefined {
  for (const token of text.split(" ")) {
    const named = NAMES.find(([name]) => token.startsWith(name));
    const kind = named?.[1] ?? (token.startsWith(CONNLIB) ? kindBySystem(text) : undefined);
    if (kind === undefined) continue;
    const versionText = token.slice(token.indexOf("/") + 1);
    const version = parseVersion(versionText);
    return version === undefined ? undefined : { kind, version, versionText };
  }
  return undefined;
}

function kindBySystem(text: string): ClientKind {
  if (/^(Mac OS|macOS|iOS)/.test(text)) return "apple";
  return text.startsWith("Android") ? "android" : "gui";
}

export function parseVersion(text: string): Version | undefined {
  const match = /^(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[-+].*)?$/.exec(text);
  if (match === null) return undefined;
  return { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3]) };
}

export function compareVersions(a: Version, b: Version): number {
  return a.major - b.major || a.minor - b.minor || a.patch - b.patch;
}

/** Whether a gateway of that version serves a client of that version (portal §12.2). */
export function isCompatible(gateway: Version, client: Version): boolean {
  const lowest = { major: client.major, minor: Math.max(0, client.minor - 1), patch: 0 };
  const beyond = { major: client.major, minor: client.minor + 2, patch: 0 };
  return compareVersions(gateway, lowest) >= 0 && compareVersions(gateway, beyond) < 0;
}

const INTERNET_SINCE = { major: 1, minor: 3, patch: 0 };
const PATTERNS_SINCE = { major: 1, minor: 2, patch: 0 };

/** Whether a peer of that version can handle the resource at all (portal §14.2). */
export function canServe(version: Version, resource: Resource): boolean {
  switch (resource.kind) {
    case "internet":
      return compareVersions(version, INTERNET_SINCE) >= 0;
    case "dns":
      return !/[*?]/.test(resource.address) || compareVersions(version, PATTERNS_SINCE) >= 0;
    case "cidr":
      return true;
  }
}

const SITES_SINCE: Readonly<Record<ClientKind, Version>> = {
  apple: { major: 1, minor: 5, patch: 11 },
  gui: { major: 1, minor: 5, patch: 10 },
  headless: { major: 1, minor: 5, patch: 6 },
  android: { major: 1, minor: 5, patch: 8 },
};
const SITE_CHANGES_SINCE: Readonly<Record<ClientKind, Version>> = {
  apple: { major: 1, minor: 5, patch: 9 },
  gui: { major: 1, minor: 5, patch: 9 },
  headless: { major: 1, minor: 5, patch: 5 },
  android: { major: 1, minor: 5, patch: 5 },
};

export function isClientKind(kind: Component["kind"]): kind is ClientKind {
  return kind !== "gateway" && kind !== "relay";
}

export function siteSpelling(kind: ClientKind, version: Version, generation: Generation): SiteSpelling {
  if (generation === 1) return "gateway_groups";
  return compareVersions(version, SITES_SINCE[kind]) >= 0 ? "sites" : "gateway_groups";
}

/** Older clients must see a resource go and come back when its site changes (portal §6.6). */
export function understandsSiteChanges(kind: ClientKind, version: Version): boolean {
  return compareVersions(version, SITE_CHANGES_SINCE[kind]) >= 0;
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
