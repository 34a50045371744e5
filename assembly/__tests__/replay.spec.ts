import {
  DROP_NONE,
  DROP_REPLAYED,
  DROP_TOO_OLD,
  KEYPAIR_REPLAY,
  KEYPAIRS_BASE,
  REPLAY_SLOT_BYTES,
} from "../abi";
import { replayAccept, replayCheck } from "../wg/replay";

const SLOT: usize = KEYPAIRS_BASE + KEYPAIR_REPLAY;
const COUNTER: usize = KEYPAIRS_BASE;

function accept(counter: u64): i32 {
  store<u64>(COUNTER, counter);
  return replayAccept(SLOT, COUNTER);
}

function check(counter: u64): i32 {
  store<u64>(COUNTER, counter);
  return replayCheck(SLOT, COUNTER);
}

describe("replay window", () => {
  beforeEach(() => {
    memory.fill(SLOT, 0, REPLAY_SLOT_BYTES);
  });

  it("accepts counter 0 once in a slot of zeros", () => {
    expect(accept(0)).toBe(DROP_NONE);
    expect(accept(0)).toBe(DROP_REPLAYED);
  });

  it("accepts what lags and refuses what repeats", () => {
    expect(accept(10)).toBe(DROP_NONE);
    expect(accept(7)).toBe(DROP_NONE);
    expect(accept(7)).toBe(DROP_REPLAYED);
    expect(accept(10)).toBe(DROP_REPLAYED);
    expect(accept(11)).toBe(DROP_NONE);
  });

  it("reaches back 8191 counters and no further", () => {
    accept(1_000_000);
    expect(check(1_000_000 - 8191)).toBe(DROP_NONE);
    expect(check(1_000_000 - 8192)).toBe(DROP_TOO_OLD);
  });

  it("clears what a jump enters", () => {
    for (let counter: u64 = 0; counter < 16384; counter++) accept(counter);
    accept(16384 + 100);
    for (let counter: u64 = 16384; counter < 16384 + 100; counter++) {
      expect(check(counter)).toBe(DROP_NONE);
    }
  });

  it("does not wrap at 2^64 − 1", () => {
    expect(accept(u64.MAX_VALUE)).toBe(DROP_NONE);
    expect(accept(u64.MAX_VALUE)).toBe(DROP_REPLAYED);
    expect(accept(u64.MAX_VALUE - 8191)).toBe(DROP_NONE);
    expect(check(u64.MAX_VALUE - 8192)).toBe(DROP_TOO_OLD);
    expect(check(0)).toBe(DROP_TOO_OLD);
  });
});
