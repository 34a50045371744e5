import { type SocketAddress, sameSocketAddress, socketAddressText } from "../address.ts";
import type { Candidate } from "./candidate.ts";

/** At the limit a new candidate replaces the oldest peer-reflexive one that is not in use, or is refused. */
export const MAX_REMOTE_CANDIDATES = 64;
/** Withdrawn addresses that are remembered; the oldest is forgotten. */
const MAX_WITHDRAWN = 64;

export type AddOutcome =
  | "ignored"
  | { readonly kind: "added" | "replaced"; readonly evicted: Candidate | undefined };

/** What the peer may be reached at: signalled, guessed, or learned from its checks. One per address. */
export class RemoteCandidates {
  /** In order of arrival. */
  readonly #candidates = new Map<string, Candidate>();
  readonly #withdrawn = new Set<string>();

  get size(): number {
    return this.#candidates.size;
  }

  all(): readonly Candidate[] {
    return [...this.#candidates.values()];
  }

  find(address: SocketAddress): Candidate | undefined {
    return this.#candidates.get(socketAddressText(address));
  }

  /**
   * A candidate at a known address replaces a peer-reflexive or lower one in place and is ignored otherwise.
   * `inUse` is never evicted.
   */
  add(candidate: Candidate, inUse: Candidate | undefined): AddOutcome {
    const key = socketAddressText(candidate.address);
    this.#withdrawn.delete(key);

    const known = this.#candidates.get(key);
    if (known !== undefined) {
      const outranks = candidate.kind !== "peer-reflexive" && known.kind === "peer-reflexive";
      if (!outranks && candidate.priority <= known.priority) return "ignored";
      this.#candidates.set(key, candidate);
      return { kind: "replaced", evicted: undefined };
    }

    const evicted = this.#candidates.size < MAX_REMOTE_CANDIDATES ? undefined : this.#oldestLearned(inUse);
    if (evicted === undefined && this.#candidates.size >= MAX_REMOTE_CANDIDATES) return "ignored";
    if (evicted !== undefined) this.#candidates.delete(socketAddressText(evicted.address));
    this.#candidates.set(key, candidate);
    return { kind: "added", evicted };
  }

  /** False if it is not known: a withdrawal names address and kind of what was signalled. */
  withdraw(candidate: Candidate): boolean {
    const key = socketAddressText(candidate.address);
    const known = this.#candidates.get(key);
    if (known === undefined) return false;
    if (known.kind !== candidate.kind && known.kind !== "peer-reflexive") return false;

    this.#candidates.delete(key);
    this.#withdrawn.add(key);
    if (this.#withdrawn.size > MAX_WITHDRAWN) {
      for (const oldest of this.#withdrawn) {
        this.#withdrawn.delete(oldest);
        break;
      }
    }
    return true;
  }

  isWithdrawn(address: SocketAddress): boolean {
    return this.#withdrawn.has(socketAddressText(address));
  }

  #oldestLearned(inUse: Candidate | undefined): Candidate | undefined {
    for (const candidate of this.#candidates.values()) {
      if (candidate.kind !== "peer-reflexive") continue;
      if (inUse === undefined || !sameSocketAddress(candidate.address, inUse.address)) return candidate;
    }
    return undefined;
  }
}
