import type { IpAddress, SocketAddress } from "../address.ts";
import { DnsCache } from "../dns/cache.ts";
import { isDohUrl } from "../dns/doh.ts";
import {
  decodeAnswer,
  decodeQuery,
  emptyResponse,
  fitUdp,
  RCODE_SERVFAIL,
  withoutId,
} from "../dns/message.ts";
import { type SentinelMapping, Sentinels, type Upstream } from "../dns/sentinels.ts";
import type { Assignment, StubResolver } from "../dns/stub-resolver.ts";
import type { DropReason } from "../drop.ts";
import type { ResourceId } from "../id.ts";
import { icmpErrorOf } from "../packet/icmp-error.ts";
import { type IpPacket, type PacketSubject, parseIpPacket } from "../packet/ip-packet.ts";
import { udpPacket } from "../packet/udp.ts";
import type { PacketCore } from "../packet-core.ts";
import type { Random } from "../random.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import type { HostDnsResult } from "./events.ts";
import type { Outbox } from "./outbox.ts";
import type { ClientRoutes } from "./routing.ts";
import { StreamServer } from "./stream-server.ts";
import { type AskedQuery, type Claim, TunnelQueries } from "./tunnel-queries.ts";
import { TunnelStreams } from "./tunnel-streams.ts";

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

/** What the portal says about DNS. */
export interface PortalServers {
  readonly do53: readonly IpAddress[];
  readonly doh: readonly string[];
}

/** What became of a query, or of a packet to a sentinel. */
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
  | { readonly kind: "listens"; readonly upstream: Upstream }
  | { readonly kind: "dropped"; readonly reason: DropReason };

interface HostQuery extends AskedQuery {
  readonly sentAt: Instant;
}

/**
 * The DNS servers that live on the sentinels, over UDP and TCP (tunnel-core §11).
 *
 * After every call work off `handleNextQuery` until there is none, then drain `pollTunnelPacket`.
 */
export class ClientDns {
  readonly #core: PacketCore;
  readonly #routes: ClientRoutes;
  readonly #stub: StubResolver;
  readonly #outbox: Outbox;
  readonly #sentinels = new Sentinels();
  readonly #cache = new DnsCache();
  readonly #hostQueries = new Map<number, HostQuery>();
  readonly #tunnelQueries: TunnelQueries;
  readonly #tunnelStreams: TunnelStreams;
  readonly #streams: StreamServer;
  #nextQueryId = 1;
  #portalServers: PortalServers = { do53: [], doh: [] };
  #systemServers: readonly IpAddress[] = [];

  constructor({ core, routes, stub, outbox, random }: ClientDnsParts) {
    this.#core = core;
    this.#routes = routes;
    this.#stub = stub;
    this.#outbox = outbox;
    this.#tunnelQueries = new TunnelQueries(random);
    this.#tunnelStreams = new TunnelStreams(random);
    this.#streams = new StreamServer(random);
  }

  setPortalServers({ do53, doh }: PortalServers, now: Instant): void {
    const usable = doh.filter(isDohUrl);
    if (usable.length < doh.length) {
      this.#outbox.note("warn", "DNS over HTTPS: a URL of the portal cannot be used", {
        refused: doh.length - usable.length,
      });
    }
    this.#portalServers = { do53, doh: usable };
    this.#updateServers(now);
  }

  setSystemServers(servers: readonly IpAddress[], now: Instant): void {
    this.#systemServers = servers;
    this.#updateServers(now);
  }

  get mapping(): readonly SentinelMapping[] {
    return this.#sentinels.mapping;
  }

  /** Resources changed: cached answers may be about names that are resources now. */
  flushCache(): void {
    this.#cache.flush();
  }

  /**
   * The network changed: answers to what the host was asked do not come any more, nor answers by the
   * connections in the tunnel (tunnel-core §18.1). Who asked over UDP asks again by itself.
   */
  handleReset(now: Instant): void {
    const queries = [...this.#hostQueries.values()];
    this.#hostQueries.clear();
    for (const asked of queries) if (asked.stream !== undefined) this.fail(asked, now);
    this.#resetTunnelStreams(now);
  }

  /** Our tunnel addresses changed: connections from and to the old ones are over. */
  handleMoved(now: Instant): void {
    this.#streams.abortExcept(() => false);
    this.#resetTunnelStreams(now);
  }

  /** Whether somebody listens where this packet to the sentinel ranges goes, and for which upstream. */
  listenerOf({ destination, kind, destinationPort }: PacketSubject): DnsListener {
    const upstream = this.#sentinels.upstreamOf(destination);
    if (upstream === undefined) return { kind: "dropped", reason: "unmapped-sentinel" };
    if ((kind !== "udp" && kind !== "tcp") || destinationPort !== DNS_PORT) {
      return { kind: "dropped", reason: "unsupported-protocol" };
    }
    return { kind: "listens", upstream };
  }

  /** The server to ask through the tunnel when a question is not ours (tunnel-core §11.6); undefined: the host asks. */
  serverInTunnel(upstream: Upstream): SocketAddress | undefined {
    if (upstream.kind === "doh") return undefined;
    const isInTunnel = this.#sentinels.arePortals && this.#routes.coversServer(upstream.server.ip);
    return isInTunnel ? upstream.server : undefined;
  }

  /**
   * One packet to an address of the sentinel ranges. It goes no further itself (tunnel-core §11.3). What
   * came by TCP is in `takeQuery`.
   */
  handlePacket(packet: IpPacket, now: Instant): DnsOutcome {
    const listener = this.listenerOf(packet);
    if (listener.kind === "dropped") return listener;
    if (packet.kind === "tcp") {
      this.#streams.handlePacket(packet, now);
      return { kind: "done" };
    }
    const query = decodeQuery(packet.bytes.subarray(packet.payloadOffset));
    if (query === undefined) return { kind: "dropped", reason: "bad-dns-message" };
    const sentinel = { ip: packet.destination, port: packet.destinationPort };
    const asker = { ip: packet.source, port: packet.sourcePort };
    return this.#resolve({ query, sentinel, asker, stream: undefined }, listener.upstream, now);
  }

  /** Works on the next query that came by TCP; undefined: there is none. */
  handleNextQuery(now: Instant): DnsOutcome | undefined {
    this.#sendStreams(now);
    const asked = this.#streams.takeQuery(now);
    if (asked === undefined) {
      this.#sendStreams(now);
      return undefined;
    }
    const upstream = this.#sentinels.upstreamOf(asked.sentinel.ip);
    const outcome = upstream === undefined ? undefined : this.#resolve(asked, upstream, now);
    if (outcome === undefined || outcome.kind === "dropped") {
      this.fail(asked, now);
      return { kind: "done" };
    }
    return outcome;
  }

  handleHostResult(id: number, result: HostDnsResult, now: Instant): void {
    const asked = this.#hostQueries.get(id);
    if (asked === undefined) return;
    this.#hostQueries.delete(id);
    // Who asked over UDP asks again by itself; SERVFAIL would make it give up (tunnel-core §11.6).
    if (result.kind === "timeout" && asked.stream === undefined) return;
    if (result.kind === "answer") this.#relay(asked, result.message, now);
    else this.fail(asked, now);
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
    if (packet === undefined) this.fail(asked, now);
    return packet;
  }

  /** A packet of `askInTunnel` cannot be sent. */
  failInTunnel(asked: AskedQuery, packet: IpPacket, now: Instant): void {
    this.#tunnelQueries.abandon(packet);
    this.fail(asked, now);
  }

  /** Asks `server` over TCP from our address of its family; the packets are in `pollTunnelPacket`. */
  askInTunnelStream(asked: AskedQuery, server: SocketAddress, source: IpAddress, now: Instant): void {
    if (!this.#tunnelStreams.ask(asked, server, source, now)) this.fail(asked, now);
  }

  /** A TCP packet of ours that is to be routed into the tunnel. */
  pollTunnelPacket(now: Instant): IpPacket | undefined {
    const bytes = this.#tunnelStreams.pollPacket(now);
    return bytes === undefined ? undefined : parseIpPacket(bytes);
  }

  /** A packet from a gateway; `consumed` if it belongs to a query of ours and must not reach the device. */
  handleInbound(packet: IpPacket, now: Instant): "consumed" | "not-ours" {
    if (packet.kind === "tcp") {
      if (!this.#tunnelStreams.handleInbound(packet, now)) return "not-ours";
      this.#settleTunnelStreams(now);
      return "consumed";
    }
    const error = icmpErrorOf(packet);
    if (typeof error !== "object") return this.#handleClaim(this.#tunnelQueries.claim(packet), now);
    if (this.#tunnelStreams.handleError(error)) {
      this.#settleTunnelStreams(now);
      return "consumed";
    }
    return this.#handleClaim(this.#tunnelQueries.claimError(error), now);
  }

  handleTimeout(now: Instant): void {
    for (const asked of this.#tunnelQueries.handleTimeout(now)) this.fail(asked, now);
    this.#tunnelStreams.handleTimeout(now);
    this.#settleTunnelStreams(now);
    this.#streams.handleTimeout(now);
  }

  pollTimeout(): Deadline | undefined {
    return earliest(
      this.#tunnelQueries.pollTimeout(),
      this.#tunnelStreams.pollTimeout(),
      this.#streams.pollTimeout(),
    );
  }

  fail(asked: AskedQuery, now: Instant): void {
    this.#answer(asked, emptyResponse(asked.query, RCODE_SERVFAIL), now);
  }

  #handleClaim(claim: Claim | undefined, now: Instant): "consumed" | "not-ours" {
    if (claim === undefined) return "not-ours";
    if (claim.kind === "answer") this.#relay(claim.asked, claim.message, now);
    if (claim.kind === "failed") this.fail(claim.asked, now);
    return "consumed";
  }

  #settleTunnelStreams(now: Instant): void {
    for (const claim of this.#tunnelStreams.takeResults()) this.#handleClaim(claim, now);
  }

  #resetTunnelStreams(now: Instant): void {
    this.#tunnelStreams.abortAll();
    this.#settleTunnelStreams(now);
  }

  #sendStreams(now: Instant): void {
    for (;;) {
      const packet = this.#streams.pollPacket(now);
      if (packet === undefined) return;
      this.#core.writeTun(packet);
    }
  }

  #resolve(asked: AskedQuery, upstream: Upstream, now: Instant): DnsOutcome {
    const cached = this.#cache.lookup(asked.query, now);
    if (cached !== undefined) {
      this.#answer(asked, cached, now);
      return { kind: "done" };
    }
    const verdict = this.#stub.resolve(asked.query);
    switch (verdict.kind) {
      case "answer":
        this.#answer(asked, verdict.response, now);
        return { kind: "answered", name: asked.query.name ?? "", assigned: verdict.assigned };
      case "resolve-in-site":
        return { kind: "ask-site", resource: verdict.resource, asked };
      case "recurse":
        return this.#recurse(asked, upstream, now);
    }
  }

  #recurse(asked: AskedQuery, upstream: Upstream, now: Instant): DnsOutcome {
    const server = this.serverInTunnel(upstream);
    return server === undefined
      ? this.#askHost(asked, upstream, now)
      : { kind: "ask-in-tunnel", server, asked };
  }

  #askHost(asked: AskedQuery, upstream: Upstream, now: Instant): DnsOutcome {
    if (this.#hostQueries.size >= HOST_QUERIES) this.#forgetHostQueries(now);
    if (this.#hostQueries.size >= HOST_QUERIES) return { kind: "dropped", reason: "buffer-full" };

    const id = this.#nextQueryId++;
    this.#hostQueries.set(id, { ...asked, sentAt: now });
    if (upstream.kind === "doh") {
      this.#outbox.push({ kind: "host-doh-query", id, url: upstream.url, message: withoutId(asked.query) });
    } else {
      const transport = asked.stream === undefined ? "udp" : "tcp";
      const message = asked.query.bytes;
      this.#outbox.push({ kind: "host-dns-query", id, server: upstream.server, transport, message });
    }
    return { kind: "done" };
  }

  /** Passes on what an upstream said, if it answers the question. */
  #relay(asked: AskedQuery, message: Uint8Array, now: Instant): void {
    const answer = decodeAnswer(message, asked.query);
    if (answer === undefined) {
      this.fail(asked, now);
      return;
    }
    this.#cache.insert(asked.query, answer, now);
    this.#answer(asked, answer.bytes, now);
  }

  #answer({ sentinel, asker, stream }: AskedQuery, response: Uint8Array, now: Instant): void {
    if (stream !== undefined) {
      this.#streams.answer(stream, response, now);
      return;
    }
    const packet = udpPacket({ source: sentinel, destination: asker, payload: fitUdp(response) });
    if (packet !== undefined) this.#core.writeTun(packet);
  }

  #forgetHostQueries(now: Instant): void {
    for (const [id, { sentAt }] of this.#hostQueries) {
      if (now >= sentAt + HOST_QUERY_FORGOTTEN_MS) this.#hostQueries.delete(id);
    }
  }

  #updateServers(now: Instant): void {
    const { do53, doh } = this.#portalServers;
    if (!this.#sentinels.update({ portal: do53, doh, system: this.#systemServers })) return;
    this.#cache.flush();
    this.#streams.abortExcept((sentinel) => this.#sentinels.upstreamOf(sentinel) !== undefined);
    this.#resetTunnelStreams(now);
  }
}
