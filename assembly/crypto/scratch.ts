// Static scratch of the AEAD. One packet at a time uses it; nothing in it outlives a call but the masks.

/** The 12-byte nonce of the packet at work (not secret), padded to 16. */
export const NONCE: usize = memory.data(16, 16);

/** u32 address and u32 length of the associated data of the packet at work. */
export const ASSOCIATED: usize = memory.data(8, 8);

/** The tag that a packet should have, while opening. */
export const TAG: usize = memory.data(16, 16);

/**
 * Poly1305 at work: u32 × 5 accumulator, 12 spare, u32 × 4 clamped r, u32 × 4 s.
 * Wiped before seal and open return.
 */
export const POLY: usize = memory.data(64, 16);
export const POLY_R: usize = POLY + 32;
export const POLY_S: usize = POLY + 48;

/** One key-stream block (without SIMD), or the last blocks of a message on their way into Poly1305. */
export const BLOCK: usize = memory.data(64, 16);

/** Byte orders for i8x16.swizzle that rotate each 32-bit lane left by 16 and by 8. */
export const ROTATE_16: usize = memory.data<u8>([2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13], 16);
export const ROTATE_8: usize = memory.data<u8>([3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14], 16);
