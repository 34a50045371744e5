// mac1, mac2 and cookies (WireGuard paper §5.3, connectivity §10.2 and §10.7).
import { ipToBytes, isIpv4, type SocketAddress } from "../address.ts";
import type { Random } from "../random.ts";
import type { Instant } from "../time.ts";
import { concat, equalBytes, hash, MAC_BYTES, mac, openCookie, sealCookie } from "./crypto.ts";
import { type Authenticated, authenticatedPart, type CookieReply, encodeCookieReply } from "./messages.ts";

const COOKIE_NONCE_BYTES = 24;
/** A cookie is good for the rest of its period and the whole next one: never shorter than its lifetime at the holder. */
const COOKIE_PERIOD_MS = 120_000;

const text = (ascii: string): Uint8Array => Uint8Array.from(ascii, (letter) => letter.charCodeAt(0));
const MAC1_LABEL = text("mac1----");
const COOKIE_LABEL = text("cookie--");

/** Key of mac1 in messages to the holder of that static key. */
export function mac1Key(receiverPublicKey: Uint8Array): Uint8Array {
  return hash(MAC1_LABEL, receiverPublicKey);
}

export function verifyMac1(message: Authenticated, key: Uint8Array): boolean {
  return equalBytes(mac(key, message.beforeMac1), message.mac1);
}

/** Fills in the MACs of outgoing messages to one remote, with the cookie that it gave us if any. */
export class CookieJar {
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  readonly #lifetimeMs: number;
  #cookie: { readonly value: Uint8Array; readonly expiresAt: Instant } | undefined;
  #last: { readonly index: number; readonly mac1: Uint8Array } | undefined;

  constructor(remotePublicKey: Uint8Array, lifetimeMs: number) {
    this.#mac1Key = mac1Key(remotePublicKey);
    this.#cookieKey = hash(COOKIE_LABEL, remotePublicKey);
    this.#lifetimeMs = lifetimeMs;
  }

  /** `message`: an encoded initiation or response with zero MACs. */
  authenticate(message: Uint8Array, senderIndex: number, now: Instant): void {
    const part = authenticatedPart(message);
    part.mac1.set(mac(this.#mac1Key, part.beforeMac1));
    if (this.#cookie !== undefined && now < this.#cookie.expiresAt) {
      part.mac2.set(mac(this.#cookie.value, part.beforeMac2));
    }
    this.#last = { index: senderIndex, mac1: part.mac1.slice() };
  }

  /** False unless it answers our last message. The cookie serves later messages; nothing is sent again now. */
  accept(reply: CookieReply, now: Instant): boolean {
    if (this.#last === undefined || reply.receiver !== this.#last.index) return false;

    const value = openCookie(this.#cookieKey, reply.nonce, reply.sealedCookie, this.#last.mac1);
    if (value === undefined) return false;

    this.#cookie = { value, expiresAt: now + this.#lifetimeMs };
    return true;
  }

  clear(): void {
    this.#cookie?.value.fill(0);
    this.#cookie = undefined;
    this.#last = undefined;
  }
}

/** Issues and checks this node's cookies: one secret, a value per period and source address, no table. */
export class CookieIssuer {
  readonly #secret: Uint8Array;
  readonly #key: Uint8Array;
  readonly #random: Random;

  constructor(publicKey: Uint8Array, random: Random) {
    this.#secret = random.bytes(32);
    this.#key = hash(COOKIE_LABEL, publicKey);
    this.#random = random;
  }

  verify(message: Authenticated, source: SocketAddress, now: Instant): boolean {
    const period = periodOf(now);
    return [period, period - 1].some((candidate) =>
      equalBytes(mac(this.#cookie(candidate, source), message.beforeMac2), message.mac2),
    );
  }

  reply(sender: number, message: Authenticated, source: SocketAddress, now: Instant): Uint8Array {
    const nonce = this.#random.bytes(COOKIE_NONCE_BYTES);
    const cookie = this.#cookie(periodOf(now), source);
    return encodeCookieReply(sender, nonce, sealCookie(this.#key, nonce, cookie, message.mac1));
  }

  #cookie(period: number, source: SocketAddress): Uint8Array {
    const counter = new Uint8Array(8);
    new DataView(counter.buffer).setFloat64(0, period);
    return mac(this.#secret, concat(counter, address16(source)));
  }
}

function periodOf(now: Instant): number {
  return Math.floor(now / COOKIE_PERIOD_MS);
}

/** IPv4 as an IPv4-mapped address, so that equal bytes mean equal addresses. */
function address16(source: SocketAddress): Uint8Array {
  const address = ipToBytes(source.ip);
  if (!isIpv4(source.ip)) return address;
  const mapped = new Uint8Array(MAC_BYTES);
  mapped[10] = 0xff;
  mapped[11] = 0xff;
  mapped.set(address, 12);
  return mapped;
}
