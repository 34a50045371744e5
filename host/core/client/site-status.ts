import type { SiteId } from "../id.ts";
import type { Site } from "../policy/resource.ts";
import type { Deadline, Instant } from "../time.ts";

export type SiteStatus = "unknown" | "online" | "offline";

/** A refusal says little about later (tunnel-core §2.4). */
const OFFLINE_DECAY_MS = 300_000;

/** What is known about each site (tunnel-core §6.7). Sites are bounded by what the portal names. */
export class SiteStatuses {
  readonly #sites = new Map<SiteId, { readonly status: SiteStatus; readonly since: Instant }>();
  #version = 0;

  set(site: SiteId, status: SiteStatus, now: Instant): void {
    if (status === "unknown") this.#sites.delete(site);
    else this.#sites.set(site, { status, since: now });
    this.#version += 1;
  }

  /** Online if any site is; offline if all are. */
  of(sites: readonly Site[]): SiteStatus {
    const statuses = sites.map((site) => this.#sites.get(site.id)?.status ?? "unknown");
    if (statuses.includes("online")) return "online";
    return statuses.length > 0 && statuses.every((status) => status === "offline") ? "offline" : "unknown";
  }

  /** Grows whenever a status may have changed. */
  get version(): number {
    return this.#version;
  }

  handleTimeout(now: Instant): void {
    for (const [site, { status, since }] of this.#sites) {
      if (status === "offline" && now >= since + OFFLINE_DECAY_MS) this.set(site, "unknown", now);
    }
  }

  pollTimeout(): Deadline | undefined {
    let first: Instant | undefined;
    for (const { status, since } of this.#sites.values()) {
      if (status === "offline" && (first === undefined || since < first)) first = since;
    }
    return first === undefined ? undefined : { at: first + OFFLINE_DECAY_MS, reason: "offline site decays" };
  }
}
