import * as abi from "../../assembly/abi.ts";
import {
  ENTRY_INSIDE_VALUE,
  ENTRY_OUTSIDE_VALUE,
  ENTRY_PROXY_ADDRESS,
  ENTRY_REAL_ADDRESS,
} from "../../assembly/nat/layout.ts";
import type { IpAddress } from "../core/address.ts";
import type { PeerId } from "../core/id.ts";
import type { NatTuple, PacketCore } from "../core/packet-core.ts";
import { type Instant, tickOf } from "../core/time.ts";
import type { LinearMemory } from "./engine.ts";
import type { CoreExports } from "./exports.ts";
import { fromSlotAddress, SLOT_ADDRESS_BYTES, toSlotAddress } from "./slot-address.ts";

const KINDS = { tcp: abi.KIND_TCP, udp: abi.KIND_UDP, echo: abi.KIND_ECHO } as const;
const FIRST = abi.ARGUMENT_BASE;
const SECOND = abi.ARGUMENT_BASE + SLOT_ADDRESS_BYTES;

/** Encodes NAT questions into the argument slot and reads the answers from the entries. */
export class NatView {
  readonly #exports: CoreExports;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(exports: CoreExports, memory: LinearMemory) {
    this.#exports = exports;
    this.#bytes = new Uint8Array(memory.buffer);
    this.#view = new DataView(memory.buffer);
  }

  outgoing(
    peer: PeerId,
    inside: NatTuple,
    real: IpAddress,
    now: Instant,
  ): ReturnType<PacketCore["natOutgoing"]> {
    const version = toSlotAddress(inside.ip, this.#bytes, FIRST);
    if (toSlotAddress(real, this.#bytes, SECOND) !== version) {
      throw new TypeError("a NAT entry has addresses of one IP version");
    }
    const kind = KINDS[inside.kind];
    const entry = this.#exports.natOutgoing(peer, kind, inside.port, FIRST, SECOND, version, tickOf(now));
    if (entry < 0) return undefined;
    const at = this.#exports.natEntry(entry);
    // A known inside keeps its target, which need not be `real`.
    const ip = fromSlotAddress(this.#bytes, at + ENTRY_REAL_ADDRESS, version);
    const port = this.#view.getUint16(at + ENTRY_OUTSIDE_VALUE, true);
    return { entry, outside: { kind: inside.kind, port, ip } };
  }

  incoming(peer: PeerId, outside: NatTuple, now: Instant): ReturnType<PacketCore["natIncoming"]> {
    const version = toSlotAddress(outside.ip, this.#bytes, FIRST);
    const kind = KINDS[outside.kind];
    const entry = this.#exports.natIncoming(peer, kind, outside.port, FIRST, version, tickOf(now));
    if (entry === abi.NAT_EXPIRED) return "expired";
    if (entry < 0) return "none";
    const at = this.#exports.natEntry(entry);
    const ip = fromSlotAddress(this.#bytes, at + ENTRY_PROXY_ADDRESS, version);
    const port = this.#view.getUint16(at + ENTRY_INSIDE_VALUE, true);
    return { entry, inside: { kind: outside.kind, port, ip } };
  }
}
