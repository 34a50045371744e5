// ChaCha20-Poly1305 (RFC 8439) for one packet.
//
//              dst − 64      dst           dst + len   + 16        + 256
//   writes     │  restored   │ text        │ tag       │ undefined │
//
// Not promised: constant time below the WebAssembly instruction (the engine picks the machine code; no branch or
// address here depends on a secret but the verdict itself), and that no copy of a key stays in registers or on the
// engine's stack. Key-stream bytes may stay behind the text; they are those that no text is ever mixed with.
import { narrowApply } from "./narrow";
import { polyFinish } from "./poly1305";
import { ASSOCIATED, NONCE, TAG } from "./scratch";
import { wideApply } from "./wide";

/** Writes the 64-byte state template for the 32-byte key at `key` to `state`: constants, key, counter 0, nonce 0. */
export function aeadInit(state: usize, key: usize): void {
  // RFC 8439 §2.3: "expand 32-byte k".
  store<u32>(state, 0x61707865);
  store<u32>(state, 0x3320646e, 4);
  store<u32>(state, 0x79622d32, 8);
  store<u32>(state, 0x6b206574, 12);
  memory.copy(state + 16, key, 32);
  store<u64>(state, 0, 48);
  store<u64>(state, 0, 56);
}

/**
 * Encrypts `len` (0 and up) bytes at `src` to `dst` and writes their tag to `dst + len`, with the WireGuard nonce for
 * the u64 counter at `counterPtr` and no associated data. `dst` is `src`, or the two are 64 + `len` + 256 bytes apart.
 * Bytes in front of `dst` are as before; up to 256 bytes behind `dst + len` are undefined but for the tag.
 */
export function seal(dst: usize, src: usize, len: i32, state: usize, counterPtr: usize): void {
  useCounter(counterPtr);
  sealText(dst, src, len, state);
}

/**
 * Decrypts `len` bytes at `src`, with their tag at `src + len`, to `dst`. Returns 1 if the tag held; otherwise 0, and
 * the `len` bytes at `dst` are zero. `src` stays as it is and may not overlap 64 bytes in front of `dst` to 256 behind
 * `dst + len`; bytes in front of `dst` are as before, those 256 bytes are undefined.
 */
export function open(dst: usize, src: usize, len: i32, state: usize, counterPtr: usize): i32 {
  useCounter(counterPtr);
  return openText(dst, src, len, state);
}

/** Seals as `seal` does, with the 12-byte nonce at `nonce` and `aadLen` bytes of associated data at `aad`. */
export function aeadSeal(
  dst: usize,
  src: usize,
  len: i32,
  state: usize,
  nonce: usize,
  aad: usize,
  aadLen: i32,
): void {
  useNonce(nonce, aad, aadLen);
  sealText(dst, src, len, state);
}

/** Opens as `open` does, with the 12-byte nonce at `nonce` and `aadLen` bytes of associated data at `aad`. */
export function aeadOpen(
  dst: usize,
  src: usize,
  len: i32,
  state: usize,
  nonce: usize,
  aad: usize,
  aadLen: i32,
): i32 {
  useNonce(nonce, aad, aadLen);
  return openText(dst, src, len, state);
}

function sealText(dst: usize, src: usize, len: i32, state: usize): void {
  apply(dst, src, len, state, dst);
  polyFinish(dst + <usize>len);
}

function openText(dst: usize, src: usize, len: i32, state: usize): i32 {
  apply(dst, src, len, state, src);
  polyFinish(TAG);
  const tag = src + <usize>len;
  // All 16 bytes before the one branch, which says no more than the verdict.
  const difference = (load<u64>(TAG) ^ load<u64>(tag)) | (load<u64>(TAG, 8) ^ load<u64>(tag, 8));
  store<u64>(TAG, 0);
  store<u64>(TAG, 0, 8);
  if (difference === 0) return 1;

  memory.fill(dst, 0, len);
  return 0;
}

/** Encrypts or decrypts, and takes associated data, ciphertext (at `cipher`: `dst` or `src`) and lengths into Poly1305. */
function apply(dst: usize, src: usize, len: i32, state: usize, cipher: usize): void {
  if (ASC_FEATURE_SIMD) wideApply(dst, src, len, state, cipher);
  else narrowApply(dst, src, len, state, cipher);
}

function useCounter(counterPtr: usize): void {
  store<u32>(NONCE, 0);
  store<u32>(NONCE, load<u32>(counterPtr), 4);
  store<u32>(NONCE, load<u32>(counterPtr, 4), 8);
  store<u64>(ASSOCIATED, 0);
}

function useNonce(nonce: usize, aad: usize, aadLen: i32): void {
  store<u32>(NONCE, load<u32>(nonce));
  store<u32>(NONCE, load<u32>(nonce, 4), 4);
  store<u32>(NONCE, load<u32>(nonce, 8), 8);
  store<u32>(ASSOCIATED, <u32>aad);
  store<i32>(ASSOCIATED, aadLen, 4);
}
