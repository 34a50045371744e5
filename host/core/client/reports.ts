import type { StubResolver } from "../dns/stub-resolver.ts";
import type { ClientInterface } from "../messages.ts";
import type { ClientDns } from "./dns.ts";
import type { ClientEvent, TunConfig } from "./events.ts";
import type { ClientResources } from "./resources.ts";
import type { ClientRoutes } from "./routing.ts";
import type { SiteStatuses } from "./site-status.ts";
import { sameTunConfig, tunConfig } from "./tun-config.ts";

export interface ReportsParts {
  readonly routes: ClientRoutes;
  readonly dns: ClientDns;
  readonly resources: ClientResources;
  readonly statuses: SiteStatuses;
  readonly stub: StubResolver;
}

/**
 * The reports of which only the newest matters: TUN configuration, names, resources. They are made when
 * polled, so that one input leads to one of each at most, and only if it differs from the last.
 */
export class Reports {
  readonly #parts: ReportsParts;
  #interface: ClientInterface | undefined;
  #lastConfig: TunConfig | undefined;
  #lastViews = "[]";
  #seenVersion = 0;
  readonly #isStale = { config: false, resources: false, records: false };

  constructor(parts: ReportsParts) {
    this.#parts = parts;
  }

  configure(configuration: ClientInterface): void {
    this.#interface = configuration;
    this.#isStale.config = true;
  }

  serversChanged(): void {
    this.#isStale.config = true;
  }

  resourcesChanged(): void {
    this.#isStale.config = true;
    this.#isStale.resources = true;
  }

  recordsChanged(): void {
    this.#isStale.records = true;
  }

  /** The configuration as it should be now, reported or not; undefined before the first one. */
  config(): TunConfig | undefined {
    if (this.#interface === undefined) return undefined;
    const { dns, routes } = this.#parts;
    return tunConfig({
      interface: this.#interface,
      dns: dns.mapping,
      networks: routes.networks(),
      internet: routes.internet === undefined ? "not-routed" : "routed",
    });
  }

  poll(): ClientEvent | undefined {
    return this.#config() ?? this.#records() ?? this.#views();
  }

  #config(): ClientEvent | undefined {
    if (!this.#isStale.config) return undefined;
    const config = this.config();
    if (config === undefined) return undefined;

    this.#isStale.config = false;
    if (this.#lastConfig !== undefined && sameTunConfig(config, this.#lastConfig)) return undefined;
    this.#lastConfig = config;
    return { kind: "tun-config", config };
  }

  #records(): ClientEvent | undefined {
    if (!this.#isStale.records) return undefined;
    this.#isStale.records = false;
    return { kind: "records", records: this.#parts.stub.records() };
  }

  #views(): ClientEvent | undefined {
    const { resources, statuses } = this.#parts;
    if (!this.#isStale.resources && statuses.version === this.#seenVersion) return undefined;
    this.#isStale.resources = false;
    this.#seenVersion = statuses.version;

    const list = resources.views(statuses);
    const text = JSON.stringify(list);
    if (text === this.#lastViews) return undefined;
    this.#lastViews = text;
    return { kind: "resources", list };
  }
}
