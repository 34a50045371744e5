import { type Note, note } from "../../core/note.ts";
import { type ClientPush, encodeClientPush } from "../client-messages.ts";
import { encodeGatewayPush, type GatewayPush } from "../gateway-messages.ts";
import type { Push } from "../wire.ts";
import { encodeFrame, type Frame } from "../wire.ts";
import type { ClientPeer, ConnectionId, GatewayPeer, Peer } from "./peers.ts";

export interface Send {
  readonly connection: ConnectionId;
  readonly text: string;
}

export interface Close {
  readonly connection: ConnectionId;
  readonly code: number;
}

/** Notes kept between two drains: a flood of bad input must not become a flood of memory. */
const MAX_NOTES = 1000;

/** What the portal's machine wants done. Sends of one connection keep their order; closes come after all sends. */
export class Outbox {
  readonly #sends: Send[] = [];
  readonly #closes: Close[] = [];
  readonly #notes: Note[] = [];
  readonly #counters = new Map<string, number>();

  toClient(peer: ClientPeer, message: ClientPush): void {
    if (peer.isJoined) this.push(peer, encodeClientPush(message, peer.dialect));
  }

  toGateway(peer: GatewayPeer, message: GatewayPush): void {
    if (peer.isJoined) this.push(peer, encodeGatewayPush(message, peer.generation));
  }

  push(peer: Peer, push: Push): void {
    this.frame(peer, { topic: peer.role, ...push, ref: null });
  }

  frame(peer: Peer, frame: Frame): void {
    this.#sends.push({ connection: peer.connection, text: encodeFrame(frame) });
  }

  close(peer: Peer, code: number): void {
    this.#closes.push({ connection: peer.connection, code });
  }

  note(...parts: Parameters<typeof note>): void {
    if (this.#notes.length < MAX_NOTES) this.#notes.push(note(...parts));
  }

  count(counter: string): void {
    this.#counters.set(counter, (this.#counters.get(counter) ?? 0) + 1);
  }

  /** Refused input by reason, since the start. */
  get counters(): ReadonlyMap<string, number> {
    return this.#counters;
  }

  pollSend(): Send | undefined {
    return this.#sends.shift();
  }

  pollClose(): Close | undefined {
    return this.#closes.shift();
  }

  pollNote(): Note | undefined {
    return this.#notes.shift();
  }
}
