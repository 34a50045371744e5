import { isIpv4, type SocketAddress, sameSocketAddress, socketAddressText } from "../address.ts";
import type { DropReason } from "../drop.ts";
import type { IceCredentials } from "../messages.ts";
import type { Random } from "../random.ts";
import {
  attributeValue,
  newTransactionId,
  type StunMessage,
  type TransactionKey,
  transactionKey,
  verifyIntegrity,
} from "../stun/message.ts";
import type { Deadline, Instant } from "../time.ts";
import type { Datagram, Transmit } from "../transmit.ts";
import {
  compareTieBreakers,
  encodeCheck,
  encodeCheckSuccess,
  encodeRoleConflict,
  expectedUsername,
  type PeerRequest,
  passwordKey,
  readPeerRequest,
} from "./binding.ts";
import {
  byPriority,
  type Candidate,
  type CandidateKind,
  candidatePriority,
  type LocalCandidate,
  optimisticCandidates,
  peerReflexivePriority,
} from "./candidate.ts";
import { Checklist, type IceRole } from "./checklist.ts";
import { CandidatePair, type CheckTimings } from "./pair.ts";
import { RemoteCandidates } from "./remote-candidates.ts";
import { RequestLog } from "./request-log.ts";

export interface IceAgentOptions {
  readonly role: IceRole;
  readonly local: IceCredentials;
  readonly remote: IceCredentials;
  readonly timings: CheckTimings;
  readonly random: Random;
}

/**
 * checking: nothing nominated yet, but something may still work; connected: a pair is nominated (RFC 8445's
 * Completed counts as connected, connectivity §8.7); disconnected: nothing is nominated and nothing possible.
 */
export type IceState = "checking" | "connected" | "disconnected";

/** A STUN datagram to send. Requests carry the key under which their response must be routed back. */
export interface IceTransmit extends Transmit {
  readonly transaction?: TransactionKey;
}

/** Candidates of our own beyond this replace the oldest that the chosen pair does not use. */
const MAX_LOCAL_CANDIDATES = 32;
const TIE_BREAKER_BYTES = 8;

/**
 * Finds a working path to one peer (RFC 8445 as narrowed by connectivity §8).
 *
 * Full ICE, one component, all pairs checked in parallel for as long as the agent lives.
 * After every call that takes `now`, call `handleTimeout`, drain `pollTransmit`, read `state` and `chosen`.
 */
export class IceAgent {
  readonly #local: IceCredentials;
  readonly #remote: IceCredentials;
  readonly #localKey: Uint8Array;
  readonly #remoteKey: Uint8Array;
  readonly #username: string;
  readonly #random: Random;
  readonly #tieBreaker: Uint8Array;
  readonly #checklist: Checklist;
  readonly #remotes = new RemoteCandidates();
  readonly #requests = new RequestLog();
  readonly #locals: LocalCandidate[] = [];
  readonly #transmits: IceTransmit[] = [];
  #role: IceRole;
  #timings: CheckTimings;
  #chosen: CandidatePair | undefined;

  constructor(options: IceAgentOptions) {
    this.#role = options.role;
    this.#local = options.local;
    this.#remote = options.remote;
    this.#localKey = passwordKey(options.local);
    this.#remoteKey = passwordKey(options.remote);
    this.#username = expectedUsername(options.local, options.remote);
    this.#random = options.random;
    this.#tieBreaker = options.random.bytes(TIE_BREAKER_BYTES);
    this.#checklist = new Checklist(options.role);
    this.#timings = options.timings;
  }

  get role(): IceRole {
    return this.#role;
  }

  get state(): IceState {
    if (this.#locals.length === 0 || this.#remotes.size === 0) return "checking";
    if (this.#checklist.pairs.some((pair) => pair.nominated)) return "connected";
    return this.#checklist.pairs.length > 0 ? "checking" : "disconnected";
  }

  /** The pair to send on; undefined while there is none, also when the last one just failed. */
  get chosen(): CandidatePair | undefined {
    return this.#chosen;
  }

  /** Highest priority first, each pair that is still being checked. */
  get pairs(): readonly CandidatePair[] {
    return this.#checklist.pairs;
  }

  /** Those worth signalling: what the peer could send to, highest priority first. */
  get localCandidates(): readonly LocalCandidate[] {
    return this.#locals.toSorted(byPriority);
  }

  get remoteCandidates(): readonly Candidate[] {
    return this.#remotes.all();
  }

  /** Returns the candidate to signal; undefined if its address is one of ours already (no NAT in between). */
  addLocalCandidate(
    kind: CandidateKind,
    address: SocketAddress,
    base: SocketAddress,
    now: Instant,
  ): LocalCandidate | undefined {
    const twin = this.#locals.find((local) => sameSocketAddress(local.address, address));
    if (twin !== undefined && twin.kind !== "peer-reflexive") return undefined;
    if (twin !== undefined) this.#locals.splice(this.#locals.indexOf(twin), 1);

    const priority = candidatePriority(kind, address.ip, this.#countLocal(kind, address));
    const candidate = { kind, address, base, priority };
    this.#keepLocal(candidate);
    for (const remote of this.#remotes.all()) this.#addPair(candidate, remote, now);
    this.#choose(now);
    return candidate;
  }

  /** A signalled candidate. Forms pairs with all of ours, and adds optimistic ones (connectivity §7.5). */
  addRemoteCandidate(candidate: Candidate, now: Instant): void {
    this.#addRemote(candidate, now);
    for (const guess of optimisticCandidates(this.#remotes.all())) this.#addRemote(guess, now);
    this.#choose(now);
  }

  /** A withdrawn candidate: its pairs vanish and its address is ignored until it is signalled again. */
  removeRemoteCandidate(candidate: Candidate, now: Instant): void {
    if (!this.#remotes.withdraw(candidate)) return;
    this.#checklist.remove((pair) => sameSocketAddress(pair.remote.address, candidate.address));
    this.#choose(now);
  }

  setTimings(timings: CheckTimings, now: Instant): void {
    if (timings === this.#timings) return;
    this.#timings = timings;
    for (const pair of this.#checklist.pairs) pair.reschedule(timings, now);
  }

  /** Answers a check in the order of connectivity §8.3. The message must have been decoded from the datagram. */
  handleRequest(datagram: Datagram, message: StunMessage, now: Instant): DropReason | undefined {
    const request = readPeerRequest(message);
    if (request === undefined) return "malformed";
    if (request.username !== this.#username) return "stun-unmatched";
    if (!verifyIntegrity(datagram.payload, message, this.#localKey)) return "stun-bad-integrity";

    const local = this.#arrivalCandidate(datagram.local);
    if (local === undefined) return "stun-unmatched";
    if (!this.#requests.admit(message.transactionId, datagram.from)) return "stun-unmatched";
    if (this.#refusesRole(request, now)) {
      this.#reply(datagram, encodeRoleConflict(message, this.#local));
      return undefined;
    }
    if (request.nominates && this.#role === "controlling") return "stun-unmatched";
    if (this.#remotes.isWithdrawn(datagram.from)) return "stun-unmatched";

    this.#notePeerRequest(local, datagram.from, request, now);
    this.#reply(datagram, encodeCheckSuccess(message, datagram.from, this.#local));
    this.#choose(now);
    return undefined;
  }

  /** Success for one of our checks, matched by transaction id alone (§8.4). */
  handleSuccess(datagram: Datagram, message: StunMessage, now: Instant): DropReason | undefined {
    const key = transactionKey(message.transactionId);
    const pair = this.#checklist.pairs.find((candidate) => candidate.isAwaiting(key));
    if (pair === undefined) return "stun-unmatched";

    const mapped = attributeValue(message, "xor-mapped-address");
    if (mapped === undefined || message.integrityOffset === undefined) return "malformed";
    if (!verifyIntegrity(datagram.payload, message, this.#remoteKey)) return "stun-bad-integrity";

    pair.recordResponse(key, this.#timings, now);
    this.#learnMapped(pair.local, mapped);
    this.#choose(now);
    return undefined;
  }

  /** Drops pairs that failed, then produces every check that is due. */
  handleTimeout(now: Instant): void {
    const hasFailed = (pair: CandidatePair) =>
      (pair.failsAt(this.#timings) ?? Number.POSITIVE_INFINITY) <= now;
    if (this.#checklist.pairs.some(hasFailed)) {
      this.#checklist.remove(hasFailed);
      this.#choose(now);
    }
    for (const pair of this.#checklist.pairs) {
      if (pair.nextAttemptAt <= now) this.#check(pair, now);
    }
  }

  pollTransmit(): IceTransmit | undefined {
    return this.#transmits.shift();
  }

  pollTimeout(): Deadline | undefined {
    let at = Number.POSITIVE_INFINITY;
    for (const pair of this.#checklist.pairs) {
      at = Math.min(at, pair.nextAttemptAt, pair.failsAt(this.#timings) ?? at);
    }
    return at === Number.POSITIVE_INFINITY ? undefined : { at, reason: "ice check" };
  }

  #addRemote(candidate: Candidate, now: Instant): void {
    const outcome = this.#remotes.add(candidate, this.#chosen?.remote);
    if (outcome === "ignored") return;
    if (outcome.evicted !== undefined) {
      const gone = outcome.evicted.address;
      this.#checklist.remove((pair) => sameSocketAddress(pair.remote.address, gone));
    }
    if (outcome.kind === "replaced") this.#checklist.replaceRemote(candidate);
    for (const local of this.#locals) this.#addPair(local, candidate, now);
  }

  #addPair(local: LocalCandidate, remote: Candidate, now: Instant): CandidatePair | undefined {
    if (isIpv4(local.base.ip) !== isIpv4(remote.address.ip)) return undefined;
    return this.#checklist.add(new CandidatePair(local, remote, now));
  }

  #notePeerRequest(local: LocalCandidate, from: SocketAddress, request: PeerRequest, now: Instant): void {
    let remote = this.#remotes.find(from);
    if (remote === undefined) {
      const learned: Candidate = { kind: "peer-reflexive", address: from, priority: request.priority };
      const outcome = this.#remotes.add(learned, this.#chosen?.remote);
      if (outcome === "ignored") return;
      if (outcome.evicted !== undefined) {
        const gone = outcome.evicted.address;
        this.#checklist.remove((pair) => sameSocketAddress(pair.remote.address, gone));
      }
      remote = learned;
    }
    const pair = this.#checklist.find(local.base, from) ?? this.#addPair(local, remote, now);
    pair?.recordPeerRequest(now);
    if (request.nominates) pair?.nominate(now);
  }

  /** Only an address that checks may leave from can answer one: host and relayed candidates. */
  #arrivalCandidate(address: SocketAddress): LocalCandidate | undefined {
    return this.#locals.find(
      (local) =>
        (local.kind === "host" || local.kind === "relayed") && sameSocketAddress(local.address, address),
    );
  }

  /**
   * Role conflict (connectivity §8.1): the higher tie-breaker insists, the lower one takes the other role.
   * The role comes from the portal, so this happens only when the portal erred.
   */
  #refusesRole(request: PeerRequest, now: Instant): boolean {
    if (request.role !== this.#role || request.tieBreaker === undefined) return false;
    if (compareTieBreakers(this.#tieBreaker, request.tieBreaker) >= 0) return true;

    this.#role = this.#role === "controlling" ? "controlled" : "controlling";
    this.#checklist.setRole(this.#role);
    this.#choose(now);
    return false;
  }

  #reply(datagram: Datagram, payload: Uint8Array): void {
    this.#transmits.push({ source: datagram.local, destination: datagram.from, payload });
  }

  #check(pair: CandidatePair, now: Instant): void {
    const transactionId = newTransactionId(this.#random);
    const key = transactionKey(transactionId);
    pair.recordAttempt(key, this.#timings, now);
    const payload = encodeCheck({
      transactionId,
      local: this.#local,
      remote: this.#remote,
      role: this.#role,
      tieBreaker: this.#tieBreaker,
      priority: peerReflexivePriority(pair.local),
      nominates: this.#role === "controlling" && pair.nominated,
    });
    this.#transmits.push({
      source: pair.local.base,
      destination: pair.remote.address,
      payload,
      transaction: key,
    });
  }

  /** A mapped address that we did not know is a peer-reflexive candidate: worth signalling, useless for pairs. */
  #learnMapped(local: LocalCandidate, mapped: SocketAddress): void {
    if (this.#locals.some((known) => sameSocketAddress(known.address, mapped))) return;
    this.#keepLocal({
      kind: "peer-reflexive",
      address: mapped,
      base: local.base,
      priority: peerReflexivePriority(local),
    });
  }

  #keepLocal(candidate: LocalCandidate): void {
    this.#locals.push(candidate);
    if (this.#locals.length <= MAX_LOCAL_CANDIDATES) return;

    const base = this.#chosen?.local.base;
    const oldest = this.#locals.findIndex(
      (local) => base === undefined || !sameSocketAddress(local.address, base),
    );
    const [evicted] = this.#locals.splice(oldest, 1);
    this.#checklist.remove((pair) => pair.local === evicted);
  }

  #countLocal(kind: CandidateKind, address: SocketAddress): number {
    return this.#locals.filter(
      (local) => local.kind === kind && isIpv4(local.address.ip) === isIpv4(address.ip),
    ).length;
  }

  /**
   * Controlling: the best pair that works is chosen and nominated at once. Controlled: the best pair that the
   * peer nominated. The checklist is sorted, so the first match is the best one.
   */
  #choose(now: Instant): void {
    const pairs = this.#checklist.pairs;
    const best = pairs.find((pair) => (this.#role === "controlling" ? pair.succeeded : pair.nominated));
    const current = this.#chosen !== undefined && pairs.includes(this.#chosen) ? this.#chosen : undefined;
    if (best === undefined || best.priority === current?.priority) {
      this.#chosen = current;
      return;
    }
    this.#chosen = best;
    if (this.#role === "controlling") best.nominate(now);
  }
}

/** For logs: `10.0.0.5:52625 -> 203.0.113.9:40000 (host, server-reflexive)`. */
export function pairText(pair: CandidatePair): string {
  const base = socketAddressText(pair.local.base);
  return `${base} -> ${socketAddressText(pair.remote.address)} (${pair.local.kind}, ${pair.remote.kind})`;
}
