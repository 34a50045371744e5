import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as abi from "../../../assembly/abi.ts";
import type { IpAddress } from "../../../host/core/address.ts";
import type { DropReason } from "../../../host/core/drop.ts";
import type { GatewayCommand, GatewayEvent } from "../../../host/core/gateway/events.ts";
import { GatewayState } from "../../../host/core/gateway/state.ts";
import type { ClientId, NodeId, PeerId, ResourceId } from "../../../host/core/id.ts";
import type { GatewayEgress, GatewayIngress, GatewayResource } from "../../../host/core/messages.ts";
import {
  type DomainStatus,
  decodeControlFrame,
  encodeAssignedIps,
} from "../../../host/core/packet/control-frame.ts";
import { parseIpPacket } from "../../../host/core/packet/ip-packet.ts";
import type { Deadline, Instant, UnixTime } from "../../../host/core/time.ts";
import { loadPacketCore } from "../../../host/wasm/loader.ts";
import type { WasmPacketCore } from "../../../host/wasm/packet-core.ts";
import { buildVariant } from "../../kernel/variants.ts";
import { ip as rawIp } from "../packet/packets.ts";
import { GATEWAY_V4, GATEWAY_V6, type TestClient } from "./fixtures.ts";
import { ScriptedConnectivity } from "./scripted-connectivity.ts";

export const START_UNIX_S = 1_700_000_000;
export const PROHIBITED_V4 = { type: 3, code: 13 };
export const PROHIBITED_V6 = { type: 1, code: 1 };
export const UNREACHABLE_V4 = { type: 3, code: 0 };
export const UNREACHABLE_V6 = { type: 1, code: 3 };

const START: Instant = 5_000_000;
const KEY = new Uint8Array(32).fill(7);
/** The packet core as it is shipped. */
export const MODULE = new Uint8Array(readFileSync(buildVariant("release", "assembly/index.ts")));
/** Seals and opens for all clients of all benches. */
const CLIENTS_CORE = loadPacketCore(MODULE);

/** Type and code of an ICMP message; fails on anything else. */
export function icmpOf(packet: Uint8Array): { type: number; code: number } {
  const parsed = parseIpPacket(packet);
  assert.equal(parsed?.kind, "icmp");
  return { type: packet[parsed.transportOffset] ?? 0, code: packet[parsed.transportOffset + 1] ?? 0 };
}

/** What one input to the gateway has led to. */
export class Outcome {
  readonly tun: Uint8Array[] = [];
  readonly drops: DropReason[] = [];
  readonly resolutions: number[] = [];
  readonly #received = new Map<ClientId, Uint8Array[]>();

  receive(client: ClientId, packet: Uint8Array): void {
    this.#received.set(client, [...this.to({ id: client }), packet]);
  }

  /** Packets that this client has decrypted. */
  to({ id }: Pick<TestClient, "id">): Uint8Array[] {
    return this.#received.get(id) ?? [];
  }

  statuses(client: TestClient): DomainStatus[] {
    return this.to(client)
      .map(decodeControlFrame)
      .filter((frame) => frame?.kind === "domain-status")
      .map(({ resource, domain, active }) => ({ domain, resource, active }));
  }

  /** Id of the resolution that was asked for; −1: none. */
  resolve(): number {
    return this.resolutions[0] ?? -1;
  }
}

interface Connected {
  readonly peer: PeerId;
  readonly far: PeerId;
  readonly near: number;
}

/**
 * A gateway with its real packet core, between a site and clients that seal and open with a core of their
 * own. Plays the data loop, with simulated time.
 */
export class GatewayBench {
  readonly core = loadPacketCore(MODULE);
  readonly connectivity: ScriptedConnectivity;
  readonly machine: GatewayState;
  #now: Instant = START;
  #handshakes = 0;
  readonly #connected = new Map<NodeId, Connected>();
  #outcome = new Outcome();
  #events: GatewayEvent[] = [];

  private constructor() {
    this.connectivity = new ScriptedConnectivity(this.core, {
      connect: (node, peer) => this.#connect(node, peer),
      disconnect: (node, peer) => this.#disconnect(node, peer),
    });
    const options = { core: this.core, connectivity: this.connectivity, unixTimeMs: START_UNIX_S * 1000 };
    this.machine = new GatewayState(options, this.#now);
  }

  static create(): GatewayBench {
    return new GatewayBench();
  }

  /** Configured by a first init. */
  static ready(): GatewayBench {
    const bench = new GatewayBench();
    bench.init();
    bench.takeEvents();
    return bench;
  }

  init(authorizations: Extract<GatewayIngress, { kind: "init" }>["authorizations"] = []): Outcome {
    const own = { ipv4: GATEWAY_V4, ipv6: GATEWAY_V6 };
    return this.portal({ kind: "init", interface: own, relays: [], authorizations });
  }

  grant(
    client: TestClient,
    resource: GatewayResource,
    options: { readonly ref?: string; readonly expiresAt?: UnixTime; readonly publicKey?: Uint8Array } = {},
  ): Outcome {
    const { ref = "ref", expiresAt, publicKey = KEY } = options;
    const ice = { username: "u", password: "p" };
    return this.portal({
      kind: "create-authorization",
      ref,
      resource,
      client: { ...client, publicKey, presharedKey: KEY },
      clientIce: ice,
      gatewayIce: ice,
      expiresAt,
    });
  }

  portal(message: GatewayIngress): Outcome {
    return this.command({ kind: "portal", message });
  }

  command(command: GatewayCommand): Outcome {
    this.machine.handleCommand(command, this.#now);
    return this.#settle();
  }

  /** The client announces proxy IPs; a count that a well-behaved sender refuses is built by hand. */
  announce(
    client: TestClient,
    resource: ResourceId,
    domain: string,
    proxyIps: readonly IpAddress[],
  ): Outcome {
    const frame = encodeAssignedIps({ resource, domain, proxyIps });
    if (frame !== undefined) return this.fromClient(client, frame);

    const body = new TextEncoder().encode(JSON.stringify({ resource, domain, proxy_ips: proxyIps }));
    const unspecified = "::" as IpAddress;
    const payload = [0, 0, 0, 0, 0, 0, 0, 0, ...body];
    return this.fromClient(client, rawIp({ from: unspecified, to: unspecified }, 255, payload));
  }

  resolved(id: number, addresses: readonly IpAddress[]): Outcome {
    return this.command({ kind: "resolved", id, result: { kind: "addresses", addresses } });
  }

  /** Announces and resolves; fails unless the answer is Active. */
  setUp(
    client: TestClient,
    { id }: { readonly id: ResourceId },
    domain: string,
    proxyIps: readonly IpAddress[],
    addresses: readonly IpAddress[],
  ): Outcome {
    const outcome = this.resolved(this.announce(client, id, domain, proxyIps).resolve(), addresses);
    assert.deepEqual(
      outcome.statuses(client).map(({ active }) => active),
      [true],
    );
    return outcome;
  }

  /** The client seals a packet, and the gateway takes the datagram from the network. */
  fromClient({ id }: TestClient, packet: Uint8Array): Outcome {
    const connected = this.#connected.get(id);
    assert.ok(connected, "the client is not connected");
    assert.ok(CLIENTS_CORE.seal(connected.far, packet, this.#now));
    for (const datagram of takeDatagrams(CLIENTS_CORE)) this.#toGateway(datagram);
    return this.#settle();
  }

  /** The gateway's host writes a packet into the TUN device. */
  fromSite(packet: Uint8Array): Outcome {
    const frame = new Uint8Array(abi.VIRTIO_BYTES + packet.length);
    frame.set(packet, abi.VIRTIO_BYTES);
    bytesOf(this.core).set(frame, abi.TUN_IN_BASE);
    this.core.batch.setFrameIn(0, abi.TUN_IN_BASE, frame.length);
    this.core.batch.setFrameInCount(1);
    assert.equal(this.core.encapsulate(this.#now), abi.BATCH_DONE);
    this.#handleSlowPath();
    return this.#settle();
  }

  /** Lets time pass, waking the machine whenever it asks for it. */
  advance(durationMs: number): Outcome {
    const end = this.#now + durationMs;
    for (let at = this.machine.pollTimeout()?.at; at !== undefined && at <= end; ) {
      this.#now = Math.max(this.#now, at);
      this.machine.handleTimeout(this.#now);
      this.#drain();
      const next = this.machine.pollTimeout()?.at;
      assert.ok(next === undefined || next > at, "the machine asks to be woken in a loop");
      at = next;
    }
    this.#now = end;
    return this.#settle();
  }

  get now(): Instant {
    return this.#now;
  }

  nextTimeout(): Deadline | undefined {
    return this.machine.pollTimeout();
  }

  takeEvents(): GatewayEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  takePortalMessages(): GatewayEgress[] {
    return this.takeEvents()
      .filter((event) => event.kind === "portal")
      .map(({ message }) => message);
  }

  #toGateway(datagram: Uint8Array): void {
    receiveDatagram(this.core, datagram, this.#now);
    this.#handleSlowPath();
  }

  #handleSlowPath(): void {
    const { core, machine } = this;
    for (let i = 0; i < core.slowCount; i++) {
      const reason = core.slowReason(i);
      if (reason === abi.SLOW_NO_KEYPAIR) {
        machine.handleNoKeypair(core.slowPeer(i), core.slowPacket(i), this.#now);
        continue;
      }
      const disposition =
        reason === abi.SLOW_TUN_PACKET
          ? machine.handleTunPacket(core.slowPacket(i), this.#now)
          : machine.handlePeerPacket(core.slowPeer(i), core.slowPacket(i), this.#now);
      if (disposition === "forward") this.#reinject(i);
      else if (disposition !== "consumed") this.#outcome.drops.push(disposition.drop);
      this.#drain();
    }
    core.clearSlow();
  }

  #reinject(index: number): void {
    const result = this.core.reinject(index, this.#now);
    if (result === abi.PACKET_NO_KEYPAIR) {
      this.machine.handleNoKeypair(this.core.slowPeer(index), this.core.slowPacket(index), this.#now);
      return;
    }
    assert.equal(result, abi.PACKET_QUEUED, "forwarded without a flow that fits");
  }

  #settle(): Outcome {
    this.#drain();
    const outcome = this.#outcome;
    this.#outcome = new Outcome();
    return outcome;
  }

  #drain(): void {
    for (let event = this.machine.pollEvent(); event !== undefined; event = this.machine.pollEvent()) {
      this.#events.push(event);
      if (event.kind === "resolve") this.#outcome.resolutions.push(event.id);
    }
    assert.equal(this.machine.pollTransmit(), undefined);
    this.#takeOutputs();
  }

  #takeOutputs(): void {
    this.#outcome.tun.push(...takeFrames(this.core));
    for (const datagram of takeDatagrams(this.core)) {
      receiveDatagram(CLIENTS_CORE, datagram, this.#now);
      for (let i = 0; i < CLIENTS_CORE.slowCount; i++) {
        const far = CLIENTS_CORE.slowPeer(i);
        const [id] = [...this.#connected].find(([, connected]) => connected.far === far) ?? [];
        assert.ok(id, "sealed for nobody");
        this.#outcome.receive(id as ClientId, CLIENTS_CORE.slowPacket(i).slice());
      }
      CLIENTS_CORE.clearSlow();
    }
  }

  #connect(node: NodeId, peer: PeerId): void {
    const far = CLIENTS_CORE.addPeer();
    assert.ok(far !== undefined);
    this.#handshakes += 1;
    const near = (peer << 8) | (this.#handshakes & 0xff);
    const farIndex = (far << 8) | (this.#handshakes & 0xff);
    const up = new Uint8Array(32).fill(this.#handshakes);
    const down = new Uint8Array(32).fill(this.#handshakes + 100);
    const ends = [
      { core: this.core, peer, localIndex: near, remoteIndex: farIndex, sendKey: down, receiveKey: up },
      {
        core: CLIENTS_CORE,
        peer: far,
        localIndex: farIndex,
        remoteIndex: near,
        sendKey: up,
        receiveKey: down,
      },
    ];
    for (const { core, peer: at, ...keypair } of ends) {
      core.addKeypair(at, { ...keypair, initiated: true });
      core.selectKeypair(at, keypair.localIndex);
      core.setPath(at, 1);
    }
    this.#connected.set(node, { peer, far, near });
  }

  #disconnect(node: NodeId, peer: PeerId): void {
    // What was sealed before still arrives.
    this.#takeOutputs();
    const connected = this.#connected.get(node);
    if (connected === undefined) return;
    this.#connected.delete(node);
    CLIENTS_CORE.removePeer(connected.far);
    this.core.removeKeypair(peer, connected.near);
    this.core.setPath(peer, undefined);
  }
}

function bytesOf(core: WasmPacketCore): Uint8Array {
  return new Uint8Array(core.memory.buffer);
}

function receiveDatagram(core: WasmPacketCore, datagram: Uint8Array, now: Instant): void {
  bytesOf(core).set(datagram, abi.UDP_IN_BASE);
  core.batch.setDatagramIn(0, abi.UDP_IN_BASE, datagram.length, 0, 0);
  core.batch.setDatagramInCount(1);
  assert.equal(core.decapsulate(now), abi.BATCH_DONE);
}

function takeDatagrams(core: WasmPacketCore): Uint8Array[] {
  const { batch } = core;
  const memory = bytesOf(core);
  const datagrams: Uint8Array[] = [];
  for (let i = 0; i < batch.trainCount; i++) {
    const end = batch.trainOffset(i) + batch.trainLength(i);
    for (let at = batch.trainOffset(i); at < end; at += batch.trainSegmentLength(i)) {
      datagrams.push(memory.slice(at, Math.min(at + batch.trainSegmentLength(i), end)));
    }
  }
  batch.clearTrains();
  return datagrams;
}

function takeFrames(core: WasmPacketCore): Uint8Array[] {
  const { batch } = core;
  const frames: Uint8Array[] = [];
  for (let i = 0; i < batch.frameOutCount; i++) {
    const offset = batch.frameOutOffset(i);
    frames.push(bytesOf(core).slice(offset + abi.VIRTIO_BYTES, offset + batch.frameOutLength(i)));
  }
  batch.clearFrames();
  return frames;
}
