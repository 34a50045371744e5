import type { FilterId, FilterRule, PacketCore } from "../packet-core.ts";

/** The part of the packet core that keeps filter sets. */
export type FilterStore = Pick<PacketCore, "addFilter" | "removeFilter">;

/**
 * Filter sets in the packet core, shared: resources with equal rules hold the same handle, so that
 * thousands of resources with the portal's few usual rule lists do not exhaust the core's pool.
 */
export class FilterPool {
  readonly #store: FilterStore;
  readonly #byRules = new Map<string, FilterId>();
  readonly #held = new Map<FilterId, { readonly rules: string; holders: number }>();

  constructor(store: FilterStore) {
    this.#store = store;
  }

  /**
   * Takes hold of the set; pair with `release`. Undefined when the core's pool is exhausted: the
   * resource must then stay unreachable, because no handle expresses its rules.
   */
  acquire(rules: readonly FilterRule[]): FilterId | undefined {
    if (rules.length === 0) return 0;

    const key = rules.map(ruleKey).sort().join();
    const known = this.#byRules.get(key);
    const held = known === undefined ? undefined : this.#held.get(known);
    if (known !== undefined && held !== undefined) {
      held.holders += 1;
      return known;
    }

    const filter = this.#add(rules);
    if (filter === undefined) return undefined;
    this.#byRules.set(key, filter);
    this.#held.set(filter, { rules: key, holders: 1 });
    return filter;
  }

  /** The caller invalidates the flows that were decided by the set. */
  release(filter: FilterId): void {
    const held = this.#held.get(filter);
    if (held === undefined) return;

    held.holders -= 1;
    if (held.holders > 0) return;
    this.#held.delete(filter);
    this.#byRules.delete(held.rules);
    this.#store.removeFilter(filter);
  }

  #add(rules: readonly FilterRule[]): FilterId | undefined {
    try {
      return this.#store.addFilter(rules);
    } catch {
      return undefined;
    }
  }
}

/** Whether both lists permit the same by the same rules, whatever their order. */
export function sameFilters(a: readonly FilterRule[], b: readonly FilterRule[]): boolean {
  return a.length === b.length && a.map(ruleKey).sort().join() === b.map(ruleKey).sort().join();
}

function ruleKey(rule: FilterRule): string {
  return rule.kind === "icmp" ? "icmp" : `${rule.kind}:${rule.firstPort}-${rule.lastPort}`;
}
