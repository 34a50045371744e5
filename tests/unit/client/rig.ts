import assert from "node:assert/strict";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import * as abi from "../../../assembly/abi.ts";
import { type IpAddress, ip } from "../../../host/core/address.ts";
import type { ClientEvent, ResourceView, TunConfig } from "../../../host/core/client/events.ts";
import { ClientState } from "../../../host/core/client/state.ts";
import type { DnsRecord } from "../../../host/core/dns/stub-resolver.ts";
import type { Disposition } from "../../../host/core/drop.ts";
import type { GatewayId, PeerId } from "../../../host/core/id.ts";
import type { ClientEgress, ClientIngress } from "../../../host/core/messages.ts";
import { type ControlFrame, decodeControlFrame } from "../../../host/core/packet/control-frame.ts";
import type { Resource } from "../../../host/core/policy/resource.ts";
import { loadPacketCore } from "../../../host/wasm/loader.ts";
import { decodeResponse, queryBytes, type Response } from "../dns/queries.ts";
import { ip as ipPacket } from "../packet/packets.ts";
import { CLIENT_V4, clientInterface, type TestGateway } from "./fixtures.ts";
import { ScriptedConnectivity } from "./scripted-connectivity.ts";

/**
 * A client with the real packet core, driven as the data loop drives it; gateways at the other ends of
 * scripted connections, with real keys. Time is `now`, in milliseconds.
 */
export class Rig {
  readonly core = loadPacketCore();
  readonly connectivity = new ScriptedConnectivity(this.core);
  readonly client: ClientState;
  now = 1_000_000;
  /** Since the last `clear`. */
  events: ClientEvent[] = [];
  toTun: Uint8Array[] = [];
  drops: string[] = [];
  readonly #ends = new Map<PeerId, RemoteEnd>();
  readonly #sealed = new Map<GatewayId, Uint8Array[]>();
  readonly #gatewayOf = new Map<PeerId, GatewayId>();

  constructor({ records = [] as readonly DnsRecord[] } = {}) {
    const random = { bytes: (length: number) => new Uint8Array(length), uniform: () => 0.5 };
    const { core, connectivity } = this;
    this.client = new ClientState({ core, connectivity, random, records }, this.now);
    this.#collect();
  }

  /** Configures the client and gives it resources. */
  init(
    resources: readonly Resource[],
    dns: Partial<{ portal: IpAddress[]; doh: string[]; system: IpAddress[] }> = {},
  ): this {
    this.client.handleCommand({ kind: "system-resolvers", servers: dns.system ?? [ip("9.9.9.9")] }, this.now);
    const configuration = { ...clientInterface, upstreamDo53: dns.portal ?? [], upstreamDoh: dns.doh ?? [] };
    return this.portal({ kind: "init", interface: configuration, resources, relays: [] });
  }

  portal(message: ClientIngress): this {
    return this.command({ kind: "portal", message });
  }

  command(command: Parameters<ClientState["handleCommand"]>[0]): this {
    this.client.handleCommand(command, this.now);
    this.#collect();
    return this;
  }

  advance(milliseconds: number): this {
    this.now += milliseconds;
    this.client.handleTimeout(this.now);
    this.#collect();
    return this;
  }

  /** One packet read from the TUN device, through the packet core; what the machine said, if it was asked. */
  tun(packet: Uint8Array): Disposition | undefined {
    const memory = new Uint8Array(this.core.memory.buffer);
    memory.fill(0, abi.TUN_IN_BASE, abi.TUN_IN_BASE + abi.VIRTIO_BYTES);
    memory.set(packet, abi.TUN_IN_BASE + abi.VIRTIO_BYTES);
    this.core.batch.setFrameIn(0, abi.TUN_IN_BASE, abi.VIRTIO_BYTES + packet.length);
    this.core.batch.setFrameInCount(1);
    assert.equal(this.core.encapsulate(this.now), abi.BATCH_DONE);
    return this.#handleSlow();
  }

  /** One packet that the gateway seals, through the packet core. */
  fromGateway(gateway: TestGateway, packet: Uint8Array): Disposition | undefined {
    const datagram = this.#endOf(gateway).seal(packet);
    new Uint8Array(this.core.memory.buffer).set(datagram, abi.UDP_IN_BASE);
    this.core.batch.setDatagramIn(0, abi.UDP_IN_BASE, datagram.length, 0, 0);
    this.core.batch.setDatagramInCount(1);
    assert.equal(this.core.decapsulate(this.now), abi.BATCH_DONE);
    return this.#handleSlow();
  }

  /** Control frames are built by hand, so that a defect of our codec shows. */
  domainStatus(gateway: TestGateway, { resource, domain, status = "Active" }: Record<string, string>): this {
    const body = new TextEncoder().encode(JSON.stringify({ resource, domain, status }));
    const payload = [1, 0, 0, 0, 0, 0, 0, 0, ...body];
    this.fromGateway(gateway, hopLimitZero(ipPacket({ from: ip("::"), to: ip("::") }, 255, payload)));
    return this;
  }

  goodbye(gateway: TestGateway): this {
    const payload = [2, 0, 0, 0, 0, 0, 0, 0];
    this.fromGateway(gateway, hopLimitZero(ipPacket({ from: ip("::"), to: ip("::") }, 255, payload)));
    return this;
  }

  /** The connection to the gateway comes up: a keypair, a path, the event. */
  establish(gateway: TestGateway): this {
    const peer = this.connectivity.peerOf(gateway.id);
    assert.ok(peer !== undefined, "nothing was asked to connect");
    this.giveKeypair(gateway);
    this.connectivity.script({ kind: "established", node: gateway.id, handshakeMs: 12 });
    return this.advance(0);
  }

  giveKeypair(gateway: TestGateway): this {
    const peer = this.connectivity.peerOf(gateway.id);
    assert.ok(peer !== undefined);
    const end = new RemoteEnd(peer);
    this.#ends.set(peer, end);
    this.#gatewayOf.set(peer, gateway.id);
    this.core.addKeypair(peer, end.keypair());
    this.core.selectKeypair(peer, end.localIndex);
    this.core.setPath(peer, 1 + peer);
    return this;
  }

  /** Packets that the gateway received since the last call, without keepalives. */
  received(gateway: TestGateway): Uint8Array[] {
    const packets = this.#sealed.get(gateway.id) ?? [];
    this.#sealed.delete(gateway.id);
    return packets.filter((packet) => packet.length > 0);
  }

  /** Control frames among the packets the gateway received since the last call. */
  frames(gateway: TestGateway): ControlFrame[] {
    return this.received(gateway).flatMap((packet) => decodeControlFrame(packet) ?? []);
  }

  /** Asks the first sentinel over UDP; undefined: no answer went to TUN. */
  ask(name: string, type: string, { id = 7, port = 40_000 } = {}): Response | undefined {
    const sentinel = this.config().dns[0]?.sentinel;
    assert.ok(sentinel !== undefined, "no sentinel is mapped");
    const { length } = this.toTun;
    const bytes = queryBytes(name, type, id);
    this.tun(udpPacketOf({ from: CLIENT_V4, to: sentinel }, port, bytes));
    return this.toTun.length > length ? this.answer() : undefined;
  }

  /** The newest packet to TUN as a DNS answer. */
  answer(): Response {
    const packet = this.toTun.at(-1);
    assert.ok(packet !== undefined);
    return decodeResponse(packet.slice(28));
  }

  requests(): Extract<ClientEgress, { kind: "request-authorization" }>[] {
    return this.events.flatMap((event) =>
      event.kind === "portal" && event.message.kind === "request-authorization" ? [event.message] : [],
    );
  }

  hostQueries(): Extract<ClientEvent, { kind: "host-dns-query" }>[] {
    return this.events.filter((event) => event.kind === "host-dns-query");
  }

  config(): TunConfig {
    assert.ok(this.#config !== undefined, "no TUN configuration yet");
    return this.#config;
  }

  views(): readonly ResourceView[] {
    return this.#views;
  }

  clear(): this {
    this.events = [];
    this.toTun = [];
    this.drops = [];
    return this;
  }

  #config: TunConfig | undefined;
  #views: readonly ResourceView[] = [];

  #handleSlow(): Disposition | undefined {
    let disposition: Disposition | undefined;
    for (let i = 0; i < this.core.slowCount; i++) {
      const packet = this.core.slowPacket(i);
      const reason = this.core.slowReason(i);
      if (reason === abi.SLOW_NO_KEYPAIR) {
        this.client.handleNoKeypair(this.core.slowPeer(i), packet, this.now);
        continue;
      }
      disposition =
        reason === abi.SLOW_TUN_PACKET
          ? this.client.handleTunPacket(packet, this.now)
          : this.client.handlePeerPacket(this.core.slowPeer(i), packet, this.now);
      if (typeof disposition === "object") this.drops.push(disposition.drop);
      if (disposition !== "forward") continue;
      const result = this.core.reinject(i, this.now);
      if (result === abi.PACKET_NO_KEYPAIR) {
        this.client.handleNoKeypair(this.core.slowPeer(i), packet, this.now);
      } else {
        assert.equal(result, abi.PACKET_QUEUED, "a forwarded packet has a flow");
      }
    }
    this.core.clearSlow();
    this.#collect();
    return disposition;
  }

  #collect(): void {
    const memory = new Uint8Array(this.core.memory.buffer);
    const { batch } = this.core;
    for (let i = 0; i < batch.frameOutCount; i++) {
      const offset = batch.frameOutOffset(i);
      this.toTun.push(memory.slice(offset + abi.VIRTIO_BYTES, offset + batch.frameOutLength(i)));
    }
    batch.clearFrames();
    for (let i = 0; i < batch.trainCount; i++) {
      const offset = batch.trainOffset(i);
      this.#open(
        batch.trainPath(i) - 1,
        memory.slice(offset, offset + batch.trainLength(i)),
        batch.trainSegmentLength(i),
      );
    }
    batch.clearTrains();
    this.#poll();
  }

  #open(peer: PeerId, train: Uint8Array, segmentLength: number): void {
    const end = this.#ends.get(peer);
    const gateway = this.#gatewayOf.get(peer);
    assert.ok(end !== undefined && gateway !== undefined);
    const packets = this.#sealed.get(gateway) ?? [];
    this.#sealed.set(gateway, packets);
    for (let at = 0; at < train.length; at += segmentLength) {
      packets.push(end.open(train.slice(at, at + segmentLength)));
    }
  }

  #poll(): void {
    for (;;) {
      const event = this.client.pollEvent();
      if (event === undefined) return;
      if (event.kind === "tun-config") this.#config = event.config;
      if (event.kind === "resources") this.#views = event.list;
      this.events.push(event);
    }
  }

  #endOf(gateway: TestGateway): RemoteEnd {
    const peer = this.connectivity.peerOf(gateway.id);
    const end = peer === undefined ? undefined : this.#ends.get(peer);
    assert.ok(end !== undefined, "the gateway is not connected");
    return end;
  }
}

/** A gateway's half of one keypair: WireGuard data messages, by an independent cipher. */
class RemoteEnd {
  static #handshakes = 0;
  readonly localIndex: number;
  readonly #toGateway = new Uint8Array(32).fill(1);
  readonly #toClient = new Uint8Array(32).fill(2);
  #counter = 0;

  constructor(peer: PeerId) {
    this.localIndex = (peer << 8) | (RemoteEnd.#handshakes++ & 0xff);
  }

  keypair() {
    return {
      localIndex: this.localIndex,
      remoteIndex: 77,
      sendKey: this.#toGateway,
      receiveKey: this.#toClient,
      initiated: true,
    };
  }

  seal(packet: Uint8Array): Uint8Array {
    const header = new DataView(new ArrayBuffer(16));
    header.setUint32(0, 4, true);
    header.setUint32(4, this.localIndex, true);
    header.setBigUint64(8, BigInt(this.#counter++), true);
    const bytes = new Uint8Array(header.buffer);
    const sealed = chacha20poly1305(this.#toClient, nonceOf(bytes)).encrypt(packet);
    return Uint8Array.from([...bytes, ...sealed]);
  }

  open(datagram: Uint8Array): Uint8Array {
    return chacha20poly1305(this.#toGateway, nonceOf(datagram)).decrypt(datagram.slice(16));
  }
}

function nonceOf(datagram: Uint8Array): Uint8Array {
  return Uint8Array.from([0, 0, 0, 0, ...datagram.slice(8, 16)]);
}

function hopLimitZero(packet: Uint8Array): Uint8Array {
  packet[7] = 0;
  return packet;
}

function udpPacketOf(
  ends: { from: IpAddress; to: IpAddress },
  port: number,
  payload: Uint8Array,
): Uint8Array {
  const length = 8 + payload.length;
  return ipPacket(ends, 17, [port >> 8, port & 255, 0, 53, length >> 8, length & 255, 0, 0, ...payload], 6);
}
