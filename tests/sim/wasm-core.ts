import * as abi from "../../assembly/abi.ts";
import type { Instant } from "../../host/core/time.ts";
import { loadPacketCore } from "../../host/wasm/loader.ts";
import type { DataPath } from "./node.ts";

/** The real packet core, driven one datagram at a time. */
export function wasmDataPath(): DataPath {
  const core = loadPacketCore();
  return Object.assign(core, {
    takeSealed() {
      const sealed: { path: number; datagram: Uint8Array }[] = [];
      for (let train = 0; train < core.batch.trainCount; train++) {
        const start = core.batch.trainOffset(train);
        const end = start + core.batch.trainLength(train);
        const step = core.batch.trainSegmentLength(train);
        for (let at = start; at < end; at += step) {
          const datagram = core.bytes.slice(at, Math.min(at + step, end));
          sealed.push({ path: core.batch.trainPath(train), datagram });
        }
      }
      core.batch.clearTrains();
      return sealed;
    },

    open(datagram: Uint8Array, now: Instant) {
      core.bytes.set(datagram, abi.UDP_IN_BASE);
      core.batch.setDatagramIn(0, abi.UDP_IN_BASE, datagram.length, 0, 0);
      core.batch.setDatagramInCount(1);
      core.decapsulate(now);

      const opened = { peer: -1, packet: new Uint8Array(0), confirmed: undefined as number | undefined };
      let isRefused = false;
      for (let slow = 0; slow < core.slowCount; slow++) {
        const reason = core.slowReason(slow);
        if (reason === abi.SLOW_DATAGRAM) isRefused = true;
        else opened.peer = core.slowPeer(slow);
        if (reason === abi.SLOW_KEYPAIR_CONFIRMED) opened.confirmed = core.slowDetail(slow);
        if (reason === abi.SLOW_PEER_PACKET) opened.packet = core.slowPacket(slow).slice();
      }
      core.clearSlow();
      return isRefused ? undefined : opened;
    },
  });
}
