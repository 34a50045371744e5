// One end of a plain WireGuard tunnel, for tests against other implementations: the product's data thread with
// fixed peers. Usage: static-end.ts <JSON of DataPlaneOptions with keys in base64>; prints `ready`, then one line
// per completed handshake; ends on SIGTERM.

import { parseSocketAddress } from "../../host/core/address.ts";
import { DataPlane } from "../../host/daemon/data-plane.ts";
import type { UdpBackend } from "../../host/daemon/data-thread-protocol.ts";

export interface StaticEnd {
  readonly privateKey: string;
  readonly peers: readonly {
    readonly publicKey: string;
    readonly presharedKey?: string;
    readonly endpoint?: string;
    readonly allowedIps: readonly string[];
  }[];
  readonly tunName: string;
  readonly backend: UdpBackend;
  readonly port: number;
}

const end = JSON.parse(process.argv[2] ?? "") as StaticEnd;
const plane = new DataPlane<{ kind: "shutdown" }, { kind: string; severity?: string; message?: string }>(
  {
    tunName: end.tunName,
    backend: end.backend,
    port: end.port,
    mark: undefined,
    machine: {
      role: "static",
      privateKey: Buffer.from(end.privateKey, "base64"),
      peers: end.peers.map((peer) => ({
        publicKey: Buffer.from(peer.publicKey, "base64"),
        presharedKey: peer.presharedKey === undefined ? undefined : Buffer.from(peer.presharedKey, "base64"),
        endpoint: peer.endpoint === undefined ? undefined : parseSocketAddress(peer.endpoint),
        allowedIps: peer.allowedIps,
      })),
    },
  },
  {
    onEvent: (event) => console.log(JSON.stringify(event)),
    onFailure: (message) => {
      console.error(message);
      process.exit(1);
    },
  },
);
process.on("SIGTERM", () => {
  void plane.shutdown().then((statistics) => {
    console.log(JSON.stringify(statistics));
    process.exit(0);
  });
});
await plane.ready();
console.log("ready");
