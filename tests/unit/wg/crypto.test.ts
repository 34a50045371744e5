import assert from "node:assert/strict";
import { test } from "node:test";
import { equalBytes, hash, kdf1, kdf2, kdf3, mac, open, seal } from "../../../host/core/wg/crypto.ts";
import { noiseCrypto } from "../../../host/io/crypto.ts";
import { systemRandom } from "../../../host/io/random.ts";
import { seededRandom } from "./randoms.ts";
import { fromHex, toHex } from "./vectors.ts";

const crypto = noiseCrypto();

test("X25519 equals RFC 7748 §5.2", () => {
  const shared = crypto.dh(
    fromHex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
    fromHex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
  );
  assert.equal(toHex(shared), "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
});

test("X25519 agrees from both sides, however often a key is used", () => {
  const random = seededRandom(Number(process.env["SEED"] ?? 5));
  for (let round = 0; round < 20; round++) {
    const [a, b] = [random.bytes(32), random.bytes(32)];
    const shared = crypto.dh(a, crypto.publicKey(b));
    assert.ok(shared);
    assert.deepEqual(shared, crypto.dh(b, crypto.publicKey(a)));
    assert.deepEqual(shared, crypto.dh(a, crypto.publicKey(b)));
  }
});

test("public keys of low order give nothing (RFC 7748 §6.1)", () => {
  const lowOrder = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  ];
  for (const hex of lowOrder) {
    assert.equal(crypto.dh(new Uint8Array(32).fill(0x41), fromHex(hex)), undefined, hex);
  }
});

test("a key of another length is a mistake of ours", () => {
  assert.throws(() => crypto.publicKey(new Uint8Array(31)), RangeError);
});

// Values from Python's hashlib and hmac.
test("hash, MAC and KDF equal an independent implementation", () => {
  const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
  const first = "87b7f70b24183c6db5dc4f6d9f4c47cdb203321aa2a0bef714896adb3107a040";
  const second = "538a02e1eb2e31b7e4d4b82476d1fe2acf50085d3fb584537279195f5d1f5824";
  const third = "9ad858025593be88de0f9442a589cfe84a88dc19e4753d93684d1c5efc4837f9";
  const input = Uint8Array.from(Buffer.from("input"));

  assert.equal(
    toHex(hash(Uint8Array.from(Buffer.from("a")), Uint8Array.from(Buffer.from("bc")))),
    "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982",
  );
  assert.equal(toHex(mac(ascending, ascending.slice(0, 16))), "246519722001f6e8e97a2183f5985e53");
  assert.equal(toHex(kdf1(ascending, input)), first);
  assert.deepEqual(kdf2(ascending, input).map(toHex), [first, second]);
  assert.deepEqual(kdf3(ascending, input).map(toHex), [first, second, third]);
});

test("a sealed message opens only as it was sealed", () => {
  const key = new Uint8Array(32).fill(1);
  const sealed = seal(key, Uint8Array.of(1, 2, 3), Uint8Array.of(4));
  assert.deepEqual(open(key, sealed, Uint8Array.of(4)), Uint8Array.of(1, 2, 3));
  assert.equal(open(key, sealed, Uint8Array.of(5)), undefined);
  assert.equal(open(key, sealed.subarray(1), Uint8Array.of(4)), undefined);
  assert.equal(open(key, sealed.subarray(0, 3), Uint8Array.of(4)), undefined);
});

test("equalBytes compares content and length", () => {
  assert.equal(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2)), true);
  assert.equal(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 3)), false);
  assert.equal(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2, 0)), false);
});

test("system randomness is never handed out twice and has the length asked for", () => {
  const random = systemRandom();
  const seen = new Set<string>();
  for (let i = 0; i < 1000; i++) {
    const bytes = random.bytes(32);
    assert.equal(bytes.length, 32);
    seen.add(toHex(bytes));
    const number = random.uniform();
    assert.ok(number >= 0 && number < 1);
  }
  assert.equal(seen.size, 1000);
  assert.equal(random.bytes(10_000).length, 10_000);
});
