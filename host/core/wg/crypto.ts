import { chacha20poly1305, xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { blake2s } from "@noble/hashes/blake2.js";
import { hmac } from "@noble/hashes/hmac.js";

/**
 * X25519, injected because the runtime's native one is two orders of magnitude faster than script.
 * Everything else of the handshake is hashing and short AEAD calls, done here.
 */
export interface NoiseCrypto {
  /** Shared secret of two raw 32-byte keys; undefined if the public key has low order (all-zero result). */
  dh(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
  publicKey(privateKey: Uint8Array): Uint8Array;
}

/** X25519 key pair, raw bytes. */
export interface StaticIdentity {
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
}

export const KEY_BYTES = 32;
export const HASH_BYTES = 32;
export const MAC_BYTES = 16;
export const AEAD_TAG_BYTES = 16;

const EMPTY = new Uint8Array(0);
/** Every Noise message key of this handshake encrypts exactly one message, under nonce 0. */
const ZERO_NONCE = new Uint8Array(12);

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** BLAKE2s-256 over the concatenation. */
export function hash(...parts: readonly Uint8Array[]): Uint8Array {
  return blake2s(concat(...parts));
}

/** Keyed BLAKE2s with a 16-byte result: mac1, mac2 and cookies. */
export function mac(key: Uint8Array, message: Uint8Array): Uint8Array {
  return blake2s(message, { key, dkLen: MAC_BYTES });
}

/** The KDF of connectivity §10.2 with 1, 2 or 3 outputs. */
export function kdf1(chainingKey: Uint8Array, input: Uint8Array): Uint8Array {
  return expand(chainingKey, input, 1)[0]!;
}

export function kdf2(chainingKey: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array] {
  const [first, second] = expand(chainingKey, input, 2);
  return [first!, second!];
}

export function kdf3(chainingKey: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array, Uint8Array] {
  const [first, second, third] = expand(chainingKey, input, 3);
  return [first!, second!, third!];
}

export function seal(key: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array {
  return chacha20poly1305(key, ZERO_NONCE, associated).encrypt(plaintext);
}

/** Undefined if the tag does not verify. */
export function open(
  key: Uint8Array,
  ciphertext: Uint8Array,
  associated: Uint8Array,
): Uint8Array | undefined {
  try {
    return chacha20poly1305(key, ZERO_NONCE, associated).decrypt(ciphertext);
  } catch {
    return undefined;
  }
}

/** Cookie encryption: XChaCha20-Poly1305 under a random 24-byte nonce. */
export function sealCookie(
  key: Uint8Array,
  nonce: Uint8Array,
  cookie: Uint8Array,
  associated: Uint8Array,
): Uint8Array {
  return xchacha20poly1305(key, nonce, associated).encrypt(cookie);
}

/** Undefined if the tag does not verify. */
export function openCookie(
  key: Uint8Array,
  nonce: Uint8Array,
  ciphertext: Uint8Array,
  associated: Uint8Array,
): Uint8Array | undefined {
  try {
    return xchacha20poly1305(key, nonce, associated).decrypt(ciphertext);
  } catch {
    return undefined;
  }
}

/** Takes the same time wherever the first difference is. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

export function wipe(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}

function expand(chainingKey: Uint8Array, input: Uint8Array, outputs: number): Uint8Array[] {
  const secret = hmac(blake2s, chainingKey, input);
  const results: Uint8Array[] = [];
  let previous: Uint8Array = EMPTY;
  for (let n = 1; n <= outputs; n++) {
    previous = hmac(blake2s, secret, concat(previous, Uint8Array.of(n)));
    results.push(previous);
  }
  wipe(secret);
  return results;
}
