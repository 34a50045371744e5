import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  DROP_NONE,
  DROP_REPLAYED,
  DROP_TOO_OLD,
  KEYPAIR_REPLAY,
  KEYPAIRS_BASE,
  REPLAY_SLOT_BYTES,
  REPLAY_WINDOW,
} from "../../assembly/abi.ts";
import { loadCryptoKernels } from "./crypto-kernels.ts";
import { SEED, Seeded } from "./twins/seeded.ts";
import { VARIANTS, type VariantName } from "./variants.ts";

const SLOT = KEYPAIRS_BASE + KEYPAIR_REPLAY;
const COUNTER = KEYPAIRS_BASE;
const WINDOW = BigInt(REPLAY_WINDOW);
const LARGEST = 2n ** 64n - 1n;

/** The slow twin: remembers every counter. */
class Twin {
  readonly #seen = new Set<bigint>();
  highest = 0n;

  accept(counter: bigint): number {
    if (counter + WINDOW < this.highest + 1n) return DROP_TOO_OLD;
    if (this.#seen.has(counter)) return DROP_REPLAYED;
    this.#seen.add(counter);
    if (counter > this.highest) this.highest = counter;
    return DROP_NONE;
  }
}

for (const name of VARIANTS) describe(`replay window, ${name} build`, () => cases(name));

function cases(name: VariantName): void {
  const { exports: kernels, bytes, view } = loadCryptoKernels(name);

  function reset(): void {
    bytes.fill(0, SLOT, SLOT + REPLAY_SLOT_BYTES);
  }

  function accept(counter: bigint): number {
    view.setBigUint64(COUNTER, counter, true);
    return kernels.replayAccept(SLOT, COUNTER);
  }

  test("a slot of zeros accepts counter 0 once, and says that something was accepted", () => {
    reset();
    view.setBigUint64(COUNTER, 0n, true);
    assert.equal(kernels.replayCheck(SLOT, COUNTER), DROP_NONE);
    assert.equal(view.getBigUint64(SLOT + 8, true), 0n);
    assert.equal(accept(0n), DROP_NONE);
    assert.equal(view.getBigUint64(SLOT + 8, true), 1n);
    assert.equal(accept(0n), DROP_REPLAYED);
    assert.equal(accept(1n), DROP_NONE);
  });

  test("the window is exactly 8192 counters wide", () => {
    for (const highest of [8191n, 8192n, 16383n, 16384n, 100_000n, 2n ** 32n + 5n, LARGEST]) {
      reset();
      assert.equal(accept(highest), DROP_NONE);
      if (highest >= WINDOW) assert.equal(accept(highest - WINDOW), DROP_TOO_OLD, `below ${highest}`);
      assert.equal(accept(highest - WINDOW + 1n), DROP_NONE, `oldest under ${highest}`);
      assert.equal(accept(highest - WINDOW + 1n), DROP_REPLAYED, `oldest under ${highest}`);
    }
  });

  test("every counter of a full window is refused the second time and no other is", () => {
    reset();
    const base = 2n ** 40n + 17n;
    for (let i = 0n; i < WINDOW; i += 2n) assert.equal(accept(base + i), DROP_NONE);
    for (let i = 0n; i < WINDOW - 1n; i++) {
      assert.equal(accept(base + i), i % 2n === 0n ? DROP_REPLAYED : DROP_NONE, `offset ${i}`);
    }
  });

  test("a jump past the whole ring forgets what was marked", () => {
    for (const jump of [8191n, 8192n, 16319n, 16384n, 16385n, 2n ** 33n, LARGEST - 63n]) {
      reset();
      for (let counter = 0n; counter < 64n; counter++) assert.equal(accept(counter), DROP_NONE);
      assert.equal(accept(jump), DROP_NONE);
      const oldest = jump - WINDOW + 1n;
      for (let counter = oldest < 64n ? 64n : oldest; counter < jump; counter++) {
        assert.equal(accept(counter), DROP_NONE, `${counter} after ${jump}`);
      }
    }
  });

  test("works up to the last counter, 2^64 − 1", () => {
    reset();
    for (let counter = LARGEST - 100n; counter <= LARGEST; counter++)
      assert.equal(accept(counter), DROP_NONE);
    assert.equal(accept(LARGEST), DROP_REPLAYED);
    assert.equal(accept(0n), DROP_TOO_OLD);
    assert.equal(accept(LARGEST - 200n), DROP_NONE);
  });

  test("checking changes nothing, whatever it answers", () => {
    const random = new Seeded();
    reset();
    for (let i = 0; i < 500; i++) accept(BigInt(random.below(20_000)));
    const before = bytes.slice(SLOT, SLOT + REPLAY_SLOT_BYTES);
    for (const counter of [0n, 5n, 12_000n, 19_999n, 20_000n, 1_000_000n, LARGEST]) {
      view.setBigUint64(COUNTER, counter, true);
      kernels.replayCheck(SLOT, COUNTER);
      assert.deepEqual(bytes.slice(SLOT, SLOT + REPLAY_SLOT_BYTES), before);
    }
  });

  test("agrees with a twin that remembers everything, over 200,000 counters", () => {
    const random = new Seeded();
    for (const start of [0n, 2n ** 32n - 50_000n, LARGEST - 5_000_000n]) {
      reset();
      const twin = new Twin();
      let front = start;
      for (let i = 0; i < 200_000 / 3; i++) {
        const counter = nextCounter(random, front);
        if (counter > front) front = counter;
        const expected = twin.accept(counter);
        const message = `step ${i}, counter ${counter}, SEED=${SEED}`;
        view.setBigUint64(COUNTER, counter, true);
        assert.equal(kernels.replayCheck(SLOT, COUNTER), expected, message);
        assert.equal(kernels.replayAccept(SLOT, COUNTER), expected, message);
        assert.equal(view.getBigUint64(SLOT, true), twin.highest, message);
      }
    }
  });

  test("writes nothing beside its slot", () => {
    const random = new Seeded();
    reset();
    bytes.fill(0x5a, SLOT - 64, SLOT);
    bytes.fill(0x5a, SLOT + REPLAY_SLOT_BYTES, SLOT + REPLAY_SLOT_BYTES + 64);
    let front = 0n;
    for (let i = 0; i < 20_000; i++) {
      const counter = nextCounter(random, front);
      if (counter > front) front = counter;
      accept(counter);
    }
    const behind = SLOT + REPLAY_SLOT_BYTES;
    for (const at of [SLOT - 64, behind]) {
      assert.ok(
        bytes.subarray(at, at + 64).every((byte) => byte === 0x5a),
        `SEED=${SEED}`,
      );
    }
  });
}

/** Mostly the next counter; else a lag, a repeat or a jump, many of them around the window's and the ring's size. */
function nextCounter(random: Seeded, front: bigint): bigint {
  const kind = random.below(100);
  let counter = front + 1n;
  if (kind < 25) counter = front - BigInt(random.below(80));
  else if (kind < 35) counter = front - BigInt(random.below(10_000));
  else if (kind < 40) counter = front - WINDOW + BigInt(random.below(5)) - 2n;
  else if (kind < 45) counter = front + BigInt(random.below(300));
  else if (kind === 45) counter = front + BigInt(random.below(20_000));
  else if (kind === 46) counter = front - BigInt(random.below(40_000));
  if (counter < 0n) return BigInt(random.below(10));
  return counter > LARGEST ? LARGEST - BigInt(random.below(100)) : counter;
}
