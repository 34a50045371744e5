// Entry of the module that tests and benchmarks of the AEAD and of the replay window load.
import { crypt4, crypt8, keyStreamBlock } from "../../crypto/chacha20.gen";
import { NONCE } from "../../crypto/scratch";

export { aeadInit, aeadOpen, aeadSeal, open, seal } from "../../crypto/aead";
export { poly1305 } from "../../crypto/poly1305";
export { replayAccept, replayCheck } from "../../wg/replay";

/**
 * Writes key stream from block `block` to the zeros at `dst`, `width` (1, 4 or 8) blocks at a time.
 * Returns how many blocks it wrote: 0 for a width that this build has no code for.
 */
export function keyStream(dst: usize, state: usize, nonce: usize, block: i32, width: i32): i32 {
  memory.copy(NONCE, nonce, 12);
  if (width === 1) keyStreamBlock(dst, state, block);
  else if (ASC_FEATURE_SIMD && width === 4) crypt4(dst, dst, state, block, 0, 0);
  else if (ASC_FEATURE_SIMD && width === 8) crypt8(dst, dst, state, block, 0, 0);
  else return 0;
  return width;
}
