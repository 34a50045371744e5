import { type SocketAddress, sameSocketAddress } from "../address.ts";
import type { Candidate, LocalCandidate } from "./candidate.ts";
import type { CandidatePair } from "./pair.ts";

export type IceRole = "controlling" | "controlled";

/** connectivity §8.4. The pair with the lowest priority is dropped. */
export const MAX_PAIRS = 100;

/** The pairs of one agent, highest priority first, none redundant. */
export class Checklist {
  readonly #pairs: CandidatePair[] = [];
  #role: IceRole;

  constructor(role: IceRole) {
    this.#role = role;
  }

  get pairs(): readonly CandidatePair[] {
    return this.#pairs;
  }

  find(base: SocketAddress, remote: SocketAddress): CandidatePair | undefined {
    return this.#pairs.find(
      (pair) => sameSocketAddress(pair.local.base, base) && sameSocketAddress(pair.remote.address, remote),
    );
  }

  /**
   * Adds the pair unless one with the same base and remote address and at least its priority exists;
   * a lower one is replaced and hands on its nomination. Returns the pair that is in the list afterwards.
   */
  add(pair: CandidatePair): CandidatePair | undefined {
    pair.priority = pairPriority(this.#role, pair.local, pair.remote);
    const twin = this.find(pair.local.base, pair.remote.address);
    if (twin !== undefined) {
      if (twin.priority >= pair.priority) return twin;
      if (twin.nominated) pair.nominate(pair.nextAttemptAt);
      this.remove((other) => other === twin);
    }
    this.#pairs.push(pair);
    this.#sort();
    while (this.#pairs.length > MAX_PAIRS) this.#pairs.pop();
    return this.#pairs.includes(pair) ? pair : undefined;
  }

  remove(matches: (pair: CandidatePair) => boolean): void {
    for (let i = this.#pairs.length - 1; i >= 0; i--) {
      const pair = this.#pairs[i];
      if (pair !== undefined && matches(pair)) this.#pairs.splice(i, 1);
    }
  }

  /** A remote candidate changed kind or priority but not its address. */
  replaceRemote(remote: Candidate): void {
    for (const pair of this.#pairs) {
      if (!sameSocketAddress(pair.remote.address, remote.address)) continue;
      pair.remote = remote;
      pair.priority = pairPriority(this.#role, pair.local, remote);
    }
    this.#sort();
  }

  setRole(role: IceRole): void {
    this.#role = role;
    for (const pair of this.#pairs) pair.priority = pairPriority(role, pair.local, pair.remote);
    this.#sort();
  }

  #sort(): void {
    this.#pairs.sort((a, b) => (a.priority < b.priority ? 1 : a.priority > b.priority ? -1 : 0));
  }
}

/** RFC 8445 §6.1.2.3: equal on both sides, because it counts by role and not by owner. */
export function pairPriority(role: IceRole, local: LocalCandidate, remote: Candidate): bigint {
  const controlling = BigInt(role === "controlling" ? local.priority : remote.priority);
  const controlled = BigInt(role === "controlling" ? remote.priority : local.priority);
  const [low, high] = controlling < controlled ? [controlling, controlled] : [controlled, controlling];
  return (low << 32n) + 2n * high + (controlling > controlled ? 1n : 0n);
}
