import { keyStreamBlock } from "./chacha20.gen";
import { polyAbsorb, polyAbsorbEnd, polyInit } from "./poly1305";
import { ASSOCIATED, BLOCK } from "./scratch";

/** Does what wideApply does, without SIMD: one block at a time, Poly1305 afterwards. */
export function narrowApply(dst: usize, src: usize, len: i32, state: usize, cipher: usize): void {
  keyStreamBlock(BLOCK, state, 0);
  polyInit(BLOCK);
  const aadLen = load<i32>(ASSOCIATED, 4);
  if (aadLen > 0) polyAbsorb(<usize>load<u32>(ASSOCIATED), aadLen);

  applyKeyStream(dst, src, len, state);
  polyAbsorbEnd(cipher, len, aadLen, len);
}

function applyKeyStream(dst: usize, src: usize, len: i32, state: usize): void {
  let block: u32 = 1;
  let left = len;
  for (; left >= 64; left -= 64) {
    keyStreamBlock(BLOCK, state, block++);
    for (let at: usize = 0; at < 64; at += 8) {
      store<u64>(dst + at, load<u64>(src + at) ^ load<u64>(BLOCK + at));
    }
    dst += 64;
    src += 64;
  }
  if (left === 0) return;
  keyStreamBlock(BLOCK, state, block);
  for (let at: usize = 0; at < <usize>left; at++)
    store<u8>(dst + at, load<u8>(src + at) ^ load<u8>(BLOCK + at));
}
