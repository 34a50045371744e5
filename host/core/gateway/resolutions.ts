import type { AssignedIps } from "../packet/control-frame.ts";
import { after, type Instant } from "../time.ts";
import type { ClientOnGateway } from "./client-on-gateway.ts";

/** tunnel-core §2.4: no answer by then means inactive. */
export const RESOLUTION_TIMEOUT_MS = 10_000;
/** tunnel-core §2.5: concurrent resolutions; a new one is dropped, and the client repeats it. */
export const MAX_RESOLUTIONS = 1000;
/** Announcements that wait for one resolution; further ones are dropped, and the client repeats them. */
export const MAX_WAITING_ANNOUNCEMENTS = 64;

/** A name that is being resolved for one client, and the announcements that its addresses will answer. */
export interface Resolution {
  readonly id: number;
  readonly client: ClientOnGateway;
  readonly name: string;
  readonly announcements: readonly AssignedIps[];
  readonly deadline: Instant;
}

interface WaitingResolution extends Resolution {
  readonly announcements: AssignedIps[];
}

/** The resolutions in flight. The same name of the same client is resolved once at a time. */
export class Resolutions {
  /** By id, which is also the order of their deadlines. */
  readonly #byId = new Map<number, WaitingResolution>();
  readonly #byName = new Map<string, WaitingResolution>();
  #nextId = 1;

  /** Returns the resolution to start; undefined if one is under way already, or if there are too many. */
  announce(client: ClientOnGateway, announcement: AssignedIps, now: Instant): Resolution | undefined {
    const key = keyOf(client, announcement.domain);
    const waiting = this.#byName.get(key);
    if (waiting !== undefined) {
      if (waiting.announcements.length < MAX_WAITING_ANNOUNCEMENTS) waiting.announcements.push(announcement);
      return undefined;
    }
    if (this.#byId.size >= MAX_RESOLUTIONS) return undefined;

    const resolution: WaitingResolution = {
      id: this.#nextId++,
      client,
      name: announcement.domain,
      announcements: [announcement],
      deadline: after(now, RESOLUTION_TIMEOUT_MS),
    };
    this.#byId.set(resolution.id, resolution);
    this.#byName.set(key, resolution);
    return resolution;
  }

  /** Undefined if it timed out or if its client is gone. */
  take(id: number): Resolution | undefined {
    const resolution = this.#byId.get(id);
    if (resolution === undefined) return undefined;
    this.#byId.delete(id);
    this.#byName.delete(keyOf(resolution.client, resolution.name));
    return resolution;
  }

  takeOverdue(now: Instant): Resolution[] {
    const overdue: Resolution[] = [];
    for (const resolution of this.#byId.values()) {
      if (resolution.deadline > now) break;
      overdue.push(resolution);
    }
    for (const { id } of overdue) this.take(id);
    return overdue;
  }

  forget(client: ClientOnGateway): void {
    for (const resolution of [...this.#byId.values()]) {
      if (resolution.client === client) this.take(resolution.id);
    }
  }

  deadline(): Instant | undefined {
    for (const resolution of this.#byId.values()) return resolution.deadline;
    return undefined;
  }
}

function keyOf(client: ClientOnGateway, name: string): string {
  return `${client.id} ${name}`;
}
