import type { Instant } from "../time.ts";
import { ByteQueue } from "./byte-queue.ts";
import { Congestion } from "./congestion.ts";
import { RetransmissionTimeout } from "./rtt.ts";
import { advance, distance } from "./sequence.ts";

/** Duplicate acknowledgments that count as a loss (RFC 5681 §3.2). */
const DUPLICATES = 3;

/** What may be sent next; `fin` may come with the last bytes. */
export interface Outgoing {
  readonly sequence: number;
  readonly syn: boolean;
  readonly fin: boolean;
  readonly payload: Uint8Array;
}

/** What an acknowledgment says. */
export type AckVerdict = "progress" | "nothing" | "unsent";

/**
 * The sending half of a connection: SYN, bytes, FIN, and which of them are acknowledged.
 *
 *   una ──────── next ──────── max        all sequence numbers; next falls back to una when it retransmits
 *   unacknowledged   to be sent again
 *
 * After a loss everything from the first unacknowledged byte on is sent again.
 */
export class Sender {
  readonly #queue: ByteQueue;
  readonly #timeout = new RetransmissionTimeout();
  #congestion: Congestion;
  #segment: number;
  #una: number;
  #next: number;
  #max: number;
  #synAcked = false;
  #fin = false;
  #finAcked = false;
  #window = 0;
  #duplicates = 0;
  /** No second fast retransmission before this is acknowledged. */
  #recover: number;
  #timed: { readonly sequence: number; readonly at: Instant } | undefined;
  #mustProbe = false;
  #retransmitAt: Instant | undefined;

  constructor(initialSequence: number, segmentBytes: number, capacity: number) {
    this.#queue = new ByteQueue(capacity);
    this.#segment = segmentBytes;
    this.#congestion = new Congestion(segmentBytes);
    this.#una = initialSequence;
    this.#next = initialSequence;
    this.#max = initialSequence;
    this.#recover = initialSequence;
  }

  /** The next sequence number to be sent for the first time. */
  get max(): number {
    return this.#max;
  }

  get free(): number {
    return this.#queue.free;
  }

  /** Bytes that were never sent so far. */
  get unsent(): number {
    return Math.max(0, distance(this.#max, this.#end));
  }

  get isFinAcked(): boolean {
    return this.#finAcked;
  }

  /** Whether something waits to be acknowledged, or to be sent. */
  get isBusy(): boolean {
    return this.#una !== this.#max || !this.#synAcked || this.unsent > 0 || (this.#fin && !this.#finAcked);
  }

  get retransmitAt(): Instant | undefined {
    return this.#retransmitAt;
  }

  /** The peer's SYN said how large its segments may be. */
  setSegmentBytes(bytes: number): void {
    this.#segment = bytes;
    this.#congestion = new Congestion(bytes);
  }

  /** A copy is queued; at most `free` bytes, and none after `finish`. */
  push(bytes: Uint8Array, now: Instant): void {
    this.#queue.push(bytes);
    this.#arm(now);
  }

  /** FIN follows the bytes that are queued. */
  finish(): void {
    this.#fin = true;
  }

  setWindow(bytes: number, now: Instant): void {
    const wasClosed = this.#window === 0;
    this.#window = bytes;
    if (bytes > 0 && wasClosed && this.#synAcked) {
      this.#mustProbe = false;
      this.#timeout.progressed();
    }
    this.#arm(now);
  }

  /** Sends the SYN again: the peer shows that it missed it. */
  repeatSyn(): void {
    if (!this.#synAcked) this.#next = this.#una;
  }

  acknowledge(acknowledgment: number, now: Instant): AckVerdict {
    if (distance(this.#max, acknowledgment) > 0) return "unsent";
    const acked = distance(this.#una, acknowledgment);
    if (acked <= 0) return "nothing";

    this.#consume(acked);
    this.#una = acknowledgment;
    if (distance(this.#next, acknowledgment) > 0) this.#next = acknowledgment;
    this.#measure(acknowledgment, now);
    this.#congestion.acknowledged(acked);
    this.#timeout.progressed();
    this.#duplicates = 0;
    this.#retransmitAt = undefined;
    this.#arm(now);
    return "progress";
  }

  /** An acknowledgment that repeats the last one while something is in flight. */
  duplicate(): void {
    if (this.#una === this.#max) return;
    this.#duplicates += 1;
    if (this.#duplicates !== DUPLICATES || distance(this.#recover, this.#una) < 0) return;

    this.#recover = this.#max;
    this.#congestion.lost(distance(this.#una, this.#max));
    this.#goBack();
  }

  /** The retransmission deadline has passed. */
  handleTimeout(now: Instant): void {
    if (this.#retransmitAt === undefined || now < this.#retransmitAt) return;

    // RFC 9293 §3.8.6.1: a closed window is probed at the same pace.
    if (this.#window === 0 && this.#synAcked) this.#mustProbe = true;
    else this.#congestion.timedOut(distance(this.#una, this.#max));
    this.#recover = this.#max;
    this.#duplicates = 0;
    this.#goBack();
    this.#timeout.backOff();
    this.#retransmitAt = now + this.#timeout.ms;
  }

  /** The next thing to send now, which counts as sent. */
  poll(now: Instant): Outgoing | undefined {
    const outgoing = this.#next === this.#una && !this.#synAcked ? this.#syn() : this.#bytes();
    if (outgoing === undefined) return undefined;

    const { sequence, syn, fin, payload } = outgoing;
    this.#next = advance(sequence, payload.length + Number(syn) + Number(fin));
    if (distance(this.#max, this.#next) > 0) {
      if (this.#timed === undefined) this.#timed = { sequence: this.#next, at: now };
      this.#max = this.#next;
    }
    this.#arm(now);
    return outgoing;
  }

  #syn(): Outgoing {
    return { sequence: this.#una, syn: true, fin: false, payload: new Uint8Array(0) };
  }

  #bytes(): Outgoing | undefined {
    if (!this.#synAcked) return undefined;

    const offset = distance(this.#una, this.#next);
    const left = Math.max(0, this.#queue.length - offset);
    const allowed = this.#mustProbe ? 1 : Math.min(this.#window, this.#congestion.window) - offset;
    const length = Math.max(0, Math.min(left, allowed, this.#segment));
    const fin = this.#fin && !this.#finAcked && offset <= this.#queue.length && length === left;
    if (length === 0 && !fin) return undefined;
    // Silly windows: a short segment waits while others are in flight (RFC 9293 §3.8.6.2.1).
    if (length < this.#segment && length < left && offset > 0 && !this.#mustProbe) return undefined;

    this.#mustProbe = false;
    return { sequence: this.#next, syn: false, fin, payload: this.#queue.copy(offset, length) };
  }

  /** Sequence number behind the last queued byte. */
  get #end(): number {
    return advance(this.#una, this.#queue.length + (this.#synAcked ? 0 : 1));
  }

  #consume(acked: number): void {
    let left = acked;
    if (!this.#synAcked) {
      this.#synAcked = true;
      left -= 1;
    }
    const bytes = Math.min(left, this.#queue.length);
    this.#queue.drop(bytes);
    if (left > bytes) this.#finAcked = true;
  }

  #measure(acknowledgment: number, now: Instant): void {
    if (this.#timed === undefined || distance(this.#timed.sequence, acknowledgment) < 0) return;
    this.#timeout.measured(now - this.#timed.at);
    this.#timed = undefined;
  }

  #goBack(): void {
    this.#next = this.#una;
    this.#timed = undefined;
  }

  #arm(now: Instant): void {
    const waits = this.#una !== this.#max || (this.#window === 0 && this.#synAcked && this.unsent > 0);
    if (!waits) this.#retransmitAt = undefined;
    else this.#retransmitAt ??= now + this.#timeout.ms;
  }
}
