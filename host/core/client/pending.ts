import type { ResourceId } from "../id.ts";
import type { FailReason } from "../messages.ts";
import { PacketBuffer } from "../packet/packet-buffer.ts";
import type { Instant } from "../time.ts";
import type { AskedQuery } from "./tunnel-queries.ts";

/** Packets held back per resource until access is granted; the oldest goes (tunnel-core §2.5). */
export const PENDING_PACKETS = 128;
/** The same for DNS queries that a resource's site is to answer. */
export const PENDING_QUERIES = 128;
/** A request for the same resource is not repeated sooner (tunnel-core §2.4). */
export const REQUEST_INTERVAL_MS = 2_000;

/** What makes us ask for access, and waits for it. */
export type Trigger =
  | { readonly kind: "packet"; readonly packet: Uint8Array }
  | { readonly kind: "query"; readonly asked: AskedQuery };

/** Oldest first. */
export interface Waiting {
  readonly packets: readonly Uint8Array[];
  readonly queries: readonly AskedQuery[];
}

/** The portal's last word on a resource that it does not grant. */
export interface Refusal {
  readonly reason: FailReason;
  readonly violatedProperties: readonly string[];
  readonly at: Instant;
}

interface PendingAccess {
  readonly packets: PacketBuffer;
  readonly queries: AskedQuery[];
  requestedAt: Instant;
}

/**
 * Resources that access was asked for but not granted yet (tunnel-core §7.1).
 *
 * There is no timer: only traffic repeats a request. One entry per resource at most.
 */
export class PendingAccesses {
  readonly #pending = new Map<ResourceId, PendingAccess>();
  /** When a lost authorization was last asked for again; outlives the grant, which may change nothing. */
  readonly #recoveredAt = new Map<ResourceId, Instant>();

  readonly #refusals = new Map<ResourceId, Refusal>();

  /** Holds the trigger back, packets as copies; true if a request is to be sent now. */
  push(resource: ResourceId, trigger: Trigger, now: Instant): boolean {
    const known = this.#pending.get(resource);
    const pending = known ?? this.#create(resource, now);
    if (trigger.kind === "packet") pending.packets.push(trigger.packet);
    else if (pending.queries.push(trigger.asked) > PENDING_QUERIES) pending.queries.shift();
    return known === undefined || isDue(pending, now);
  }

  /** Asks again for access that seems lost (tunnel-core §7.5), holding back nothing; true if it is time to. */
  recover(resource: ResourceId, now: Instant): boolean {
    const recoveredAt = this.#recoveredAt.get(resource);
    if (recoveredAt !== undefined && now < recoveredAt + REQUEST_INTERVAL_MS) return false;

    const known = this.#pending.get(resource);
    if (known !== undefined && !isDue(known, now)) return false;
    if (known === undefined) this.#create(resource, now);
    this.#recoveredAt.set(resource, now);
    return true;
  }

  has(resource: ResourceId): boolean {
    return this.#pending.has(resource);
  }

  /** The last request that is still open; undefined: nothing waits. */
  requestedAt(resource: ResourceId): Instant | undefined {
    return this.#pending.get(resource)?.requestedAt;
  }

  /** Remembers why the portal refused, until it grants. Only for resources that it lists. */
  refuse(resource: ResourceId, refusal: Refusal): void {
    this.#refusals.set(resource, refusal);
  }

  refusalOf(resource: ResourceId): Refusal | undefined {
    return this.#refusals.get(resource);
  }

  /** Ends the entry; hands over what waited. */
  take(resource: ResourceId): Waiting {
    const pending = this.#pending.get(resource);
    this.#pending.delete(resource);
    this.#refusals.delete(resource);
    return { packets: pending?.packets.drain() ?? [], queries: pending?.queries ?? [] };
  }

  /** The resource is gone: forgets everything about it. */
  forget(resource: ResourceId): void {
    this.#pending.delete(resource);
    this.#refusals.delete(resource);
    this.#recoveredAt.delete(resource);
  }

  #create(resource: ResourceId, now: Instant): PendingAccess {
    const pending = { packets: new PacketBuffer(PENDING_PACKETS), queries: [], requestedAt: now };
    this.#pending.set(resource, pending);
    return pending;
  }
}

/** Whether a request may be repeated; notes that it is. */
function isDue(pending: PendingAccess, now: Instant): boolean {
  if (now < pending.requestedAt + REQUEST_INTERVAL_MS) return false;
  pending.requestedAt = now;
  return true;
}
