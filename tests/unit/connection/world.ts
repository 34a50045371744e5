// A client and a gateway behind NATs, a relay between them, a portal that carries candidates.
import assert from "node:assert/strict";
import { ip, type SocketAddress } from "../../../host/core/address.ts";
import type { ConnectionParameters, ConnectivityEvent } from "../../../host/core/connection/connectivity.ts";
import { CLIENT_SETTINGS, GATEWAY_SETTINGS } from "../../../host/core/connection/settings.ts";
import type { PeerId } from "../../../host/core/id.ts";
import type { IceCredentials } from "../../../host/core/messages.ts";
import { decodeStun } from "../../../host/core/stun/message.ts";
import { type NatKind, type Sent, type SimHost, SimNat, SimNetwork } from "../../sim/network.ts";
import { type DataPath, nodeId, relayAt, SimNode } from "../../sim/node.ts";
import { SimRelay } from "../../sim/relay.ts";
import vectors from "../../vectors/stun.json" with { type: "json" };
import { ModelCore } from "../wg/model-core.ts";

export const CLIENT = nodeId("11111111-1111-4111-8111-111111111111");
export const GATEWAY = nodeId("22222222-2222-4222-8222-222222222222");
export const RELAY = relayAt("33333333-3333-4333-8333-333333333333", "198.51.100.7:3478");
export const CLIENT_IP = "10.0.0.5";
export const GATEWAY_IP = "10.1.0.5";
export const CLIENT_PUBLIC = "203.0.113.1";
export const GATEWAY_PUBLIC = "203.0.113.2";
export const PORT = 52625;
/** A packet that a tunnel would carry: IPv6 and UDP between tunnel addresses. */
export const PACKET = new Uint8Array(
  Buffer.from(
    "6000000000141140fd00202111110000000000000000000" +
      "1fd002021111100000000000000000002" +
      "c0000035001400000102030405060708090a0b0c",
    "hex",
  ),
);

const CLIENT_ICE: IceCredentials = vectors.connectivity.client;
const GATEWAY_ICE: IceCredentials = vectors.connectivity.gateway;

export interface WorldOptions {
  readonly seed?: number;
  readonly clientNat?: NatKind | "none";
  readonly gatewayNat?: NatKind | "none";
  readonly gatewayForwards?: boolean;
  readonly delayMs?: number;
  readonly jitterMs?: number;
  readonly loss?: number;
  readonly core?: () => DataPath;
  readonly relays?: "later";
}

export class World {
  readonly network: SimNetwork;
  readonly relay = new SimRelay();
  readonly client: SimNode;
  readonly gateway: SimNode;
  readonly clientNat: SimNat | undefined;
  readonly gatewayNat: SimNat | undefined;
  readonly clientHost: SimHost;
  readonly gatewayHost: SimHost;
  /** Slots in the packet cores. */
  readonly gatewayPeer: PeerId;
  readonly clientPeer: PeerId;
  portalDelayMs = 30;

  constructor(options: WorldOptions = {}) {
    const seed = options.seed ?? 1;
    this.network = new SimNetwork({ seed, delayMs: 10, ...options });
    this.clientNat = natOf(options.clientNat ?? "port-restricted", CLIENT_PUBLIC);
    const forwardsTo = options.gatewayForwards ? address(GATEWAY_IP) : undefined;
    this.gatewayNat = natOf(options.gatewayNat ?? "port-restricted", GATEWAY_PUBLIC, forwardsTo);
    const { now } = this.network;
    const newCore = options.core ?? (() => new ModelCore(7));
    this.client = new SimNode({ settings: CLIENT_SETTINGS, core: newCore(), seed: seed * 2 + 1 }, now);
    this.gateway = new SimNode({ settings: GATEWAY_SETTINGS, core: newCore(), seed: seed * 2 + 2 }, now);

    this.network.add({ addresses: [ip("198.51.100.7")], port: 3478 }, this.relay);
    this.clientHost = this.#addHost(this.client, CLIENT_IP, CLIENT_PUBLIC, this.clientNat);
    this.gatewayHost = this.#addHost(this.gateway, GATEWAY_IP, GATEWAY_PUBLIC, this.gatewayNat);
    this.gatewayPeer = this.client.core.addPeer() ?? assert.fail();
    this.clientPeer = this.gateway.core.addPeer() ?? assert.fail();
    this.client.onEvent = (event) => this.#signal(event, this.gateway, CLIENT);
    this.gateway.onEvent = (event) => this.#signal(event, this.client, GATEWAY);
    if (options.relays !== "later") {
      this.nameRelay();
      this.network.run(100);
    }
  }

  get now(): number {
    return this.network.now;
  }

  nameRelay(nodes: readonly SimNode[] = [this.client, this.gateway]): void {
    for (const node of nodes) {
      node.connectivity.updateRelays([], [RELAY], this.now);
      node.drain(this.now);
    }
    this.network.settle();
  }

  /** A grant as the portal hands it out: the gateway first. */
  grant(overrides: Partial<ConnectionParameters> = {}): void {
    this.grantGateway(overrides);
    this.grantClient(overrides);
  }

  grantGateway(overrides: Partial<ConnectionParameters> = {}): string {
    const parameters = this.parameters("gateway", overrides);
    const outcome = this.gateway.connectivity.upsert(CLIENT, this.clientPeer, parameters, this.now);
    this.gateway.drain(this.now);
    this.network.settle();
    return outcome;
  }

  grantClient(overrides: Partial<ConnectionParameters> = {}): string {
    const parameters = this.parameters("client", overrides);
    const outcome = this.client.connectivity.upsert(GATEWAY, this.gatewayPeer, parameters, this.now);
    this.client.drain(this.now);
    this.network.settle();
    return outcome;
  }

  parameters(
    side: "client" | "gateway",
    overrides: Partial<ConnectionParameters> = {},
  ): ConnectionParameters {
    const isClient = side === "client";
    return {
      remotePublicKey: (isClient ? this.gateway : this.client).identity.publicKey,
      presharedKey: new Uint8Array(32).fill(0x55),
      localIce: isClient ? CLIENT_ICE : GATEWAY_ICE,
      remoteIce: isClient ? GATEWAY_ICE : CLIENT_ICE,
      role: isClient ? "controlling" : "controlled",
      ...overrides,
    };
  }

  /** Connects and waits until both ends can send. */
  establish(limitMs = 10_000): void {
    this.grant();
    assert.ok(
      this.network.runUntil(() => this.isEstablished(), limitMs),
      "not established in time",
    );
  }

  isEstablished(): boolean {
    return [this.client, this.gateway].every((node) => node.eventsOf("established").length > 0);
  }

  /** Client to gateway; returns whether it was sealed. */
  sendUp(packet = PACKET): boolean {
    const isSealed = this.client.sendPacket(this.gatewayPeer, packet, this.now);
    this.network.settle();
    return isSealed;
  }

  sendDown(packet = PACKET): boolean {
    const isSealed = this.gateway.sendPacket(this.clientPeer, packet, this.now);
    this.network.settle();
    return isSealed;
  }

  close(): void {
    this.client.connectivity.close(GATEWAY, this.now);
    this.client.drain(this.now);
    this.network.settle();
  }

  clientStatus() {
    return this.client.connectivity.status(GATEWAY, this.now);
  }

  gatewayStatus() {
    return this.gateway.connectivity.status(CLIENT, this.now);
  }

  /** What left a host since `since`, told apart by kind. */
  sentBy(hostIp: string, since = 0): { readonly checks: Sent[]; readonly wireGuard: Sent[] } {
    const sent = this.network.sent.filter(({ from, at }) => from.ip === hostIp && at >= since);
    return {
      checks: sent.filter(({ payload, to }) => isRequest(payload) && to.port !== 3478),
      wireGuard: sent.filter(({ payload }) => wireGuardType(payload) !== undefined),
    };
  }

  #addHost(node: SimNode, privateIp: string, publicIp: string, nat: SimNat | undefined): SimHost {
    const address = ip(nat === undefined ? publicIp : privateIp);
    return this.network.add({ addresses: [address], port: PORT, ...(nat && { nat }) }, node);
  }

  #signal(event: ConnectivityEvent, to: SimNode, sender: typeof CLIENT): void {
    if (event.kind !== "candidates-added" && event.kind !== "candidates-removed") return;
    this.network.later(this.portalDelayMs, () => {
      const { candidates } = event;
      if (event.kind === "candidates-added")
        to.connectivity.addRemoteCandidates(sender, candidates, this.now);
      else to.connectivity.removeRemoteCandidates(sender, candidates, this.now);
      to.drain(this.now);
    });
  }
}

/** 1 initiation, 2 response, 3 cookie reply, 4 data; undefined: not WireGuard. */
export function wireGuardType(payload: Uint8Array): number | undefined {
  const type = payload[0] ?? 0;
  const isShaped = type >= 1 && type <= 4 && payload[1] === 0 && payload[2] === 0 && payload[3] === 0;
  return isShaped ? type : undefined;
}

export function isRequest(payload: Uint8Array): boolean {
  const message = decodeStun(payload);
  return message !== "malformed" && message.method === "binding" && message.class === "request";
}

export function address(ipText: string, port = PORT): SocketAddress {
  return { ip: ip(ipText), port };
}

function natOf(kind: NatKind | "none", publicIp: string, forwardsTo?: SocketAddress): SimNat | undefined {
  if (kind === "none") return undefined;
  return new SimNat({ kind, publicIp: ip(publicIp), ...(forwardsTo && { forwardsTo }) });
}
