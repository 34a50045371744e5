// The search for a free outside value (tunnel-core §14.2).
//
// A client can occupy all 65,535 values of a real IP and then ask again and again. So that this does not cost a
// walk over all of them each time, a search leaves a hint: how far it had to go. As long as nothing was removed
// from the table since, everything before that point is still taken.

import { hash3 } from "../flow/hash";
import { removals } from "./entries";
import { outsideFind } from "./index";
import { ENTRY_STATE, NAT_HINTS, STATE_EXPIRED } from "./layout";

const HINTS = 256;
const HINT_BYTES = 32;
// A hint: u64 and u64 address, u32 owner key, u32 original value, u32 steps, u32 `removals` + 1.
const HINT_HIGH: usize = 8;
const HINT_KEY: usize = 16;
const HINT_ORIGINAL: usize = 20;
const HINT_STEPS: usize = 24;
const HINT_REMOVALS: usize = 28;

/** `original` if it is free, else the next higher value up to 65535, else the first from 1 upwards; −1: none. */
export function chooseOutside(key: u32, original: i32, low: u64, high: u64): i32 {
  if (isFree(outsideFind(key, original, low, high))) return original;

  const hint =
    <usize>NAT_HINTS + <usize>((hash3(<u64>key, low, high) + <u32>original) & (HINTS - 1)) * HINT_BYTES;
  // 0 is a value only for packets that already have it.
  const total = original === 0 ? 65536 : 65535;
  let step = isHintFor(hint, key, original, low, high) ? load<i32>(hint, HINT_STEPS) : 1;
  while (step < total && !isFree(outsideFind(key, valueAt(original, step), low, high))) step += 1;

  store<u64>(hint, low);
  store<u64>(hint, high, HINT_HIGH);
  store<u32>(hint, key, HINT_KEY);
  store<i32>(hint, original, HINT_ORIGINAL);
  store<i32>(hint, step, HINT_STEPS);
  store<u32>(hint, removals + 1, HINT_REMOVALS);
  return step < total ? valueAt(original, step) : -1;
}

function isHintFor(hint: usize, key: u32, original: i32, low: u64, high: u64): bool {
  return (
    load<u32>(hint, HINT_REMOVALS) === removals + 1 &&
    load<i32>(hint, HINT_ORIGINAL) === original &&
    load<u32>(hint, HINT_KEY) === key &&
    load<u64>(hint) === low &&
    load<u64>(hint, HINT_HIGH) === high
  );
}

/** The value tried at `step`: upwards from the original, then from 1. */
function valueAt(original: i32, step: i32): i32 {
  const value = original + step;
  return value <= 0xffff ? value : value - 0xffff;
}

function isFree(entry: usize): bool {
  return entry === 0 || load<u8>(entry, ENTRY_STATE) === STATE_EXPIRED;
}
