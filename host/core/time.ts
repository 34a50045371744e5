/** A point on the monotonic clock, in milliseconds since an arbitrary start; always ≥ 1. */
export type Instant = number & { readonly brand?: "instant" };

/** Wall clock in seconds since 1970; used only for TAI64N, credentials, expiry and logs. */
export type UnixTime = number & { readonly brand?: "unix-time" };

export function after(now: Instant, durationMs: number): Instant {
  return now + durationMs;
}

/** An instant at which a machine must be called again, and why: a busy loop can then be explained. */
export interface Deadline {
  readonly at: Instant;
  readonly reason: string;
}

export function earliest(...deadlines: (Deadline | undefined)[]): Deadline | undefined {
  let first: Deadline | undefined;
  for (const deadline of deadlines) {
    if (deadline !== undefined && (first === undefined || deadline.at < first.at)) first = deadline;
  }
  return first;
}

/** The packet core keeps time as u32 milliseconds in which 0 means "never". */
export function tickOf(now: Instant): number {
  return Math.floor(now) >>> 0 || 1;
}

/** The instant of a tick that lies in the past; undefined for 0. Right for differences below 2^32 ms. */
export function instantOfTick(tick: number, now: Instant): Instant | undefined {
  return tick === 0 ? undefined : now - ((tickOf(now) - tick) >>> 0);
}
