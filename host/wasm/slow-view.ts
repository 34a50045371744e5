import * as abi from "../../assembly/abi.ts";
import type { PeerId } from "../core/id.ts";
import type { LinearMemory } from "./engine.ts";

const SLOW = abi.SLOW_BASE >> 2;
const SLOW_WORDS = abi.SLOW_DESC_BYTES >> 2;

/** The SLOW descriptors of a batch: what the machines have to decide, in the order in which it came. */
export class SlowView {
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(memory: LinearMemory) {
    this.#words = new Uint32Array(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
  }

  get count(): number {
    return this.#words[abi.SLOW_COUNT >> 2] as number;
  }
  /** SLOW_*. */
  reason(index: number): number {
    return this.#word(index, 0);
  }
  offset(index: number): number {
    return this.#word(index, 1);
  }
  length(index: number): number {
    return this.#word(index, 2);
  }
  /** Meaningful for SLOW_NO_KEYPAIR, SLOW_PEER_PACKET and SLOW_KEYPAIR_CONFIRMED. */
  peer(index: number): PeerId {
    return this.#word(index, 3);
  }
  /** Index of the FRAME_IN or DATAGRAM_IN descriptor that it came with. */
  source(index: number): number {
    return this.#word(index, 4);
  }
  /** Local index for SLOW_KEYPAIR_CONFIRMED; outer ECN codepoint for SLOW_PEER_PACKET and SLOW_DATAGRAM. */
  detail(index: number): number {
    return this.#word(index, 5);
  }
  /** A view of the packet or datagram; valid until `clear` and the next receive. */
  packet(index: number): Uint8Array<ArrayBuffer> {
    const offset = this.offset(index);
    return this.#bytes.subarray(offset, offset + this.length(index));
  }
  clear(): void {
    this.#words[abi.SLOW_COUNT >> 2] = 0;
  }

  #word(index: number, field: number): number {
    return this.#words[SLOW + index * SLOW_WORDS + field] as number;
  }
}
