import { parseSocketAddress } from "../../host/core/address.ts";
import type { ConnectivityEvent } from "../../host/core/connection/connectivity.ts";
import { ConnectionNode } from "../../host/core/connection/node.ts";
import type { RoleSettings } from "../../host/core/connection/settings.ts";
import type { NodeId, PathId, PeerId, RelayId } from "../../host/core/id.ts";
import type { Relay } from "../../host/core/messages.ts";
import type { PacketCore } from "../../host/core/packet-core.ts";
import { PathTable } from "../../host/core/path.ts";
import type { Deadline, Instant } from "../../host/core/time.ts";
import type { Datagram, Transmit } from "../../host/core/transmit.ts";
import type { StaticIdentity } from "../../host/core/wg/crypto.ts";
import { noiseCrypto } from "../../host/io/crypto.ts";
import type { Endpoint } from "./network.ts";
import { SeededRandom } from "./random.ts";

export const crypto = noiseCrypto();

/** A packet core with the data path that a driver has besides `PacketCore`. */
export interface DataPath extends PacketCore {
  takeSealed(): { readonly path: PathId; readonly datagram: Uint8Array }[];
  open(
    datagram: Uint8Array,
    now: Instant,
  ):
    | { readonly peer: PeerId; readonly packet: Uint8Array; readonly confirmed: number | undefined }
    | undefined;
}

export interface SimNodeOptions {
  readonly settings: RoleSettings;
  readonly core: DataPath;
  readonly seed: number;
  readonly unixTimeMs?: number;
}

const TYPE_DATA = 4;

/** A ConnectionNode with the loop around it: sorts datagrams as the packet core does, drains, logs. */
export class SimNode implements Endpoint {
  identity: StaticIdentity;
  readonly core: DataPath;
  readonly connectivity: ConnectionNode;
  readonly paths = new PathTable();
  readonly events: { readonly at: Instant; readonly event: ConnectivityEvent }[] = [];
  readonly packets: { readonly at: Instant; readonly peer: PeerId; readonly packet: Uint8Array }[] = [];
  /** Called for each event as it is drained. */
  onEvent: (event: ConnectivityEvent) => void = () => {};
  readonly #transmits: Transmit[] = [];

  constructor(options: SimNodeOptions, now: Instant) {
    const random = new SeededRandom(options.seed);
    const privateKey = random.bytes(32);
    this.identity = { privateKey, publicKey: crypto.publicKey(privateKey) };
    this.core = options.core;
    this.connectivity = new ConnectionNode(
      {
        core: options.core,
        paths: this.paths,
        crypto,
        random,
        identity: this.identity,
        unixTimeMs: options.unixTimeMs ?? 1_700_000_000_000,
        settings: options.settings,
      },
      now,
    );
  }

  handleDatagram(datagram: Datagram, now: Instant): void {
    const opened = datagram.payload[0] === TYPE_DATA ? this.core.open(datagram.payload, now) : undefined;
    if (opened === undefined) {
      this.connectivity.handleDatagram(datagram, now);
    } else {
      if (opened.confirmed !== undefined) {
        this.connectivity.handleKeypairConfirmed(opened.peer, opened.confirmed, now);
      }
      if (opened.packet.length > 0) this.packets.push({ at: now, ...opened });
      this.connectivity.handleTimeout(now);
    }
    this.drain(now);
  }

  /** Sends one inner packet, as the data path would; false: no keypair or no path. */
  sendPacket(peer: PeerId, packet: Uint8Array, now: Instant): boolean {
    const isSealed = this.core.seal(peer, packet, now);
    if (!isSealed) this.connectivity.handleNoKeypair(peer, now);
    this.connectivity.handleTimeout(now);
    this.drain(now);
    return isSealed;
  }

  /** A network change: new key, everything forgotten. */
  rekey(privateKey: Uint8Array, now: Instant): void {
    this.identity = { privateKey, publicKey: crypto.publicKey(privateKey) };
    this.connectivity.reset(privateKey, now);
    this.drain(now);
  }

  handleTimeout(now: Instant): void {
    this.connectivity.handleTimeout(now);
    this.drain(now);
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollTimeout(): Deadline | undefined {
    return this.connectivity.pollTimeout();
  }

  /** To be called after each call of `connectivity` from outside. */
  drain(now: Instant): void {
    for (let t = this.connectivity.pollTransmit(); t !== undefined; t = this.connectivity.pollTransmit()) {
      this.#transmits.push(t);
    }
    for (const { path, datagram } of this.core.takeSealed()) {
      const known = this.paths.path(path);
      if (known === undefined) throw new Error(`path ${path} is not in the table`);
      this.#transmits.push({ ...known, payload: datagram });
    }
    for (let e = this.connectivity.pollEvent(); e !== undefined; e = this.connectivity.pollEvent()) {
      this.events.push({ at: now, event: e });
      this.onEvent(e);
    }
    this.paths.collect();
  }

  /** Events of one kind, in order. */
  eventsOf<K extends ConnectivityEvent["kind"]>(
    kind: K,
  ): (Extract<ConnectivityEvent, { kind: K }> & { readonly at: Instant })[] {
    return this.events.flatMap(({ at, event }) =>
      event.kind === kind ? [{ at, ...(event as Extract<ConnectivityEvent, { kind: K }>) }] : [],
    );
  }
}

export function relayAt(id: string, ...sockets: readonly string[]): Relay {
  const addresses = sockets.map((text) => parseSocketAddress(text));
  return {
    id: id as RelayId,
    v4: addresses.find((address) => address !== undefined && !address.ip.includes(":")),
    v6: addresses.find((address) => address?.ip.includes(":") === true),
    username: "u",
    password: "p",
    expiresAt: 2_000_000_000,
  };
}

export function nodeId(name: string): NodeId {
  return name as NodeId;
}
