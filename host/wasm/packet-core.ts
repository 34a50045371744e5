import * as abi from "../../assembly/abi.ts";
import type { IpAddress } from "../core/address.ts";
import { CORE_DROP_NAMES } from "../core/drop.ts";
import type { PathId, PeerId } from "../core/id.ts";
import type {
  FilterId,
  FilterRule,
  FlowKey,
  Identity,
  Keypair,
  NatTuple,
  PacketCore,
  PeerActivity,
  Rewrite,
} from "../core/packet-core.ts";
import { type Instant, tickOf } from "../core/time.ts";
import { BatchView } from "./batch-view.ts";
import type { LinearMemory } from "./engine.ts";
import type { CoreExports } from "./exports.ts";
import { FilterPool } from "./filter-pool.ts";
import { writeFlow } from "./flow.ts";
import { NatView } from "./nat-view.ts";
import { PeerView } from "./peer-view.ts";
import { SlowView } from "./slow-view.ts";

const KEY_BYTES = 32;
const IDENTITY_KINDS = {
  tcp: abi.KIND_TCP,
  udp: abi.KIND_UDP,
  echo: abi.KIND_ECHO,
  icmp: abi.KIND_ICMP,
} as const;

/** PACKET_* of the ABI. */
export type PacketResult = number;

/**
 * The packet core as the machines see it, and its batch side for the data loop.
 *
 * One round of the loop: describe the input in `batch`, call `encapsulate` or `decapsulate`, consume trains and
 * frames, hand the SLOW descriptors to the machines and `reinject` what they forward, `clearSlow`; while the result
 * was BATCH_MORE, call again with the input as it is.
 */
export class WasmPacketCore implements PacketCore {
  /** Views and addresses of it stay valid: it never grows. */
  readonly memory: LinearMemory;
  /** All of the memory: regions and descriptors' offsets index it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly batch: BatchView;
  readonly #exports: CoreExports;
  readonly #view: DataView<ArrayBuffer>;
  readonly #slow: SlowView;
  readonly #peers: PeerView;
  readonly #filters: FilterPool;
  readonly #nat: NatView;
  #drainOutputs: () => void = () => {};

  /** `exports` belong to a fresh instance over `memory`; use `loadPacketCore`. */
  constructor(exports: CoreExports, memory: LinearMemory) {
    this.memory = memory;
    this.#exports = exports;
    this.bytes = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
    this.batch = new BatchView(memory);
    this.#slow = new SlowView(memory);
    this.#peers = new PeerView(memory);
    this.#filters = new FilterPool(memory);
    this.#nat = new NatView(exports, memory);
  }

  /**
   * `drain` is called when trains or frames fill up in the middle of `seal`, `writeTun` or `reinject`: it writes out
   * or gives up all of them, and calls `clearTrains` and `clearFrames`. Without it such packets are refused.
   */
  onOutputFull(drain: () => void): void {
    this.#drainOutputs = drain;
  }

  // ── Batches ───────────────────────────────────────────────────────────────────────────────────

  /** BATCH_DONE or BATCH_MORE. */
  encapsulate(now: Instant): number {
    return this.#exports.encapsulate(tickOf(now));
  }

  /** BATCH_DONE or BATCH_MORE. */
  decapsulate(now: Instant): number {
    return this.#exports.decapsulate(tickOf(now));
  }

  get slowCount(): number {
    return this.#slow.count;
  }
  /** SLOW_*. */
  slowReason(index: number): number {
    return this.#slow.reason(index);
  }
  /** A view of the packet or datagram; valid until the next batch. */
  slowPacket(index: number): Uint8Array<ArrayBuffer> {
    return this.#slow.packet(index);
  }
  slowPeer(index: number): PeerId {
    return this.#slow.peer(index);
  }
  /** Local index for SLOW_KEYPAIR_CONFIRMED; outer ECN for SLOW_PEER_PACKET and SLOW_DATAGRAM. */
  slowDetail(index: number): number {
    return this.#slow.detail(index);
  }
  /** Index of the FRAME_IN or DATAGRAM_IN descriptor that it came with. */
  slowSource(index: number): number {
    return this.#slow.source(index);
  }
  clearSlow(): void {
    this.#slow.clear();
  }

  /**
   * Runs the packet of a SLOW descriptor through the core again, after a machine installed its flow.
   *
   * PACKET_QUEUED; PACKET_MISS: there still is no flow; PACKET_NO_KEYPAIR: the descriptor now has its peer and is for
   * `handleNoKeypair`; PACKET_DROPPED: refused and counted; PACKET_FULL only without `onOutputFull`.
   */
  reinject(index: number, now: Instant): PacketResult {
    return this.#retry(() => this.#exports.reinject(index, tickOf(now)));
  }

  /** Packets and datagrams that the core refused, by reason; those without any are left out. */
  drops(): Record<string, number> {
    const drops: Record<string, number> = {};
    for (let reason = 1; reason < CORE_DROP_NAMES.length; reason++) {
      const count = Number(this.#view.getBigUint64(abi.DROPS_BASE + reason * 8, true));
      if (count > 0) drops[CORE_DROP_NAMES[reason] ?? String(reason)] = count;
    }
    return drops;
  }

  // ── Peers and keypairs ────────────────────────────────────────────────────────────────────────

  addPeer(): PeerId | undefined {
    const peer = this.#exports.peerAdd();
    return peer < 0 ? undefined : peer;
  }

  removePeer(peer: PeerId): void {
    this.#exports.natReset(peer);
    this.#exports.peerRemove(peer);
  }

  setPath(peer: PeerId, path: PathId | undefined, channel?: number): void {
    this.#exports.peerSetPath(peer, path ?? 0, channel ?? 0);
  }

  invalidatePeer(peer: PeerId): void {
    this.#exports.flowsRemovePeer(peer);
  }

  invalidateAll(): void {
    this.#exports.flowsRemoveAll();
  }

  addKeypair(peer: PeerId, keypair: Keypair): void {
    if (keypair.sendKey.length !== KEY_BYTES || keypair.receiveKey.length !== KEY_BYTES) {
      throw new RangeError(`transport keys have ${KEY_BYTES} bytes`);
    }
    this.bytes.set(keypair.sendKey, abi.ARGUMENT_BASE);
    this.bytes.set(keypair.receiveKey, abi.ARGUMENT_BASE + KEY_BYTES);
    const flags = keypair.initiated ? abi.KEYPAIR_CONFIRMED : 0;
    this.#exports.keypairAdd(peer, keypair.localIndex, keypair.remoteIndex, flags, abi.ARGUMENT_BASE);
  }

  removeKeypair(peer: PeerId, localIndex: number): void {
    this.#exports.keypairRemove(peer, localIndex);
  }

  selectKeypair(peer: PeerId, localIndex: number | undefined): void {
    if (localIndex === undefined) this.#exports.keypairDeselect(peer);
    else this.#exports.keypairSelect(peer, localIndex);
  }

  /** 0 for a keypair that is not there. */
  sendCounter(peer: PeerId, localIndex: number): bigint {
    const keypair = this.#exports.keypairFind(peer, localIndex) >>> 0;
    return keypair === 0 ? 0n : this.#view.getBigUint64(keypair + abi.KEYPAIR_SEND_COUNTER, true);
  }

  activity(peer: PeerId, now: Instant): PeerActivity {
    return this.#peers.activity(peer, now);
  }

  drainTouched(): PeerId[] {
    return this.#peers.drainTouched();
  }

  /** Whether `drainTouched` has anything to return. */
  get hasTouched(): boolean {
    return this.#view.getUint32(abi.TOUCHED_COUNT, true) > 0;
  }

  // ── Policy and flows ──────────────────────────────────────────────────────────────────────────

  addFilter(rules: readonly FilterRule[]): FilterId {
    return this.#filters.add(rules);
  }

  removeFilter(filter: FilterId): void {
    this.#filters.remove(filter);
  }

  permits(filter: FilterId, identity: Identity): boolean {
    return this.#permits(filter, identity) !== 0;
  }

  permittedBy(filter: FilterId, identity: Identity): FilterRule | "any" | undefined {
    const rule = this.#permits(filter, identity);
    return rule === 0 ? undefined : (this.#filters.rule(filter, rule) ?? "any");
  }

  addFlow(key: FlowKey, peer: PeerId, rewrite: Rewrite | undefined, now: Instant): void {
    writeFlow(this.bytes, this.#view, key, peer, rewrite, now);
    this.#exports.flowAdd(abi.ARGUMENT_BASE);
  }

  // ── NAT ───────────────────────────────────────────────────────────────────────────────────────

  natOutgoing(
    peer: PeerId,
    inside: NatTuple,
    real: IpAddress,
    now: Instant,
  ): ReturnType<PacketCore["natOutgoing"]> {
    return this.#nat.outgoing(peer, inside, real, now);
  }

  natIncoming(peer: PeerId, outside: NatTuple, now: Instant): ReturnType<PacketCore["natIncoming"]> {
    return this.#nat.incoming(peer, outside, now);
  }

  natNote(entry: number, direction: "outgoing" | "incoming", tcpFlags: number, now: Instant): void {
    this.#exports.natNote(entry, direction === "outgoing" ? 1 : 0, tcpFlags, tickOf(now));
  }

  natReset(peer: PeerId): void {
    this.#exports.natReset(peer);
  }

  natHandleTimeout(now: Instant): void {
    this.#exports.natTick(tickOf(now));
  }

  natCount(): number {
    return this.#exports.natCount();
  }

  // ── Packets that the machines make ────────────────────────────────────────────────────────────

  seal(peer: PeerId, packet: Uint8Array, now: Instant): boolean {
    this.#requirePacket(packet);
    return (
      this.#retry(() => {
        // Inside the retry: draining may itself use the argument slot.
        this.bytes.set(packet, abi.ARGUMENT_BASE);
        return this.#exports.sealPacket(peer, packet.length, tickOf(now));
      }) === abi.PACKET_QUEUED
    );
  }

  writeTun(packet: Uint8Array): void {
    this.#requirePacket(packet);
    this.#retry(() => {
      this.bytes.set(packet, abi.ARGUMENT_BASE);
      return this.#exports.writeTun(packet.length);
    });
  }

  #permits(filter: FilterId, identity: Identity): number {
    const kind = identity.kind === "other" ? abi.KIND_OTHER : IDENTITY_KINDS[identity.kind];
    const port = identity.kind === "tcp" || identity.kind === "udp" ? identity.port : 0;
    return this.#exports.filterPermits(filter, kind, port);
  }

  #requirePacket(packet: Uint8Array): void {
    if (packet.length > abi.MAX_PACKET_BYTES) throw new RangeError(`packet of ${packet.length} bytes`);
  }

  #retry(attempt: () => PacketResult): PacketResult {
    const result = attempt();
    if (result !== abi.PACKET_FULL) return result;
    this.#drainOutputs();
    return attempt();
  }
}
