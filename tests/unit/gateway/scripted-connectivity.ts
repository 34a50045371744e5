import type {
  ConnectionParameters,
  ConnectionStatus,
  Connectivity,
  ConnectivityEvent,
} from "../../../host/core/connection/connectivity.ts";
import type { NodeId, PeerId } from "../../../host/core/id.ts";
import { encodeGoodbye } from "../../../host/core/packet/control-frame.ts";
import type { PacketCore } from "../../../host/core/packet-core.ts";
import type { Deadline, Instant } from "../../../host/core/time.ts";
import type { Transmit } from "../../../host/core/transmit.ts";

/** What stands at the other end: connects a peer slot of the gateway's core. */
export interface Link {
  connect(node: NodeId, peer: PeerId): void;
  disconnect(node: NodeId, peer: PeerId): void;
}

/**
 * Connections without a network: an upsert connects at once, unless the script says otherwise.
 * Keeps a record of what the machine asked for.
 */
export class ScriptedConnectivity implements Connectivity {
  readonly calls: string[] = [];
  hasRelays = true;
  connectsAtOnce = true;
  readonly #core: PacketCore;
  readonly #link: Link;
  readonly #connections = new Map<NodeId, { peer: PeerId; parameters: ConnectionParameters }>();
  readonly #events: ConnectivityEvent[] = [];

  constructor(core: PacketCore, link: Link) {
    this.#core = core;
    this.#link = link;
  }

  upsert(node: NodeId, peer: PeerId, parameters: ConnectionParameters): "created" | "reused" | "no-relays" {
    this.calls.push(`upsert ${node} ${parameters.role}`);
    if (!this.hasRelays) return "no-relays";

    const known = this.#connections.get(node);
    this.#events.push({ kind: "candidates-added", node, candidates: [`candidate of ${node}`] });
    if (known !== undefined && known.parameters.remotePublicKey === parameters.remotePublicKey)
      return "reused";

    if (known !== undefined) this.#link.disconnect(node, known.peer);
    this.#connections.set(node, { peer, parameters });
    if (this.connectsAtOnce) this.#link.connect(node, peer);
    return "created";
  }

  remove(node: NodeId): void {
    this.calls.push(`remove ${node}`);
    this.#drop(node);
  }

  close(node: NodeId, now: Instant): void {
    this.calls.push(`close ${node}`);
    const connection = this.#connections.get(node);
    if (connection !== undefined) this.#core.seal(connection.peer, encodeGoodbye(), now);
    this.#drop(node);
  }

  /** Script: the connection dies by its own timers. */
  fail(node: NodeId): void {
    this.#drop(node);
    this.#events.push({ kind: "failed", node, reason: "timeout" });
  }

  addRemoteCandidates(node: NodeId, candidates: readonly string[]): void {
    this.calls.push(`add ${node} ${candidates.join()}`);
  }

  removeRemoteCandidates(node: NodeId, candidates: readonly string[]): void {
    this.calls.push(`remove ${node} ${candidates.join()}`);
  }

  updateRelays(disconnected: readonly string[], connected: readonly { id: string }[]): void {
    this.calls.push(`relays -${disconnected.join()} +${connected.map(({ id }) => id).join()}`);
  }

  status(): ConnectionStatus | undefined {
    return undefined;
  }

  reset(): void {
    throw new Error("a gateway never resets");
  }

  handleDatagram(): void {
    this.calls.push("datagram");
  }

  handleKeypairConfirmed(): void {}

  handleNoKeypair(peer: PeerId): void {
    this.calls.push(`no keypair ${peer}`);
  }

  handleTimeout(): void {}

  pollTransmit(): Transmit | undefined {
    return undefined;
  }

  pollEvent(): ConnectivityEvent | undefined {
    return this.#events.shift();
  }

  pollTimeout(): Deadline | undefined {
    return undefined;
  }

  #drop(node: NodeId): void {
    const connection = this.#connections.get(node);
    if (connection === undefined) return;
    this.#connections.delete(node);
    this.#link.disconnect(node, connection.peer);
  }
}
