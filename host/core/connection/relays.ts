import { type SocketAddress, socketAddressText } from "../address.ts";
import type { RelayId } from "../id.ts";
import type { Relay } from "../messages.ts";
import { type Note, note } from "../note.ts";
import type { Random } from "../random.ts";
import { BindingProbe, type Mapping } from "../stun/binding-probe.ts";
import type { StunMessage } from "../stun/message.ts";
import { type Deadline, earliest, type Instant } from "../time.ts";
import type { Datagram, Transmit } from "../transmit.ts";

export type RelayEvent =
  /** A relay answered with an address that it had not told before. */
  | { readonly kind: "mapping"; readonly mapping: Mapping }
  /** The last relay went: no connection can be made until the portal names another one. */
  | { readonly kind: "no-relays" }
  | Note;

/** The portal names at most two; more are ignored. */
const MAX_RELAYS = 16;
/** connectivity §5: IPs of relays that we stopped using; the oldest is forgotten. */
const MAX_FORMER = 64;

interface Link {
  readonly relay: Relay;
  /** One or two, by the text of their server socket. */
  readonly probes: ReadonlyMap<string, BindingProbe>;
}

/**
 * The relays that the portal named, as STUN servers.
 *
 * A relay stays for as long as one of its sockets answers or may still answer. After every call drain
 * `pollTransmit` and `pollEvent`.
 */
export class Relays {
  readonly #random: Random;
  readonly #links = new Map<RelayId, Link>();
  readonly #bySocket = new Map<string, BindingProbe>();
  readonly #former = new Set<string>();
  readonly #transmits: Transmit[] = [];
  readonly #events: RelayEvent[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  get size(): number {
    return this.#links.size;
  }

  /** What each answering socket said last; equal addresses of several relays appear several times. */
  get mappings(): readonly Mapping[] {
    return [...this.#bySocket.values()].flatMap((probe) =>
      probe.mapping === undefined || probe.status !== "answered" ? [] : [probe.mapping],
    );
  }

  isServer(address: SocketAddress): boolean {
    return this.#bySocket.has(socketAddressText(address));
  }

  /** Whether a datagram from there may still come from a relay that we gave up. */
  wasServer(address: SocketAddress): boolean {
    return this.#former.has(address.ip);
  }

  /** connectivity §6.6; a relay that is named again is checked at once. */
  update(disconnected: readonly RelayId[], connected: readonly Relay[], now: Instant): void {
    const before = this.#links.size;
    for (const id of disconnected) this.#remove(id);

    const named = new Set<RelayId>();
    for (const relay of connected) {
      named.add(relay.id);
      const known = this.#links.get(relay.id);
      if (known !== undefined && isSameRelay(known.relay, relay)) continue;
      this.#remove(relay.id);
      this.#add(relay, now);
    }
    for (const [id, link] of this.#links) {
      if (!named.has(id)) for (const probe of link.probes.values()) probe.refresh(now);
    }
    this.#drain();
    if (before > 0 && this.#links.size === 0) this.#events.push({ kind: "no-relays" });
  }

  /** Our own address changed: forgets what the relays said and asks again. */
  restart(now: Instant): void {
    const relays = [...this.#links.values()].map((link) => link.relay);
    this.#links.clear();
    this.#bySocket.clear();
    for (const relay of relays) this.#add(relay, now);
    this.#drain();
  }

  /** STUN from a server socket. False if it answers nothing that we asked. */
  handleMessage(message: StunMessage, datagram: Datagram, now: Instant): boolean {
    const probe = this.#bySocket.get(socketAddressText(datagram.from));
    if (probe === undefined || message.method !== "binding" || message.class !== "success") return false;

    const before = probe.mapping;
    if (!probe.handleSuccess(message, datagram, now)) return false;

    const mapping = probe.mapping;
    if (mapping !== undefined && !isSameMapping(before, mapping)) {
      this.#events.push({ kind: "mapping", mapping });
      this.#events.push(note("debug", "relay answered", { roundTripMs: probe.roundTripMs }));
    }
    return true;
  }

  handleTimeout(now: Instant): void {
    const before = this.#links.size;
    for (const [id, link] of this.#links) {
      for (const probe of link.probes.values()) probe.handleTimeout(now);
      if ([...link.probes.values()].some((probe) => probe.status !== "silent")) continue;
      this.#remove(id);
      this.#events.push(note("info", "relay does not answer", { relay: id }));
    }
    this.#drain();
    if (before > 0 && this.#links.size === 0) this.#events.push({ kind: "no-relays" });
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): RelayEvent | undefined {
    return this.#events.shift();
  }

  pollTimeout(): Deadline | undefined {
    return earliest(...[...this.#bySocket.values()].map((probe) => probe.pollTimeout()));
  }

  #add(relay: Relay, now: Instant): void {
    if (this.#links.size >= MAX_RELAYS) return;
    const probes = new Map<string, BindingProbe>();
    for (const socket of [relay.v4, relay.v6]) {
      if (socket === undefined) continue;
      const probe = new BindingProbe(socket, this.#random, now);
      probes.set(socketAddressText(socket), probe);
      this.#bySocket.set(socketAddressText(socket), probe);
      this.#former.delete(socket.ip);
    }
    if (probes.size > 0) this.#links.set(relay.id, { relay, probes });
  }

  #remove(id: RelayId): void {
    const link = this.#links.get(id);
    if (link === undefined) return;

    this.#links.delete(id);
    for (const [socket, probe] of link.probes) {
      if (this.#bySocket.get(socket) === probe) this.#bySocket.delete(socket);
    }
    for (const socket of [link.relay.v4, link.relay.v6]) {
      if (socket !== undefined) this.#former.add(socket.ip);
    }
    for (const oldest of this.#former) {
      if (this.#former.size <= MAX_FORMER) break;
      this.#former.delete(oldest);
    }
  }

  #drain(): void {
    for (const probe of this.#bySocket.values()) {
      for (let t = probe.pollTransmit(); t !== undefined; t = probe.pollTransmit()) this.#transmits.push(t);
    }
  }
}

function isSameRelay(a: Relay, b: Relay): boolean {
  return (
    a.username === b.username &&
    a.password === b.password &&
    textOf(a.v4) === textOf(b.v4) &&
    textOf(a.v6) === textOf(b.v6)
  );
}

function isSameMapping(a: Mapping | undefined, b: Mapping): boolean {
  return a !== undefined && textOf(a.local) === textOf(b.local) && textOf(a.mapped) === textOf(b.mapped);
}

function textOf(address: SocketAddress | undefined): string {
  return address === undefined ? "" : socketAddressText(address);
}
