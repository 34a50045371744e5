// Two WireGuard peers over a simulated network, stepped in simulated time.
import assert from "node:assert/strict";
import type { PeerId } from "../../../host/core/id.ts";
import type { PacketCore } from "../../../host/core/packet-core.ts";
import type { Random } from "../../../host/core/random.ts";
import type { Instant } from "../../../host/core/time.ts";
import type { StaticIdentity } from "../../../host/core/wg/crypto.ts";
import { WireGuardPeer, type WireGuardPeerOptions } from "../../../host/core/wg/peer.ts";
import { noiseCrypto } from "../../../host/io/crypto.ts";
import { ModelCore, type Opened } from "./model-core.ts";
import { seededRandom } from "./randoms.ts";

export const crypto = noiseCrypto();
export const PATH = 1;
/** Simulated time starts here, so that instants are never 0. */
const START: Instant = 1_000;

export function at(milliseconds: number): Instant {
  return START + milliseconds;
}

/** Milliseconds since the start of the simulation, rounded to whole ones. */
export function elapsed(now: Instant): number {
  return Math.round(now - START);
}

export type Side = "left" | "right";

function identity(fill: number): StaticIdentity {
  const privateKey = new Uint8Array(32).fill(fill);
  return { privateKey, publicKey: crypto.publicKey(privateKey) };
}

export const IDENTITIES: Record<Side, StaticIdentity> = { left: identity(0x4c), right: identity(0x52) };

/** What the packet core does besides the machine's interface: the tests' view of the data path. */
export interface DataPath extends PacketCore {
  takeSealed(): { readonly datagram: Uint8Array }[];
  open(datagram: Uint8Array, now: Instant): Opened | undefined;
  readonly mostKeypairs: number;
}

export type NodeOptions = Partial<WireGuardPeerOptions> & { readonly slot?: PeerId; readonly path?: "later" };

export interface Node<Core extends DataPath = ModelCore> {
  readonly side: Side;
  readonly core: Core;
  readonly id: PeerId;
  readonly peer: WireGuardPeer;
}

export function newNode(side: Side, remote: Side, options: NodeOptions): Node {
  return nodeOn(new ModelCore(options.slot ?? (side === "left" ? 5 : 9)), side, remote, options);
}

export function nodeOn<Core extends DataPath>(
  core: Core,
  side: Side,
  remote: Side,
  options: NodeOptions,
): Node<Core> {
  const id = core.addPeer();
  assert.ok(id !== undefined);
  if (options.path !== "later") core.setPath(id, PATH);
  const { slot: _slot, path: _path, ...overrides } = options;
  const random: Random = seededRandom(side === "left" ? 1 : 2);
  const peer = new WireGuardPeer(
    {
      core,
      peer: id,
      crypto,
      random,
      identity: IDENTITIES[side],
      remotePublicKey: IDENTITIES[remote].publicKey,
      presharedKey: new Uint8Array(32).fill(0x50),
      unixTimeMs: 1_700_000_000_000,
      ...overrides,
    },
    at(0),
  );
  return { side, core, id, peer };
}

export type SentKind = "initiation" | "response" | "cookie-reply" | "keepalive" | "data";

export interface Sent {
  readonly time: number;
  readonly from: Side;
  readonly kind: SentKind;
}

interface Flight {
  readonly arrival: Instant;
  readonly to: Side;
  readonly bytes: Uint8Array;
}

export interface PairOptions {
  readonly latencyMs?: number;
  readonly left?: NodeOptions;
  readonly right?: NodeOptions;
  readonly lose?: (sent: Sent) => boolean;
}

/** Owns time, the network and both ends. The log holds what was sent, in order. */
export class Pair<Core extends DataPath = ModelCore> {
  readonly nodes: Record<Side, Node<Core>>;
  readonly log: Sent[] = [];
  readonly events: { readonly time: number; readonly side: Side; readonly event: string }[] = [];
  readonly delivered: { readonly to: Side; readonly packet: Uint8Array }[] = [];
  readonly #latencyMs: number;
  readonly #flights: Flight[] = [];
  #lose: (sent: Sent) => boolean;
  now: Instant = at(0);

  constructor(left: Node<Core>, right: Node<Core>, options: PairOptions = {}) {
    this.nodes = { left, right };
    this.#latencyMs = options.latencyMs ?? 0;
    this.#lose = options.lose ?? (() => false);
    this.drain();
  }

  lose(which: (sent: Sent) => boolean): void {
    this.#lose = which;
  }

  startHandshake(side: Side): void {
    this.nodes[side].peer.startHandshake(this.now);
    this.drain();
    this.deliverNow();
  }

  /** False: the packet core had no keypair, and told the peer. */
  send(side: Side, packet: Uint8Array): boolean {
    const { core, id, peer } = this.nodes[side];
    const sealed = core.seal(id, packet, this.now);
    if (!sealed) peer.handleNoKeypair(this.now);
    this.drain();
    this.deliverNow();
    return sealed;
  }

  /** Runs timers and deliveries up to `milliseconds`, inclusive. */
  runUntil(milliseconds: number): void {
    const end = at(milliseconds);
    for (let next = this.#next(); next !== undefined && next <= end; next = this.#next()) {
      assert.ok(next >= this.now || this.#flights.length > 0, "time runs forward");
      this.now = Math.max(this.now, next);
      this.#arrive();
      for (const { peer } of Object.values(this.nodes)) {
        const due = peer.pollTimeout();
        if (due === undefined || due.at > this.now) continue;
        peer.handleTimeout(this.now);
        const after = peer.pollTimeout();
        assert.ok(after === undefined || after.at > this.now, `busy loop: ${after?.reason}`);
      }
      this.drain();
    }
    this.now = Math.max(this.now, end);
  }

  /** Takes what both machines and packet cores have to say and puts it on the wire. */
  drain(): void {
    for (const node of Object.values(this.nodes)) {
      for (const touched of node.core.drainTouched()) {
        if (touched === node.id) node.peer.handleTouched(this.now);
      }
      for (let bytes = node.peer.pollMessage(); bytes !== undefined; bytes = node.peer.pollMessage()) {
        this.#launch(node.side, bytes);
      }
      for (const { datagram } of node.core.takeSealed()) this.#launch(node.side, datagram);
      for (let event = node.peer.pollEvent(); event !== undefined; event = node.peer.pollEvent()) {
        if (event.kind === "note") continue;
        const detail = event.kind === "expired" ? event.reason : event.initiated ? "initiator" : "responder";
        this.events.push({ time: elapsed(this.now), side: node.side, event: `${event.kind} ${detail}` });
      }
    }
  }

  /** Delivers what takes no time. */
  deliverNow(): void {
    while (this.#flights.some((flight) => flight.arrival <= this.now)) {
      this.#arrive();
      this.drain();
    }
  }

  sent(from: Side, ...kinds: SentKind[]): number[] {
    return this.log
      .filter((sent) => sent.from === from && kinds.includes(sent.kind))
      .map((sent) => sent.time);
  }

  #next(): Instant | undefined {
    const times = this.#flights.map((flight) => flight.arrival);
    for (const { peer } of Object.values(this.nodes)) {
      const due = peer.pollTimeout();
      if (due !== undefined) times.push(due.at);
    }
    return times.length === 0 ? undefined : Math.min(...times);
  }

  #launch(from: Side, bytes: Uint8Array): void {
    const sent: Sent = { time: elapsed(this.now), from, kind: kindOf(bytes) };
    this.log.push(sent);
    if (this.#lose(sent)) return;
    this.#flights.push({
      arrival: this.now + this.#latencyMs,
      to: from === "left" ? "right" : "left",
      bytes,
    });
  }

  #arrive(): void {
    for (let i = 0; i < this.#flights.length; ) {
      const flight = this.#flights[i]!;
      if (flight.arrival > this.now) {
        i++;
        continue;
      }
      this.#flights.splice(i, 1);
      this.#receive(this.nodes[flight.to], flight.bytes);
    }
  }

  #receive(node: Node<Core>, bytes: Uint8Array): void {
    if (bytes[0] !== 4) {
      node.peer.handleMessage(bytes, this.now);
      return;
    }
    const opened = node.core.open(bytes, this.now);
    if (opened?.confirmed !== undefined) node.peer.handleKeypairConfirmed(opened.confirmed, this.now);
    if (opened !== undefined && opened.packet.length > 0) {
      this.delivered.push({ to: node.side, packet: opened.packet });
    }
  }
}

export function newPair(options: PairOptions = {}): Pair {
  return new Pair(
    newNode("left", "right", options.left ?? {}),
    newNode("right", "left", options.right ?? {}),
    options,
  );
}

/** The same over cores of any kind. */
export function newPairOn<Core extends DataPath>(newCore: () => Core, options: PairOptions = {}): Pair<Core> {
  return new Pair(
    nodeOn(newCore(), "left", "right", options.left ?? {}),
    nodeOn(newCore(), "right", "left", options.right ?? {}),
    options,
  );
}

/** Handshaken at 0, left being the initiator. */
export function established<Core extends DataPath>(pair: Pair<Core>): Pair<Core> {
  pair.startHandshake("left");
  return pair;
}

export function establishedPair(options: PairOptions = {}): Pair {
  return established(newPair(options));
}

function kindOf(bytes: Uint8Array): SentKind {
  switch (bytes[0]) {
    case 1:
      return "initiation";
    case 2:
      return "response";
    case 3:
      return "cookie-reply";
    default:
      return bytes.length === 32 ? "keepalive" : "data";
  }
}
