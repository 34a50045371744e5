import { sha256 } from "@noble/hashes/sha2.js";
import type { Instant } from "../../core/time.ts";
import { toBase64NoPad } from "../base64.ts";
import { utf8 } from "./derivations.ts";

// portal §3.1, §22.6
const ATTEMPT_INTERVAL_MS = 1_000;
const MAX_PER_ADDRESS = 50;
const WINDOW_MS = 1_000;
/** Entries of each table; the oldest gives way, which can only let an attempt through. */
const MAX_ENTRIES = 10_000;

/** How often peers may try: once a second per address and token, fifty times a second per address. */
export class AttemptLimiter {
  readonly #attempts = new Map<string, Instant>();
  readonly #addresses = new Map<string, { since: Instant; attempts: number }>();

  /** Before anything else is looked at. */
  admitsAddress(address: string, now: Instant): boolean {
    const window = this.#addresses.get(address);
    if (window === undefined || now >= window.since + WINDOW_MS) {
      remember(this.#addresses, address, { since: now, attempts: 1 });
      return true;
    }
    window.attempts += 1;
    return window.attempts <= MAX_PER_ADDRESS;
  }

  /** A refused attempt costs nothing: the next is admitted one second after the last admitted one. */
  admitsToken(address: string, token: string, now: Instant): boolean {
    const key = `${address} ${toBase64NoPad(sha256(utf8(token)))}`;
    const last = this.#attempts.get(key);
    if (last !== undefined && now < last + ATTEMPT_INTERVAL_MS) return false;
    remember(this.#attempts, key, now);
    return true;
  }

  /** Forgets what no longer limits anybody. */
  handleTimeout(now: Instant): void {
    for (const [key, at] of this.#attempts) if (now >= at + ATTEMPT_INTERVAL_MS) this.#attempts.delete(key);
    for (const [address, window] of this.#addresses) {
      if (now >= window.since + WINDOW_MS) this.#addresses.delete(address);
    }
  }
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  if (map.size >= MAX_ENTRIES) {
    const [oldest] = map.keys();
    if (oldest !== undefined) map.delete(oldest);
  }
  map.set(key, value);
}
