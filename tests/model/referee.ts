// Holds every packet that comes out of the real machines against the reference.
import { type IpAddress, isIpv4, isSentinel, isTunnelAddress } from "../../host/core/address.ts";
import type { ClientEvent } from "../../host/core/client/events.ts";
import { DnsReferee } from "./dns-referee.ts";
import { ModelFailure } from "./failure.ts";
import { type FlowKey, NatModel } from "./nat-model.ts";
import { build, isSame, read, type Seen, type Shape } from "./packet.ts";
import { claimants, judge, type Question, siteMayServe, type View } from "./policy.ts";
import { GATEWAY_SITES, slotId } from "./universe.ts";
import { type Observer, World } from "./world.ts";

/** Everybody has heard of a change by then. */
export const SYNC_MS = 3_000;
/** A site's host answers after that. */
const ANSWER_MS = 4;
/** Portal and gateways round expiry to seconds, and sweep once a second. */
const EXPIRY_SLACK_MS = 2_500;

export type AnswerMode = "reply" | "silent" | "error";

export interface Probe {
  readonly shape: Shape;
  readonly question: Question;
  readonly answer: AnswerMode;
  /** Its client asks no policy, and what it forged. */
  readonly isHostile: boolean;
  arrivals: number;
  replies: number;
  refusals: ("prohibited" | "unreachable" | "site")[];
  /** Where it left a gateway. */
  flow: { readonly key: FlowKey; readonly ip: IpAddress; readonly port: number } | undefined;
}

interface FromSite {
  readonly client: number;
  readonly gateway: number;
  readonly bytes: Uint8Array;
  readonly question: Question;
  arrivals: number;
}

export class Referee implements Observer {
  readonly world: World;
  readonly nat = new NatModel();
  readonly dns: DnsReferee;
  /** What names resolve to in the sites. */
  readonly zone = new Map<string, readonly IpAddress[]>();
  view: View;
  /** Wall clocks were set; until when each client's token is good by any of them. */
  clockSpreadMs = 0;
  readonly expiries = new Map<number, number>();
  readonly #probes = new Map<number, Probe>();
  readonly #fromSite = new Map<number, FromSite>();
  #history: View[];
  #changedAt = 0;
  #nextTag = 1;

  /** How much really happened: probes, arrivals, replies, refusals. */
  tally(): { probes: number; arrivals: number; replies: number; refusals: number } {
    const probes = [...this.#probes.values()];
    const sum = (count: (probe: Probe) => number) => probes.reduce((total, probe) => total + count(probe), 0);
    return {
      probes: probes.length,
      arrivals: sum((probe) => probe.arrivals),
      replies: sum((probe) => probe.replies),
      refusals: sum((probe) => probe.refusals.length),
    };
  }

  constructor(seed: number, view: View) {
    this.view = view;
    this.#history = [view];
    this.dns = new DnsReferee(this);
    this.world = new World(seed, view, this);
  }

  get now(): number {
    return this.world.now;
  }

  /** Views that machines may act upon: they hear of changes one after the other. */
  views(): readonly View[] {
    let views = this.#history;
    for (const [client, at] of this.expiries) {
      const gone = views.map((view) => withSignedIn(view, client, false));
      if (this.now >= at + this.clockSpreadMs + EXPIRY_SLACK_MS) views = gone;
      else if (this.now >= at - this.clockSpreadMs - EXPIRY_SLACK_MS) views = [...views, ...gone];
    }
    return views;
  }

  /** Milliseconds for which nothing was disturbed and all peers have been in touch with the portal. */
  calmMs(): number {
    const { clients, gateways, relays } = this.world;
    let since = this.#changedAt;
    for (const { link } of [...clients, ...gateways, ...relays]) {
      if (link.isStopped) continue;
      if (link.joinedAt === undefined || link.isCut) return 0;
      since = Math.max(since, link.joinedAt);
    }
    if ([...clients, ...gateways].some(({ endpoint }) => endpoint.isCut)) return 0;
    if (relays.some(({ endpoint }) => endpoint.isSilent)) return 0;
    return this.now - since;
  }

  isInSync(): boolean {
    if (this.calmMs() < SYNC_MS) return false;
    this.#history = [this.view];
    return this.views().length === 1 && this.views()[0] === this.view;
  }

  disturb(): void {
    this.#changedAt = this.now;
  }

  /** `between`: what a peer may hold in the middle of the change. */
  change(view: View, ...between: readonly View[]): void {
    this.view = view;
    this.#history.push(...between, view);
    this.disturb();
    for (const client of this.world.clients.keys()) this.nat.doubt(client);
  }

  /** Sends a packet from the client's applications; undefined while it has no address. */
  send(
    question: Question,
    shape: Pick<Shape, "protocol" | "sourcePort" | "size" | "tcp">,
    { answer = "reply", source }: { answer?: AnswerMode; source?: IpAddress } = {},
  ): Probe | undefined {
    const host = this.world.clients[question.client];
    const own = this.addressOf(question.client, question.destination);
    if (host?.machine === undefined || own === undefined) return undefined;
    const probe = this.#probe(question, { ...shape, source: source ?? own }, answer, source !== undefined);
    host.machine.handlePacket(build(probe.shape));
    this.world.network.settle();
    return probe;
  }

  /** Has the client's packet core seal a packet for a gateway, past the client's own policy. */
  sendUnasked(
    gateway: number,
    question: Question,
    shape: Pick<Shape, "protocol" | "sourcePort" | "size">,
    source?: IpAddress,
  ): Probe | undefined {
    const own = this.addressOf(question.client, question.destination);
    if (own === undefined) return undefined;
    const probe = this.#probe(question, { ...shape, source: source ?? own }, "reply", true);
    this.sealUnasked(question.client, gateway, build(probe.shape));
    return probe;
  }

  sealUnasked(client: number, gateway: number, packet: Uint8Array): void {
    const host = this.world.clients[client];
    const key = this.world.gateways[gateway]?.publicKey;
    const peer = key === undefined ? undefined : host?.connections?.peerOfKey(key);
    if (peer !== undefined) host?.machine?.sealUnasked(peer, packet);
    this.world.network.settle();
  }

  /** A host of the site sends to the client without having been asked. */
  sendFromSite(gateway: number, question: Question, size: number): void {
    const to = this.addressOf(question.client, question.destination);
    const { machine } = this.world.gateways[gateway] ?? {};
    if (to === undefined || machine === undefined) return;
    const tag = this.#nextTag++;
    const bytes = build({
      protocol: question.protocol,
      source: question.destination,
      destination: to,
      sourcePort: question.port,
      destinationPort: question.protocol === "echo" ? question.port : 33_000 + (tag % 1000),
      tag,
      size,
    });
    this.#fromSite.set(tag, { client: question.client, gateway, bytes, question, arrivals: 0 });
    machine.handlePacket(bytes);
    this.world.network.settle();
  }

  addressOf(client: number, sameFamilyAs: IpAddress): IpAddress | undefined {
    const config = this.world.clients[client]?.config;
    return isIpv4(sameFamilyAs) ? config?.ipv4 : config?.ipv6;
  }

  processOf(gateway: number): string {
    return `${gateway}.${this.world.gateways[gateway]?.process}`;
  }

  // ── What the world reports ────────────────────────────────────────────────────────────────────

  hostQuery(client: number, query: Extract<ClientEvent, { kind: "host-dns-query" }>): void {
    this.dns.hostQuery(client, query);
  }

  resolve(gateway: number, name: string): readonly IpAddress[] {
    const addresses = this.zone.get(name) ?? [];
    const isCertain = this.world.clients.length === 1 && this.isInSync();
    this.nat.resolved(this.processOf(gateway), name, addresses, isCertain);
    return addresses;
  }

  signedOut(client: number): void {
    this.expiries.delete(client);
    this.change(withSignedIn(this.view, client, false));
  }

  gatewayPacket(gateway: number, bytes: Uint8Array): void {
    const seen = read(bytes) ?? fail("gateway wrote something that is no packet");
    const client = this.#clientAt(seen.source);
    const { config } = this.world.gateways[gateway] ?? {};
    if (this.dns.isTunnelQuery(seen)) {
      this.dns.answerInSite(gateway, client, seen, config);
      return;
    }
    const probe = seen.tag === undefined ? undefined : this.#probes.get(seen.tag);
    if (probe === undefined) fail(`gateway ${gateway} wrote a packet that nobody sent: ${text(seen)}`);
    probe.arrivals += 1;
    if (probe.arrivals > 1) fail(`probe arrived ${probe.arrivals} times: ${text(seen)}`);
    if (client !== probe.question.client) fail(`probe arrived with source ${seen.source}`);
    this.#checkAllowed(gateway, probe, seen);
    const target = this.#checkTarget(gateway, probe, seen);
    const expected = build(moved(probe.shape, target));
    if (!isSame(expected, bytes)) fail(`probe arrived changed: ${text(seen)}`);
    this.#answer(gateway, probe, target, bytes);
  }

  clientPacket(client: number, bytes: Uint8Array): void {
    const seen = read(bytes) ?? fail("client wrote something that is no packet");
    if (isSentinel(seen.source)) this.dns.answered(client, seen);
    else if (seen.error !== undefined) this.#refused(client, seen, seen.error);
    else if (seen.tag !== undefined && seen.tag < 0) this.#replied(client, seen, bytes);
    else this.#unsolicited(client, seen, bytes);
  }

  // ── Checks ────────────────────────────────────────────────────────────────────────────────────

  #checkAllowed(gateway: number, { question, isHostile }: Probe, seen: Seen): void {
    const site = GATEWAY_SITES[gateway] ?? -1;
    const isAllowed = this.views().some((view) => {
      if (isHostile) return siteMayServe(view, site, question);
      const verdict = judge(view, question);
      return verdict.kind === "delivered" && verdict.site === site;
    });
    if (!isAllowed)
      fail(`forbidden packet left gateway ${gateway}: ${text(seen)} for ${JSON.stringify(question)}`);
  }

  #checkTarget(gateway: number, probe: Probe, seen: Seen): { ip: IpAddress; port: number } {
    const { question, shape } = probe;
    const target = { ip: seen.destination, port: seen.sourcePort };
    if (question.name === undefined) {
      const isKept = target.ip === shape.destination && target.port === portOf(shape);
      return isKept ? target : fail(`probe went to ${text(seen)} instead of ${shape.destination}`);
    }
    const process = this.processOf(gateway);
    const key: FlowKey = {
      process,
      client: question.client,
      protocol: question.protocol,
      port: shape.sourcePort,
      proxy: shape.destination,
    };
    const proxies = this.dns.proxiesOf(question.client, question.name, shape.destination);
    const reals = this.nat.realsOf(process, question.name, proxies, shape.destination);
    const problem = this.nat.sent(key, target, reals, this.now);
    if (problem !== undefined) fail(`${problem}: ${text(seen)} of ${question.name}`);
    // Amid a change the gateway may forget the client a moment later.
    if (shape.tcp === "reset" || shape.tcp === "fin" || !this.isInSync()) this.nat.doubtFlow(key);
    probe.flow = { key, ...target };
    return target;
  }

  #answer(gateway: number, probe: Probe, target: { ip: IpAddress; port: number }, bytes: Uint8Array): void {
    const { shape, answer, flow } = probe;
    const { process } = this.world.gateways[gateway] ?? {};
    if (answer === "silent" || shape.tcp === "reset") return;
    const reply =
      answer === "error"
        ? this.dns.portUnreachable(bytes)
        : build({
            ...shape,
            source: target.ip,
            destination: shape.source,
            sourcePort: shape.protocol === "echo" ? target.port : shape.destinationPort,
            destinationPort: target.port,
            tag: -shape.tag,
          });
    this.world.network.later(ANSWER_MS, () => {
      const host = this.world.gateways[gateway];
      if (host?.process !== process) return;
      if (flow !== undefined) this.nat.answered(flow.key, this.now);
      host?.machine?.handlePacket(reply);
    });
  }

  #replied(client: number, seen: Seen, bytes: Uint8Array): void {
    const probe = this.#probes.get(-(seen.tag ?? 0));
    if (probe === undefined) fail(`reply to nothing: ${text(seen)}`);
    probe.replies += 1;
    if (probe.replies > 1) fail(`reply arrived ${probe.replies} times: ${text(seen)}`);
    if (probe.arrivals === 0 || probe.question.client !== client) fail(`reply to another: ${text(seen)}`);
    const { shape } = probe;
    const expected = build({
      ...shape,
      source: shape.destination,
      destination: shape.source,
      sourcePort: shape.protocol === "echo" ? shape.sourcePort : shape.destinationPort,
      destinationPort: shape.sourcePort,
      tag: -shape.tag,
    });
    if (!isSame(expected, bytes))
      fail(`reply came changed or from elsewhere: ${text(seen)}, asked ${shape.destination}`);
  }

  #refused(client: number, seen: Seen, { type, code, quoted }: NonNullable<Seen["error"]>): void {
    const probe = this.#quotedProbe(client, quoted);
    if (probe === undefined) fail(`ICMP error about nothing: ${type}/${code} ${text(quoted)}`);
    const { shape } = probe;
    const isWhole =
      quoted.source === shape.source &&
      quoted.destination === shape.destination &&
      quoted.sourcePort === shape.sourcePort &&
      (shape.protocol === "echo" || quoted.destinationPort === shape.destinationPort);
    if (!isWhole) fail(`ICMP error quotes ${text(quoted)}`);
    const kind = refusalOf(isIpv4(seen.source), type, code) ?? fail(`ICMP error ${type}/${code}`);
    probe.refusals.push(kind);
    if (probe.refusals.length > 1) fail(`more than one ICMP error about ${text(quoted)}`);
    if (kind === "site" && (probe.answer !== "error" || probe.arrivals === 0)) fail("invented ICMP error");
  }

  #quotedProbe(client: number, quoted: Seen): Probe | undefined {
    if (quoted.tag !== undefined && this.#probes.has(quoted.tag)) return this.#probes.get(quoted.tag);
    // Cut off before the tag: attempts of one flow look the same, and each may be refused once.
    return [...this.#probes.values()].findLast(
      ({ question, shape, refusals }) =>
        question.client === client &&
        refusals.length === 0 &&
        shape.sourcePort === quoted.sourcePort &&
        (shape.protocol === "echo" || shape.destinationPort === quoted.destinationPort) &&
        shape.destination === quoted.destination,
    );
  }

  #unsolicited(client: number, seen: Seen, bytes: Uint8Array): void {
    const sent = seen.tag === undefined ? undefined : this.#fromSite.get(seen.tag);
    if (sent === undefined || sent.client !== client)
      fail(`client wrote a packet that nobody sent: ${text(seen)}`);
    sent.arrivals += 1;
    if (sent.arrivals > 1) fail(`packet from the site arrived twice: ${text(seen)}`);
    if (!isSame(sent.bytes, bytes)) fail(`packet from the site arrived changed: ${text(seen)}`);
    const site = GATEWAY_SITES[sent.gateway] ?? -1;
    const isAllowed = this.views().some((view) => siteMayServe(view, site, sent.question));
    if (!isAllowed) fail(`forbidden packet from the site arrived: ${text(seen)}`);
  }

  #probe(
    question: Question,
    shape: Pick<Shape, "protocol" | "sourcePort" | "size" | "tcp" | "source">,
    answer: AnswerMode,
    isHostile: boolean,
  ): Probe {
    const tag = this.#nextTag++;
    const { destination, protocol, port } = question;
    const destinationPort = protocol === "echo" ? shape.sourcePort : port;
    const full: Shape = { ...shape, destination, destinationPort, tag };
    const probe: Probe = {
      shape: full,
      question,
      answer,
      isHostile,
      arrivals: 0,
      replies: 0,
      refusals: [],
      flow: undefined,
    };
    this.#probes.set(tag, probe);
    return probe;
  }

  #clientAt(address: IpAddress): number {
    const index = this.world.clients.findIndex(
      ({ config }) => config?.ipv4 === address || config?.ipv6 === address,
    );
    if (index < 0 && !isTunnelAddress(address)) fail(`packet from ${address} left a gateway`);
    return index;
  }
}

export function withSignedIn(view: View, client: number, isSignedIn: boolean): View {
  return {
    ...view,
    isSignedIn: view.isSignedIn.with(client, isSignedIn),
    wantsInternet: isSignedIn ? view.wantsInternet : view.wantsInternet.with(client, false),
  };
}

/** Any DNS resource that the client might announce the name under. */
export function resourceFor(view: View, client: number, name: string): string | undefined {
  const [slot] = claimants(view, client, name);
  return slot === undefined ? undefined : slotId(slot);
}

function moved(shape: Shape, target: { readonly ip: IpAddress; readonly port: number }): Shape {
  const sourcePort = target.port;
  const destinationPort = shape.protocol === "echo" ? target.port : shape.destinationPort;
  return { ...shape, destination: target.ip, sourcePort, destinationPort };
}

function portOf({ protocol, sourcePort }: Shape): number {
  return protocol === "other" ? 0 : sourcePort;
}

function refusalOf(isV4: boolean, type: number, code: number): Probe["refusals"][number] | undefined {
  const known = isV4
    ? { "3/13": "prohibited", "3/0": "unreachable", "3/3": "site" }
    : { "1/1": "prohibited", "1/0": "unreachable", "1/3": "unreachable", "1/4": "site" };
  return (known as Record<string, Probe["refusals"][number]>)[`${type}/${code}`];
}

export function text({ kind, source, sourcePort, destination, destinationPort, tag }: Seen): string {
  return `${kind} ${source}:${sourcePort} → ${destination}:${destinationPort} (#${tag})`;
}

export function fail(problem: string): never {
  throw new ModelFailure(problem);
}
