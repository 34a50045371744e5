import type { ClientStatus } from "../core/client/status.ts";
import type { GatewayStatus } from "../core/gateway/explain.ts";

/** What `culvert status` shows: the daemon, and the machine in its data thread. */
export type DaemonStatus = DaemonFields & (ClientStatus | GatewayStatus);

export interface DaemonFields {
  readonly tun: string;
  readonly uptimeMs: number;
  readonly portal: {
    readonly url: string;
    /** The channel's state; `starting` before the first attempt. */
    readonly state: string;
    readonly forMs: number;
  };
}

/** Remembers the portal connection's state and since when. */
export class StatusBoard {
  readonly #tun: string;
  readonly #url: string;
  readonly #startedAt = performance.now();
  #state = "starting";
  #since = performance.now();

  constructor({ tunName, portal }: { readonly tunName: string; readonly portal: URL }) {
    this.#tun = tunName;
    // Without a path or query: whatever an operator put there is not for others to read.
    this.#url = `${portal.protocol}//${portal.host}`;
  }

  setPortal(state: string): void {
    this.#state = state;
    this.#since = performance.now();
  }

  fields(): DaemonFields {
    const now = performance.now();
    return {
      tun: this.#tun,
      uptimeMs: Math.round(now - this.#startedAt),
      portal: { url: this.#url, state: this.#state, forMs: Math.round(now - this.#since) },
    };
  }
}
