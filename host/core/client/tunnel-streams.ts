import { type IpAddress, type SocketAddress, socketAddressText } from "../address.ts";
import { frameMessage, takeMessage } from "../dns/stream-framing.ts";
import type { TcpConnection } from "../netstack/connection.ts";
import type { TcpEnds } from "../netstack/segment.ts";
import { TcpStack } from "../netstack/stack.ts";
import type { IcmpError } from "../packet/icmp-error.ts";
import { type IpPacket, readU16, writeU16 } from "../packet/ip-packet.ts";
import type { Random } from "../random.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import type { AskedQuery, Claim } from "./tunnel-queries.ts";

/** Servers that we are connected to at one time; queries for further ones fail. */
export const TUNNEL_STREAMS = 32;
/** Queries by one connection; further ones fail. */
const QUERIES_PER_STREAM = 256;
/** tunnel-core §2.4. */
const TUNNEL_QUERY_TIMEOUT_MS = 10_000;
/** A connection that nothing is asked by any more is closed. */
const IDLE_MS = 10_000;
/** Ended connections whose late packets are recognised; at the limit the one that ended first goes (§2.5). */
const ENDED_STREAMS = 32;
/** Source ports (tunnel-core §2.2). */
const FIRST_PORT = 49_152;
const PORTS = 16_384;

interface Exchange {
  readonly asked: AskedQuery;
  readonly deadline: Instant;
}

interface Stream {
  readonly connection: TcpConnection;
  /** By the id on the wire, in the order of their deadlines. */
  readonly exchanges: Map<number, Exchange>;
  idleAt: Instant;
}

/**
 * TCP queries to servers inside the tunnel, by one connection for each server, from ports of our own and
 * with ids of our own (tunnel-core §11.7).
 *
 * After every call take `takeResults`, then drain `pollPacket`; its packets are to be routed.
 */
export class TunnelStreams {
  readonly #random: Random;
  readonly #stack: TcpStack;
  /** By server. */
  readonly #streams = new Map<string, Stream>();
  readonly #ended = new Set<string>();
  #results: Claim[] = [];

  constructor(random: Random) {
    this.#random = random;
    // Those that are closing count too.
    this.#stack = new TcpStack(random, { perLocal: 1, total: 2 * TUNNEL_STREAMS });
  }

  /** False: there is no room. */
  ask(asked: AskedQuery, server: SocketAddress, source: IpAddress, now: Instant): boolean {
    const stream = this.#streams.get(socketAddressText(server)) ?? this.#open(server, source, now);
    if (stream === undefined || stream.exchanges.size >= QUERIES_PER_STREAM) return false;

    const id = this.#freeId(stream);
    const message = asked.query.bytes.slice();
    writeU16(message, 0, id);
    if (!stream.connection.send(frameMessage(message), now)) return false;
    stream.exchanges.set(id, { asked, deadline: now + TUNNEL_QUERY_TIMEOUT_MS });
    stream.idleAt = Number.POSITIVE_INFINITY;
    return true;
  }

  /** A TCP packet from the tunnel; false if it has nothing to do with us. */
  handleInbound(packet: IpPacket, now: Instant): boolean {
    const ends = {
      local: { ip: packet.destination, port: packet.destinationPort },
      remote: { ip: packet.source, port: packet.sourcePort },
    };
    if (!this.#stack.handleReply(packet, ends, now)) return this.#ended.has(endsText(ends));
    this.#read(now);
    return true;
  }

  /** True if the error is about one of our connections. It ends one that is not established yet. */
  handleError({ failed }: IcmpError): boolean {
    if (failed.kind !== "tcp") return false;
    const ends = {
      local: { ip: failed.source, port: failed.sourcePort },
      remote: { ip: failed.destination, port: failed.destinationPort },
    };
    for (const [key, stream] of this.#streams) {
      if (endsText(stream.connection.ends) !== endsText(ends)) continue;
      if (stream.connection.state === "syn-sent") this.#end(key, stream);
      return true;
    }
    return this.#stack.has(ends) || this.#ended.has(endsText(ends));
  }

  /** All connections end now; every query fails. */
  abortAll(): void {
    for (const [key, stream] of this.#streams) this.#end(key, stream);
  }

  takeResults(): Claim[] {
    const results = this.#results;
    this.#results = [];
    return results;
  }

  handleTimeout(now: Instant): void {
    this.#stack.handleTimeout(now);
    for (const [key, stream] of this.#streams) {
      this.#timeOut(stream, now);
      if (stream.connection.state === "closed") this.#end(key, stream);
      else if (now >= stream.idleAt) this.#close(key, stream, now);
    }
  }

  pollPacket(now: Instant): Uint8Array | undefined {
    return this.#stack.pollPacket(now);
  }

  pollTimeout(): Deadline | undefined {
    let first = this.#stack.pollTimeout();
    for (const { exchanges, idleAt } of this.#streams.values()) {
      const next = exchanges.values().next();
      first = next.done
        ? earliest(first, { at: idleAt, reason: "tunnelled DNS connection is idle" })
        : earliest(first, { at: next.value.deadline, reason: "tunnelled DNS query times out" });
    }
    return first;
  }

  #open(server: SocketAddress, source: IpAddress, now: Instant): Stream | undefined {
    if (this.#streams.size >= TUNNEL_STREAMS) return undefined;

    const ends = this.#freeEnds(server, source);
    const connection = this.#stack.open(ends, now);
    if (connection === undefined) return undefined;
    this.#ended.delete(endsText(ends));
    const stream = { connection, exchanges: new Map<number, Exchange>(), idleAt: now + IDLE_MS };
    this.#streams.set(socketAddressText(server), stream);
    return stream;
  }

  #read(now: Instant): void {
    for (const [key, stream] of this.#streams) {
      const { connection } = stream;
      for (let next = takeMessage(connection); next !== undefined; next = takeMessage(connection)) {
        this.#takeAnswer(stream, next, now);
      }
      if (connection.state === "closed") this.#end(key, stream);
      else if (connection.hasPeerFinished) this.#close(key, stream, now);
    }
  }

  #takeAnswer(stream: Stream, message: Uint8Array, now: Instant): void {
    const id = readU16(message, 0);
    const exchange = stream.exchanges.get(id);
    if (exchange === undefined) return;

    stream.exchanges.delete(id);
    if (stream.exchanges.size === 0) stream.idleAt = now + IDLE_MS;
    this.#results.push({ kind: "answer", asked: exchange.asked, message });
  }

  #timeOut(stream: Stream, now: Instant): void {
    for (const [id, { asked, deadline }] of stream.exchanges) {
      if (now < deadline) break;
      stream.exchanges.delete(id);
      this.#results.push({ kind: "failed", asked });
    }
    if (stream.exchanges.size === 0 && !Number.isFinite(stream.idleAt)) stream.idleAt = now + IDLE_MS;
  }

  /** Closes in good order; what is not answered yet fails. */
  #close(key: string, stream: Stream, now: Instant): void {
    stream.connection.close(now);
    this.#forget(key, stream);
  }

  #end(key: string, stream: Stream): void {
    stream.connection.abort();
    this.#forget(key, stream);
  }

  #forget(key: string, { connection, exchanges }: Stream): void {
    this.#streams.delete(key);
    for (const { asked } of exchanges.values()) this.#results.push({ kind: "failed", asked });
    this.#ended.add(endsText(connection.ends));
    if (this.#ended.size <= ENDED_STREAMS) return;
    const oldest = this.#ended.values().next();
    if (!oldest.done) this.#ended.delete(oldest.value);
  }

  /** There is one: fewer connections exist than ports. */
  #freeEnds(remote: SocketAddress, ip: IpAddress): TcpEnds {
    let offset = Math.floor(this.#random.uniform() * PORTS);
    const at = (): TcpEnds => ({ local: { ip, port: FIRST_PORT + offset }, remote });
    while (this.#stack.has(at()) || this.#ended.has(endsText(at()))) offset = (offset + 1) % PORTS;
    return at();
  }

  #freeId({ exchanges }: Stream): number {
    let id = Math.floor(this.#random.uniform() * 0x10000);
    while (exchanges.has(id)) id = (id + 1) & 0xffff;
    return id;
  }
}

function endsText({ local, remote }: TcpEnds): string {
  return `${socketAddressText(local)} ${socketAddressText(remote)}`;
}
