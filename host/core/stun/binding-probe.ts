import { type SocketAddress, sameSocketAddress } from "../address.ts";
import type { Random } from "../random.ts";
import { after, type Deadline, type Instant } from "../time.ts";
import type { Datagram, Transmit } from "../transmit.ts";
import { equalInConstantTime } from "./bytes.ts";
import { attributeValue, encodeStun, newTransactionId, type StunMessage } from "./message.ts";

/** What a server's answer says about us. */
export interface Mapping {
  /** Our address as this host sees it, and as the server sees it. */
  readonly local: SocketAddress;
  readonly mapped: SocketAddress;
}

/** pending: never answered so far; silent: it gave up, and sends nothing until `refresh`. */
export type ProbeStatus = "pending" | "answered" | "silent";

/** connectivity §6.2: the same bytes at 0, 1000, 2500 and 4750 ms; the last wait ends at 8125 ms. */
const SEND_OFFSETS_MS = [0, 1_000, 2_500, 4_750];
const GIVE_UP_OFFSET_MS = 8_125;
/** connectivity §6.5: keeps the NAT's mapping open, and shows when it changed. */
const KEEP_ALIVE_MS = 25_000;
export const NODE_SOFTWARE = "culvert";

/**
 * Asks one server socket of a relay for our reflexive address, again and again.
 *
 * Drain `pollTransmit` after each call.
 */
export class BindingProbe {
  readonly #server: SocketAddress;
  readonly #random: Random;
  readonly #transmits: Transmit[] = [];
  #status: ProbeStatus = "pending";
  #mapping: Mapping | undefined;
  #roundTripMs: number | undefined;
  #request: { readonly id: Uint8Array; readonly bytes: Uint8Array; readonly startedAt: Instant } | undefined;
  #sends = 0;
  /** When the next request starts, while none is under way. */
  #nextRequestAt: Instant | undefined;

  constructor(server: SocketAddress, random: Random, now: Instant) {
    this.#server = server;
    this.#random = random;
    this.#start(now);
  }

  get status(): ProbeStatus {
    return this.#status;
  }

  /** From the latest answer. */
  get mapping(): Mapping | undefined {
    return this.#mapping;
  }

  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** Checks now whether the server still answers. */
  refresh(now: Instant): void {
    if (this.#request === undefined) this.#start(now);
  }

  /** False if it answers nothing that we asked, or says nothing. */
  handleSuccess(message: StunMessage, datagram: Datagram, now: Instant): boolean {
    const request = this.#request;
    const mapped = attributeValue(message, "xor-mapped-address");
    if (request === undefined || mapped === undefined) return false;
    if (!sameSocketAddress(datagram.from, this.#server)) return false;
    if (!equalInConstantTime(message.transactionId, request.id)) return false;

    const sample = now - request.startedAt;
    this.#roundTripMs = this.#roundTripMs === undefined ? sample : (this.#roundTripMs * 7 + sample) / 8;
    this.#status = "answered";
    this.#mapping = { local: datagram.local, mapped };
    this.#request = undefined;
    this.#nextRequestAt = after(request.startedAt, KEEP_ALIVE_MS);
    return true;
  }

  handleTimeout(now: Instant): void {
    if (this.#nextRequestAt !== undefined && now >= this.#nextRequestAt) this.#start(now);
    const request = this.#request;
    if (request === undefined) return;

    if (now >= after(request.startedAt, GIVE_UP_OFFSET_MS)) {
      this.#request = undefined;
      this.#status = "silent";
      return;
    }
    const offset = SEND_OFFSETS_MS[this.#sends];
    if (offset !== undefined && now >= after(request.startedAt, offset)) this.#send(request.bytes);
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollTimeout(): Deadline | undefined {
    if (this.#request === undefined) {
      return this.#nextRequestAt === undefined
        ? undefined
        : { at: this.#nextRequestAt, reason: "relay keep-alive" };
    }
    const offset = SEND_OFFSETS_MS[this.#sends] ?? GIVE_UP_OFFSET_MS;
    return { at: after(this.#request.startedAt, offset), reason: "relay binding" };
  }

  #start(now: Instant): void {
    const id = newTransactionId(this.#random);
    const bytes = encodeStun({
      method: "binding",
      class: "request",
      transactionId: id,
      attributes: [{ kind: "software", value: NODE_SOFTWARE }],
    });
    this.#request = { id, bytes, startedAt: now };
    this.#nextRequestAt = undefined;
    this.#sends = 0;
    this.#send(bytes);
  }

  #send(bytes: Uint8Array): void {
    this.#sends += 1;
    this.#transmits.push({ destination: this.#server, payload: bytes.slice() });
  }
}
