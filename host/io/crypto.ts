import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto";
import type { NoiseCrypto } from "../core/wg/crypto.ts";

/** RFC 8410 framings of a raw X25519 key: PKCS #8 and SubjectPublicKeyInfo headers. */
const PRIVATE_HEADER = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_HEADER = Buffer.from("302a300506032b656e032100", "hex");
const KEY_BYTES = 32;

/**
 * X25519 by OpenSSL.
 *
 * Imports are remembered per array, because importing costs about as much as using: an array that was passed in
 * must not get other content. Static keys are imported once that way, ephemeral ones vanish with their array.
 */
export function noiseCrypto(): NoiseCrypto {
  const privateKeys = new WeakMap<Uint8Array, KeyObject>();
  const publicKeys = new WeakMap<Uint8Array, KeyObject>();

  const privateKeyOf = (raw: Uint8Array): KeyObject =>
    remember(privateKeys, raw, () =>
      createPrivateKey({ key: frame(PRIVATE_HEADER, raw), format: "der", type: "pkcs8" }),
    );
  const publicKeyOf = (raw: Uint8Array): KeyObject =>
    remember(publicKeys, raw, () =>
      createPublicKey({ key: frame(PUBLIC_HEADER, raw), format: "der", type: "spki" }),
    );

  return {
    dh(privateKey, publicKey) {
      const ours = privateKeyOf(privateKey);
      const theirs = publicKeyOf(publicKey);
      try {
        return new Uint8Array(diffieHellman({ privateKey: ours, publicKey: theirs }));
      } catch {
        // OpenSSL refuses an all-zero result (RFC 7748 §6.1); any 32 bytes are a public key otherwise.
        return undefined;
      }
    },
    publicKey(privateKey) {
      const der = createPublicKey(privateKeyOf(privateKey)).export({ format: "der", type: "spki" });
      return new Uint8Array(der.subarray(PUBLIC_HEADER.length));
    },
  };
}

function remember(known: WeakMap<Uint8Array, KeyObject>, raw: Uint8Array, make: () => KeyObject): KeyObject {
  const cached = known.get(raw);
  if (cached !== undefined) return cached;
  if (raw.length !== KEY_BYTES) throw new RangeError(`an X25519 key has 32 bytes, not ${raw.length}`);
  const key = make();
  known.set(raw, key);
  return key;
}

function frame(header: Buffer, raw: Uint8Array): Buffer {
  return Buffer.concat([header, raw]);
}
