import * as abi from "../../assembly/abi.ts";
import type { PeerId } from "../core/id.ts";
import type { PeerActivity } from "../core/packet-core.ts";
import { type Instant, instantOfTick } from "../core/time.ts";
import type { LinearMemory } from "./engine.ts";

/** Reads what the core notes about its peers. */
export class PeerView {
  readonly #view: DataView;

  constructor(memory: LinearMemory) {
    this.#view = new DataView(memory.buffer);
  }

  activity(peer: PeerId, now: Instant): PeerActivity {
    const at = abi.PEERS_BASE + peer * abi.PEER_BYTES;
    const instant = (field: number) => instantOfTick(this.#view.getUint32(at + field, true), now);
    const count = (field: number) => Number(this.#view.getBigUint64(at + field, true));
    return {
      receivedAt: instant(abi.PEER_RECEIVED_AT),
      sentAt: instant(abi.PEER_SENT_AT),
      dataSentAt: instant(abi.PEER_DATA_SENT_AT),
      dataReceivedAt: instant(abi.PEER_DATA_RECEIVED_AT),
      unansweredSince: instant(abi.PEER_UNANSWERED_SINCE),
      unacknowledgedSince: instant(abi.PEER_UNACKNOWLEDGED_SINCE),
      innerAt: instant(abi.PEER_INNER_AT),
      txPackets: count(abi.PEER_TX_PACKETS),
      txBytes: count(abi.PEER_TX_BYTES),
      rxPackets: count(abi.PEER_RX_PACKETS),
      rxBytes: count(abi.PEER_RX_BYTES),
    };
  }

  drainTouched(): PeerId[] {
    const peers: PeerId[] = [];
    const count = this.#view.getUint32(abi.TOUCHED_COUNT, true);
    for (let i = 0; i < count; i++) {
      const peer = this.#view.getUint16(abi.TOUCHED_BASE + i * 2, true);
      this.#view.setUint32(abi.PEERS_BASE + peer * abi.PEER_BYTES + abi.PEER_TOUCHED, 0, true);
      peers.push(peer);
    }
    this.#view.setUint32(abi.TOUCHED_COUNT, 0, true);
    return peers;
  }
}
