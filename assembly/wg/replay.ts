import { DROP_NONE, DROP_REPLAYED, DROP_TOO_OLD, REPLAY_WINDOW, REPLAY_WORDS } from "../abi";

const HIGHEST: usize = 0;
const ACCEPTED: usize = 8;
const BITMAP: usize = 16;

/**
 * Tells whether the counter stored at `counterPtr` would be accepted by the window at `slot` (RFC 6479), without
 * changing it: DROP_NONE, DROP_TOO_OLD (connectivity §10.4: counter + window < highest + 1) or DROP_REPLAYED.
 * Called before opening, so that a replay costs no AEAD.
 */
export function replayCheck(slot: usize, counterPtr: usize): i32 {
  const counter = load<u64>(counterPtr);
  const highest = load<u64>(slot, HIGHEST);
  if (counter > highest) return DROP_NONE;
  // A difference, because counter + window could pass 2^64.
  if (highest - counter >= <u64>REPLAY_WINDOW) return DROP_TOO_OLD;
  return (load<u64>(wordAt(slot, counter >> 6)) & bitOf(counter)) === 0 ? DROP_NONE : DROP_REPLAYED;
}

/**
 * Checks as replayCheck does, and marks the counter if it may pass. A slot of zeros is an empty window.
 * Called only after the tag held: a forged counter must not move the window.
 */
export function replayAccept(slot: usize, counterPtr: usize): i32 {
  const verdict = replayCheck(slot, counterPtr);
  if (verdict !== DROP_NONE) return verdict;

  const counter = load<u64>(counterPtr);
  const word = counter >> 6;
  if (counter > load<u64>(slot, HIGHEST)) advance(slot, counter);
  store<u64>(wordAt(slot, word), load<u64>(wordAt(slot, word)) | bitOf(counter));
  store<u64>(slot, 1, ACCEPTED);
  return DROP_NONE;
}

/** Moves the window up to `counter`: words that it enters are cleared, at most once round the ring. */
function advance(slot: usize, counter: u64): void {
  const word = counter >> 6;
  const entered = min<u64>(word - (load<u64>(slot, HIGHEST) >> 6), REPLAY_WORDS);
  for (let i: u64 = 0; i < entered; i++) store<u64>(wordAt(slot, word - i), 0);
  store<u64>(slot, counter, HIGHEST);
}

function wordAt(slot: usize, word: u64): usize {
  return slot + BITMAP + ((<usize>(word % REPLAY_WORDS)) << 3);
}

function bitOf(counter: u64): u64 {
  return (<u64>1) << (counter & 63);
}
