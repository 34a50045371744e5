import { KIND_TCP, KIND_UDP, NAT_EXPIRED, NAT_NONE, TUN_IN_BASE } from "../abi";
import { ENTRY_INSIDE_VALUE, ENTRY_OUTSIDE_VALUE } from "../nat/layout";
import {
  natCount,
  natEntry,
  natGeneration,
  natIncoming,
  natNote,
  natOutgoing,
  natReset,
  natTick,
} from "../nat/table";

const OWNER = 7;
const FIN = 1;
const RST = 4;
const PROXY_1: usize = TUN_IN_BASE;
const PROXY_2: usize = TUN_IN_BASE + 4;
const REAL: usize = TUN_IN_BASE + 8;

function outside(entry: i32): i32 {
  return load<u16>(natEntry(entry), ENTRY_OUTSIDE_VALUE);
}

describe("NAT", () => {
  beforeEach(() => {
    natReset(OWNER);
    store<u32>(PROXY_1, 1);
    store<u32>(PROXY_2, 2);
    store<u32>(REAL, 3);
  });

  it("returns the same entry for the same inside key", () => {
    const entry = natOutgoing(OWNER, KIND_UDP, 4000, PROXY_1, REAL, 4, 0);
    expect(natOutgoing(OWNER, KIND_UDP, 4000, PROXY_1, REAL, 4, 1)).toBe(entry);
    expect(natIncoming(OWNER, KIND_UDP, 4000, REAL, 4, 2)).toBe(entry);
    expect(natCount()).toBe(1);
  });

  it("moves a clashing port to the next free one", () => {
    natOutgoing(OWNER, KIND_UDP, 4000, PROXY_1, REAL, 4, 0);
    const second = natOutgoing(OWNER, KIND_UDP, 4000, PROXY_2, REAL, 4, 0);
    expect(outside(second)).toBe(4001);
    expect(natIncoming(OWNER, KIND_UDP, 4001, REAL, 4, 0)).toBe(second);
    expect(<i32>load<u16>(natEntry(second), ENTRY_INSIDE_VALUE)).toBe(4000);
  });

  it("wraps from 65535 to 1", () => {
    natOutgoing(OWNER, KIND_UDP, 65535, PROXY_1, REAL, 4, 0);
    expect(outside(natOutgoing(OWNER, KIND_UDP, 65535, PROXY_2, REAL, 4, 0))).toBe(1);
  });

  it("remembers expired keys until they are used again or reset", () => {
    natOutgoing(OWNER, KIND_UDP, 4000, PROXY_1, REAL, 4, 0);
    expect(natTick(59999)).toBe(0);
    expect(natTick(60000)).toBe(1);
    expect(natIncoming(OWNER, KIND_UDP, 4000, REAL, 4, 60000)).toBe(NAT_EXPIRED);
    natReset(OWNER);
    expect(natIncoming(OWNER, KIND_UDP, 4000, REAL, 4, 60000)).toBe(NAT_NONE);
  });

  it("ends an entry 5 s after FIN in both directions", () => {
    const entry = natOutgoing(OWNER, KIND_TCP, 4000, PROXY_1, REAL, 4, 70000);
    natNote(entry, 1, FIN, 70000);
    natNote(entry, 0, FIN, 71000);
    expect(natTick(75999)).toBe(0);
    expect(natTick(76000)).toBe(1);
  });

  it("ends an entry at the tick after RST and changes its generation", () => {
    const entry = natOutgoing(OWNER, KIND_TCP, 4000, PROXY_1, REAL, 4, 80000);
    const generation = natGeneration(entry);
    natNote(entry, 0, RST, 80000);
    expect(natTick(80000)).toBe(1);
    expect(natGeneration(entry)).not.toBe(generation);
  });
});
