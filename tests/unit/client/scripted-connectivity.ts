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

/** Connections without a network: the script says when one is established or fails; calls are recorded. */
export class ScriptedConnectivity implements Connectivity {
  readonly calls: string[] = [];
  hasRelays = true;
  readonly #core: PacketCore;
  readonly #connections = new Map<NodeId, { readonly peer: PeerId; readonly parameters: string }>();
  readonly #events: ConnectivityEvent[] = [];

  constructor(core: PacketCore) {
    this.#core = core;
  }

  peerOf(node: NodeId): PeerId | undefined {
    return this.#connections.get(node)?.peer;
  }

  /** Queues an event; the machine sees it with its next input. */
  script(event: ConnectivityEvent): void {
    if (event.kind === "failed") this.#connections.delete(event.node);
    this.#events.push(event);
  }

  upsert(node: NodeId, peer: PeerId, parameters: ConnectionParameters): "created" | "reused" | "no-relays" {
    this.calls.push(`upsert ${node} ${parameters.role}`);
    if (!this.hasRelays) return "no-relays";

    const text = JSON.stringify(parameters);
    if (this.#connections.get(node)?.parameters === text) return "reused";
    this.#connections.set(node, { peer, parameters: text });
    this.#events.push({ kind: "candidates-added", node, candidates: ["candidate of the client"] });
    return "created";
  }

  remove(node: NodeId): void {
    this.calls.push(`remove ${node}`);
    this.#connections.delete(node);
  }

  close(node: NodeId, now: Instant): void {
    this.calls.push(`close ${node}`);
    const peer = this.peerOf(node);
    if (peer !== undefined) this.#core.seal(peer, encodeGoodbye(), now);
    this.#connections.delete(node);
  }

  addRemoteCandidates(node: NodeId, candidates: readonly string[]): void {
    this.calls.push(`add ${node} ${candidates.join()}`);
  }

  removeRemoteCandidates(node: NodeId, candidates: readonly string[]): void {
    this.calls.push(`withdraw ${node} ${candidates.join()}`);
  }

  updateRelays(disconnected: readonly string[], connected: readonly { readonly id: string }[]): void {
    this.calls.push(`relays -${disconnected.join()} +${connected.map(({ id }) => id).join()}`);
  }

  status(): ConnectionStatus | undefined {
    return undefined;
  }

  reset(): void {
    this.calls.push("reset");
    this.#connections.clear();
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
}
