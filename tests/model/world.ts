// Clients, gateways, relays and a portal, all real, on one simulated network.
import { type IpAddress, ip } from "../../host/core/address.ts";
import type { ClientCommand, ClientEvent, TunConfig } from "../../host/core/client/events.ts";
import { ClientState } from "../../host/core/client/state.ts";
import { CLIENT_SETTINGS, GATEWAY_SETTINGS, type RoleSettings } from "../../host/core/connection/settings.ts";
import type { GatewayCommand, GatewayEvent, GatewayTunConfig } from "../../host/core/gateway/events.ts";
import { GatewayState } from "../../host/core/gateway/state.ts";
import { toBase64 } from "../../host/portal/base64.ts";
import { decodeClientIngress, encodeClientEgress } from "../../host/portal/client-messages.ts";
import { decodeGatewayIngress, encodeGatewayEgress } from "../../host/portal/gateway-messages.ts";
import { createToken, type TokenOwner, type TokenRecord } from "../../host/portal/server/tokens.ts";
import { type NatKind, SimNat, SimNetwork } from "../sim/network.ts";
import { crypto } from "../sim/node.ts";
import { SeededRandom } from "../sim/random.ts";
import { SimRelay } from "../sim/relay.ts";
import { ModelFailure } from "./failure.ts";
import { HostEndpoint, Machine, type MachineParts, Place, WatchedConnections } from "./machine.ts";
import { actorName, configurationOf, type View } from "./policy.ts";
import { PortalHost, PortalLink } from "./portal-wire.ts";
import { GATEWAY_SITES, SITES } from "./universe.ts";

const START_UNIX_MS = 1_790_000_000_000;
const PORT = 52_625;
const RESOLVE_MS = 30;
const WEEK_S = 7 * 86_400;

export interface Conditions {
  readonly clients: number;
  readonly delayMs: number;
  readonly jitterMs: number;
  readonly loss: number;
  readonly duplication: number;
  readonly clientNat: NatKind | "none";
  readonly gatewayNat: NatKind | "none";
}

/** What a network is like follows from the run's seed alone. */
export function conditionsOf(seed: number): Conditions {
  const random = new SeededRandom(seed ^ 0x5eed);
  const pick = <T>(...options: readonly T[]): T =>
    options[Math.floor(random.uniform() * options.length)] as T;
  const clientNat = pick<NatKind | "none">("none", "full-cone", "port-restricted", "symmetric");
  const reachable = clientNat === "symmetric" ? pick("none", "full-cone") : undefined;
  const isCalm = random.uniform() < 0.5;
  return {
    clients: pick(1, 1, 2),
    delayMs: pick(1, 10, 40, 150),
    jitterMs: isCalm ? 0 : pick(5, 30),
    loss: isCalm ? 0 : pick(0, 0.02, 0.1),
    duplication: isCalm ? 0 : pick(0, 0.1),
    clientNat,
    gatewayNat: (reachable as NatKind | "none" | undefined) ?? pick("none", "full-cone", "port-restricted"),
  };
}

export interface Observer {
  clientPacket(client: number, packet: Uint8Array): void;
  gatewayPacket(gateway: number, packet: Uint8Array): void;
  hostQuery(client: number, query: Extract<ClientEvent, { kind: "host-dns-query" }>): void;
  /** Addresses of a name in a site right now; noted as what the gateway knows from here on. */
  resolve(gateway: number, name: string): readonly IpAddress[];
  signedOut(client: number): void;
}

export class ClientHost {
  readonly place: Place;
  readonly endpoint = new HostEndpoint();
  readonly link: PortalLink;
  machine: Machine<ClientCommand, ClientEvent> | undefined;
  connections: WatchedConnections | undefined;
  config: TunConfig | undefined;
  token = "";
  publicKey: Uint8Array = new Uint8Array(32);

  constructor(place: Place, link: PortalLink) {
    this.place = place;
    this.link = link;
  }
}

export class GatewayHost {
  readonly place: Place;
  readonly endpoint = new HostEndpoint();
  readonly link: PortalLink;
  machine: Machine<GatewayCommand, GatewayEvent> | undefined;
  connections: WatchedConnections | undefined;
  config: GatewayTunConfig | undefined;
  publicKey: Uint8Array = new Uint8Array(32);
  /** Number of restarts. */
  process = 0;

  constructor(place: Place, link: PortalLink) {
    this.place = place;
    this.link = link;
  }
}

export class World {
  readonly network: SimNetwork;
  readonly random: SeededRandom;
  readonly conditions: Conditions;
  readonly portal: PortalHost;
  readonly clients: ClientHost[] = [];
  readonly gateways: GatewayHost[] = [];
  readonly relays: { readonly endpoint: SimRelay; readonly link: PortalLink }[] = [];
  readonly #observer: Observer;
  readonly #tokens = new Map<string, TokenRecord>();
  #clockStepMs = 0;

  constructor(seed: number, view: View, observer: Observer) {
    this.random = new SeededRandom(seed);
    this.conditions = conditionsOf(seed);
    this.network = new SimNetwork({ seed, ...this.conditions });
    this.#observer = observer;
    this.portal = new PortalHost(this.network, {
      configuration: configurationOf(view),
      tokens: this.#tokens,
      random: this.random,
      unixTime: () => this.unixTime,
    });
    this.network.add({ addresses: [], port: 0 }, this.portal);
    for (const relay of [0, 1]) this.#addRelay(relay);
    for (const gateway of GATEWAY_SITES.keys()) this.#addGateway(gateway);
    for (let client = 0; client < this.conditions.clients; client++) this.#addClient(client);
  }

  get now(): number {
    return this.network.now;
  }

  get unixMs(): number {
    return START_UNIX_MS + this.now + this.#clockStepMs;
  }

  get unixTime(): number {
    return Math.floor(this.unixMs / 1000);
  }

  run(durationMs: number): void {
    this.network.run(durationMs);
    this.network.sent.length = 0;
  }

  /** NTP or an operator sets all wall clocks; only the portal reads its clock again. */
  stepClock(byMs: number): void {
    this.#clockStepMs += byMs;
    this.portal.stepClock();
  }

  startClient(index: number, lifetimeS = WEEK_S): void {
    const host = this.#client(index);
    host.config = undefined;
    host.token = this.#token({
      kind: "client",
      actor: actorName(index),
      expiresAt: this.unixTime + lifetimeS,
    });
    const machine: Machine<ClientCommand, ClientEvent> = new Machine<ClientCommand, ClientEvent>({
      now: () => this.now,
      onEvent: (event) => this.#clientEvent(index, event),
      onPacket: (packet) => this.#observer.clientPacket(index, packet),
      build: (parts, now) => {
        const connectivity = this.#connections(parts, CLIENT_SETTINGS, host);
        return new ClientState({ core: parts.core, connectivity, random: this.random }, now);
      },
    });
    host.machine = machine;
    host.endpoint.machine = machine as unknown as Machine<never, unknown>;
    machine.command({ kind: "system-resolvers", servers: [ip("9.9.9.9")] });
    host.link.restart();
    this.network.settle();
  }

  stopClient(index: number, farewell: boolean): void {
    const host = this.#client(index);
    if (farewell) {
      host.machine?.command({ kind: "shutdown" });
      this.network.settle();
    }
    host.machine = undefined;
    host.endpoint.machine = undefined;
    host.connections = undefined;
    host.link.stop();
  }

  startGateway(index: number): void {
    const host = this.#gateway(index);
    host.config = undefined;
    host.process += 1;
    const machine: Machine<GatewayCommand, GatewayEvent> = new Machine<GatewayCommand, GatewayEvent>({
      now: () => this.now,
      onEvent: (event) => this.#gatewayEvent(index, event),
      onPacket: (packet) => this.#observer.gatewayPacket(index, packet),
      build: (parts, now) => {
        const connectivity = this.#connections(parts, GATEWAY_SETTINGS, host);
        return new GatewayState({ core: parts.core, connectivity, unixTimeMs: this.unixMs }, now);
      },
    });
    host.machine = machine;
    host.endpoint.machine = machine as unknown as Machine<never, unknown>;
    host.link.restart();
    this.network.settle();
  }

  /** Another network: other addresses, another NAT, and the daemon starts its connections over. */
  roam(index: number): void {
    const host = this.#client(index);
    const number = 10 + Math.floor(this.random.uniform() * 200);
    const { addresses, nat } = this.#location(this.conditions.clientNat, "client", number);
    host.place.move(addresses, nat);
    const privateKey = this.random.bytes(32);
    host.publicKey = crypto.publicKey(privateKey);
    host.machine?.command({ kind: "reset", privateKey });
    host.link.reconnect();
    this.network.settle();
  }

  #addRelay(index: number): void {
    const endpoint = new SimRelay();
    const address = ip(`198.51.100.${10 + index}`);
    this.network.add({ addresses: [address], port: 3478 }, endpoint);
    const token = this.#token({ kind: "relay", expiresAt: undefined });
    const link = new PortalLink(this.portal, {
      role: "relay",
      externalId: "",
      parameters: () => ({ ipv4: address, port: "3478" }),
      token: () => token,
      stampSecret: `${index}`.padStart(64, "a"),
      random: this.random,
      onPush: () => {},
    });
    this.network.add({ addresses: [], port: 0 }, link);
    this.relays.push({ endpoint, link });
  }

  #addGateway(index: number): void {
    const site = SITES[GATEWAY_SITES[index] ?? 0] ?? "";
    const token = this.#token({ kind: "gateway", site, expiresAt: undefined });
    const link = new PortalLink(this.portal, {
      role: "gateway",
      externalId: `gateway-${index}`,
      parameters: () => ({ public_key: toBase64(this.#gateway(index).publicKey) }),
      token: () => token,
      random: this.random,
      onPush: (event, payload) => {
        const decoded = decodeGatewayIngress(event, payload);
        if (decoded.kind === "malformed") throw new ModelFailure(`gateway cannot decode ${event}`);
        if (decoded.kind !== "message") return;
        this.#gateway(index).machine?.command({ kind: "portal", message: decoded.message });
      },
    });
    const { addresses, nat } = this.#location(this.conditions.gatewayNat, "gateway", index + 1);
    const host = new GatewayHost(new Place(addresses, PORT, nat), link);
    this.gateways.push(host);
    this.#watch(host.endpoint);
    this.network.add(host.place, host.endpoint);
    this.startGateway(index);
    this.network.add({ addresses: [], port: 0 }, link);
  }

  #addClient(index: number): void {
    const link = new PortalLink(this.portal, {
      role: "client",
      externalId: `client-${index}`,
      parameters: () => ({ public_key: toBase64(this.#client(index).publicKey) }),
      token: () => this.#client(index).token,
      random: this.random,
      onFatal: () => {
        this.stopClient(index, true);
        this.#observer.signedOut(index);
      },
      onPush: (event, payload) => {
        const decoded = decodeClientIngress(event, payload);
        if (decoded.kind === "malformed") throw new ModelFailure(`client cannot decode ${event}`);
        if (decoded.kind !== "message") return;
        this.#client(index).machine?.command({ kind: "portal", message: decoded.message });
      },
    });
    const { addresses, nat } = this.#location(this.conditions.clientNat, "client", index + 1);
    const host = new ClientHost(new Place(addresses, PORT, nat), link);
    this.clients.push(host);
    this.#watch(host.endpoint);
    this.network.add(host.place, host.endpoint);
    this.startClient(index);
    this.network.add({ addresses: [], port: 0 }, link);
  }

  #watch(endpoint: HostEndpoint): void {
    endpoint.network = this.network;
    endpoint.duplicate = () =>
      this.random.uniform() < this.conditions.duplication ? this.random.uniform() * 60 : undefined;
  }

  #location(
    kind: NatKind | "none",
    role: "client" | "gateway",
    number: number,
  ): { addresses: IpAddress[]; nat: SimNat | undefined } {
    const [inside, outside] = role === "client" ? ["192.168", "203.0.113"] : ["192.168.100", "198.18.0"];
    const publicIp = ip(`${outside}.${number}`);
    if (kind === "none") return { addresses: [publicIp], nat: undefined };
    const privateIp = ip(role === "client" ? `${inside}.${number}.5` : `${inside}.${number}`);
    return { addresses: [privateIp], nat: new SimNat({ kind, publicIp }) };
  }

  #connections(
    { core, paths }: MachineParts,
    settings: RoleSettings,
    host: ClientHost | GatewayHost,
  ): WatchedConnections {
    const privateKey = this.random.bytes(32);
    host.publicKey = crypto.publicKey(privateKey);
    host.connections = new WatchedConnections(
      {
        core,
        paths,
        crypto,
        random: this.random,
        identity: { privateKey, publicKey: host.publicKey },
        unixTimeMs: this.unixMs,
        settings,
      },
      this.now,
    );
    return host.connections;
  }

  #clientEvent(index: number, event: ClientEvent): void {
    const host = this.#client(index);
    switch (event.kind) {
      case "portal":
        host.link.send(encodeClientEgress(event.message, 2));
        break;
      case "tun-config":
        host.config = event.config;
        break;
      case "host-dns-query":
        this.#observer.hostQuery(index, event);
        break;
      case "note":
        if (event.severity === "error") throw new ModelFailure(`client logs an error: ${event.message}`);
        break;
      case "resources":
      case "records":
        break;
    }
  }

  #gatewayEvent(index: number, event: GatewayEvent): void {
    const host = this.#gateway(index);
    switch (event.kind) {
      case "portal":
        host.link.send(encodeGatewayEgress(event.message, 2));
        break;
      case "tun-config":
        host.config = event.config;
        break;
      case "resolve":
        this.#resolve(index, event.id, event.name);
        break;
      case "note":
        if (event.severity === "error") throw new ModelFailure(`gateway logs an error: ${event.message}`);
        break;
    }
  }

  #resolve(index: number, id: number, name: string): void {
    const host = this.#gateway(index);
    const { process } = host;
    this.network.later(RESOLVE_MS, () => {
      if (host.process !== process) return;
      const addresses = this.#observer.resolve(index, name);
      host.machine?.command({ kind: "resolved", id, result: { kind: "addresses", addresses } });
    });
  }

  #token(owner: TokenOwner): string {
    const { record, text } = createToken(owner, undefined, this.unixTime, this.random);
    this.#tokens.set(record.id, record);
    return text;
  }

  #client(index: number): ClientHost {
    const host = this.clients[index];
    if (host === undefined) throw new RangeError(`no client ${index}`);
    return host;
  }

  #gateway(index: number): GatewayHost {
    const host = this.gateways[index];
    if (host === undefined) throw new RangeError(`no gateway ${index}`);
    return host;
  }
}
