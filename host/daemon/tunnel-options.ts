import type { UdpBackend } from "./data-thread-protocol.ts";

/** What client and gateway have in common. */
export interface TunnelDaemonOptions {
  readonly portal: URL;
  readonly token: string;
  /** Stable id of the device (portal §2.2). */
  readonly externalId: string;
  readonly name: string;
  readonly tunName: string;
  readonly udpBackend: UdpBackend;
  readonly udpPort: number;
  /** Where `culvert status` and `culvert explain` find this daemon. */
  readonly socketPath: string;
}
