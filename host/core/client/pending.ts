import type { ResourceId } from "../id.ts";
import { PacketBuffer } from "../packet/packet-buffer.ts";
import type { Instant } from "../time.ts";

/** Packets held back per resource until access is granted; the oldest goes (tunnel-core §2.5). */
export const PENDING_PACKETS = 128;
/** A request for the same resource is not repeated sooner (tunnel-core §2.4). */
export const REQUEST_INTERVAL_MS = 2_000;

interface PendingAccess {
  readonly packets: PacketBuffer;
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

  /** Holds the packet back; true if a request is to be sent now. */
  push(resource: ResourceId, packet: Uint8Array, now: Instant): boolean {
    const known = this.#pending.get(resource);
    const pending = known ?? { packets: new PacketBuffer(PENDING_PACKETS), requestedAt: now };
    this.#pending.set(resource, pending);
    pending.packets.push(packet);
    return known === undefined || this.#isDue(pending, now);
  }

  /** Asks again for access that seems lost (tunnel-core §7.5), holding back nothing; true if it is time to. */
  recover(resource: ResourceId, now: Instant): boolean {
    const recoveredAt = this.#recoveredAt.get(resource);
    if (recoveredAt !== undefined && now < recoveredAt + REQUEST_INTERVAL_MS) return false;

    const known = this.#pending.get(resource);
    if (known !== undefined && !this.#isDue(known, now)) return false;
    if (known === undefined) {
      this.#pending.set(resource, { packets: new PacketBuffer(PENDING_PACKETS), requestedAt: now });
    }
    this.#recoveredAt.set(resource, now);
    return true;
  }

  has(resource: ResourceId): boolean {
    return this.#pending.has(resource);
  }

  /** Ends the entry; hands over its packets, oldest first. */
  take(resource: ResourceId): Uint8Array[] {
    const packets = this.#pending.get(resource)?.packets.drain() ?? [];
    this.#pending.delete(resource);
    return packets;
  }

  /** The resource is gone: forgets everything about it. */
  forget(resource: ResourceId): void {
    this.#pending.delete(resource);
    this.#recoveredAt.delete(resource);
  }

  #isDue(pending: PendingAccess, now: Instant): boolean {
    if (now < pending.requestedAt + REQUEST_INTERVAL_MS) return false;
    pending.requestedAt = now;
    return true;
  }
}
