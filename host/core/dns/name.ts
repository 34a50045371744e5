import { type IpAddress, ipFromBytes, ipToBytes, isIpv4 } from "../address.ts";
import { asciiLowerCase } from "../policy/pattern.ts";

/** A domain name as Culvert keeps it: presentation form, lower case, no trailing dot; `""` is the root. */
export function normalizeName(name: string): string {
  const lower = asciiLowerCase(name);
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}

/** The address that a reverse name stands for; undefined unless it has exactly the labels of one. */
export function addressOfReverseName(name: string): IpAddress | undefined {
  const normalized = normalizeName(name);
  if (normalized.endsWith(".in-addr.arpa")) return reverseIpv4(normalized.slice(0, -".in-addr.arpa".length));
  if (normalized.endsWith(".ip6.arpa")) return reverseIpv6(normalized.slice(0, -".ip6.arpa".length));
  return undefined;
}

/** The name whose PTR record names the address. */
export function reverseNameOf(address: IpAddress): string {
  const bytes = [...ipToBytes(address)];
  if (isIpv4(address)) return `${bytes.reverse().join(".")}.in-addr.arpa`;

  const nibbles = bytes.flatMap((byte) => [byte >> 4, byte & 0x0f]);
  return `${nibbles
    .reverse()
    .map((nibble) => nibble.toString(16))
    .join(".")}.ip6.arpa`;
}

function reverseIpv4(prefix: string): IpAddress | undefined {
  const labels = prefix.split(".");
  if (labels.length !== 4 || !labels.every((label) => /^(0|[1-9]\d{0,2})$/.test(label))) return undefined;

  const bytes = labels.reverse().map(Number);
  return bytes.every((byte) => byte <= 255) ? ipFromBytes(Uint8Array.from(bytes)) : undefined;
}

function reverseIpv6(prefix: string): IpAddress | undefined {
  const labels = prefix.split(".");
  if (labels.length !== 32 || !labels.every((label) => /^[0-9a-f]$/.test(label))) return undefined;

  const hex = labels.reverse().join("");
  return ipFromBytes(
    Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(hex.slice(i * 2, i * 2 + 2), 16)),
  );
}
