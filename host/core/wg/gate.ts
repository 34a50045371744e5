import type { SocketAddress } from "../address.ts";
import type { DropReason } from "../drop.ts";
import type { Random } from "../random.ts";
import type { Instant } from "../time.ts";
import { CookieIssuer, mac1Key, verifyMac1 } from "./cookie.ts";
import { type NoiseCrypto, type StaticIdentity, wipe } from "./crypto.ts";
import { parseMessage } from "./messages.ts";
import { openInitiation } from "./noise.ts";

/** Initiations and responses per second and node without proof of address (connectivity §10.7). */
export const HANDSHAKES_PER_SECOND = 100;
/** The same with a valid cookie; each costs about 0.2 ms of X25519, so this is a fifth of one core. */
export const COOKIED_HANDSHAKES_PER_SECOND = 1000;
const WINDOW_MS = 1000;

export type Admission =
  | { readonly kind: "accept" }
  | { readonly kind: "drop"; readonly reason: DropReason }
  /** To be sent to where the message came from, or over the chosen path in ICE mode. */
  | { readonly kind: "cookie-reply"; readonly message: Uint8Array };

const ACCEPT: Admission = { kind: "accept" };

/** Decides, before any Diffie-Hellman, which handshake messages a node looks at. One per node key. */
export class HandshakeGate {
  readonly #mac1Key: Uint8Array;
  readonly #issuer: CookieIssuer;
  #windowStart: Instant;
  #count = 0;
  #cookied = 0;

  constructor(publicKey: Uint8Array, random: Random, now: Instant) {
    this.#mac1Key = mac1Key(publicKey);
    this.#issuer = new CookieIssuer(publicKey, random);
    this.#windowStart = now;
  }

  /** Cookie replies always pass: they cost one short AEAD call at the peer that they name. */
  admit(bytes: Uint8Array, source: SocketAddress, now: Instant): Admission {
    const message = parseMessage(bytes);
    if (typeof message === "string") return { kind: "drop", reason: message };
    if (message.kind === "data") return { kind: "drop", reason: "not-wireguard" };
    if (message.kind === "cookie-reply") return ACCEPT;
    if (!verifyMac1(message, this.#mac1Key)) return { kind: "drop", reason: "bad-handshake" };

    this.#startWindow(now);
    this.#count += 1;
    if (this.#count <= HANDSHAKES_PER_SECOND) return ACCEPT;

    if (!this.#issuer.verify(message, source, now)) {
      return {
        kind: "cookie-reply",
        message: this.#issuer.reply(message.sender, message, source, now),
      };
    }
    this.#cookied += 1;
    return this.#cookied <= COOKIED_HANDSHAKES_PER_SECOND
      ? ACCEPT
      : { kind: "drop", reason: "bad-handshake" };
  }

  #startWindow(now: Instant): void {
    if (now - this.#windowStart < WINDOW_MS) return;
    this.#windowStart = now;
    this.#count = 0;
    this.#cookied = 0;
  }
}

/**
 * The static key that an initiation claims: what tells connections apart.
 * Not proof yet: only `WireGuardPeer.handleMessage` verifies that the sender holds that key.
 */
export function identifyInitiation(
  bytes: Uint8Array,
  identity: StaticIdentity,
  crypto: NoiseCrypto,
): Uint8Array | undefined {
  const message = parseMessage(bytes);
  if (typeof message === "string" || message.kind !== "initiation") return undefined;
  if (!verifyMac1(message, mac1Key(identity.publicKey))) return undefined;

  const opened = openInitiation(message, identity, crypto);
  if (opened === undefined) return undefined;
  wipe(opened.chainingKey);
  return opened.remoteStatic;
}
