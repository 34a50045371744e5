import { takeMessage } from "../core/dns/stream-framing.ts";

/** Cuts a TCP stream into DNS messages. Holds one incomplete message at most: 64 KiB and the newest chunk. */
export class MessageReader {
  #bytes: Buffer = Buffer.alloc(0);

  /** The messages that are complete with this chunk. */
  read(chunk: Buffer): Uint8Array[] {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    const source = {
      readable: this.#bytes.length,
      peek: (length: number): Uint8Array => this.#bytes.subarray(0, length),
      drop: (length: number): void => {
        this.#bytes = this.#bytes.subarray(length);
        source.readable = this.#bytes.length;
      },
    };
    const messages: Uint8Array[] = [];
    for (let next = takeMessage(source); next !== undefined; next = takeMessage(source)) messages.push(next);
    return messages;
  }
}
