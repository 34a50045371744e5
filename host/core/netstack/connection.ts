import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from "../packet/ip-packet.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import { Receiver } from "./receiver.ts";
import { agreedSegmentBytes, encodeSegment, segmentBytes, type TcpEnds, type TcpSegment } from "./segment.ts";
import { Sender } from "./sender.ts";
import { advance } from "./sequence.ts";

/** Each way: one DNS message of the largest size with its length in front. */
export const BUFFER_BYTES = 2 + 0xffff;
/** RFC 9293 §3.9.1 "user timeout": nothing of what we sent was acknowledged for so long. */
const GIVE_UP_MS = 20_000;
/** How long we wait for the peer's FIN once ours is acknowledged. */
const LINGER_MS = 10_000;
const TCP_PSH = 0x08;

/** RFC 9293 §3.3.2, without LISTEN and without TIME-WAIT: a closed connection may be opened again at once. */
export type TcpState =
  | "syn-sent"
  | "syn-received"
  | "established"
  | "close-wait"
  | "fin-wait-1"
  | "fin-wait-2"
  | "closing"
  | "last-ack"
  | "closed";

/**
 * One TCP connection (RFC 9293) over IP packets of at most 1280 bytes; no options but the MSS.
 *
 * After every call drain `pollPacket`, then ask `pollTimeout`. Once `closed` and drained it does nothing more.
 */
export class TcpConnection {
  readonly ends: TcpEnds;
  /** Unique within the stack, also when the same ends meet again. */
  readonly id: number;
  readonly #sender: Sender;
  #receiver: Receiver | undefined;
  #state: TcpState;
  /** Peer's first sequence number. */
  #peerFirst = 0;
  #mustAck = false;
  /** Sequence number of a RST that is to be sent. */
  #reset: number | undefined;
  /** RFC 9293 §3.10.7.4: the segment that last set the window. */
  #windowFrom = { sequence: 0, acknowledgment: 0 };
  #lastWindow = -1;
  #giveUpAt: Instant | undefined;

  /** Answers a SYN. */
  static accept(id: number, ends: TcpEnds, syn: TcpSegment, initial: number, now: Instant): TcpConnection {
    const connection = new TcpConnection(id, ends, initial, "syn-received", now);
    connection.#synchronise(syn);
    return connection;
  }

  static open(id: number, ends: TcpEnds, initial: number, now: Instant): TcpConnection {
    return new TcpConnection(id, ends, initial, "syn-sent", now);
  }

  private constructor(id: number, ends: TcpEnds, initial: number, state: TcpState, now: Instant) {
    this.id = id;
    this.ends = ends;
    this.#sender = new Sender(initial, segmentBytes(ends), BUFFER_BYTES);
    this.#state = state;
    this.#giveUpAt = now + GIVE_UP_MS;
  }

  get state(): TcpState {
    return this.#state;
  }

  /** Bytes that `peek` can show. */
  get readable(): number {
    return this.#receiver?.length ?? 0;
  }

  /** Whether the peer has said that nothing more comes. */
  get hasPeerFinished(): boolean {
    return ["close-wait", "closing", "last-ack", "closed"].includes(this.#state);
  }

  get canSend(): boolean {
    return ["syn-sent", "syn-received", "established", "close-wait"].includes(this.#state);
  }

  get sendFree(): number {
    return this.#sender.free;
  }

  /** Bytes that wait for their first time on the wire. */
  get unsent(): number {
    return this.#sender.unsent;
  }

  /** A copy of the first bytes received, which must be there. */
  peek(length: number): Uint8Array {
    return this.#receiver?.peek(length) ?? new Uint8Array(0);
  }

  drop(length: number): void {
    this.#receiver?.drop(length);
  }

  /** Queues a copy; false, and nothing is queued, if it does not fit or the connection is closing. */
  send(bytes: Uint8Array, now: Instant): boolean {
    if (!this.canSend || bytes.length > this.#sender.free) return false;
    if (!this.#sender.isBusy) this.#giveUpAt = now + GIVE_UP_MS;
    this.#sender.push(bytes, now);
    return true;
  }

  /** FIN follows what is queued. What the peer still sends afterwards resets the connection. */
  close(now: Instant): void {
    if (this.#state === "syn-sent") this.#state = "closed";
    if (!this.canSend) return;
    this.#state = this.#state === "close-wait" ? "last-ack" : "fin-wait-1";
    this.#sender.finish();
    this.#giveUpAt = now + GIVE_UP_MS;
  }

  /** Ends it at once; the peer hears of it. */
  abort(): void {
    if (this.#state === "closed") return;
    if (this.#state !== "syn-sent") this.#reset = this.#sender.max;
    this.#state = "closed";
  }

  handleSegment(segment: TcpSegment, now: Instant): void {
    if (this.#state === "closed") return;
    if (this.#state === "syn-sent") this.#handleInSynSent(segment, now);
    else this.#handle(segment, now);
  }

  handleTimeout(now: Instant): void {
    if (this.#state === "closed") return;
    this.#sender.handleTimeout(now);
    if (this.#giveUpAt === undefined || now < this.#giveUpAt) return;
    if (this.#state === "fin-wait-2") this.#state = "closed";
    else this.abort();
  }

  pollTimeout(): Deadline | undefined {
    if (this.#state === "closed") return undefined;
    const { retransmitAt } = this.#sender;
    return earliest(
      retransmitAt === undefined ? undefined : { at: retransmitAt, reason: "TCP retransmission" },
      this.#giveUpAt === undefined ? undefined : { at: this.#giveUpAt, reason: "TCP gives up" },
    );
  }

  /** The next packet to send now. */
  pollPacket(now: Instant): Uint8Array | undefined {
    if (this.#reset !== undefined) {
      const sequence = this.#reset;
      this.#reset = undefined;
      return this.#packet({ sequence, flags: TCP_RST });
    }
    const outgoing = this.#state === "closed" ? undefined : this.#sender.poll(now);
    if (outgoing !== undefined) {
      const { sequence, syn, fin, payload } = outgoing;
      const flags = (syn ? TCP_SYN : 0) | (fin ? TCP_FIN : 0) | (payload.length > 0 ? TCP_PSH : 0);
      return this.#packet({ sequence, flags, payload, mss: syn ? segmentBytes(this.ends) : undefined });
    }
    const hasOpened = this.#state !== "closed" && this.#receiver?.hasOpened === true;
    if (!this.#mustAck && !hasOpened) return undefined;
    return this.#packet({ sequence: this.#sender.max, flags: 0 });
  }

  #packet({
    sequence,
    flags,
    payload = new Uint8Array(0),
    mss = undefined as number | undefined,
  }: Pick<TcpSegment, "sequence" | "flags"> & Partial<TcpSegment>): Uint8Array {
    this.#mustAck = false;
    const receiver = this.#receiver;
    return encodeSegment(this.ends, {
      sequence,
      acknowledgment: receiver?.next ?? 0,
      flags: flags | (receiver === undefined ? 0 : TCP_ACK),
      window: receiver?.announce() ?? 0xffff,
      mss,
      payload,
    });
  }

  #synchronise(syn: TcpSegment): void {
    this.#peerFirst = syn.sequence;
    this.#receiver = new Receiver(advance(syn.sequence, 1), BUFFER_BYTES);
    this.#sender.setSegmentBytes(agreedSegmentBytes(this.ends, syn.mss));
  }

  /** RFC 9293 §3.10.7.3; a simultaneous open is no use to us, its SYN is ignored. */
  #handleInSynSent(segment: TcpSegment, now: Instant): void {
    const { flags, acknowledgment } = segment;
    if ((flags & TCP_ACK) === 0) return;
    if (acknowledgment !== this.#sender.max) {
      if ((flags & TCP_RST) === 0) this.#reset = acknowledgment;
      return;
    }
    if ((flags & TCP_RST) !== 0) {
      this.#state = "closed";
      return;
    }
    if ((flags & TCP_SYN) === 0) return;

    this.#synchronise(segment);
    this.#state = "established";
    this.#mustAck = true;
    this.#acknowledge(segment, now);
  }

  /** RFC 9293 §3.10.7.4, with the stricter checks of RFC 5961 against forged RST and SYN. */
  #handle(segment: TcpSegment, now: Instant): void {
    const { sequence, flags, payload } = segment;
    const receiver = this.#receiver;
    if (receiver === undefined) return;

    const length = payload.length + Number((flags & TCP_SYN) !== 0) + Number((flags & TCP_FIN) !== 0);
    if (!receiver.isAcceptable(sequence, length)) {
      if (this.#isRepeatedSyn(segment)) this.#sender.repeatSyn();
      else if ((flags & TCP_RST) === 0) this.#mustAck = true;
      // With a closed window the acknowledgment still counts.
      if (sequence === receiver.next && (flags & (TCP_ACK | TCP_RST)) === TCP_ACK)
        this.#acknowledge(segment, now);
      return;
    }
    if ((flags & TCP_RST) !== 0) {
      if (sequence === receiver.next) this.#state = "closed";
      else this.#mustAck = true;
      return;
    }
    if ((flags & TCP_SYN) !== 0) {
      this.#mustAck = true;
      return;
    }
    if ((flags & TCP_ACK) === 0 || !this.#acknowledge(segment, now)) return;
    if (payload.length > 0) this.#takePayload(segment, receiver);
    if ((flags & TCP_FIN) !== 0 && advance(sequence, payload.length) === receiver.next)
      this.#handleFin(receiver);
  }

  #isRepeatedSyn({ flags, sequence }: TcpSegment): boolean {
    return this.#state === "syn-received" && (flags & TCP_SYN) !== 0 && sequence === this.#peerFirst;
  }

  /** False: the segment goes no further. */
  #acknowledge(segment: TcpSegment, now: Instant): boolean {
    const { acknowledgment, window, payload } = segment;
    const wasSynReceived = this.#state === "syn-received";
    const verdict = this.#sender.acknowledge(acknowledgment, now);
    if (verdict === "unsent" || (wasSynReceived && verdict !== "progress")) {
      if (wasSynReceived) this.#reset = acknowledgment;
      else this.#mustAck = true;
      return false;
    }
    const isRepeated = verdict === "nothing" && payload.length === 0 && window === this.#lastWindow;
    if (isRepeated && acknowledgment === this.#windowFrom.acknowledgment) this.#sender.duplicate();
    this.#takeWindow(segment, now);
    if (verdict === "progress") this.#progressed(now);
    // `#progressed` may have ended the connection.
    return this.state !== "closed";
  }

  #takeWindow({ sequence, acknowledgment, window }: TcpSegment, now: Instant): void {
    const known = this.#windowFrom;
    const isFirst = this.#lastWindow < 0;
    const isNewer =
      ((sequence - known.sequence) | 0) > 0 ||
      (sequence === known.sequence && ((acknowledgment - known.acknowledgment) | 0) >= 0);
    if (!isFirst && !isNewer) return;

    this.#windowFrom = { sequence, acknowledgment };
    this.#lastWindow = window;
    this.#sender.setWindow(window, now);
  }

  #progressed(now: Instant): void {
    if (this.#state === "syn-received") this.#state = "established";
    this.#giveUpAt = this.#sender.isBusy ? now + GIVE_UP_MS : undefined;
    if (!this.#sender.isFinAcked) return;
    if (this.#state === "fin-wait-1") {
      this.#state = "fin-wait-2";
      this.#giveUpAt = now + LINGER_MS;
    } else if (this.#state === "closing" || this.#state === "last-ack") {
      this.#state = "closed";
    }
  }

  #takePayload({ sequence, payload }: TcpSegment, receiver: Receiver): void {
    this.#mustAck = true;
    if (this.#state === "established") receiver.accept(sequence, payload);
    // RFC 1122 §4.2.2.13: nobody reads this any more, and the peer should know.
    else if (this.#state !== "close-wait") this.abort();
  }

  #handleFin(receiver: Receiver): void {
    receiver.skipFin();
    this.#mustAck = true;
    if (this.#state === "established") this.#state = "close-wait";
    else if (this.#state === "fin-wait-1") this.#state = "closing";
    else if (this.#state === "fin-wait-2") this.#state = "closed";
  }
}
