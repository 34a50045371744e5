import { CHACHA_STATE_BYTES, SLOTS_BASE, TAG_BYTES, UDP_OUT_BASE } from "../abi";
import { aeadInit, aeadOpen, aeadSeal, open, seal } from "../crypto/aead";
import { keyStreamBlock } from "../crypto/chacha20.gen";
import { poly1305 } from "../crypto/poly1305";
import { NONCE } from "../crypto/scratch";

const KEY: usize = SLOTS_BASE;
const STATE: usize = SLOTS_BASE + 64;
const NONCE_INPUT: usize = SLOTS_BASE + 128;
const COUNTER: usize = NONCE_INPUT + 4;
const AAD: usize = SLOTS_BASE + 192;
const TEXT: usize = SLOTS_BASE + 0x1000;
const SEALED: usize = UDP_OUT_BASE + 0x1000;
const OPENED: usize = UDP_OUT_BASE + 0x3000;

const SUNSCREEN =
  "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";

function writeHex(at: usize, hex: string): i32 {
  const length = hex.length >> 1;
  for (let i = 0; i < length; i++) {
    store<u8>(at + <usize>i, <u8>parseInt(hex.substr(2 * i, 2), 16));
  }
  return length;
}

function readHex(at: usize, length: i32): string {
  let hex = "";
  for (let i = 0; i < length; i++) {
    const byte = <u32>load<u8>(at + <usize>i);
    hex += (byte < 16 ? "0" : "") + byte.toString(16);
  }
  return hex;
}

function writeText(at: usize, text: string): i32 {
  return <i32>String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, at);
}

function useKey(key: string, nonce: string): void {
  writeHex(KEY, key);
  aeadInit(STATE, KEY);
  writeHex(NONCE_INPUT, nonce);
}

function fillPattern(at: usize, length: i32): void {
  for (let i = 0; i < length; i++) store<u8>(at + <usize>i, <u8>(i * 7 + 3));
}

describe("ChaCha20-Poly1305", () => {
  it("begins its state with the RFC 8439 constants and key, and zeros for counter and nonce", () => {
    useKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "000000000000000000000000");
    expect(readHex(STATE, 16)).toBe("657870616e642033322d62797465206b");
    expect(memory.compare(STATE + 16, KEY, 32)).toBe(0);
    expect(readHex(STATE + 48, CHACHA_STATE_BYTES - 48)).toBe("00000000000000000000000000000000");
  });

  it("computes the block of RFC 8439 §2.3.2", () => {
    useKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "000000090000004a00000000");
    memory.copy(NONCE, NONCE_INPUT, 12);
    keyStreamBlock(SEALED, STATE, 1);
    expect(readHex(SEALED, 32)).toBe("10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e");
    expect(readHex(SEALED + 32, 32)).toBe("d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e");
  });

  it("computes the tag of RFC 8439 §2.5.2", () => {
    writeHex(KEY, "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b");
    const length = writeText(TEXT, "Cryptographic Forum Research Group");
    poly1305(SEALED, TEXT, length, KEY);
    expect(readHex(SEALED, TAG_BYTES)).toBe("a8061dc1305136c6c22b8baf0c0127a9");
  });

  it("seals and opens the message of RFC 8439 §2.8.2", () => {
    useKey("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647");
    const aadLength = writeHex(AAD, "50515253c0c1c2c3c4c5c6c7");
    const length = writeText(TEXT, SUNSCREEN);
    aeadSeal(SEALED, TEXT, length, STATE, NONCE_INPUT, AAD, aadLength);
    expect(readHex(SEALED, 16)).toBe("d31a8d34648e60db7b86afbc53ef7ec2");
    expect(readHex(SEALED + <usize>length, TAG_BYTES)).toBe("1ae10b594f09e26a7e902ecbd0600691");
    expect(aeadOpen(OPENED, SEALED, length, STATE, NONCE_INPUT, AAD, aadLength)).toBe(1);
    expect(memory.compare(OPENED, TEXT, length)).toBe(0);
  });

  it("opens what it sealed in place, and leaves what stands in front", () => {
    useKey("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "000000000100000000000080");
    for (let length = 0; length <= 1400; length += 50) {
      fillPattern(TEXT, length);
      fillPattern(SEALED - 64, 64);
      memory.copy(SEALED, TEXT, length);
      seal(SEALED, SEALED, length, STATE, COUNTER);
      expect(open(OPENED, SEALED, length, STATE, COUNTER)).toBe(1);
      expect(memory.compare(OPENED, TEXT, length)).toBe(0);
      fillPattern(TEXT, 64);
      expect(memory.compare(SEALED - 64, TEXT, 64)).toBe(0);
    }
  });

  it("refuses and wipes what was changed on the way", () => {
    useKey("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "000000000500000000000000");
    const length: i32 = 300;
    fillPattern(TEXT, length);
    seal(SEALED, TEXT, length, STATE, COUNTER);
    for (let at = 0; at < length + TAG_BYTES; at += 15) {
      store<u8>(SEALED + <usize>at, load<u8>(SEALED + <usize>at) ^ 1);
      fillPattern(OPENED, length);
      expect(open(OPENED, SEALED, length, STATE, COUNTER)).toBe(0);
      let left: u32 = 0;
      for (let i = 0; i < length; i++) left |= load<u8>(OPENED + <usize>i);
      expect(left).toBe(0);
      store<u8>(SEALED + <usize>at, load<u8>(SEALED + <usize>at) ^ 1);
    }
    expect(open(OPENED, SEALED, length, STATE, COUNTER)).toBe(1);
  });
});
