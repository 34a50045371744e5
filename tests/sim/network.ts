// A small internet in simulated time: hosts, NATs, delay, loss, partitions. Same seed, same run.
import {
  type IpAddress,
  isIpv4,
  type SocketAddress,
  sameSocketAddress,
  socketAddressText,
} from "../../host/core/address.ts";
import type { Deadline, Instant } from "../../host/core/time.ts";
import type { Datagram, Transmit } from "../../host/core/transmit.ts";
import { SeededRandom } from "./random.ts";

/** What runs on a simulated host. */
export interface Endpoint {
  handleDatagram(datagram: Datagram, now: Instant): void;
  handleTimeout(now: Instant): void;
  pollTransmit(): Transmit | undefined;
  pollTimeout(): Deadline | undefined;
}

/**
 * full-cone: one mapping per inside socket, anyone may send to it. port-restricted: the same, but only
 * sockets that were sent to may answer. symmetric: one mapping per destination, which alone may answer.
 */
export type NatKind = "full-cone" | "port-restricted" | "symmetric";

export interface NatOptions {
  readonly kind: NatKind;
  readonly publicIp: IpAddress;
  /** Mappings without outbound traffic for so long vanish. */
  readonly lifetimeMs?: number;
  /** Inside socket that anyone reaches at the public address and the same port. */
  readonly forwardsTo?: SocketAddress;
}

export interface HostOptions {
  readonly addresses: readonly IpAddress[];
  readonly port: number;
  /** NAT for IPv4. */
  readonly nat?: SimNat;
}

export interface NetworkOptions {
  readonly seed: number;
  /** One way. */
  readonly delayMs?: number;
  readonly jitterMs?: number;
  /** Probability that a datagram is lost. */
  readonly loss?: number;
}

/** A datagram as it left its host. */
export interface Sent {
  readonly at: Instant;
  readonly from: SocketAddress;
  readonly to: SocketAddress;
  readonly payload: Uint8Array;
}

interface Mapping {
  readonly inside: SocketAddress;
  readonly outside: SocketAddress;
  readonly peers: Set<string>;
  usedAt: Instant;
}

const DEFAULT_NAT_LIFETIME_MS = 120_000;
const FIRST_NAT_PORT = 40_000;
/** A machine that wants to be called again and again at one instant is broken. */
const MAX_CALLS_PER_INSTANT = 10_000;

export class SimNat {
  readonly options: NatOptions;
  readonly #mappings = new Map<string, Mapping>();
  #nextPort = FIRST_NAT_PORT;

  constructor(options: NatOptions) {
    this.options = options;
  }

  /** The outside source of a datagram that leaves. */
  outbound(source: SocketAddress, destination: SocketAddress, now: Instant): SocketAddress {
    const key = this.#keyOf(source, destination);
    let mapping = this.#mappings.get(key);
    if (mapping === undefined || this.#isExpired(mapping, now)) {
      const outside = { ip: this.options.publicIp, port: this.#nextPort++ };
      mapping = { inside: source, outside, peers: new Set(), usedAt: now };
      this.#mappings.set(key, mapping);
    }
    mapping.peers.add(socketAddressText(destination));
    mapping.usedAt = now;
    return mapping.outside;
  }

  /** The inside destination of a datagram that arrives; undefined: filtered. */
  inbound(source: SocketAddress, destination: SocketAddress, now: Instant): SocketAddress | undefined {
    const forwarded = this.options.forwardsTo;
    if (forwarded !== undefined && forwarded.port === destination.port) {
      // Answers must leave from the forwarded port.
      const flow = { inside: forwarded, outside: destination, peers: new Set<string>(), usedAt: now };
      this.#mappings.set(this.#keyOf(forwarded, source), flow);
      return forwarded;
    }
    for (const mapping of this.#mappings.values()) {
      if (!sameSocketAddress(mapping.outside, destination) || this.#isExpired(mapping, now)) continue;
      if (this.options.kind === "full-cone") return mapping.inside;
      return mapping.peers.has(socketAddressText(source)) ? mapping.inside : undefined;
    }
    return undefined;
  }

  /** As after a restart of the router: every mapping is new. */
  forget(): void {
    this.#mappings.clear();
  }

  #keyOf(source: SocketAddress, destination: SocketAddress): string {
    const inside = socketAddressText(source);
    return this.options.kind === "symmetric" ? `${inside}>${socketAddressText(destination)}` : inside;
  }

  #isExpired(mapping: Mapping, now: Instant): boolean {
    return now - mapping.usedAt > (this.options.lifetimeMs ?? DEFAULT_NAT_LIFETIME_MS);
  }
}

export class SimHost {
  readonly options: HostOptions;
  readonly endpoint: Endpoint;

  constructor(options: HostOptions, endpoint: Endpoint) {
    this.options = options;
    this.endpoint = endpoint;
  }

  owns(address: SocketAddress): boolean {
    return address.port === this.options.port && this.options.addresses.includes(address.ip);
  }

  natFor(ip: IpAddress): SimNat | undefined {
    return isIpv4(ip) ? this.options.nat : undefined;
  }
}

export class SimNetwork {
  /** Everything that any host sent, lost or not. */
  readonly sent: Sent[] = [];
  /** Datagrams for which this holds vanish. */
  drops: (sent: Sent) => boolean = () => false;
  now: Instant = 1_000;
  readonly #options: NetworkOptions;
  readonly #random: SeededRandom;
  readonly #hosts: SimHost[] = [];
  /** Sorted by time; equal times in order of insertion. */
  readonly #queue: { readonly at: Instant; readonly run: () => void }[] = [];

  constructor(options: NetworkOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
  }

  add(options: HostOptions, endpoint: Endpoint): SimHost {
    const host = new SimHost(options, endpoint);
    this.#hosts.push(host);
    this.#drain(host);
    return host;
  }

  /** Calls `run` after a while, for instance to deliver a portal message. */
  later(delayMs: number, run: () => void): void {
    const at = this.now + delayMs;
    const index = this.#queue.findLastIndex((entry) => entry.at <= at) + 1;
    this.#queue.splice(index, 0, { at, run });
  }

  /** Sends what endpoints want sent after a test called them directly. */
  settle(): void {
    for (const host of this.#hosts) this.#drain(host);
  }

  /** Runs until everything up to this many milliseconds from now has happened. */
  run(durationMs: number): void {
    const end = this.now + durationMs;
    this.settle();
    let calls = 0;
    for (;;) {
      const { at, run } = this.#next();
      if (at > end) break;
      calls = at > this.now ? 0 : calls + 1;
      if (calls > MAX_CALLS_PER_INSTANT) throw new Error(`busy loop at ${this.now}`);
      this.now = Math.max(this.now, at);
      run();
      this.settle();
    }
    this.now = end;
  }

  /** Runs until the condition holds; false if that took longer than allowed. */
  runUntil(condition: () => boolean, limitMs: number): boolean {
    const end = this.now + limitMs;
    while (!condition()) {
      const { at } = this.#next();
      if (at > end) {
        this.now = end;
        return false;
      }
      this.run(Math.max(0, at - this.now));
    }
    return true;
  }

  #next(): { readonly at: Instant; readonly run: () => void } {
    let next = this.#queue[0] ?? { at: Number.POSITIVE_INFINITY, run: () => {} };
    const isQueued = this.#queue.length > 0;
    for (const host of this.#hosts) {
      const deadline = host.endpoint.pollTimeout();
      if (deadline === undefined || deadline.at >= next.at) continue;
      next = { at: deadline.at, run: () => host.endpoint.handleTimeout(this.now) };
    }
    return isQueued && next === this.#queue[0]
      ? { at: next.at, run: () => this.#queue.shift()?.run() }
      : next;
  }

  #drain(host: SimHost): void {
    for (let t = host.endpoint.pollTransmit(); t !== undefined; t = host.endpoint.pollTransmit()) {
      this.#send(host, t);
    }
  }

  #send(host: SimHost, transmit: Transmit): void {
    const family = isIpv4(transmit.destination.ip);
    const own = host.options.addresses.find((ip) => isIpv4(ip) === family);
    if (own === undefined) return;

    const from = transmit.source ?? { ip: own, port: host.options.port };
    const sent = { at: this.now, from, to: transmit.destination, payload: transmit.payload.slice() };
    this.sent.push(sent);
    if (!host.owns(from)) return;
    if (this.drops(sent) || this.#random.uniform() < (this.#options.loss ?? 0)) return;

    const delay = (this.#options.delayMs ?? 10) + this.#random.uniform() * (this.#options.jitterMs ?? 0);
    const source = this.#leave(host, sent);
    this.later(delay, () => this.#arrive(host, source, sent));
  }

  /** Source address that the destination will see. */
  #leave(host: SimHost, sent: Sent): SocketAddress {
    const nat = host.natFor(sent.to.ip);
    const isLocal = this.#hosts.some((other) => other.owns(sent.to) && other.natFor(sent.to.ip) === nat);
    return nat === undefined || isLocal ? sent.from : nat.outbound(sent.from, sent.to, this.now);
  }

  #arrive(sender: SimHost, source: SocketAddress, sent: Sent): void {
    for (const host of this.#hosts) {
      const local = this.#destination(host, sender, source, sent);
      if (local === undefined) continue;
      host.endpoint.handleDatagram({ local, from: source, payload: sent.payload }, this.now);
      return;
    }
  }

  #destination(host: SimHost, sender: SimHost, source: SocketAddress, sent: Sent): SocketAddress | undefined {
    const nat = host.natFor(sent.to.ip);
    const isLocal = nat === undefined || sender.natFor(sent.to.ip) === nat;
    if (isLocal && host.owns(sent.to)) return sent.to;
    if (nat === undefined || nat.options.publicIp !== sent.to.ip) return undefined;

    const inside = nat.inbound(source, sent.to, this.now);
    return inside !== undefined && host.owns(inside) ? inside : undefined;
  }
}
