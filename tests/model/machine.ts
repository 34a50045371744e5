// A tunnel machine with the real packet core and the real data loop, on the simulated network.
import * as abi from "../../assembly/abi.ts";
import type { IpAddress, SocketAddress } from "../../host/core/address.ts";
import { ConnectionNode } from "../../host/core/connection/node.ts";
import type { NodeId, PeerId } from "../../host/core/id.ts";
import { type Path, PathTable } from "../../host/core/path.ts";
import type { Deadline, Instant } from "../../host/core/time.ts";
import type { Datagram, Transmit } from "../../host/core/transmit.ts";
import type { TunnelMachine } from "../../host/core/tunnel-machine.ts";
import { DataLoop } from "../../host/daemon/data-loop.ts";
import type { UdpSockets } from "../../host/io/udp.ts";
import { loadPacketCore } from "../../host/wasm/loader.ts";
import type { WasmPacketCore } from "../../host/wasm/packet-core.ts";
import type { Endpoint, HostOptions, SimNat, SimNetwork } from "../sim/network.ts";

/** More wake-ups than that within one simulated minute are no sleep. */
const MINUTE_MS = 60_000;
const OVERHEARD = 16;

export interface MachineParts {
  readonly core: WasmPacketCore;
  readonly paths: PathTable;
}

export interface MachineOptions<Command, Event> {
  readonly build: (parts: MachineParts, now: Instant) => TunnelMachine<Command, Event>;
  readonly now: () => Instant;
  readonly onEvent: (event: Event) => void;
  /** An IP packet that the machine wrote to its TUN device. */
  readonly onPacket: (packet: Uint8Array) => void;
}

/** Where a host is on the network; roaming changes it in place. */
export class Place implements HostOptions {
  addresses: readonly IpAddress[];
  readonly port: number;
  nat?: SimNat;

  constructor(addresses: readonly IpAddress[], port: number, nat: SimNat | undefined) {
    this.addresses = addresses;
    this.port = port;
    if (nat !== undefined) this.nat = nat;
  }

  move(addresses: readonly IpAddress[], nat: SimNat | undefined): void {
    this.addresses = addresses;
    if (nat === undefined) delete this.nat;
    else this.nat = nat;
  }
}

/** Counts what the machine takes from the packet core, so that a test can see what it does not give back. */
export interface Held {
  peers: number;
  filters: number;
}

/** One process: machine, core and loop. A restart makes a new one. */
export class Machine<Command, Event> {
  readonly core: WasmPacketCore;
  readonly paths = new PathTable();
  readonly held: Held = { peers: 0, filters: 0 };
  /** Instants at which its own deadlines woke it, of the last minute. */
  readonly wakeUps: Instant[] = [];
  readonly loop: DataLoop<Command, Event>;
  readonly machine: TunnelMachine<Command, Event>;
  readonly #options: MachineOptions<Command, Event>;
  readonly #frames: Uint8Array[] = [];
  readonly #datagrams: Datagram[] = [];
  readonly #transmits: Transmit[] = [];
  #received: Datagram | undefined;
  #isBusy = false;

  constructor(options: MachineOptions<Command, Event>) {
    this.#options = options;
    this.core = loadPacketCore();
    countHeld(this.core, this.held);
    this.machine = options.build({ core: this.core, paths: this.paths }, options.now());
    this.loop = new DataLoop<Command, Event>({
      core: this.core,
      machine: this.machine,
      paths: this.paths,
      tun: { readFrames: () => this.#readFrame(), writeFrame: (at, length) => this.#writeFrame(at, length) },
      udp: this.#sockets(),
      now: options.now,
      post: options.onEvent,
    });
  }

  handleDatagram(datagram: Datagram): void {
    this.#datagrams.push({ ...datagram, payload: datagram.payload.slice() });
    this.#pump();
  }

  /** A packet that the host's network stack sends into the TUN device. */
  handlePacket(packet: Uint8Array): void {
    this.#frames.push(packet);
    this.#pump();
  }

  command(command: Command): void {
    this.loop.handleCommand(command);
    this.#pump();
  }

  /** Seals a packet for a peer without asking the machine, as a manipulated program would. */
  sealUnasked(peer: PeerId, packet: Uint8Array): void {
    this.core.seal(peer, packet, this.#options.now());
    this.loop.handleTimeout();
    // Trains leave with the next batch; an empty one does.
    this.#flushTrains();
  }

  handleTimeout(): void {
    const now = this.#options.now();
    this.wakeUps.push(now);
    while ((this.wakeUps[0] ?? now) < now - MINUTE_MS) this.wakeUps.shift();
    this.loop.handleTimeout();
    this.#pump();
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollTimeout(): Deadline | undefined {
    return { at: this.#options.now() + this.loop.sleepMs(), reason: "loop" };
  }

  /** Packets that arrive while the machine is at work wait, as in a device's queue. */
  #pump(): void {
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#frames.length > 0 || this.#datagrams.length > 0) {
      if (this.#frames.length > 0) this.loop.handleTun();
      if (this.#datagrams.length > 0) this.loop.handleUdp(4);
    }
    this.#isBusy = false;
    // The loop looks at its deadline after each batch.
    this.loop.handleTimeout();
  }

  #readFrame(): number {
    const packet = this.#frames.shift();
    if (packet === undefined) return 0;
    const { core } = this;
    core.bytes.fill(0, abi.TUN_IN_BASE, abi.TUN_IN_BASE + abi.VIRTIO_BYTES);
    core.bytes.set(packet, abi.TUN_IN_BASE + abi.VIRTIO_BYTES);
    core.batch.setFrameIn(0, abi.TUN_IN_BASE, abi.VIRTIO_BYTES + packet.length);
    return 1;
  }

  #writeFrame(offset: number, length: number): boolean {
    this.#options.onPacket(this.core.bytes.slice(offset + abi.VIRTIO_BYTES, offset + length));
    return true;
  }

  #sockets(): UdpSockets {
    return {
      local: { v4: undefined, v6: undefined },
      counters: { receivedBuffers: 0, sentTrains: 0, sendErrors: 0, sendBlocked: 0 },
      receive: () => this.#receive(),
      source: () => this.#source(),
      sendTrain: (offset, length, segmentBytes, _ecn, path) =>
        this.#sendTrain({ offset, length, segmentBytes }, path),
      send: (transmit) => void this.#transmits.push(transmit),
      close: () => {},
    };
  }

  #receive(): number {
    this.#received = this.#datagrams.shift();
    if (this.#received === undefined) return 0;
    const { payload } = this.#received;
    this.core.bytes.set(payload, abi.UDP_IN_BASE);
    this.core.batch.setDatagramIn(0, abi.UDP_IN_BASE, payload.length, 0, 0);
    return 1;
  }

  #source(): { readonly local: SocketAddress; readonly from: SocketAddress } {
    if (this.#received === undefined) throw new Error("nothing was received");
    return this.#received;
  }

  #sendTrain(
    { offset, length, segmentBytes }: { offset: number; length: number; segmentBytes: number },
    path: Path,
  ): void {
    for (let at = offset; at < offset + length; at += segmentBytes) {
      const payload = this.core.bytes.slice(at, Math.min(at + segmentBytes, offset + length));
      this.#transmits.push({ source: path.source, destination: path.destination, payload });
    }
  }

  #flushTrains(): void {
    const { batch } = this.core;
    for (let i = 0; i < batch.trainCount; i++) {
      const path = this.paths.path(batch.trainPath(i));
      const train = {
        offset: batch.trainOffset(i),
        length: batch.trainLength(i),
        segmentBytes: batch.trainSegmentLength(i),
      };
      if (path !== undefined) this.#sendTrain(train, path);
    }
    batch.clearTrains();
  }
}

/** A `ConnectionNode` that tells which core slot belongs to which node. */
export class WatchedConnections extends ConnectionNode {
  readonly #peers = new Map<string, PeerId>();
  readonly nodes = new Set<NodeId>();

  /** Slot of the newest connection to the node with that key. */
  peerOfKey(publicKey: Uint8Array): PeerId | undefined {
    return this.#peers.get(publicKey.join());
  }

  override upsert(
    ...[node, peer, parameters, now]: Parameters<ConnectionNode["upsert"]>
  ): ReturnType<ConnectionNode["upsert"]> {
    this.#peers.set(parameters.remotePublicKey.join(), peer);
    this.nodes.add(node);
    return super.upsert(node, peer, parameters, now);
  }
}

/** A host of the simulated network whose process can be replaced, and whose link can be cut. */
export class HostEndpoint implements Endpoint {
  machine: Machine<never, unknown> | undefined;
  isCut = false;
  /** Decides how many milliseconds later a datagram arrives once more; undefined: it does not. */
  duplicate: () => number | undefined = () => undefined;
  network: SimNetwork | undefined;
  /** The newest datagrams that arrived, for an attacker who listens. */
  readonly overheard: Datagram[] = [];

  handleDatagram(datagram: Datagram): void {
    if (this.isCut) return;
    const copy = { ...datagram, payload: datagram.payload.slice() };
    this.overheard.push(copy);
    if (this.overheard.length > OVERHEARD) this.overheard.shift();
    const again = this.duplicate();
    if (again !== undefined) this.network?.later(again, () => this.machine?.handleDatagram(copy));
    this.machine?.handleDatagram(datagram);
  }

  handleTimeout(): void {
    this.machine?.handleTimeout();
  }

  pollTransmit(): Transmit | undefined {
    for (let t = this.machine?.pollTransmit(); t !== undefined; t = this.machine?.pollTransmit()) {
      if (!this.isCut) return t;
    }
    return undefined;
  }

  pollTimeout(): Deadline | undefined {
    return this.machine?.pollTimeout();
  }
}

function countHeld(core: WasmPacketCore, held: Held): void {
  const { addPeer, removePeer, addFilter, removeFilter } = core;
  core.addPeer = () => {
    const peer = addPeer.call(core);
    if (peer !== undefined) held.peers += 1;
    return peer;
  };
  core.removePeer = (peer) => {
    held.peers -= 1;
    removePeer.call(core, peer);
  };
  core.addFilter = (rules) => {
    const filter = addFilter.call(core, rules);
    if (filter !== 0) held.filters += 1;
    return filter;
  };
  core.removeFilter = (filter) => {
    held.filters -= 1;
    removeFilter.call(core, filter);
  };
}
