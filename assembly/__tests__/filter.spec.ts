import {
  FILTER_RULES_BASE,
  FILTER_SET_BYTES,
  FILTER_SETS_BASE,
  KIND_ECHO,
  KIND_ICMP,
  KIND_OTHER,
  KIND_TCP,
  KIND_UDP,
} from "../abi";
import { filterPermits } from "../policy/filter";

const SET = 3;

function writeRule(kind: i32, first: i32, last: i32): void {
  const header = <usize>FILTER_SETS_BASE + SET * FILTER_SET_BYTES;
  store<u32>(header, 0);
  store<u32>(header, 1, 4);
  store<u16>(FILTER_RULES_BASE, <u16>kind);
  store<u16>(FILTER_RULES_BASE, <u16>first, 2);
  store<u16>(FILTER_RULES_BASE, <u16>last, 4);
}

describe("filter", () => {
  it("permits everything in set 0", () => {
    expect(filterPermits(0, KIND_OTHER, 0)).toBe(1);
  });

  it("takes port ranges as inclusive", () => {
    writeRule(KIND_TCP, 20, 100);
    expect(filterPermits(SET, KIND_TCP, 19)).toBe(0);
    expect(filterPermits(SET, KIND_TCP, 20)).toBe(1);
    expect(filterPermits(SET, KIND_TCP, 100)).toBe(1);
    expect(filterPermits(SET, KIND_TCP, 101)).toBe(0);
    expect(filterPermits(SET, KIND_UDP, 50)).toBe(0);
    expect(filterPermits(SET, KIND_OTHER, 50)).toBe(0);
  });

  it("permits every ICMP type with one ICMP rule", () => {
    writeRule(KIND_ICMP, 0, 0);
    expect(filterPermits(SET, KIND_ECHO, 9)).toBe(1);
    expect(filterPermits(SET, KIND_ICMP, 9)).toBe(1);
    expect(filterPermits(SET, KIND_TCP, 0)).toBe(0);
  });
});
