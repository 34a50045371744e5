import type { Assignment } from "../dns/stub-resolver.ts";
import type { GatewayId, ResourceId } from "../id.ts";
import { encodeAssignedIps } from "../packet/control-frame.ts";
import { PacketBuffer } from "../packet/packet-buffer.ts";
import type { Instant } from "../time.ts";

/** Packets held back per name until the gateway confirms it; the oldest goes (tunnel-core §2.5). */
export const NAT_SETUP_PACKETS = 32;
/** An unanswered announcement is not repeated sooner (tunnel-core §2.4). */
export const ANNOUNCE_INTERVAL_MS = 2_000;

/** `hold`: no packet may go before the gateway confirmed. `pass`: packets use the mapping it already has. */
type Traffic = "hold" | "pass";

interface Pending {
  readonly kind: "pending";
  readonly sentAt: Instant;
  readonly traffic: Traffic;
  readonly buffer: PacketBuffer;
}

type State =
  | Pending
  | { readonly kind: "recreating"; readonly traffic: Traffic }
  | { readonly kind: "confirmed" }
  | { readonly kind: "failed" };

interface Entry {
  readonly gateway: GatewayId;
  readonly resource: ResourceId;
  readonly name: string;
  /** AssignedIps, ready to be sealed. */
  readonly frame: Uint8Array;
  state: State;
}

/** An AssignedIps frame to be sent to its gateway. */
export interface Announcement {
  readonly gateway: GatewayId;
  readonly frame: Uint8Array;
}

/** What the gateway is known to have said about a name, and whether packets wait for it. */
export interface NameOutlook {
  readonly known: State["kind"] | "unannounced";
  readonly traffic: Traffic;
}

export type OutgoingVerdict =
  /** Goes out, and so may all that follow. */
  | "pass"
  /** Goes out, but the next one must be asked about again. */
  | "pass-once"
  | "held";

/**
 * Tells gateways which proxy IPs stand for which names, and holds packets until they know
 * (tunnel-core §12). Entries are bounded by names times resources that are authorized for them.
 */
export class DnsResourceNat {
  readonly #gateways = new Map<GatewayId, Map<string, Entry>>();
  /** The entries that wait for an answer. */
  readonly #waiting = new Set<Entry>();
  readonly #announcements: Announcement[] = [];

  /**
   * §12.1: the name was asked for again, so its mapping is to be made anew. True if packets that were
   * passed so far must now be held.
   */
  refresh(gateway: GatewayId, { resource, name }: NameOfResource): boolean {
    const entry = this.#entry(gateway, resource, name);
    if (entry === undefined) return false;
    const previous = entry.state;
    entry.state = refreshed(previous);
    return previous.kind === "failed";
  }

  /**
   * §12.2 for one name; `packets` waited for the grant and are owned by this object from now on.
   * False if the name cannot be announced, since it has no full set of proxy IPs.
   */
  synchronise(
    gateway: GatewayId,
    assignment: Assignment,
    packets: readonly Uint8Array[],
    now: Instant,
  ): boolean {
    const known = this.#entry(gateway, assignment.resource, assignment.name);
    const state = known?.state ?? refreshed(undefined);
    if (state.kind === "confirmed" || state.kind === "failed") return true;
    if (known !== undefined && state.kind === "pending") {
      state.buffer.append(packets);
      this.#repeatIfDue(known, now);
      return true;
    }

    const frame = encodeAssignedIps({ ...assignment, domain: assignment.name });
    if (frame === undefined) return false;
    const { resource, name } = assignment;
    const entry: Entry = { gateway, resource, name, frame, state };
    this.#insert(entry);
    const buffer = new PacketBuffer(NAT_SETUP_PACKETS);
    buffer.append(packets);
    this.#announce(entry, { kind: "pending", sentAt: now, traffic: state.traffic, buffer });
    return true;
  }

  /** §12.2 for every name that still waits for an answer: repeats what is due. */
  repeatDue(now: Instant): void {
    for (const entry of this.#waiting) this.#repeatIfDue(entry, now);
  }

  /** What `handleOutgoing` would say now, or after the name was asked for again. Changes nothing. */
  outlook(gateway: GatewayId, { resource, name }: NameOfResource, when: "now" | "after-lookup"): NameOutlook {
    const state = this.#entry(gateway, resource, name)?.state;
    const known = state?.kind ?? "unannounced";
    if (when === "now") return { known, traffic: verdictOf(state) === "held" ? "hold" : "pass" };

    const next = refreshed(state);
    const isUnderway = next.kind === "pending" || next.kind === "recreating";
    return { known, traffic: isUnderway ? next.traffic : "pass" };
  }

  /** §12.3: a packet to a proxy IP of the name; copies it if it is held. */
  handleOutgoing(gateway: GatewayId, of: NameOfResource, packet: Uint8Array, now: Instant): OutgoingVerdict {
    const entry = this.#entry(gateway, of.resource, of.name);
    const verdict = verdictOf(entry?.state);
    if (entry?.state.kind !== "pending") return verdict;

    if (verdict === "held") entry.state.buffer.push(packet);
    this.#repeatIfDue(entry, now);
    return verdict;
  }

  /** §12.4: returns the packets that may go now. */
  handleStatus(
    gateway: GatewayId,
    { resource, name }: NameOfResource,
    status: "active" | "inactive",
  ): Uint8Array[] {
    const entry = this.#entry(gateway, resource, name);
    if (entry === undefined) return [];

    const held = entry.state.kind === "pending" ? entry.state.buffer.drain() : [];
    entry.state = { kind: status === "active" ? "confirmed" : "failed" };
    this.#waiting.delete(entry);
    return status === "active" ? held : [];
  }

  clearGateway(gateway: GatewayId): void {
    for (const entry of this.#gateways.get(gateway)?.values() ?? []) this.#waiting.delete(entry);
    this.#gateways.delete(gateway);
  }

  clearResource(gateway: GatewayId, resource: ResourceId): void {
    const entries = this.#gateways.get(gateway);
    for (const [key, entry] of entries ?? []) {
      if (entry.resource !== resource) continue;
      entries?.delete(key);
      this.#waiting.delete(entry);
    }
    if (entries?.size === 0) this.#gateways.delete(gateway);
  }

  /** Drain after every call. */
  pollAnnouncement(): Announcement | undefined {
    return this.#announcements.shift();
  }

  #insert(entry: Entry): void {
    const entries = this.#gateways.get(entry.gateway) ?? new Map<string, Entry>();
    this.#gateways.set(entry.gateway, entries);
    entries.set(keyOf(entry.resource, entry.name), entry);
  }

  #announce(entry: Entry, state: Pending): void {
    entry.state = state;
    this.#waiting.add(entry);
    this.#announcements.push({ gateway: entry.gateway, frame: entry.frame });
  }

  #repeatIfDue(entry: Entry, now: Instant): void {
    if (entry.state.kind !== "pending" || now < entry.state.sentAt + ANNOUNCE_INTERVAL_MS) return;
    this.#announce(entry, { ...entry.state, sentAt: now });
  }

  #entry(gateway: GatewayId, resource: ResourceId, name: string): Entry | undefined {
    return this.#gateways.get(gateway)?.get(keyOf(resource, name));
  }
}

/** What a name's mapping becomes when the name is asked for; undefined: it is new. */
function refreshed(state: State | undefined): State {
  switch (state?.kind) {
    case undefined:
    case "failed":
      return { kind: "recreating", traffic: "hold" };
    case "confirmed":
      return { kind: "recreating", traffic: "pass" };
    case "pending":
    case "recreating":
      return state;
  }
}

function verdictOf(state: State | undefined): OutgoingVerdict {
  if (state?.kind !== "pending") return "pass";
  return state.traffic === "hold" ? "held" : "pass-once";
}

interface NameOfResource {
  readonly resource: ResourceId;
  readonly name: string;
}

function keyOf(resource: ResourceId, name: string): string {
  return `${resource} ${name}`;
}
