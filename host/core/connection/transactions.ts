import type { TransactionKey } from "../stun/message.ts";
import { after, type Instant } from "../time.ts";

/** connectivity §8.2: a response must arrive within this time of its request. */
export const TRANSACTION_LIFETIME_MS = 10_000;
/** Checks under way; the oldest is forgotten. Hundreds of connections that all check need a tenth of it. */
const CAPACITY = 65_536;

/** Which connection sent a check, so that its response finds back. */
export class Transactions<T> {
  /** In order of sending. */
  readonly #sent = new Map<TransactionKey, { readonly owner: T; readonly expiresAt: Instant }>();

  remember(key: TransactionKey, owner: T, now: Instant): void {
    this.#sent.set(key, { owner, expiresAt: after(now, TRANSACTION_LIFETIME_MS) });
    for (const [oldest, { expiresAt }] of this.#sent) {
      if (expiresAt > now && this.#sent.size <= CAPACITY) break;
      this.#sent.delete(oldest);
    }
  }

  ownerOf(key: TransactionKey, now: Instant): T | undefined {
    const entry = this.#sent.get(key);
    return entry === undefined || entry.expiresAt <= now ? undefined : entry.owner;
  }

  clear(): void {
    this.#sent.clear();
  }
}
