// What the portal derives instead of storing or negotiating it (portal §10). Keys and UUIDs enter as text.
import { hmac } from "@noble/hashes/hmac.js";
import { sha1 } from "@noble/hashes/legacy.js";
import { pbkdf2 } from "@noble/hashes/pbkdf2.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { RelayId } from "../../core/id.ts";
import type { IceCredentials, Key } from "../../core/messages.ts";
import type { Random } from "../../core/random.ts";
import type { UnixTime } from "../../core/time.ts";
import { toBase64NoPad } from "../base64.ts";

/** One side of a connection as derivations see it. */
export interface DerivationSide {
  readonly id: string;
  /** Base64, as text. */
  readonly publicKey: string;
}

/** Pre-shared key between a client and a gateway (portal §10.1). */
export function presharedKey(
  client: DerivationSide & { readonly pskBase: Uint8Array },
  gateway: DerivationSide & { readonly pskBase: Uint8Array },
): Key {
  const secret = concat(client.pskBase, gateway.pskBase);
  const salt =
    `WG_PSK|C_ID:${client.id}|G_ID:${gateway.id}` + `|C_PK:${client.publicKey}|G_PK:${gateway.publicKey}`;
  return pbkdf2(sha256, secret, utf8(salt), { c: 1, dkLen: 32 });
}

/** ICE credentials of both sides (portal §10.3): stable until either key changes. */
export function iceCredentials(
  initiator: DerivationSide,
  receiver: DerivationSide,
): { readonly initiator: IceCredentials; readonly receiver: IceCredentials } {
  const seed = `${initiator.id}:${initiator.publicKey}:${receiver.id}:${receiver.publicKey}`;
  const text = base32(sha256(utf8(seed)));
  return {
    initiator: { username: text.slice(0, 4), password: text.slice(4, 26) },
    receiver: { username: text.slice(26, 30), password: text.slice(30, 52) },
  };
}

/** TURN credentials of one node at one relay (portal §10.4): stable as long as the expiry is. */
export function turnCredentials(publicKey: string, expiresAt: UnixTime, stampSecret: string): IceCredentials {
  const salt = toBase64NoPad(sha256(utf8(publicKey)));
  return {
    username: `${expiresAt}:${salt}`,
    password: toBase64NoPad(sha256(utf8(`${expiresAt}:${stampSecret}:${salt}`))),
  };
}

/** A relay's id follows from its secret: a restarted relay is a new one (portal §10.5). */
export function relayId(stampSecret: string): RelayId {
  return formatUuid(sha256(utf8(stampSecret)), 4) as RelayId;
}

/** UUIDv5 over the account, so that re-reading the configuration finds the same objects (portal §20). */
export function namedId(accountId: string, kind: string, name: string): string {
  const namespace = Uint8Array.from(accountId.replaceAll("-", "").match(/../g) ?? [], (hex) =>
    Number.parseInt(hex, 16),
  );
  return formatUuid(sha1(concat(namespace, utf8(`${kind}/${name}`))), 5);
}

export function randomId(random: Random): string {
  return formatUuid(random.bytes(16), 4);
}

/** A value that only the holder of the seed can compute; different labels give unrelated values. */
export function derivedBytes(seed: Uint8Array, label: string): Uint8Array {
  return hmac(sha256, seed, utf8(label));
}

/** A number in [0, limit) that looks random to who lacks the seed; `limit` is far below 2^32. */
export function derivedNumber(seed: Uint8Array, label: string, limit: number): number {
  const bytes = derivedBytes(seed, label);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0) % limit;
}

/** Compares in time that depends on the lengths alone. */
export function isEqualSecret(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Text of the UUID in the first 16 bytes, with version and variant set. */
export function formatUuid(bytes: Uint8Array, version: 4 | 5): string {
  const hex = Array.from(bytes.subarray(0, 16), (byte, i) => {
    const value = i === 6 ? (byte & 0x0f) | (version << 4) : i === 8 ? (byte & 0x3f) | 0x80 : byte;
    return value.toString(16).padStart(2, "0");
  }).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Lower case without padding (RFC 4648 §6). */
function base32(bytes: Uint8Array): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  let text = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[(held >>> bits) & 31];
    }
    held &= (1 << bits) - 1;
  }
  return bits === 0 ? text : text + alphabet[(held << (5 - bits)) & 31];
}
