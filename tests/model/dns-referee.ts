// DNS as applications see it: one answer per query, from the server that was asked; proxy IPs that stay.
import * as dnsPacket from "dns-packet";
import {
  contains,
  IPV4_RESOURCES,
  IPV6_RESOURCES,
  type IpAddress,
  ip,
  isIpv4,
} from "../../host/core/address.ts";
import type { ClientEvent } from "../../host/core/client/events.ts";
import type { GatewayTunConfig } from "../../host/core/gateway/events.ts";
import { decodeResponse, queryBytes, type Response, upstreamAnswer } from "../unit/dns/queries.ts";
import { icmpError, ip as ipPacket, UDP, u16 } from "../unit/packet/packets.ts";
import { read, type Seen } from "./packet.ts";
import { coversServer, judge } from "./policy.ts";
import { fail, type Referee, text } from "./referee.ts";
import { GATEWAY_SITES } from "./universe.ts";

export const UPSTREAM_ADDRESS = "198.51.100.99";
const UPSTREAM_MS = 15;
const GATEWAY_DNS_PORT = 53535;

export interface Asked {
  readonly client: number;
  readonly name: string;
  readonly type: string;
  readonly sentinel: IpAddress;
  readonly id: number;
  answer: Response | undefined;
  answers: number;
  /** The host was asked for it. */
  isRecursed: boolean;
}

export class DnsReferee {
  upstreamMode: "answer" | "timeout" | "failed" = "answer";
  readonly #referee: Referee;
  readonly #asked = new Map<number, Asked>();
  /** By client and name. */
  readonly #proxies = new Map<string, IpAddress[]>();
  #nextPort = 20_000;

  constructor(referee: Referee) {
    this.#referee = referee;
  }

  /** Undefined: the client serves no DNS. */
  ask(client: number, name: string, type: string): Asked | undefined {
    const host = this.#referee.world.clients[client];
    const sentinel = host?.config?.dns[0]?.sentinel;
    const source = sentinel === undefined ? undefined : this.#referee.addressOf(client, sentinel);
    if (host?.machine === undefined || sentinel === undefined || source === undefined) return undefined;

    const port = this.#nextPort++;
    const id = (port * 7) & 0xffff;
    const asked: Asked = {
      client,
      name,
      type,
      sentinel,
      id,
      answer: undefined,
      answers: 0,
      isRecursed: false,
    };
    this.#asked.set(port, asked);
    host.machine.handlePacket(udp(source, port, sentinel, 53, queryBytes(name, type, id)));
    this.#referee.world.network.settle();
    return asked;
  }

  /** Proxy IPs of the name, of the family of `like`. */
  proxiesOf(client: number, name: string, like: IpAddress): readonly IpAddress[] {
    return this.#proxies.get(`${client} ${name} ${isIpv4(like) ? "A" : "AAAA"}`) ?? [];
  }

  /** A new process starts its numbering over. */
  forget(client: number): void {
    for (const key of this.#proxies.keys()) if (key.startsWith(`${client} `)) this.#proxies.delete(key);
  }

  nameOf(client: number, proxy: IpAddress): string | undefined {
    for (const [key, proxies] of this.#proxies) {
      const [owner, name] = key.split(" ");
      if (owner === String(client) && proxies.includes(proxy)) return name;
    }
    return undefined;
  }

  /** A packet to TUN whose source is a sentinel. */
  answered(client: number, seen: Seen): void {
    const asked = this.#asked.get(seen.destinationPort);
    if (asked === undefined || asked.client !== client) fail(`DNS answer to nobody: ${text(seen)}`);
    asked.answers += 1;
    if (asked.answers > 1) fail(`${asked.answers} DNS answers to one query for ${asked.name}`);
    if (seen.kind !== "udp" || seen.source !== asked.sentinel || seen.sourcePort !== 53) {
      fail(`DNS answer from ${text(seen)}, asked ${asked.sentinel}`);
    }
    const answer = decodeResponse(seen.payload);
    if (answer.id !== asked.id) fail("DNS answer with another id");
    asked.answer = answer;
    this.#noteProxies(asked, answer);
  }

  hostQuery(client: number, query: Extract<ClientEvent, { kind: "host-dns-query" }>): void {
    const { question, name } = questionOf(query.message);
    const asked = [...this.#asked.values()].findLast((a) => a.client === client && a.name === name);
    if (asked === undefined) fail(`the client asks ${query.server.ip} for ${question} on its own`);
    asked.isRecursed = true;
    const { world } = this.#referee;
    const views = this.#referee.views();
    const mustTunnel = views.every(
      (view) => view.dnsServers.length > 0 && coversServer(view, client, query.server.ip),
    );
    if (mustTunnel) fail(`query for ${question} leaves beside the tunnel`);
    const machine = world.clients[client]?.machine;
    const mode = this.upstreamMode;
    const result =
      mode === "answer"
        ? ({ kind: "answer", message: plainAnswer(query.message) } as const)
        : ({ kind: mode } as const);
    world.network.later(UPSTREAM_MS, () => {
      if (world.clients[client]?.machine !== machine) return;
      machine?.command({ kind: "host-dns-result", id: query.id, result });
    });
  }

  /** Queries that a client sends through the tunnel carry no tag. */
  isTunnelQuery(seen: Seen): boolean {
    const isPort = seen.destinationPort === 53 || seen.destinationPort === GATEWAY_DNS_PORT;
    return seen.kind === "udp" && isPort && seen.tag === undefined;
  }

  answerInSite(gateway: number, client: number, seen: Seen, config: GatewayTunConfig | undefined): void {
    const isOwn = seen.destination === config?.ipv4 || seen.destination === config?.ipv6;
    if (client < 0) fail(`query in the tunnel from ${seen.source}`);
    if (isOwn !== (seen.destinationPort === GATEWAY_DNS_PORT)) fail(`query to ${text(seen)}`);
    if (!isOwn) this.#checkUpstream(gateway, client, seen.destination);
    const reply = udp(
      seen.destination,
      seen.destinationPort,
      seen.source,
      seen.sourcePort,
      plainAnswer(seen.payload),
    );
    this.#referee.world.network.later(UPSTREAM_MS, () =>
      this.#referee.world.gateways[gateway]?.machine?.handlePacket(reply),
    );
  }

  portUnreachable(failed: Uint8Array): Uint8Array {
    const seen = read(failed) ?? fail("no packet");
    const isV4 = isIpv4(seen.source);
    const ends = { from: seen.destination, to: seen.source };
    return icmpError(ends, isV4 ? { type: 3, code: 3 } : { type: 1, code: 4 }, failed);
  }

  #checkUpstream(gateway: number, client: number, server: IpAddress): void {
    const question = { client, destination: server, name: undefined, protocol: "udp", port: 53 } as const;
    const isAllowed = this.#referee.views().some((view) => {
      const verdict = judge(view, question);
      return verdict.kind === "delivered" && verdict.site === GATEWAY_SITES[gateway];
    });
    if (!isAllowed) fail(`forbidden query left gateway ${gateway} for ${server}`);
  }

  #noteProxies({ client, name, type }: Asked, answer: Response): void {
    const ips = answer.data.filter((data) => typeof data === "string").map((data) => data as IpAddress);
    if (type !== "A" && type !== "AAAA") return;
    const range = type === "A" ? IPV4_RESOURCES : IPV6_RESOURCES;
    const proxies = ips.filter((address) => contains(range, ip(address)));
    if (proxies.length === 0) return;
    if (proxies.length !== 4 || ips.length !== 4) fail(`${name} has ${ips.length} proxy IPs`);
    const key = `${client} ${name} ${type}`;
    const known = this.#proxies.get(key);
    if (known !== undefined && known.join() !== proxies.join()) fail(`proxy IPs of ${name} changed`);
    for (const proxy of proxies) {
      const owner = this.nameOf(client, proxy);
      if (owner !== undefined && owner !== name) fail(`${name} and ${owner} share ${proxy}`);
    }
    this.#proxies.set(key, proxies);
  }
}

function questionOf(message: Uint8Array): { question: string; name: string } {
  const question = dnsPacket.decode(Buffer.from(message)).questions?.[0];
  return { question: `${question?.name} ${question?.type}`, name: question?.name ?? "" };
}

/** One address for A, nothing for other types. */
function plainAnswer(query: Uint8Array): Uint8Array {
  const isAddress = questionOf(query).question.endsWith(" A");
  return upstreamAnswer(query, { addresses: isAddress ? [UPSTREAM_ADDRESS] : [], ttl: 30 });
}

function udp(
  from: IpAddress,
  sourcePort: number,
  to: IpAddress,
  destinationPort: number,
  payload: Uint8Array,
): Uint8Array {
  const segment = [...u16(sourcePort), ...u16(destinationPort), ...u16(8 + payload.length), 0, 0, ...payload];
  return ipPacket({ from, to }, UDP, segment, 6);
}
