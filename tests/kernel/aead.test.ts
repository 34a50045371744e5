import assert from "node:assert/strict";
import { createCipheriv } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import {
  SLOTS_BASE,
  STATIC_BASE,
  STATIC_END,
  TAG_BYTES,
  TUN_IN_BASE,
  UDP_OUT_BASE,
} from "../../assembly/abi.ts";
import { loadCryptoKernels } from "./crypto-kernels.ts";
import { SEED, Seeded } from "./twins/seeded.ts";
import { VARIANTS, type VariantName } from "./variants.ts";

const LONGEST = 2048;
/** Room that is watched around a result, wider than what the kernels may touch. */
const GUARD = 640;
const FRONT = 256;
const MAX_CLOBBERED = 256;
const KEY = SLOTS_BASE;
const STATE = SLOTS_BASE + 64;
const NONCE = SLOTS_BASE + 128;
const AAD = SLOTS_BASE + 256;
const COUNTER = NONCE + 4;

const vectors = JSON.parse(readFileSync(new URL("../vectors/rfc8439.json", import.meta.url), "utf8")) as {
  blocks: { section: string; key: string; nonce: string; counter: number; keyStream: string }[];
  encryption: {
    section: string;
    key: string;
    nonce: string;
    counter: number;
    plaintext: string;
    ciphertext: string;
  }[];
  macs: { section: string; key: string; message: string; tag: string }[];
  oneTimeKeys: { section: string; key: string; nonce: string; oneTimeKey: string }[];
  aead: {
    section: string;
    key: string;
    nonce: string;
    aad: string;
    plaintext: string;
    ciphertext: string;
    tag: string;
  }[];
};

test("the committed ChaCha20 kernels are what their generator writes", async () => {
  const generator = new URL("../../assembly/crypto/generate-chacha20.mjs", import.meta.url);
  const { generate } = (await import(generator.href)) as { generate(): string };
  const committed = new URL("../../assembly/crypto/chacha20.gen.ts", import.meta.url);
  assert.equal(generate(), readFileSync(committed, "utf8"));
});

for (const name of VARIANTS) describe(`AEAD kernels, ${name} build`, () => cases(name));

function cases(name: VariantName): void {
  const { exports: kernels, bytes } = loadCryptoKernels(name);
  const widths = name === "plain" ? [1] : [1, 4, 8];

  function useKey(key: Uint8Array, nonce: Uint8Array): void {
    bytes.set(key, KEY);
    kernels.aeadInit(STATE, KEY);
    bytes.set(nonce, NONCE);
  }

  function keyStream(counter: number, width: number, length: number): string {
    bytes.fill(0, UDP_OUT_BASE, UDP_OUT_BASE + 2 * LONGEST);
    let written = 0;
    for (; 64 * written < length; written += width) {
      const dst = UDP_OUT_BASE + 64 * written;
      assert.equal(kernels.keyStream(dst, STATE, NONCE, counter + written, width), width);
    }
    return hex(bytes.subarray(UDP_OUT_BASE, UDP_OUT_BASE + length));
  }

  test("ChaCha20 blocks are those of RFC 8439 §2.3.2 and A.1, at every width", () => {
    for (const { section, key, nonce, counter, keyStream: expected } of vectors.blocks) {
      useKey(unhex(key), unhex(nonce));
      for (const width of widths) {
        assert.equal(keyStream(counter, width, 64), expected, `${section}, ${width} blocks at a time`);
      }
    }
  });

  test("ChaCha20 encrypts as in RFC 8439 §2.4.2, at every width", () => {
    for (const { key, nonce, counter, plaintext, ciphertext } of vectors.encryption) {
      useKey(unhex(key), unhex(nonce));
      const text = unhex(plaintext);
      for (const width of widths) {
        const stream = unhex(keyStream(counter, width, text.length));
        assert.equal(hex(text.map((byte, i) => byte ^ stream[i]!)), ciphertext, `${width} blocks at a time`);
      }
    }
  });

  test("all widths write one key stream, also where the block counter wraps", () => {
    const random = new Seeded();
    useKey(random.bytes(32), random.bytes(12));
    for (const counter of [0, 1, 250, 0x7ffffffc, 0xfffffffd]) {
      const expected = keyStream(counter, 1, LONGEST);
      for (const width of widths) assert.equal(keyStream(counter, width, LONGEST), expected, `SEED=${SEED}`);
    }
  });

  test("Poly1305 tags are those of RFC 8439 §2.5.2 and A.3", () => {
    for (const { section, key, message, tag } of vectors.macs) {
      const text = unhex(message);
      bytes.set(unhex(key), KEY);
      bytes.set(text, TUN_IN_BASE);
      kernels.poly1305(UDP_OUT_BASE, TUN_IN_BASE, text.length, KEY);
      assert.equal(hex(bytes.subarray(UDP_OUT_BASE, UDP_OUT_BASE + TAG_BYTES)), tag, section);
    }
  });

  test("Poly1305 reduces an accumulator at and around 2^130 − 5", () => {
    // With r = 1 and s = 0 three blocks add up to 3 × 2^128 + their sum, which the first block makes 2^130 − 5 + excess.
    bytes.fill(0, KEY, KEY + 32);
    bytes[KEY] = 1;
    for (const excess of [-2, -1, 0, 1, 2, 3, 4]) {
      bytes.fill(0, TUN_IN_BASE, TUN_IN_BASE + 48);
      bytes.fill(0xff, TUN_IN_BASE, TUN_IN_BASE + 16);
      bytes[TUN_IN_BASE] = 0xfb + excess;
      kernels.poly1305(UDP_OUT_BASE, TUN_IN_BASE, 48, KEY);
      const tag = excess < 0 ? (1n << 128n) - 5n + BigInt(excess) : BigInt(excess);
      const expected = unhex(tag.toString(16).padStart(32, "0")).reverse();
      assert.equal(hex(bytes.subarray(UDP_OUT_BASE, UDP_OUT_BASE + TAG_BYTES)), hex(expected), `${excess}`);
    }
  });

  test("one-time keys are those of RFC 8439 §2.6.2 and A.4", () => {
    for (const { section, key, nonce, oneTimeKey } of vectors.oneTimeKeys) {
      useKey(unhex(key), unhex(nonce));
      for (const width of widths) assert.equal(keyStream(0, width, 32), oneTimeKey, section);
    }
  });

  test("seals and opens the AEAD vectors of RFC 8439 §2.8.2 and A.5", () => {
    for (const { section, key, nonce, aad, plaintext, ciphertext, tag } of vectors.aead) {
      const text = unhex(plaintext);
      useKey(unhex(key), unhex(nonce));
      bytes.set(unhex(aad), AAD);
      bytes.set(text, TUN_IN_BASE);
      kernels.aeadSeal(UDP_OUT_BASE, TUN_IN_BASE, text.length, STATE, NONCE, AAD, aad.length / 2);
      const end = UDP_OUT_BASE + text.length + TAG_BYTES;
      assert.equal(hex(bytes.subarray(UDP_OUT_BASE, end)), ciphertext + tag, section);

      bytes.fill(0, TUN_IN_BASE, TUN_IN_BASE + text.length);
      const held = kernels.aeadOpen(
        TUN_IN_BASE,
        UDP_OUT_BASE,
        text.length,
        STATE,
        NONCE,
        AAD,
        aad.length / 2,
      );
      assert.equal(held, 1, section);
      assert.equal(hex(bytes.subarray(TUN_IN_BASE, TUN_IN_BASE + text.length)), plaintext, section);
    }
  });

  test("seals as node:crypto does at every length, apart and in place, and spares its surroundings", () => {
    const random = new Seeded();
    for (let length = 0; length <= LONGEST; length++) {
      const { key, nonce, text, sealed } = packet(random, length);
      useKey(key, nonce);
      for (const inPlace of [false, true]) {
        const dst = UDP_OUT_BASE + FRONT + random.below(64);
        const src = inPlace ? dst : TUN_IN_BASE + FRONT + random.below(64);
        const around = random.bytes(FRONT + LONGEST + GUARD);
        const message = `length ${length}, in place ${inPlace}, SEED=${SEED}`;
        bytes.set(random.bytes(LONGEST + GUARD), src);
        bytes.set(around, dst - FRONT);
        bytes.set(text, src);
        kernels.seal(dst, src, length, STATE, COUNTER);

        assert.ok(equal(bytes.subarray(dst, dst + length + TAG_BYTES), sealed), message);
        assert.ok(equal(bytes.subarray(dst - FRONT, dst), around.subarray(0, FRONT)), `front, ${message}`);
        const behind = Math.max(length + TAG_BYTES, length + MAX_CLOBBERED);
        const untouched = around.subarray(FRONT + behind);
        assert.ok(equal(bytes.subarray(dst + behind, dst + behind + untouched.length), untouched), message);
        if (!inPlace) assert.ok(equal(bytes.subarray(src, src + length), text), `source, ${message}`);
      }
    }
  });

  test("opens what node:crypto sealed at every length, and spares source and surroundings", () => {
    const random = new Seeded();
    for (let length = 0; length <= LONGEST; length++) {
      const { key, nonce, text, sealed } = packet(random, length);
      useKey(key, nonce);
      const dst = UDP_OUT_BASE + FRONT + random.below(64);
      const src = TUN_IN_BASE + FRONT + random.below(64);
      const around = random.bytes(FRONT + LONGEST + GUARD);
      const source = random.bytes(FRONT + LONGEST + GUARD);
      const message = `length ${length}, SEED=${SEED}`;
      source.set(sealed, FRONT);
      bytes.set(around, dst - FRONT);
      bytes.set(source, src - FRONT);

      assert.equal(kernels.open(dst, src, length, STATE, COUNTER), 1, message);
      assert.ok(equal(bytes.subarray(dst, dst + length), text), message);
      assert.ok(
        equal(bytes.subarray(src - FRONT, src - FRONT + source.length), source),
        `source, ${message}`,
      );
      assert.ok(equal(bytes.subarray(dst - FRONT, dst), around.subarray(0, FRONT)), `front, ${message}`);
      const untouched = around.subarray(FRONT + length + MAX_CLOBBERED);
      const behind = dst + length + MAX_CLOBBERED;
      assert.ok(equal(bytes.subarray(behind, behind + untouched.length), untouched), `behind, ${message}`);
    }
  });

  test("refuses and wipes a packet with any flipped bit, wrong counter or shorter length", () => {
    const random = new Seeded();
    for (const length of [0, 1, 15, 16, 17, 64, 191, 192, 193, 448, 449, 576, 1280, LONGEST]) {
      const { key, nonce, sealed } = packet(random, length);
      useKey(key, nonce);
      const dst = UDP_OUT_BASE + FRONT + random.below(64);
      const refuse = (ciphertext: Uint8Array, len: number, what: string) => {
        bytes.fill(0xa5, dst - FRONT, dst + LONGEST);
        bytes.set(ciphertext, TUN_IN_BASE);
        assert.equal(kernels.open(dst, TUN_IN_BASE, len, STATE, COUNTER), 0, `${what}, SEED=${SEED}`);
        const wiped = bytes.subarray(dst, dst + len);
        assert.ok(
          wiped.every((byte) => byte === 0),
          `${what} of ${len}, SEED=${SEED}`,
        );
      };
      for (let i = 0; i < sealed.length; i += i < length ? 1 + random.below(40) : 1) {
        const tampered = sealed.slice();
        tampered[i]! ^= 1 << random.below(8);
        refuse(tampered, length, `byte ${i}`);
      }
      if (length > 0) refuse(sealed, length - 1, "cut");
      bytes[COUNTER]! ^= 1;
      refuse(sealed, length, "counter");
    }
  });

  test("all 64 bits of the counter count", () => {
    const random = new Seeded();
    for (let bit = 0; bit < 64; bit++) {
      const nonce = new Uint8Array(12);
      nonce[4 + (bit >> 3)] = 1 << (bit & 7);
      const { key, text, sealed } = packet(random, 100, nonce);
      useKey(key, nonce);
      bytes.set(text, TUN_IN_BASE);
      kernels.seal(UDP_OUT_BASE, TUN_IN_BASE, text.length, STATE, COUNTER);
      assert.ok(equal(bytes.subarray(UDP_OUT_BASE, UDP_OUT_BASE + sealed.length), sealed), `SEED=${SEED}`);
    }
  });

  test("seals and opens with associated data of every length up to 80, and authenticates it", () => {
    const random = new Seeded();
    for (let aadLength = 0; aadLength <= 80; aadLength++) {
      const aad = random.bytes(aadLength);
      const { key, nonce, text, sealed } = packet(random, random.below(700), random.bytes(12), aad);
      useKey(key, nonce);
      bytes.set(aad, AAD);
      bytes.set(text, TUN_IN_BASE);
      kernels.aeadSeal(UDP_OUT_BASE, TUN_IN_BASE, text.length, STATE, NONCE, AAD, aadLength);
      const end = UDP_OUT_BASE + sealed.length;
      assert.ok(equal(bytes.subarray(UDP_OUT_BASE, end), sealed), `${aadLength} bytes, SEED=${SEED}`);

      const reopen = () =>
        kernels.aeadOpen(TUN_IN_BASE, UDP_OUT_BASE, text.length, STATE, NONCE, AAD, aadLength);
      assert.equal(reopen(), 1);
      if (aadLength === 0) continue;
      bytes[AAD + random.below(aadLength)]! ^= 0x10;
      assert.equal(reopen(), 0, `${aadLength} bytes, SEED=${SEED}`);
    }
  });

  test("the state template is neither changed nor bound to a nonce", () => {
    const random = new Seeded();
    const key = random.bytes(32);
    useKey(key, random.bytes(12));
    const expected = Buffer.concat([Buffer.from("expand 32-byte k"), key, Buffer.alloc(16)]);
    kernels.seal(UDP_OUT_BASE, TUN_IN_BASE, 500, STATE, COUNTER);
    kernels.open(TUN_IN_BASE, UDP_OUT_BASE, 500, STATE, COUNTER);
    assert.ok(equal(bytes.subarray(STATE, STATE + 64), expected));
  });

  test("the tag that a refused packet should have had does not stay in static memory", () => {
    const random = new Seeded();
    const { key, nonce, sealed } = packet(random, 200);
    useKey(key, nonce);
    bytes.set(sealed, TUN_IN_BASE);
    bytes[TUN_IN_BASE + 200]! ^= 1;
    assert.equal(kernels.open(UDP_OUT_BASE, TUN_IN_BASE, 200, STATE, COUNTER), 0);
    const statics = Buffer.from(bytes.subarray(STATIC_BASE, STATIC_END));
    for (const at of [200, 204, 208, 212]) {
      assert.equal(statics.indexOf(sealed.subarray(at, at + 4)), -1, `SEED=${SEED}`);
    }
  });

  test("no one-time key and no key stream stay in static memory", () => {
    const random = new Seeded();
    for (const length of [0, 40, 576, 1280, 1299]) {
      const { key, nonce, text, sealed } = packet(random, length);
      useKey(key, nonce);
      bytes.set(text, TUN_IN_BASE);
      bytes.set(sealed, TUN_IN_BASE + 0x8000);
      const run = [
        () => kernels.seal(UDP_OUT_BASE, TUN_IN_BASE, length, STATE, COUNTER),
        () => kernels.open(UDP_OUT_BASE, TUN_IN_BASE + 0x8000, length, STATE, COUNTER),
        () => kernels.open(UDP_OUT_BASE, TUN_IN_BASE, length, STATE, COUNTER),
      ];
      const stream = chacha20(key, nonce, 64 + length + 64);
      for (const once of run) {
        once();
        const statics = Buffer.from(bytes.subarray(STATIC_BASE, STATIC_END));
        for (let at = 0; at + 8 <= stream.length; at += 8) {
          assert.equal(statics.indexOf(stream.subarray(at, at + 8)), -1, `key stream at ${at}, SEED=${SEED}`);
        }
      }
    }
  });
}

function packet(random: Seeded, length: number, nonce = transportNonce(random), aad = new Uint8Array(0)) {
  const key = random.bytes(32);
  // Long runs of ones carry furthest in Poly1305.
  const text = length % 7 === 3 ? new Uint8Array(length).fill(0xff) : random.bytes(length);
  const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG_BYTES });
  if (aad.length > 0) cipher.setAAD(aad, { plaintextLength: length });
  const sealed = new Uint8Array(Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]));
  return { key, nonce, text, sealed };
}

/** WireGuard: four zero bytes, then the counter. */
function transportNonce(random: Seeded): Uint8Array<ArrayBuffer> {
  const nonce = random.bytes(12);
  nonce.fill(0, 0, 4);
  return nonce;
}

function chacha20(key: Uint8Array, nonce: Uint8Array, length: number): Buffer {
  const iv = Buffer.concat([Buffer.alloc(4), nonce]);
  return createCipheriv("chacha20", key, iv).update(Buffer.alloc(length));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function unhex(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text, "hex"));
}
