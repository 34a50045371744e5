import type { PeerActivity } from "../packet-core.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import type { LiveKeypair } from "./keypairs.ts";

/** Timing of one WireGuard connection (connectivity §10.6). */
export interface WireGuardTimers {
  readonly rekeyAfterMs: number;
  readonly rejectAfterMs: number;
  readonly rekeyTimeoutMs: number;
  readonly rekeyAttemptMs: number;
  readonly keepaliveMs: number;
  readonly jitterMs: number;
  readonly cookieLifetimeMs: number;
}

/** ICE mode, HEAD column. */
export const DEFAULT_TIMERS: WireGuardTimers = {
  rekeyAfterMs: 120_000,
  rejectAfterMs: 180_000,
  rekeyTimeoutMs: 5_000,
  rekeyAttemptMs: 20_000,
  keepaliveMs: 10_000,
  jitterMs: 333,
  cookieLifetimeMs: 120_000,
};

/** ICE-less mode. */
export const ICELESS_TIMERS: WireGuardTimers = {
  ...DEFAULT_TIMERS,
  rekeyTimeoutMs: 2_000,
  rekeyAttemptMs: 90_000,
  keepaliveMs: 5_000,
};

/** Between plain WireGuard peers (WireGuard paper §6.1). */
export const PLAIN_TIMERS: WireGuardTimers = { ...DEFAULT_TIMERS, rekeyAttemptMs: 90_000 };

/** WireGuard paper §6.1: a keypair is renewed after this many messages. The packet core refuses to seal past its limit. */
export const REKEY_AFTER_MESSAGES = 1n << 60n;
export const REJECT_AFTER_MESSAGES = 0xffff_ffff_ffff_dfffn;

/** What the timers look at, apart from time. */
export interface TimerInput {
  readonly current: LiveKeypair | undefined;
  /** Messages sealed with the current keypair. */
  readonly sentMessages: bigint;
  readonly activity: PeerActivity;
  /** Last authenticated initiation or response received, last one sent. */
  readonly handshakeReceivedAt: Instant | undefined;
  readonly handshakeSentAt: Instant | undefined;
}

/** Why a new handshake is due now; undefined: it is not. */
export function rekeyReason(input: TimerInput, timers: WireGuardTimers, now: Instant): string | undefined {
  const { current, activity } = input;
  if (current === undefined) return undefined;
  if (input.sentMessages >= REKEY_AFTER_MESSAGES) return "rekey after messages";

  const age = now - current.createdAt;
  if (current.initiated && age >= timers.rekeyAfterMs && since(activity.dataSentAt, current.createdAt)) {
    return "rekey after time, data sent";
  }
  if (
    current.initiated &&
    age >= receiveRekeyMs(timers) &&
    since(activity.dataReceivedAt, current.createdAt)
  ) {
    return "rekey before rejection, data received";
  }
  const unanswered = unansweredSince(input);
  if (unanswered !== undefined && now >= unanswered + noAnswerMs(timers)) return "no answer";
  return undefined;
}

/** The next instant at which `rekeyReason` may change without any packet. Both ages are looked at even before data flowed. */
export function rekeyDeadline(
  input: TimerInput,
  timers: WireGuardTimers,
  now: Instant,
): Deadline | undefined {
  const { current } = input;
  if (current === undefined) return undefined;

  const ages = current.initiated
    ? [
        { at: current.createdAt + timers.rekeyAfterMs, reason: "rekey after time" },
        { at: current.createdAt + receiveRekeyMs(timers), reason: "rekey before rejection" },
      ]
    : [];
  const unanswered = unansweredSince(input);
  const answer =
    unanswered === undefined ? undefined : { at: unanswered + noAnswerMs(timers), reason: "no answer" };
  return earliest(...ages.filter((deadline) => deadline.at > now), answer);
}

/** When an empty packet must acknowledge what was received, if nothing is sent until then. */
export function keepaliveDeadline(input: TimerInput, timers: WireGuardTimers): Deadline | undefined {
  const pending = pendingSince(
    input.activity.unacknowledgedSince,
    input.activity.dataReceivedAt,
    input.handshakeSentAt,
  );
  return pending === undefined ? undefined : { at: pending + timers.keepaliveMs, reason: "keepalive" };
}

/** An empty packet is due when nothing authenticated passed in either direction for the interval. */
export function persistentKeepaliveDeadline(input: TimerInput, intervalMs: number): Deadline {
  const last = Math.max(
    input.activity.sentAt ?? 0,
    input.activity.receivedAt ?? 0,
    input.handshakeSentAt ?? 0,
    input.handshakeReceivedAt ?? 0,
  );
  return { at: Math.floor(last) + intervalMs, reason: "persistent keepalive" };
}

function unansweredSince(input: TimerInput): Instant | undefined {
  const { activity } = input;
  return pendingSince(activity.unansweredSince, activity.dataSentAt, input.handshakeReceivedAt);
}

/**
 * Start of a wait that the packet core measures from `first`, and that a handshake message ends too, which
 * the core does not see: after one, only data later than it counts, from that message on.
 */
function pendingSince(
  first: Instant | undefined,
  latest: Instant | undefined,
  handshakeAt: Instant | undefined,
): Instant | undefined {
  if (first === undefined) return undefined;
  if (handshakeAt === undefined || since(first, handshakeAt)) return Math.floor(first);
  return since(latest, handshakeAt) ? Math.floor(handshakeAt) : undefined;
}

/** Whether it happened then or later. The packet core's clock has whole milliseconds. */
function since(instant: Instant | undefined, start: Instant): boolean {
  return instant !== undefined && Math.floor(instant) >= Math.floor(start);
}

function receiveRekeyMs(timers: WireGuardTimers): number {
  return timers.rejectAfterMs - timers.keepaliveMs - timers.rekeyTimeoutMs;
}

function noAnswerMs(timers: WireGuardTimers): number {
  return timers.keepaliveMs + timers.rekeyTimeoutMs;
}
