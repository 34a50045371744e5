import type { LabHost } from "../../host/lab/host.ts";

const TABLE = "arrivals";

/** Counts packets that arrive at the site, by the kernel's own packet filter. One per host: a new one takes the place of the old. */
export class SiteCounter {
  readonly #host: LabHost;

  private constructor(host: LabHost) {
    this.#host = host;
  }

  /** `matches`: nftables expressions for the packets that count. */
  static async create(host: LabHost, ...matches: string[]): Promise<SiteCounter> {
    await host.nft(`
table inet ${TABLE} {}
delete table inet ${TABLE}
table inet ${TABLE} {
  counter seen {}
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    ${matches.map((match) => `${match} counter name seen`).join("\n    ")}
  }
}
`);
    return new SiteCounter(host);
  }

  async packets(): Promise<number> {
    const { stdout } = await this.#host.exec(["nft", "list", "counter", "inet", TABLE, "seen"]);
    return Number(/packets (\d+)/.exec(stdout)?.[1]);
  }
}
