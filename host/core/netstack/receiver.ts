import { ByteQueue } from "./byte-queue.ts";
import { Reassembly } from "./reassembly.ts";
import { advance, distance } from "./sequence.ts";

const MAX_WINDOW = 0xffff;
/** Room that the peer is told of; less would make it send in small pieces (RFC 9293 §3.8.6.2.2). */
const WORTHWHILE_BYTES = 1240;

/** The receiving half of a connection: what arrived in order and was not read yet, and the window. */
export class Receiver {
  readonly #queue: ByteQueue;
  readonly #reassembly = new Reassembly();
  #next: number;
  /** Right edge of the window that the peer knows of. */
  #announced: number;

  /** `next`: the sequence number behind the peer's SYN. */
  constructor(next: number, capacity: number) {
    this.#queue = new ByteQueue(capacity);
    this.#next = next;
    this.#announced = advance(next, Math.min(capacity, MAX_WINDOW));
  }

  /** The sequence number that is expected next; goes out as acknowledgment. */
  get next(): number {
    return this.#next;
  }

  /** Bytes that can be read. */
  get length(): number {
    return this.#queue.length;
  }

  /** The window to announce; counts as announced. */
  announce(): number {
    const window = Math.min(this.#queue.free, MAX_WINDOW);
    const edge = advance(this.#next, window);
    if (distance(this.#announced, edge) > 0) this.#announced = edge;
    return Math.max(0, distance(this.#next, this.#announced));
  }

  /** Whether the peer should hear that there is room again. */
  get hasOpened(): boolean {
    const edge = advance(this.#next, Math.min(this.#queue.free, MAX_WINDOW));
    return distance(this.#announced, edge) >= WORTHWHILE_BYTES;
  }

  /** RFC 9293 §3.10.7.4, first check: whether any of the segment lies in the window. */
  isAcceptable(sequence: number, length: number): boolean {
    const window = distance(this.#next, this.#announced);
    const first = distance(this.#next, sequence);
    if (length === 0) return window === 0 ? first === 0 : first >= 0 && first < window;
    return window > 0 && first < window && first + length > 0;
  }

  /** Takes the part of an acceptable segment that is new and fits. */
  accept(sequence: number, payload: Uint8Array): void {
    const ahead = distance(this.#next, sequence);
    if (ahead > 0) {
      this.#reassembly.hold(sequence, payload.subarray(0, distance(sequence, this.#announced)));
      return;
    }
    this.#append(payload.subarray(-ahead));
    for (;;) {
      const following = this.#reassembly.take(this.#next);
      if (following === undefined) return;
      this.#append(following);
    }
  }

  /** The peer's FIN is in order. */
  skipFin(): void {
    this.#next = advance(this.#next, 1);
  }

  peek(length: number): Uint8Array {
    return this.#queue.copy(0, length);
  }

  drop(length: number): void {
    this.#queue.drop(length);
  }

  #append(bytes: Uint8Array): void {
    const fitting = bytes.subarray(0, this.#queue.free);
    this.#queue.push(fitting);
    this.#next = advance(this.#next, fitting.length);
    // The right edge never moves to the left.
    if (distance(this.#announced, this.#next) > 0) this.#announced = this.#next;
  }
}
