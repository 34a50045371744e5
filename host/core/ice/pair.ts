import type { TransactionKey } from "../stun/message.ts";
import { after, type Instant } from "../time.ts";
import type { Candidate, LocalCandidate } from "./candidate.ts";

/** How often and how long a pair is checked (connectivity §8.5). */
export interface CheckTimings {
  /** Attempts that are remembered, and that must all stay unanswered for the pair to fail. */
  readonly attempts: number;
  readonly initialRtoMs: number;
  readonly maxRtoMs: number;
}

export const CLIENT_TIMINGS: CheckTimings = { attempts: 12, initialRtoMs: 250, maxRtoMs: 1_500 };
export const CLIENT_IDLE_TIMINGS: CheckTimings = { attempts: 4, initialRtoMs: 25_000, maxRtoMs: 25_000 };
export const GATEWAY_TIMINGS: CheckTimings = { attempts: 45, initialRtoMs: 250, maxRtoMs: 15_000 };
export const GATEWAY_IDLE_TIMINGS: CheckTimings = { attempts: 40, initialRtoMs: 25_000, maxRtoMs: 25_000 };

/** A request from the peer keeps the pair for this long, whatever our own checks say (§8.5). */
const PEER_REQUEST_HOLD_MS = 15_000;

interface Attempt {
  readonly key: TransactionKey;
  readonly sentAt: Instant;
  answered: boolean;
}

/** One way between two candidates, with the schedule of its checks. */
export class CandidatePair {
  readonly local: LocalCandidate;
  /** Replaced in place when a peer-reflexive candidate turns out to be a signalled one. */
  remote: Candidate;
  /** RFC 8445 §6.1.2.3, depends on the roles; kept by the checklist. */
  priority = 0n;
  /** Some check of ours was answered. */
  succeeded = false;
  /** Smoothed; undefined until a check was answered. */
  roundTripMs: number | undefined;

  #nominated = false;
  /** Nominated, and no check has said so yet: due at once, whatever the schedule computes. */
  #nominationUnsent = false;
  #attempts: Attempt[] = [];
  #nextAttemptAt: Instant;
  #peerRequestAt: Instant | undefined;

  constructor(local: LocalCandidate, remote: Candidate, now: Instant) {
    this.local = local;
    this.remote = remote;
    this.#nextAttemptAt = now;
  }

  get nominated(): boolean {
    return this.#nominated;
  }

  get nextAttemptAt(): Instant {
    return this.#nextAttemptAt;
  }

  /** The first nomination makes a check due at once; later ones change nothing. */
  nominate(now: Instant): void {
    if (this.#nominated) return;
    this.#nominated = true;
    this.#nominationUnsent = true;
    this.#nextAttemptAt = now;
  }

  /**
   * The first request on a pair that does not work yet triggers a check at once, as RFC 8445 §7.3.1.4 has it and
   * deployed peers do not: what the peer's NAT dropped a moment ago passes now, a retransmission earlier.
   */
  recordPeerRequest(now: Instant): void {
    if (this.#peerRequestAt === undefined && !this.succeeded) this.#nextAttemptAt = now;
    this.#peerRequestAt = now;
  }

  recordAttempt(key: TransactionKey, timings: CheckTimings, now: Instant): void {
    this.#nominationUnsent = false;
    this.#attempts.push({ key, sentAt: now, answered: false });
    while (this.#attempts.length > timings.attempts) this.#attempts.shift();
    this.reschedule(timings, now);
  }

  isAwaiting(key: TransactionKey): boolean {
    return this.#attempts.some((attempt) => attempt.key === key && !attempt.answered);
  }

  recordResponse(key: TransactionKey, timings: CheckTimings, now: Instant): void {
    const attempt = this.#attempts.find((candidate) => candidate.key === key);
    if (attempt === undefined || attempt.answered) return;

    attempt.answered = true;
    this.succeeded = true;
    const sample = now - attempt.sentAt;
    this.roundTripMs = this.roundTripMs === undefined ? sample : (this.roundTripMs * 7 + sample) / 8;
    this.reschedule(timings, now);
  }

  /** Computes the next attempt anew: after an attempt, after a response, after a change of timings. */
  reschedule(timings: CheckTimings, now: Instant): void {
    const last = this.#attempts.at(-1);
    if (last === undefined || this.#nominationUnsent) return;

    const unanswered = this.#unanswered();
    const silentFor = unanswered.since === undefined ? 0 : now - unanswered.since;
    const n = silentFor > timings.maxRtoMs / 2 ? unanswered.count : this.#attempts.length;
    const next = after(last.sentAt, resendDelay(n, timings));
    this.#nextAttemptAt = Math.min(next, after(now, timings.maxRtoMs));
  }

  /** When the pair counts as failed if nothing happens until then; undefined: not before another attempt. */
  failsAt(timings: CheckTimings): Instant | undefined {
    const last = this.#attempts.at(-1);
    if (last === undefined || this.#unanswered().count < timings.attempts) return undefined;

    const ownVerdict = after(last.sentAt, resendDelay(timings.attempts, timings));
    const held = this.#peerRequestAt === undefined ? 0 : after(this.#peerRequestAt, PEER_REQUEST_HOLD_MS);
    return Math.max(ownVerdict, held);
  }

  #unanswered(): { count: number; since: Instant | undefined } {
    let count = 0;
    let since: Instant | undefined;
    for (let i = this.#attempts.length - 1; i >= 0; i--) {
      const attempt = this.#attempts[i];
      if (attempt === undefined || attempt.answered) break;
      count += 1;
      since = attempt.sentAt;
    }
    return { count, since };
  }
}

function resendDelay(n: number, timings: CheckTimings): number {
  return Math.min(timings.initialRtoMs * 2 ** (n - 1), timings.maxRtoMs);
}
