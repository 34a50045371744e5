import type { IpAddress, SocketAddress } from "../address.ts";
import { DnsCache } from "../dns/cache.ts";
import { decodeAnswer, decodeQuery, emptyResponse, fitUdp, RCODE_SERVFAIL } from "../dns/message.ts";
import { type SentinelMapping, Sentinels } from "../dns/sentinels.ts";
import type { Assignment, StubResolver } from "../dns/stub-resolver.ts";
import type { DropReason } from "../drop.ts";
import type { ResourceId } from "../id.ts";
import { icmpErrorOf } from "../packet/icmp-error.ts";
import { type IpPacket, type PacketSubject, parseIpPacket } from "../packet/ip-packet.ts";
import { udpPacket } from "../packet/udp.ts";
import type { PacketCore } from "../packet-core.ts";
import type { Random } from "../random.ts";
import type { Deadline, Instant } from "../time.ts";
import type { HostDnsResult } from "./events.ts";
import type { Outbox } from "./outbox.ts";
import type { ClientRoutes } from "./routing.ts";
import { type AskedQuery, TunnelQueries } from "./tunnel-queries.ts";

const DNS_PORT = 53;
/** Queries at the host at one time; further ones are dropped (tunnel-core §2.5). */
export const HOST_QUERIES = 1000;
/** The host gives up after 5 s; a query that it forgot makes room after twice that. */
const HOST_QUERY_FORGOTTEN_MS = 10_000;

export interface ClientDnsParts {
  readonly core: PacketCore;
  readonly routes: ClientRoutes;
  readonly stub: StubResolver;
  readonly outbox: Outbox;
  readonly random: Random;
}

/** What became of a packet to a sentinel. */
export type DnsOutcome =
  | { readonly kind: "done" }
  | { readonly kind: "dropped"; readonly reason: DropReason }
  /** The stub resolver answered: the name's mapping is to be refreshed (tunnel-core §12.1). */
  | { readonly kind: "answered"; readonly name: string; readonly assigned: readonly Assignment[] }
  /** Only the resource's site knows. */
  | { readonly kind: "ask-site"; readonly resource: ResourceId; readonly asked: AskedQuery }
  /** The upstream is reached through the tunnel. */
  | { readonly kind: "ask-in-tunnel"; readonly server: SocketAddress; readonly asked: AskedQuery };

export type DnsListener =
  | { readonly kind: "listens"; readonly upstream: SocketAddress }
  | { readonly kind: "dropped"; readonly reason: DropReason };

interface HostQuery extends AskedQuery {
  readonly sentAt: Instant;
}

/** The DNS servers that live on the sentinels (tunnel-core §11). */
export class ClientDns {
  readonly #core: PacketCore;
  readonly #routes: ClientRoutes;
  readonly #stub: StubResolver;
  readonly #outbox: Outbox;
  readonly #sentinels = new Sentinels();
  readonly #cache = new DnsCache();
  readonly #hostQueries = new Map<number, HostQuery>();
  readonly #tunnelQueries: TunnelQueries;
  #nextQueryId = 1;
  #portalServers: readonly IpAddress[] = [];
  #systemServers: readonly IpAddress[] = [];

  constructor({ core, routes, stub, outbox, random }: ClientDnsParts) {
    this.#core = core;
    this.#routes = routes;
    this.#stub = stub;
    this.#outbox = outbox;
    this.#tunnelQueries = new TunnelQueries(random);
  }

  setPortalServers(servers: readonly IpAddress[]): void {
    this.#portalServers = servers;
    this.#updateServers();
  }

  setSystemServers(servers: readonly IpAddress[]): void {
    this.#systemServers = servers;
    this.#updateServers();
  }

  get mapping(): readonly SentinelMapping[] {
    return this.#sentinels.mapping;
  }

  /** Resources changed: cached answers may be about names that are resources now. */
  flushCache(): void {
    this.#cache.flush();
  }

  /** The network changed: answers to what the host was asked do not come any more. */
  abandonHostQueries(): void {
    this.#hostQueries.clear();
  }

  /** Whether somebody listens where this packet to the sentinel ranges goes, and for which upstream. */
  listenerOf({ destination, kind, destinationPort }: PacketSubject): DnsListener {
    const upstream = this.#sentinels.upstreamOf(destination);
    if (upstream === undefined) return { kind: "dropped", reason: "unmapped-sentinel" };
    if (kind !== "udp" || destinationPort !== DNS_PORT) {
      return { kind: "dropped", reason: "unsupported-protocol" };
    }
    return { kind: "listens", upstream };
  }

  /** How a question that is not ours gets to its upstream (tunnel-core §11.6). */
  wayTo(upstream: SocketAddress): "tunnel" | "host" {
    return this.#sentinels.arePortals && this.#routes.coversServer(upstream.ip) ? "tunnel" : "host";
  }

  /** One packet to an address of the sentinel ranges. It goes no further itself (tunnel-core §11.3). */
  handlePacket(packet: IpPacket, now: Instant): DnsOutcome {
    const listener = this.listenerOf(packet);
    if (listener.kind === "dropped") return listener;
    const query = decodeQuery(packet.bytes.subarray(packet.payloadOffset));
    if (query === undefined) return { kind: "dropped", reason: "bad-dns-message" };

    const sentinel = { ip: packet.destination, port: packet.destinationPort };
    const asker = { ip: packet.source, port: packet.sourcePort };
    return this.#resolve({ query, sentinel, asker }, listener.upstream, now);
  }

  handleHostResult(id: number, result: HostDnsResult, now: Instant): void {
    const asked = this.#hostQueries.get(id);
    if (asked === undefined) return;
    this.#hostQueries.delete(id);
    // The application asks again by itself; SERVFAIL would make it give up (tunnel-core §11.6).
    if (result.kind === "timeout") return;
    if (result.kind === "answer") this.#relay(asked, result.message, now);
    else this.fail(asked);
  }

  /** Makes the packet that asks `server` from our address of its family; undefined: answered SERVFAIL. */
  askInTunnel(
    asked: AskedQuery,
    server: SocketAddress,
    source: IpAddress,
    now: Instant,
  ): IpPacket | undefined {
    const bytes = this.#tunnelQueries.open(asked, server, source, now);
    const packet = bytes === undefined ? undefined : parseIpPacket(bytes);
    if (packet === undefined) this.fail(asked);
    return packet;
  }

  /** A packet of `askInTunnel` cannot be sent. */
  failInTunnel(asked: AskedQuery, packet: IpPacket): void {
    this.#tunnelQueries.abandon(packet);
    this.fail(asked);
  }

  /** A packet from a gateway; `consumed` if it belongs to a query of ours and must not reach the device. */
  handleInbound(packet: IpPacket, now: Instant): "consumed" | "not-ours" {
    const error = icmpErrorOf(packet);
    const claim =
      typeof error === "object" ? this.#tunnelQueries.claimError(error) : this.#tunnelQueries.claim(packet);
    if (claim === undefined) return "not-ours";
    if (claim.kind === "answer") this.#relay(claim.asked, claim.message, now);
    if (claim.kind === "failed") this.fail(claim.asked);
    return "consumed";
  }

  handleTimeout(now: Instant): void {
    for (const asked of this.#tunnelQueries.handleTimeout(now)) this.fail(asked);
  }

  pollTimeout(): Deadline | undefined {
    return this.#tunnelQueries.pollTimeout();
  }

  fail(asked: AskedQuery): void {
    this.#answer(asked, emptyResponse(asked.query, RCODE_SERVFAIL));
  }

  #resolve(asked: AskedQuery, upstream: SocketAddress, now: Instant): DnsOutcome {
    const cached = this.#cache.lookup(asked.query, now);
    if (cached !== undefined) {
      this.#answer(asked, cached);
      return { kind: "done" };
    }
    const verdict = this.#stub.resolve(asked.query);
    switch (verdict.kind) {
      case "answer":
        this.#answer(asked, verdict.response);
        return { kind: "answered", name: asked.query.name ?? "", assigned: verdict.assigned };
      case "resolve-in-site":
        return { kind: "ask-site", resource: verdict.resource, asked };
      case "recurse":
        return this.wayTo(upstream) === "tunnel"
          ? { kind: "ask-in-tunnel", server: upstream, asked }
          : this.#askHost(asked, upstream, now);
    }
  }

  #askHost(asked: AskedQuery, server: SocketAddress, now: Instant): DnsOutcome {
    if (this.#hostQueries.size >= HOST_QUERIES) this.#forgetHostQueries(now);
    if (this.#hostQueries.size >= HOST_QUERIES) return { kind: "dropped", reason: "buffer-full" };

    const id = this.#nextQueryId++;
    this.#hostQueries.set(id, { ...asked, sentAt: now });
    this.#outbox.push({ kind: "host-dns-query", id, server, transport: "udp", message: asked.query.bytes });
    return { kind: "done" };
  }

  /** Passes on what an upstream said, if it answers the question. */
  #relay(asked: AskedQuery, message: Uint8Array, now: Instant): void {
    const answer = decodeAnswer(message, asked.query);
    if (answer === undefined) {
      this.fail(asked);
      return;
    }
    this.#cache.insert(asked.query, answer, now);
    this.#answer(asked, answer.bytes);
  }

  #answer({ sentinel, asker }: AskedQuery, response: Uint8Array): void {
    const packet = udpPacket({ source: sentinel, destination: asker, payload: fitUdp(response) });
    if (packet !== undefined) this.#core.writeTun(packet);
  }

  #forgetHostQueries(now: Instant): void {
    for (const [id, { sentAt }] of this.#hostQueries) {
      if (now >= sentAt + HOST_QUERY_FORGOTTEN_MS) this.#hostQueries.delete(id);
    }
  }

  #updateServers(): void {
    const changed = this.#sentinels.update({ portal: this.#portalServers, system: this.#systemServers });
    if (changed) this.#cache.flush();
  }
}
