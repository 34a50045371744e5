import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import type { PathId, PeerId } from "../../../host/core/id.ts";
import type { FlowKey, Keypair, PacketCore, PeerActivity } from "../../../host/core/packet-core.ts";
import { type Instant, instantOfTick, tickOf } from "../../../host/core/time.ts";

interface ModelKeypair extends Keypair {
  counter: bigint;
  confirmed: boolean;
  readonly seen: Set<bigint>;
}

interface ModelPeer {
  readonly keypairs: Map<number, ModelKeypair>;
  selected: number | undefined;
  path: PathId | undefined;
  receivedAt: number;
  sentAt: number;
  dataSentAt: number;
  dataReceivedAt: number;
  unansweredSince: number;
  unacknowledgedSince: number;
}

export interface Opened {
  readonly peer: PeerId;
  readonly packet: Uint8Array;
  /** Local index, if this was the first message on a keypair that we answered. */
  readonly confirmed: number | undefined;
}

/**
 * Slow twin of the packet core's WireGuard side: keypairs, data messages, activity. Slots and ticks as in the ABI;
 * flows are only written down. NAT and filters are no concern of the machines under test.
 */
export class ModelCore implements PacketCore {
  readonly peers = new Map<PeerId, ModelPeer>();
  readonly flows: { readonly key: FlowKey; readonly peer: PeerId }[] = [];
  readonly tun: Uint8Array[] = [];
  readonly #sealed: { readonly path: PathId; readonly datagram: Uint8Array }[] = [];
  readonly #touched = new Set<PeerId>();
  #nextPeer: PeerId;
  /** Largest number of keypairs that any peer ever had. */
  mostKeypairs = 0;

  constructor(firstPeer: PeerId = 0) {
    this.#nextPeer = firstPeer;
  }

  addPeer(): PeerId {
    const peer = this.#nextPeer++;
    this.peers.set(peer, {
      keypairs: new Map(),
      selected: undefined,
      path: undefined,
      receivedAt: 0,
      sentAt: 0,
      dataSentAt: 0,
      dataReceivedAt: 0,
      unansweredSince: 0,
      unacknowledgedSince: 0,
    });
    return peer;
  }

  removePeer(peer: PeerId): void {
    this.peers.delete(peer);
  }

  setPath(peer: PeerId, path: PathId | undefined): void {
    this.#peer(peer).path = path;
  }

  addKeypair(peer: PeerId, keypair: Keypair): void {
    const { keypairs } = this.#peer(peer);
    keypairs.set(keypair.localIndex % 8, {
      ...keypair,
      sendKey: keypair.sendKey.slice(),
      receiveKey: keypair.receiveKey.slice(),
      counter: 0n,
      confirmed: keypair.initiated,
      seen: new Set(),
    });
    this.mostKeypairs = Math.max(this.mostKeypairs, keypairs.size);
  }

  removeKeypair(peer: PeerId, localIndex: number): void {
    const state = this.#peer(peer);
    if (state.keypairs.get(localIndex % 8)?.localIndex !== localIndex) throw new Error("no such keypair");
    state.keypairs.delete(localIndex % 8);
    if (state.selected === localIndex) state.selected = undefined;
  }

  selectKeypair(peer: PeerId, localIndex: number | undefined): void {
    const state = this.#peer(peer);
    if (localIndex !== undefined && state.keypairs.get(localIndex % 8)?.localIndex !== localIndex) {
      throw new Error("no such keypair");
    }
    state.selected = localIndex;
  }

  sendCounter(peer: PeerId, localIndex: number): bigint {
    return this.#peer(peer).keypairs.get(localIndex % 8)?.counter ?? 0n;
  }

  /** Lets a test reach the message limits. */
  setSendCounter(peer: PeerId, counter: bigint): void {
    for (const keypair of this.#peer(peer).keypairs.values()) keypair.counter = counter;
  }

  activity(peer: PeerId, now: Instant): PeerActivity {
    const state = this.#peer(peer);
    return {
      receivedAt: instantOfTick(state.receivedAt, now),
      sentAt: instantOfTick(state.sentAt, now),
      dataSentAt: instantOfTick(state.dataSentAt, now),
      dataReceivedAt: instantOfTick(state.dataReceivedAt, now),
      unansweredSince: instantOfTick(state.unansweredSince, now),
      unacknowledgedSince: instantOfTick(state.unacknowledgedSince, now),
      innerAt: instantOfTick(Math.max(state.dataSentAt, state.dataReceivedAt), now),
      txPackets: 0,
      txBytes: 0,
      rxPackets: 0,
      rxBytes: 0,
    };
  }

  drainTouched(): PeerId[] {
    const touched = [...this.#touched];
    this.#touched.clear();
    return touched;
  }

  seal(peer: PeerId, packet: Uint8Array, now: Instant): boolean {
    const state = this.#peer(peer);
    const keypair = state.selected === undefined ? undefined : state.keypairs.get(state.selected % 8);
    if (keypair === undefined || state.path === undefined) return false;

    const datagram = new Uint8Array(16 + packet.length + 16);
    datagram[0] = 4;
    const view = new DataView(datagram.buffer);
    view.setUint32(4, keypair.remoteIndex, true);
    view.setBigUint64(8, keypair.counter, true);
    datagram.set(chacha20poly1305(keypair.sendKey, nonceOf(keypair.counter)).encrypt(packet), 16);
    keypair.counter += 1n;

    const tick = tickOf(now);
    state.sentAt = tick;
    state.unacknowledgedSince = 0;
    if (packet.length > 0) {
      state.dataSentAt = tick;
      if (state.unansweredSince === 0) {
        state.unansweredSince = tick;
        this.#touched.add(peer);
      }
    }
    this.#sealed.push({ path: state.path, datagram });
    return true;
  }

  /** Datagrams sealed since the last call. */
  takeSealed(): { readonly path: PathId; readonly datagram: Uint8Array }[] {
    return this.#sealed.splice(0);
  }

  /** Undefined: the core drops it. */
  open(datagram: Uint8Array, now: Instant): Opened | undefined {
    const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
    const index = view.getUint32(4, true);
    const peer = (index >>> 8) & 0x7ff;
    const state = this.peers.get(peer);
    const keypair = state?.keypairs.get(index % 8);
    if (state === undefined || keypair?.localIndex !== index) return undefined;

    const counter = view.getBigUint64(8, true);
    if (keypair.seen.has(counter)) return undefined;
    const packet = chacha20poly1305(keypair.receiveKey, nonceOf(counter)).decrypt(datagram.subarray(16));
    keypair.seen.add(counter);

    const tick = tickOf(now);
    state.receivedAt = tick;
    state.unansweredSince = 0;
    if (packet.length > 0) {
      state.dataReceivedAt = tick;
      if (state.unacknowledgedSince === 0) {
        state.unacknowledgedSince = tick;
        this.#touched.add(peer);
      }
    }
    const confirmed = keypair.confirmed ? undefined : index;
    keypair.confirmed = true;
    return { peer, packet, confirmed };
  }

  addFlow(key: FlowKey, peer: PeerId): void {
    this.flows.push({ key, peer });
  }

  writeTun(packet: Uint8Array): void {
    this.tun.push(packet.slice());
  }

  invalidatePeer = unused;
  invalidateAll = unused;
  addFilter = unused;
  removeFilter = unused;
  permits = unused;
  permittedBy = unused;
  natOutgoing = unused;
  natIncoming = unused;
  natNote = unused;
  natReset = unused;
  natHandleTimeout = unused;
  natCount = unused;

  #peer(peer: PeerId): ModelPeer {
    const state = this.peers.get(peer);
    if (state === undefined) throw new Error(`no peer ${peer}`);
    return state;
  }
}

function unused(): never {
  throw new Error("not part of this model");
}

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, counter, true);
  return nonce;
}
