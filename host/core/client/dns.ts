import type { IpAddress, SocketAddress } from "../address.ts";
import { DnsCache } from "../dns/cache.ts";
import {
  type DnsQuery,
  decodeAnswer,
  decodeQuery,
  emptyResponse,
  fitUdp,
  RCODE_SERVFAIL,
} from "../dns/message.ts";
import { type SentinelMapping, Sentinels } from "../dns/sentinels.ts";
import type { Assignment, StubResolver } from "../dns/stub-resolver.ts";
import { type Disposition, drop } from "../drop.ts";
import type { IpPacket } from "../packet/ip-packet.ts";
import { udpPacket } from "../packet/udp.ts";
import type { PacketCore } from "../packet-core.ts";
import type { Instant } from "../time.ts";
import type { HostDnsResult } from "./events.ts";
import type { Outbox } from "./outbox.ts";
import type { ClientRoutes } from "./routing.ts";

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
}

/** What a packet to a sentinel led to. */
export interface DnsOutcome {
  readonly disposition: Disposition;
  /** Set if the stub resolver answered: its name's mapping is to be refreshed (tunnel-core §12.1). */
  readonly answered?: { readonly name: string; readonly assigned: readonly Assignment[] };
}

interface HostQuery {
  readonly query: DnsQuery;
  readonly sentinel: SocketAddress;
  readonly asker: SocketAddress;
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
  #nextQueryId = 1;
  #portalServers: readonly IpAddress[] = [];
  #systemServers: readonly IpAddress[] = [];

  constructor({ core, routes, stub, outbox }: ClientDnsParts) {
    this.#core = core;
    this.#routes = routes;
    this.#stub = stub;
    this.#outbox = outbox;
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

  /** One packet to an address of the sentinel ranges. Never goes further (tunnel-core §11.3). */
  handlePacket(packet: IpPacket, now: Instant): DnsOutcome {
    const upstream = this.#sentinels.upstreamOf(packet.destination);
    if (upstream === undefined) return { disposition: drop("unmapped-sentinel") };
    if (packet.kind !== "udp" || packet.destinationPort !== DNS_PORT) {
      return { disposition: drop("unsupported-protocol") };
    }
    const query = decodeQuery(packet.bytes.subarray(packet.payloadOffset));
    if (query === undefined) return { disposition: drop("bad-dns-message") };

    const sockets = {
      sentinel: { ip: packet.destination, port: packet.destinationPort },
      asker: { ip: packet.source, port: packet.sourcePort },
    };
    return this.#resolve(query, upstream, sockets, now);
  }

  handleHostResult(id: number, result: HostDnsResult, now: Instant): void {
    const pending = this.#hostQueries.get(id);
    if (pending === undefined) return;
    this.#hostQueries.delete(id);
    // The application asks again by itself; SERVFAIL would make it give up (tunnel-core §11.6).
    if (result.kind === "timeout") return;

    const { query } = pending;
    const answer = result.kind === "answer" ? decodeAnswer(result.message, query) : undefined;
    if (answer !== undefined) this.#cache.insert(query, answer, now);
    this.#answer(answer?.bytes ?? emptyResponse(query, RCODE_SERVFAIL), pending);
  }

  #resolve(query: DnsQuery, upstream: SocketAddress, sockets: Sockets, now: Instant): DnsOutcome {
    const cached = this.#cache.lookup(query, now);
    if (cached !== undefined) return this.#answer(cached, sockets);

    const verdict = this.#stub.resolve(query);
    switch (verdict.kind) {
      case "answer": {
        const outcome = this.#answer(verdict.response, sockets);
        return { ...outcome, answered: { name: query.name ?? "", assigned: verdict.assigned } };
      }
      case "resolve-in-site":
        this.#outbox.note("debug", "query for a record that only the site knows is not supported", {
          resource: verdict.resource,
          type: query.type,
        });
        return this.#answer(emptyResponse(query, RCODE_SERVFAIL), sockets);
      case "recurse":
        return this.#recurse(query, upstream, sockets, now);
    }
  }

  #recurse(query: DnsQuery, upstream: SocketAddress, sockets: Sockets, now: Instant): DnsOutcome {
    if (this.#sentinels.arePortals && this.#routes.coversServer(upstream.ip)) {
      // Asking on the host would show the name to the local network (tunnel-core §23 Q8).
      this.#outbox.note("debug", "query to a server inside the tunnel is not supported");
      return this.#answer(emptyResponse(query, RCODE_SERVFAIL), sockets);
    }
    if (this.#hostQueries.size >= HOST_QUERIES) this.#forgetHostQueries(now);
    if (this.#hostQueries.size >= HOST_QUERIES) return { disposition: drop("buffer-full") };

    const id = this.#nextQueryId++;
    this.#hostQueries.set(id, { query, ...sockets, sentAt: now });
    this.#outbox.push({
      kind: "host-dns-query",
      id,
      server: upstream,
      transport: "udp",
      message: query.bytes,
    });
    return { disposition: "consumed" };
  }

  #answer(response: Uint8Array, { sentinel, asker }: Sockets): DnsOutcome {
    const packet = udpPacket({ source: sentinel, destination: asker, payload: fitUdp(response) });
    if (packet !== undefined) this.#core.writeTun(packet);
    return { disposition: "consumed" };
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

interface Sockets {
  readonly sentinel: SocketAddress;
  readonly asker: SocketAddress;
}
