import * as abi from "../../assembly/abi.ts";
import type { LinearMemory } from "./engine.ts";

const FRAME_IN = abi.FRAME_IN_BASE >> 2;
const DATAGRAM_IN = abi.DATAGRAM_IN_BASE >> 2;
const TRAIN = abi.TRAIN_BASE >> 2;
const FRAME_OUT = abi.FRAME_OUT_BASE >> 2;
const FRAME_IN_WORDS = abi.FRAME_IN_DESC_BYTES >> 2;
const DATAGRAM_IN_WORDS = abi.DATAGRAM_IN_DESC_BYTES >> 2;
const TRAIN_WORDS = abi.TRAIN_DESC_BYTES >> 2;
const FRAME_OUT_WORDS = abi.FRAME_OUT_DESC_BYTES >> 2;

/**
 * The input and output descriptors of a batch, for the data loop: one typed array, no allocation per packet.
 *
 * Offsets are in bytes from the start of linear memory. A round: fill TUN_IN or UDP_IN, describe what is there,
 * call `encapsulate` or `decapsulate`, consume trains or frames, clear them.
 */
export class BatchView {
  readonly #words: Uint32Array;

  constructor(memory: LinearMemory) {
    this.#words = new Uint32Array(memory.buffer);
  }

  /** Announces `count` ≤ FRAME_IN_CAPACITY frames, to be processed from the first. */
  setFrameInCount(count: number): void {
    this.#words[abi.FRAME_IN_COUNT >> 2] = count;
    this.#words[abi.FRAME_IN_CURSOR >> 2] = 0;
  }

  /** A frame that was read from the TUN device: offset of its virtio header, length with it. */
  setFrameIn(index: number, offset: number, length: number): void {
    const at = FRAME_IN + index * FRAME_IN_WORDS;
    this.#words[at] = offset;
    this.#words[at + 1] = length;
  }

  /** Announces `count` ≤ UDP_IN_BUFFERS receive buffers, to be processed from the first. */
  setDatagramInCount(count: number): void {
    this.#words[abi.DATAGRAM_IN_COUNT >> 2] = count;
    this.#words[abi.DATAGRAM_IN_CURSOR >> 2] = 0;
    this.#words[abi.DATAGRAM_IN_OFFSET >> 2] = 0;
  }

  /** A receive buffer; `segmentLength` 0: it holds one datagram. `ecn`: the codepoint, 0 to 3. */
  setDatagramIn(index: number, offset: number, length: number, segmentLength: number, ecn: number): void {
    const at = DATAGRAM_IN + index * DATAGRAM_IN_WORDS;
    this.#words[at] = offset;
    this.#words[at + 1] = length;
    this.#words[at + 2] = segmentLength;
    this.#words[at + 3] = ecn;
  }

  get trainCount(): number {
    return this.#word(abi.TRAIN_COUNT >> 2);
  }
  trainOffset(index: number): number {
    return this.#word(TRAIN + index * TRAIN_WORDS);
  }
  trainLength(index: number): number {
    return this.#word(TRAIN + index * TRAIN_WORDS + 1);
  }
  /** Length of all datagrams but the last; equals `trainLength` for a train of one. */
  trainSegmentLength(index: number): number {
    return this.#word(TRAIN + index * TRAIN_WORDS + 2);
  }
  trainPath(index: number): number {
    return this.#word(TRAIN + index * TRAIN_WORDS + 3);
  }
  trainEcn(index: number): number {
    return this.#word(TRAIN + index * TRAIN_WORDS + 4);
  }
  trainSegments(index: number): number {
    return this.#word(TRAIN + index * TRAIN_WORDS + 5);
  }
  /** The trains are sent, or given up: UDP_OUT is free again. */
  clearTrains(): void {
    this.#words[abi.TRAIN_COUNT >> 2] = 0;
    this.#words[abi.UDP_OUT_USED >> 2] = 0;
  }

  get frameOutCount(): number {
    return this.#word(abi.FRAME_OUT_COUNT >> 2);
  }
  /** Offset of the virtio header. */
  frameOutOffset(index: number): number {
    return this.#word(FRAME_OUT + index * FRAME_OUT_WORDS);
  }
  /** Length with the virtio header. */
  frameOutLength(index: number): number {
    return this.#word(FRAME_OUT + index * FRAME_OUT_WORDS + 1);
  }
  /** The frames are written, or given up: TUN_OUT is free again. */
  clearFrames(): void {
    this.#words[abi.FRAME_OUT_COUNT >> 2] = 0;
    this.#words[abi.TUN_OUT_USED >> 2] = 0;
  }

  /** Whether frames may be coalesced: while the TUN device accepts TSO and USO. Off at the start. */
  setCoalesce(on: boolean): void {
    this.#words[abi.COALESCE >> 2] = on ? 1 : 0;
  }

  #word(index: number): number {
    return this.#words[index] as number;
  }
}
