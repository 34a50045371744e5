import * as abi from "../../assembly/abi.ts";
import type { DropReason } from "../core/drop.ts";
import type { PathTable } from "../core/path.ts";
import type { Instant } from "../core/time.ts";
import type { TunnelMachine } from "../core/tunnel-machine.ts";
import type { UdpSockets } from "../io/udp.ts";
import type { WasmPacketCore } from "../wasm/packet-core.ts";

/** What the loop needs of a TUN device. */
export interface FrameDevice {
  /** Reads what is there into the packet core's memory; the number of frames described. */
  readFrames(): number;
  writeFrame(offset: number, length: number): boolean;
}

export interface DataLoopParts<Command, Event> {
  readonly core: WasmPacketCore;
  readonly machine: TunnelMachine<Command, Event>;
  readonly paths: PathTable;
  readonly tun: FrameDevice;
  readonly udp: UdpSockets;
  /** Monotonic milliseconds, ≥ 1. */
  readonly now: () => Instant;
  /** Events leave through here, in order. */
  readonly post: (event: Event) => void;
}

/** Peers that became active are looked at this much later at the latest; WireGuard's timers tolerate a second. */
const TOUCHED_DELAY_MS = 250;
/** The longest sleep; only a guard, deadlines decide. */
const MAX_SLEEP_MS = 60_000;

/**
 * Joins packet core, machine, TUN device and sockets. One batch at a time:
 *
 * 1. read a batch of frames or datagrams into the core's memory,
 * 2. one call of the core handles all packets of known flows,
 * 3. write the trains and frames it made,
 * 4. the machine decides about the rest; what it lets pass goes through the core again,
 * 5. drain the machine.
 *
 * Knows no thread and no readiness: the blocking and the portable driver call it.
 */
export class DataLoop<Command, Event> {
  readonly drops: Partial<Record<DropReason | "unsettled-flow" | "no-path", number>> = {};
  readonly #parts: DataLoopParts<Command, Event>;
  #nextTimeout: Instant | undefined;
  #lastTimeout: Instant = 0;

  constructor(parts: DataLoopParts<Command, Event>) {
    this.#parts = parts;
    parts.core.onOutputFull(() => this.#flush());
    this.#drainMachine(parts.now());
  }

  /** Handles one batch from the TUN device; false when there was none. */
  handleTun(): boolean {
    const { core, tun, now } = this.#parts;
    const count = tun.readFrames();
    if (count === 0) return false;

    core.batch.setFrameInCount(count);
    this.#runBatch((at) => core.encapsulate(at), now());
    return true;
  }

  /** Handles one batch from a socket; false when there was none. */
  handleUdp(family: 4 | 6): boolean {
    const { core, udp, now } = this.#parts;
    const count = udp.receive(family);
    if (count === 0) return false;

    core.batch.setDatagramInCount(count);
    this.#runBatch((at) => core.decapsulate(at), now());
    return true;
  }

  handleCommand(command: Command): void {
    const now = this.#parts.now();
    this.#parts.machine.handleCommand(command, now);
    this.#settle(now);
  }

  /** Lets the machine act on deadlines that have passed. */
  handleTimeout(): void {
    const now = this.#parts.now();
    const due = this.#dueAt();
    if (due === undefined || due > now) return;

    this.#lastTimeout = now;
    this.#parts.machine.handleTimeout(now);
    this.#settle(now);
    this.#parts.paths.collect();
  }

  /** How long a driver may wait for input. */
  sleepMs(): number {
    const due = this.#dueAt();
    if (due === undefined) return MAX_SLEEP_MS;
    return Math.min(Math.max(Math.ceil(due - this.#parts.now()), 0), MAX_SLEEP_MS);
  }

  #dueAt(): Instant | undefined {
    // The core seals and opens without the machine: its timers start when it hears of that.
    const touched = this.#parts.core.hasTouched ? this.#lastTimeout + TOUCHED_DELAY_MS : undefined;
    if (touched === undefined) return this.#nextTimeout;
    return this.#nextTimeout === undefined ? touched : Math.min(touched, this.#nextTimeout);
  }

  #runBatch(step: (now: Instant) => number, now: Instant): void {
    let status: number;
    do {
      status = step(now);
      this.#flush();
      this.#handleSlowPath(now);
    } while (status === abi.BATCH_MORE);
  }

  #handleSlowPath(now: Instant): void {
    const { core } = this.#parts;
    const count = core.slowCount;
    if (count === 0) return;

    for (let i = 0; i < count; i++) this.#handleSlowPacket(i, now);
    core.clearSlow();
    this.#settle(now);
  }

  #handleSlowPacket(index: number, now: Instant): void {
    const { core, machine, udp } = this.#parts;
    switch (core.slowReason(index)) {
      case abi.SLOW_TUN_PACKET:
        this.#dispose(index, machine.handleTunPacket(core.slowPacket(index), now), now);
        break;
      case abi.SLOW_PEER_PACKET:
        this.#dispose(
          index,
          machine.handlePeerPacket(core.slowPeer(index), core.slowPacket(index), now),
          now,
        );
        break;
      case abi.SLOW_NO_KEYPAIR:
        machine.handleNoKeypair(core.slowPeer(index), core.slowPacket(index), now);
        break;
      case abi.SLOW_KEYPAIR_CONFIRMED:
        machine.handleKeypairConfirmed(core.slowPeer(index), core.slowDetail(index), now);
        break;
      case abi.SLOW_DATAGRAM:
        machine.handleDatagram(
          { ...udp.source(core.slowSource(index)), payload: core.slowPacket(index) },
          now,
        );
        break;
    }
    this.#drainMachine(now);
  }

  #dispose(
    index: number,
    disposition: ReturnType<TunnelMachine<Command, Event>["handleTunPacket"]>,
    now: Instant,
  ): void {
    if (disposition === "consumed") return;
    if (disposition !== "forward") {
      this.#count(disposition.drop);
      return;
    }
    const { core, machine } = this.#parts;
    switch (core.reinject(index, now)) {
      case abi.PACKET_NO_KEYPAIR:
        machine.handleNoKeypair(core.slowPeer(index), core.slowPacket(index), now);
        break;
      case abi.PACKET_MISS:
        // Its flow was invalidated between the decision and now.
        this.#count("unsettled-flow");
        break;
    }
  }

  #settle(now: Instant): void {
    this.#drainMachine(now);
    this.#flush();
  }

  #drainMachine(now: Instant): void {
    const { machine, udp, post } = this.#parts;
    for (let transmit = machine.pollTransmit(); transmit !== undefined; transmit = machine.pollTransmit()) {
      udp.send(transmit);
    }
    for (let event = machine.pollEvent(); event !== undefined; event = machine.pollEvent()) post(event);
    this.#nextTimeout = machine.pollTimeout()?.at;
    if (this.#lastTimeout === 0) this.#lastTimeout = now;
  }

  /** Writes what the core made: trains to the sockets, frames to the device. */
  #flush(): void {
    const { udp, tun, paths } = this.#parts;
    const { batch } = this.#parts.core;
    const trains = batch.trainCount;
    for (let i = 0; i < trains; i++) {
      const path = paths.path(batch.trainPath(i));
      if (path === undefined) this.#count("no-path");
      else
        udp.sendTrain(
          batch.trainOffset(i),
          batch.trainLength(i),
          batch.trainSegmentLength(i),
          batch.trainEcn(i),
          path,
        );
    }
    if (trains > 0) batch.clearTrains();

    const frames = batch.frameOutCount;
    for (let i = 0; i < frames; i++) tun.writeFrame(batch.frameOutOffset(i), batch.frameOutLength(i));
    if (frames > 0) batch.clearFrames();
  }

  #count(reason: keyof DataLoop<Command, Event>["drops"]): void {
    this.drops[reason] = (this.drops[reason] ?? 0) + 1;
  }
}
