import type { Assignment, StubResolver } from "../dns/stub-resolver.ts";
import type { ResourceId } from "../id.ts";
import type { FilterId } from "../packet-core.ts";
import { type FilterPool, sameFilters } from "../policy/filter.ts";
import { parsePattern } from "../policy/pattern.ts";
import { addressText, type Resource } from "../policy/resource.ts";
import type { ResourceView } from "./events.ts";
import type { Outbox } from "./outbox.ts";
import type { ClientRoutes } from "./routing.ts";
import type { SiteStatuses } from "./site-status.ts";

export interface ResourcesParts {
  readonly routes: ClientRoutes;
  readonly stub: StubResolver;
  readonly filters: FilterPool;
  readonly outbox: Outbox;
}

/**
 * The resources that the portal granted sight of, and what they install: routes, names, filters
 * (tunnel-core §6). Access itself is somebody else's business: revoke it before `remove`.
 */
export class ClientResources {
  readonly #resources = new Map<ResourceId, Resource>();
  readonly #filterOf = new Map<ResourceId, FilterId>();
  readonly #routes: ClientRoutes;
  readonly #stub: StubResolver;
  readonly #filters: FilterPool;
  readonly #outbox: Outbox;
  #isInternetWanted = false;

  constructor({ routes, stub, filters, outbox }: ResourcesParts) {
    this.#routes = routes;
    this.#stub = stub;
    this.#filters = filters;
    this.#outbox = outbox;
  }

  get(id: ResourceId): Resource | undefined {
    return this.#resources.get(id);
  }

  ids(): ResourceId[] {
    return [...this.#resources.keys()];
  }

  /** Stores a new resource and installs it, or replaces the record of one that leads to the same. */
  put(resource: Resource): void {
    const isNew = !this.#resources.has(resource.id);
    this.#resources.set(resource.id, resource);
    if (isNew) this.#install(resource);
  }

  remove(id: ResourceId): void {
    const resource = this.#resources.get(id);
    if (resource === undefined) return;

    this.#resources.delete(id);
    this.#stub.remove(id);
    this.#routes.removeResource(id);
    this.#filters.release(this.#filterOf.get(id) ?? 0);
    this.#filterOf.delete(id);
    if (resource.kind === "internet") this.#routeInternet();
  }

  /** Routes names that were assigned just now. */
  addNames(assignments: readonly Assignment[]): void {
    for (const assignment of assignments) {
      this.#routes.addName(assignment, this.filterOf(assignment.resource));
    }
  }

  /** What every claim on a name is filtered by. */
  filterOf(id: ResourceId): FilterId {
    return this.#filterOf.get(id) ?? 0;
  }

  /** The user's switch; it works whether or not there is an internet resource yet. */
  setInternetWanted(isWanted: boolean): void {
    this.#isInternetWanted = isWanted;
    this.#routeInternet();
  }

  get isInternetWanted(): boolean {
    return this.#isInternetWanted;
  }

  internetIds(): ResourceId[] {
    return this.ids().filter((id) => this.#resources.get(id)?.kind === "internet");
  }

  /** For people: sorted by name, then by id. */
  views(statuses: SiteStatuses): ResourceView[] {
    return [...this.#resources.values()]
      .map((resource) => this.viewOf(resource, statuses))
      .sort((a, b) => compareText(a.name, b.name) || compareText(a.id, b.id));
  }

  viewOf(resource: Resource, statuses: SiteStatuses): ResourceView {
    return {
      id: resource.id,
      kind: resource.kind,
      name: resource.name,
      address: addressText(resource),
      description: resource.kind === "internet" ? undefined : resource.description,
      sites: resource.sites,
      status: statuses.of(resource.sites),
      isActive: resource.kind === "internet" ? this.#isInternetWanted : undefined,
    };
  }

  #install(resource: Resource): void {
    if (resource.kind === "internet") {
      this.#routeInternet();
      return;
    }
    const filter = this.#filters.acquire(resource.filters);
    if (filter === undefined) {
      this.#outbox.note("warn", "resource is unreachable: no room for its filters", {
        resource: resource.id,
      });
      return;
    }
    this.#filterOf.set(resource.id, filter);
    if (resource.kind === "cidr") {
      this.#routes.addNetwork(resource.address, resource.id, filter);
      return;
    }
    const pattern = parsePattern(resource.address);
    if (pattern === undefined) {
      this.#outbox.note("warn", "resource is unreachable: its address is no valid pattern", {
        resource: resource.id,
      });
      return;
    }
    this.addNames(this.#stub.add({ id: resource.id, pattern, ipStack: resource.ipStack }));
  }

  #routeInternet(): void {
    this.#routes.setInternet(this.#isInternetWanted ? this.internetIds().sort()[0] : undefined);
  }
}

/** Whether both lead to the same place under the same rules; names do not matter (tunnel-core §6.2). */
export function leadsToSame(a: Resource, b: Resource): boolean {
  return (
    a.kind === b.kind &&
    addressText(a) === addressText(b) &&
    sameStack(a, b) &&
    sameRules(a, b) &&
    sameSites(a, b)
  );
}

function sameStack(a: Resource, b: Resource): boolean {
  return a.kind !== "dns" || b.kind !== "dns" || a.ipStack === b.ipStack;
}

function sameRules(a: Resource, b: Resource): boolean {
  return a.kind === "internet" || b.kind === "internet" || sameFilters(a.filters, b.filters);
}

function sameSites(a: Resource, b: Resource): boolean {
  const ids = (resource: Resource) => [...new Set(resource.sites.map((site) => site.id))].sort().join();
  return ids(a) === ids(b);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
