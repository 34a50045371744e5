const FIRST_BYTES = 2048;

/** Bytes in order, up to a limit: a ring that grows to what is used. */
export class ByteQueue {
  readonly #capacity: number;
  #ring = new Uint8Array(0);
  #head = 0;
  #length = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get length(): number {
    return this.#length;
  }

  get free(): number {
    return this.#capacity - this.#length;
  }

  /** Appends a copy; at most `free` bytes. */
  push(bytes: Uint8Array): void {
    if (bytes.length > this.free) throw new RangeError(`${bytes.length} bytes, ${this.free} free`);

    this.#reserve(this.#length + bytes.length);
    const at = (this.#head + this.#length) % (this.#ring.length || 1);
    const first = bytes.subarray(0, this.#ring.length - at);
    this.#ring.set(first, at);
    this.#ring.set(bytes.subarray(first.length), 0);
    this.#length += bytes.length;
  }

  /** A copy of `length` bytes from `offset` on, which must be there. */
  copy(offset: number, length: number): Uint8Array {
    if (offset + length > this.#length) throw new RangeError(`no ${length} bytes at ${offset}`);

    const bytes = new Uint8Array(length);
    if (length === 0) return bytes;
    const at = (this.#head + offset) % this.#ring.length;
    const first = this.#ring.subarray(at, at + length);
    bytes.set(first);
    bytes.set(this.#ring.subarray(0, length - first.length), first.length);
    return bytes;
  }

  /** Forgets the first bytes. */
  drop(length: number): void {
    if (length > this.#length) throw new RangeError(`only ${this.#length} bytes`);
    this.#length -= length;
    this.#head = this.#length === 0 ? 0 : (this.#head + length) % this.#ring.length;
  }

  #reserve(length: number): void {
    if (length <= this.#ring.length) return;

    const size = Math.min(this.#capacity, Math.max(length, this.#ring.length * 2, FIRST_BYTES));
    const ring = new Uint8Array(size);
    ring.set(this.copy(0, this.#length));
    this.#ring = ring;
    this.#head = 0;
  }
}
