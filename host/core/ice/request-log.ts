import { type SocketAddress, socketAddressText } from "../address.ts";
import { type TransactionKey, transactionKey } from "../stun/message.ts";

/** Requests that are remembered: about a minute of a busy peer. */
const CAPACITY = 128;

/**
 * Recognises checks that somebody recorded and sends again from elsewhere.
 *
 * The integrity of such a copy holds, and answering it would make the sender's address a candidate, or even
 * the chosen path. Every genuine check has a new transaction id, so one id belongs to one source.
 */
export class RequestLog {
  readonly #sources = new Map<TransactionKey, string>();

  /** False for a copy from another source. */
  admit(transactionId: Uint8Array, from: SocketAddress): boolean {
    const key = transactionKey(transactionId);
    const source = socketAddressText(from);
    const first = this.#sources.get(key);
    if (first !== undefined) return first === source;

    this.#sources.set(key, source);
    if (this.#sources.size > CAPACITY) {
      for (const oldest of this.#sources.keys()) {
        this.#sources.delete(oldest);
        break;
      }
    }
    return true;
  }
}
