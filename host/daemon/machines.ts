import { cidr, type SocketAddress } from "../core/address.ts";
import { ClientState } from "../core/client/state.ts";
import { ConnectionNode } from "../core/connection/node.ts";
import { CLIENT_SETTINGS, GATEWAY_SETTINGS } from "../core/connection/settings.ts";
import { GatewayState } from "../core/gateway/state.ts";
import type { PacketCore } from "../core/packet-core.ts";
import type { PathTable } from "../core/path.ts";
import type { Instant } from "../core/time.ts";
import type { TunnelMachine } from "../core/tunnel-machine.ts";
import { StaticTunnel } from "../core/wg/static-tunnel.ts";
import { noiseCrypto } from "../io/crypto.ts";
import { systemRandom } from "../io/random.ts";
import { unixTimeMs } from "./clock.ts";
import type { MachineQuery, MachineSetup } from "./data-thread-protocol.ts";

export interface MachineParts {
  readonly core: PacketCore;
  readonly paths: PathTable;
  /** Addresses that the sockets are bound to. */
  readonly local: { readonly v4: SocketAddress | undefined; readonly v6: SocketAddress | undefined };
}

export interface MachineWithCounters {
  readonly machine: TunnelMachine<never, unknown>;
  /** Datagrams that were no data of a known peer and were refused, by reason. */
  readonly refusedDatagrams: () => Record<string, number>;
  /** Undefined for a machine that cannot be asked. */
  readonly answer: ((query: MachineQuery, now: Instant) => unknown) | undefined;
}

/** Builds the machine that a data thread runs, with real randomness, cryptography and wall clock. */
export function createMachine(
  setup: MachineSetup,
  { core, paths, local }: MachineParts,
  now: Instant,
): MachineWithCounters {
  const crypto = noiseCrypto();
  const random = systemRandom();
  const { privateKey } = setup;
  const common = { core, paths, crypto, random, unixTimeMs: unixTimeMs() };
  if (setup.role === "static") {
    const peers = setup.peers.map((peer) => ({ ...peer, allowedIps: peer.allowedIps.map(cidr) }));
    const machine = new StaticTunnel({ ...common, privateKey, local, peers }, now);
    return { machine, refusedDatagrams: () => ({}), answer: undefined };
  }
  const identity = { privateKey, publicKey: crypto.publicKey(privateKey) };
  const settings = setup.role === "client" ? CLIENT_SETTINGS : GATEWAY_SETTINGS;
  const connectivity = new ConnectionNode({ ...common, identity, settings }, now);
  const machine =
    setup.role === "client"
      ? new ClientState({ core, connectivity, random }, now)
      : new GatewayState({ core, connectivity, unixTimeMs: common.unixTimeMs }, now);
  const answer = (query: MachineQuery, at: Instant) =>
    query.kind === "explain" ? machine.explain(query.question, at) : machine.status(at);
  return { machine, refusedDatagrams: () => connectivity.drops(), answer };
}
