import type { StunAttribute } from "../stun/attribute.ts";
import { decodeStun, encodeStun, type StunMessage, verifyFingerprint } from "../stun/message.ts";
import type { Instant } from "../time.ts";
import type { Datagram } from "../transmit.ts";
import { ReplyLimiter } from "./reply-limiter.ts";

export interface BindingServerOptions {
  /** SOFTWARE text; sent only where the answer stays no larger than the request. */
  readonly software?: string | undefined;
}

export type BindingCounter = "answered" | "malformed" | "not-a-binding-request" | "limited" | "port-zero";

/**
 * Answers STUN Binding requests, so that nodes learn their reflexive address (relay §4.1); ignores all else.
 *
 * Unauthenticated, so an answer is at most 1.6 times its request over IPv4 and 2.2 times over IPv6, and each
 * source has a budget (relay §7.3). Keeps nothing about anyone but that budget.
 */
export class BindingServer {
  readonly #software: string | undefined;
  readonly #limiter = new ReplyLimiter();
  readonly #counters: Record<BindingCounter, number> = {
    answered: 0,
    malformed: 0,
    "not-a-binding-request": 0,
    limited: 0,
    "port-zero": 0,
  };

  constructor(options: BindingServerOptions = {}) {
    this.#software = options.software;
  }

  /** Returns the answer, to be sent from where the request arrived to where it came from. */
  handleDatagram(datagram: Datagram, now: Instant): Uint8Array | undefined {
    const { from, payload } = datagram;
    if (from.port === 0) return this.#ignore("port-zero");

    const request = decodeStun(payload);
    if (request === "malformed") return this.#ignore("malformed");
    if (request.method !== "binding" || request.class !== "request") {
      return this.#ignore("not-a-binding-request");
    }
    if (request.fingerprintOffset !== undefined && !verifyFingerprint(payload, request)) {
      return this.#ignore("malformed");
    }
    if (!this.#limiter.admit(from.ip, now)) return this.#ignore("limited");

    this.#counters.answered += 1;
    return this.#answer(request, datagram);
  }

  counters(): Record<BindingCounter, number> {
    return { ...this.#counters };
  }

  #answer(request: StunMessage, datagram: Datagram): Uint8Array {
    const mapped: StunAttribute = { kind: "xor-mapped-address", value: datagram.from };
    if (this.#software !== undefined) {
      const full = encodeSuccess(request, [{ kind: "software", value: this.#software }, mapped]);
      if (full.length <= datagram.payload.length) return full;
    }
    return encodeSuccess(request, [mapped]);
  }

  #ignore(reason: BindingCounter): undefined {
    this.#counters[reason] += 1;
    return undefined;
  }
}

function encodeSuccess(request: StunMessage, attributes: readonly StunAttribute[]): Uint8Array {
  return encodeStun({
    method: "binding",
    class: "success",
    transactionId: request.transactionId,
    attributes,
    fingerprint: request.fingerprintOffset === undefined ? undefined : "append",
  });
}
