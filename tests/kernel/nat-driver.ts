// The NAT kernel behind readable calls: keys as objects, addresses as text, ticks taken modulo 2^32.
import assert from "node:assert/strict";
import { NAT_EXHAUSTED, NAT_EXPIRED, NAT_NONE } from "../../assembly/abi.ts";
import {
  ENTRY_INSIDE_VALUE,
  ENTRY_KIND,
  ENTRY_OUTSIDE_VALUE,
  ENTRY_OWNER,
  ENTRY_PROXY_ADDRESS,
  ENTRY_REAL_ADDRESS,
  ENTRY_VERSION,
} from "../../assembly/nat/layout.ts";
import { ARGUMENT_AT, loadNet, type Net } from "./net-kernels.ts";
import type { NatKey } from "./twins/nat.ts";
import { ipv4, ipv6 } from "./twins/packets.ts";
import type { VariantName } from "./variants.ts";

export type Incoming = { readonly entry: number; readonly inside: NatKey } | "expired" | "none";

export class NatDriver {
  readonly net: Net;

  constructor(variant: VariantName) {
    this.net = loadNet(variant);
  }

  outgoing(inside: NatKey, real: string, now: number): { entry: number; outside: NatKey } | undefined {
    const version = this.#put(inside.address, ARGUMENT_AT);
    assert.equal(this.#put(real, ARGUMENT_AT + 16), version);
    const { owner, kind, value } = inside;
    const entry = this.net.natOutgoing(owner, kind, value, ARGUMENT_AT, ARGUMENT_AT + 16, version, now >>> 0);
    if (entry === NAT_EXHAUSTED) return undefined;
    assert.ok(entry >= 0);
    return { entry, outside: this.#key(entry, ENTRY_OUTSIDE_VALUE, ENTRY_REAL_ADDRESS) };
  }

  incoming(outside: NatKey, now: number): Incoming {
    const version = this.#put(outside.address, ARGUMENT_AT);
    const { owner, kind, value } = outside;
    const entry = this.net.natIncoming(owner, kind, value, ARGUMENT_AT, version, now >>> 0);
    if (entry === NAT_NONE) return "none";
    if (entry === NAT_EXPIRED) return "expired";
    assert.ok(entry >= 0);
    return { entry, inside: this.#key(entry, ENTRY_INSIDE_VALUE, ENTRY_PROXY_ADDRESS) };
  }

  note(entry: number, direction: "outgoing" | "incoming", tcpFlags: number, now: number): void {
    this.net.natNote(entry, direction === "outgoing" ? 1 : 0, tcpFlags, now >>> 0);
  }

  tick(now: number): number {
    return this.net.natTick(now >>> 0);
  }

  get count(): number {
    return this.net.natCount();
  }

  #put(address: string, at: number): number {
    const isIpv4 = address.includes(".");
    this.net.put(new Uint8Array(16).fill(0xee), at);
    this.net.put(isIpv4 ? ipv4(address) : ipv6(0xfd00, Number.parseInt(address, 16)), at);
    return isIpv4 ? 4 : 6;
  }

  #key(entry: number, valueOffset: number, addressOffset: number): NatKey {
    const { net } = this;
    const at = net.natEntry(entry);
    const bytes = net.take(at + addressOffset, 16);
    const isIpv4 = net.bytes[at + ENTRY_VERSION] === 4;
    if (isIpv4) assert.deepEqual([...bytes.subarray(4)], new Array(12).fill(0));
    return {
      owner: net.view.getUint16(at + ENTRY_OWNER, true),
      kind: net.bytes[at + ENTRY_KIND]!,
      value: net.view.getUint16(at + valueOffset, true),
      address: isIpv4 ? bytes.subarray(0, 4).join(".") : ((bytes[14]! << 8) | bytes[15]!).toString(16),
    };
  }
}
