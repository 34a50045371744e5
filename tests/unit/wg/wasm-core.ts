import { readFileSync } from "node:fs";
import * as abi from "../../../assembly/abi.ts";
import type { PeerId } from "../../../host/core/id.ts";
import type { Keypair } from "../../../host/core/packet-core.ts";
import type { Instant } from "../../../host/core/time.ts";
import { loadPacketCore } from "../../../host/wasm/loader.ts";
import type { WasmPacketCore } from "../../../host/wasm/packet-core.ts";
import { buildVariant } from "../../kernel/variants.ts";
import type { Opened } from "./model-core.ts";
import type { DataPath } from "./pair.ts";

/** The real packet core, driven one datagram at a time. */
export class WasmDataPath implements DataPath {
  readonly #core: WasmPacketCore;
  readonly #bytes: Uint8Array;
  readonly #keypairs = new Set<number>();
  mostKeypairs = 0;

  constructor() {
    this.#core = loadPacketCore(readFileSync(buildVariant("release", "assembly/index.ts")));
    this.#bytes = new Uint8Array(this.#core.memory.buffer);
  }

  takeSealed(): { readonly datagram: Uint8Array }[] {
    const { batch } = this.#core;
    const sealed: { datagram: Uint8Array }[] = [];
    for (let train = 0; train < batch.trainCount; train++) {
      const start = batch.trainOffset(train);
      const end = start + batch.trainLength(train);
      const step = batch.trainSegmentLength(train);
      for (let at = start; at < end; at += step) {
        sealed.push({ datagram: this.#bytes.slice(at, Math.min(at + step, end)) });
      }
    }
    batch.clearTrains();
    return sealed;
  }

  open(datagram: Uint8Array, now: Instant): Opened | undefined {
    const { batch } = this.#core;
    this.#bytes.set(datagram, abi.UDP_IN_BASE);
    batch.setDatagramIn(0, abi.UDP_IN_BASE, datagram.length, 0, 0);
    batch.setDatagramInCount(1);
    this.#core.decapsulate(now);

    let opened: Opened | undefined;
    let confirmed: number | undefined;
    for (let slow = 0; slow < this.#core.slowCount; slow++) {
      const reason = this.#core.slowReason(slow);
      const peer = this.#core.slowPeer(slow);
      if (reason === abi.SLOW_KEYPAIR_CONFIRMED) {
        confirmed = this.#core.slowDetail(slow);
        opened ??= { peer, packet: new Uint8Array(0), confirmed };
      } else if (reason === abi.SLOW_PEER_PACKET) {
        opened = { peer, packet: this.#core.slowPacket(slow).slice(), confirmed };
      }
    }
    this.#core.clearSlow();
    return opened;
  }

  drops(): Record<string, number> {
    return this.#core.drops();
  }

  addKeypair(peer: PeerId, keypair: Keypair): void {
    this.#core.addKeypair(peer, keypair);
    this.#keypairs.add(keypair.localIndex);
    this.mostKeypairs = Math.max(this.mostKeypairs, this.#keypairs.size);
  }

  removeKeypair(peer: PeerId, localIndex: number): void {
    this.#core.removeKeypair(peer, localIndex);
    this.#keypairs.delete(localIndex);
  }

  addPeer: DataPath["addPeer"] = () => this.#core.addPeer();
  removePeer: DataPath["removePeer"] = (...given) => this.#core.removePeer(...given);
  setPath: DataPath["setPath"] = (...given) => this.#core.setPath(...given);
  invalidatePeer: DataPath["invalidatePeer"] = (...given) => this.#core.invalidatePeer(...given);
  invalidateAll: DataPath["invalidateAll"] = () => this.#core.invalidateAll();
  selectKeypair: DataPath["selectKeypair"] = (...given) => this.#core.selectKeypair(...given);
  sendCounter: DataPath["sendCounter"] = (...given) => this.#core.sendCounter(...given);
  activity: DataPath["activity"] = (...given) => this.#core.activity(...given);
  drainTouched: DataPath["drainTouched"] = () => this.#core.drainTouched();
  addFilter: DataPath["addFilter"] = (...given) => this.#core.addFilter(...given);
  removeFilter: DataPath["removeFilter"] = (...given) => this.#core.removeFilter(...given);
  permits: DataPath["permits"] = (...given) => this.#core.permits(...given);
  permittedBy: DataPath["permittedBy"] = (...given) => this.#core.permittedBy(...given);
  addFlow: DataPath["addFlow"] = (...given) => this.#core.addFlow(...given);
  natOutgoing: DataPath["natOutgoing"] = (...given) => this.#core.natOutgoing(...given);
  natIncoming: DataPath["natIncoming"] = (...given) => this.#core.natIncoming(...given);
  natNote: DataPath["natNote"] = (...given) => this.#core.natNote(...given);
  natReset: DataPath["natReset"] = (...given) => this.#core.natReset(...given);
  natHandleTimeout: DataPath["natHandleTimeout"] = (...given) => this.#core.natHandleTimeout(...given);
  natCount: DataPath["natCount"] = () => this.#core.natCount();
  seal: DataPath["seal"] = (...given) => this.#core.seal(...given);
  writeTun: DataPath["writeTun"] = (...given) => this.#core.writeTun(...given);
}
