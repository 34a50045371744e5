import type { IpAddress, SocketAddress } from "../address.ts";
import type { DnsQuery } from "../dns/message.ts";
import type { IcmpError } from "../packet/icmp-error.ts";
import { type IpPacket, readU16 } from "../packet/ip-packet.ts";
import { udpPacket } from "../packet/udp.ts";
import type { Random } from "../random.ts";
import type { Deadline, Instant } from "../time.ts";

/** Queries inside the tunnel at one time; further ones fail (tunnel-core §2.5). */
export const TUNNEL_QUERIES = 1024;
/** tunnel-core §2.4. */
const TUNNEL_QUERY_TIMEOUT_MS = 10_000;
/** Ended exchanges whose late answers are recognised; at the limit the one that ended first goes. */
const ENDED_EXCHANGES = 1024;
/** Source ports (tunnel-core §2.2). */
const FIRST_PORT = 49_152;
const PORTS = 16_384;

/** A query with the two ends that its answer goes between. */
export interface AskedQuery {
  readonly query: DnsQuery;
  readonly sentinel: SocketAddress;
  readonly asker: SocketAddress;
  /** The TCP connection that it came by; undefined: UDP. */
  readonly stream: number | undefined;
}

/** What a packet from the tunnel means for the exchanges. */
export type Claim =
  | { readonly kind: "answer"; readonly asked: AskedQuery; readonly message: Uint8Array }
  | { readonly kind: "failed"; readonly asked: AskedQuery }
  /** Late, or not what was asked: goes nowhere. */
  | { readonly kind: "ignored" };

interface Exchange {
  readonly asked: AskedQuery;
  readonly server: SocketAddress;
  readonly source: IpAddress;
  readonly deadline: Instant;
}

/**
 * UDP queries to servers inside the tunnel, from ports of our own (tunnel-core §11.7): one query per
 * port, and an answer counts only from the server asked, to that port, with the query's id.
 */
export class TunnelQueries {
  readonly #random: Random;
  /** By source port, in the order of their deadlines. */
  readonly #exchanges = new Map<number, Exchange>();
  readonly #ended = new Map<number, SocketAddress>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Opens an exchange; the packet is to be routed. Undefined if too many are open or it does not fit. */
  open(asked: AskedQuery, server: SocketAddress, source: IpAddress, now: Instant): Uint8Array | undefined {
    if (this.#exchanges.size >= TUNNEL_QUERIES) return undefined;

    const port = this.#freePort();
    const packet = udpPacket({
      source: { ip: source, port },
      destination: server,
      payload: asked.query.bytes,
    });
    if (packet === undefined) return undefined;
    this.#ended.delete(port);
    this.#exchanges.set(port, { asked, server, source, deadline: now + TUNNEL_QUERY_TIMEOUT_MS });
    return packet;
  }

  /** Ends the exchange of a packet made by `open`, which could not be sent. */
  abandon(packet: IpPacket): void {
    this.#end(packet.sourcePort);
  }

  /** Undefined: the packet has nothing to do with us. */
  claim(packet: IpPacket): Claim | undefined {
    if (packet.kind !== "udp") return undefined;

    const port = packet.destinationPort;
    const from = { ip: packet.source, port: packet.sourcePort };
    const exchange = this.#exchanges.get(port);
    if (exchange === undefined || exchange.source !== packet.destination) {
      return isSame(this.#ended.get(port), from) ? { kind: "ignored" } : undefined;
    }
    if (!isSame(exchange.server, from)) return undefined;

    const message = packet.bytes.subarray(packet.payloadOffset);
    if (message.length < 2 || readU16(message, 0) !== exchange.asked.query.id) return { kind: "ignored" };
    this.#end(port);
    return { kind: "answer", asked: exchange.asked, message };
  }

  /** Undefined: the error is not about one of our exchanges. */
  claimError({ failed }: IcmpError): Claim | undefined {
    const exchange = failed.kind === "udp" ? this.#exchanges.get(failed.sourcePort) : undefined;
    const to = { ip: failed.destination, port: failed.destinationPort };
    if (exchange === undefined || exchange.source !== failed.source || !isSame(exchange.server, to)) {
      return undefined;
    }
    this.#end(failed.sourcePort);
    return { kind: "failed", asked: exchange.asked };
  }

  /** The queries that nobody answered in time. */
  handleTimeout(now: Instant): AskedQuery[] {
    const timedOut: AskedQuery[] = [];
    for (const [port, { asked, deadline }] of this.#exchanges) {
      if (now < deadline) break;
      timedOut.push(asked);
      this.#end(port);
    }
    return timedOut;
  }

  pollTimeout(): Deadline | undefined {
    const first = this.#exchanges.values().next();
    return first.done ? undefined : { at: first.value.deadline, reason: "tunnelled DNS query times out" };
  }

  #end(port: number): void {
    const exchange = this.#exchanges.get(port);
    if (exchange === undefined) return;

    this.#exchanges.delete(port);
    this.#ended.set(port, exchange.server);
    if (this.#ended.size <= ENDED_EXCHANGES) return;
    const oldest = this.#ended.keys().next();
    if (!oldest.done) this.#ended.delete(oldest.value);
  }

  /** There is one: fewer exchanges are open than ports exist. */
  #freePort(): number {
    let offset = Math.floor(this.#random.uniform() * PORTS);
    while (this.#exchanges.has(FIRST_PORT + offset)) offset = (offset + 1) % PORTS;
    return FIRST_PORT + offset;
  }
}

function isSame(a: SocketAddress | undefined, b: SocketAddress): boolean {
  return a?.ip === b.ip && a.port === b.port;
}
