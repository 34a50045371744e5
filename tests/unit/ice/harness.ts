import assert from "node:assert/strict";
import { parseSocketAddress, type SocketAddress } from "../../../host/core/address.ts";
import { IceAgent, type IceTransmit } from "../../../host/core/ice/agent.ts";
import { encodeCheckSuccess } from "../../../host/core/ice/binding.ts";
import type { Candidate, CandidateKind } from "../../../host/core/ice/candidate.ts";
import { candidatePriority } from "../../../host/core/ice/candidate.ts";
import type { IceRole } from "../../../host/core/ice/checklist.ts";
import { type CheckTimings, CLIENT_TIMINGS } from "../../../host/core/ice/pair.ts";
import type { IceCredentials } from "../../../host/core/messages.ts";
import { attributeValue, decodeStun, type StunMessage } from "../../../host/core/stun/message.ts";
import type { Instant } from "../../../host/core/time.ts";
import { SeededRandom } from "../../sim/random.ts";
import vectors from "../../vectors/stun.json" with { type: "json" };

export const START: Instant = 5_000;
export const CLIENT_ICE: IceCredentials = vectors.connectivity.client;
export const GATEWAY_ICE: IceCredentials = vectors.connectivity.gateway;

export interface Check {
  readonly at: number;
  readonly transmit: IceTransmit;
  readonly message: StunMessage;
  readonly nominates: boolean;
}

export function address(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed, text);
  return parsed;
}

export function remote(kind: CandidateKind, text: string, ordinal = 0): Candidate {
  const at = address(text);
  return { kind, address: at, priority: candidatePriority(kind, at.ip, ordinal) };
}

/** One agent in simulated time; the peer is the test. Times are milliseconds since its creation. */
export class AgentHarness {
  readonly agent: IceAgent;
  readonly checks: Check[] = [];
  readonly replies: IceTransmit[] = [];
  /** Answers each check at once while this holds. */
  answers: (check: Check) => boolean = () => false;
  now: Instant = START;
  readonly #role: IceRole;

  constructor(role: IceRole, timings: CheckTimings = CLIENT_TIMINGS, seed = 1) {
    this.#role = role;
    const [local, remoteIce] = role === "controlling" ? [CLIENT_ICE, GATEWAY_ICE] : [GATEWAY_ICE, CLIENT_ICE];
    this.agent = new IceAgent({ role, local, remote: remoteIce, timings, random: new SeededRandom(seed) });
  }

  get elapsed(): number {
    return this.now - START;
  }

  addLocal(kind: CandidateKind, text: string, base = text): void {
    this.agent.addLocalCandidate(kind, address(text), address(base), this.now);
    this.settle();
  }

  addRemote(candidate: Candidate): void {
    this.agent.addRemoteCandidate(candidate, this.now);
    this.settle();
  }

  /** Runs until the given time. */
  runTo(elapsed: number): void {
    for (;;) {
      const at = this.agent.pollTimeout()?.at;
      if (at === undefined || at > START + elapsed) break;
      this.now = Math.max(this.now, at);
      this.settle();
    }
    this.now = START + elapsed;
    this.settle();
  }

  settle(): void {
    for (;;) {
      this.agent.handleTimeout(this.now);
      const transmit = this.agent.pollTransmit();
      if (transmit === undefined) return;
      this.#take(transmit);
    }
  }

  /** The peer's success for a check. */
  answer(check: Check, mapped = check.transmit.source): string | undefined {
    assert.ok(mapped && check.transmit.source);
    const peer = this.#role === "controlling" ? GATEWAY_ICE : CLIENT_ICE;
    const payload = encodeCheckSuccess(check.message, mapped, peer);
    return this.success(payload, check.transmit.source, check.transmit.destination);
  }

  success(payload: Uint8Array, local: SocketAddress, from: SocketAddress): string | undefined {
    const message = decode(payload);
    const refusal = this.agent.handleSuccess({ local, from, payload }, message, this.now);
    this.settle();
    return refusal;
  }

  request(payload: Uint8Array, local: string, from: string): string | undefined {
    const datagram = { local: address(local), from: address(from), payload };
    const refusal = this.agent.handleRequest(datagram, decode(payload), this.now);
    this.settle();
    return refusal;
  }

  /** Times of the checks on the pair to that address. */
  checkTimes(to: string): number[] {
    return this.checksTo(to).map((check) => check.at);
  }

  checksTo(to: string): Check[] {
    const wanted = address(to);
    return this.checks.filter(
      ({ transmit }) => transmit.destination.ip === wanted.ip && transmit.destination.port === wanted.port,
    );
  }

  #take(transmit: IceTransmit): void {
    const message = decode(transmit.payload);
    if (message.class !== "request") {
      this.replies.push(transmit);
      return;
    }
    const nominates = attributeValue(message, "use-candidate") !== undefined;
    const check = { at: this.elapsed, transmit, message, nominates };
    this.checks.push(check);
    if (this.answers(check)) this.answer(check);
  }
}

export function decode(payload: Uint8Array): StunMessage {
  const message = decodeStun(payload);
  if (message === "malformed") assert.fail("does not decode");
  return message;
}
