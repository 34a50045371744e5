// Nanoseconds per packet of the core's AEAD next to node:crypto: `node bench/micro/aead.ts`.
import assert from "node:assert/strict";
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { SLOTS_BASE, TAG_BYTES, TUN_IN_BASE, UDP_OUT_BASE } from "../../assembly/abi.ts";
import { loadCryptoKernels } from "../../tests/kernel/crypto-kernels.ts";

const SIZES = [64, 576, 1280];
const STATE = SLOTS_BASE;
const KEY = SLOTS_BASE + 64;
const NONCE = SLOTS_BASE + 128;
const COUNTER = NONCE + 4;

/** Windows are short and many, and contenders take turns, so that other load meets all of them alike. */
const WINDOWS = 61;
const WINDOW_MS = 2;
const WARM_UP_MS = 60;

export interface AeadFigure {
  /** "release" and "plain" are the builds of the core. */
  readonly contender: "release" | "plain" | "node:crypto";
  readonly operation: "seal" | "open";
  readonly bytes: number;
  /** Median over the windows. */
  readonly nanoseconds: number;
}

interface Contender {
  readonly name: AeadFigure["contender"];
  seal(): Uint8Array;
  open(): Uint8Array;
}

/** Times all contenders at all sizes, after they agreed on the ciphertext and the text. */
export function measureAead(): AeadFigure[] {
  return SIZES.flatMap((bytes) => {
    const key = randomBytes(32);
    const text = randomBytes(bytes);
    const contenders = [core("release", key, text), core("plain", key, text), native(key, text)];
    for (const contender of contenders) {
      assert.deepEqual(Buffer.from(contender.seal()), Buffer.from(contenders[0]!.seal()));
      assert.deepEqual(Buffer.from(contender.open()), text);
    }
    return (["seal", "open"] as const).flatMap((operation) => {
      const nanoseconds = medians(contenders.map((contender) => contender[operation]));
      return contenders.map(({ name }, i) => ({
        contender: name,
        operation,
        bytes,
        nanoseconds: nanoseconds[i]!,
      }));
    });
  });
}

function core(name: "release" | "plain", key: Buffer, text: Buffer): Contender {
  const { exports: kernels, bytes } = loadCryptoKernels(name);
  const sealedSource = bytes.subarray(UDP_OUT_BASE, UDP_OUT_BASE + text.length + TAG_BYTES);
  const opened = bytes.subarray(UDP_OUT_BASE + 0x8000, UDP_OUT_BASE + 0x8000 + text.length);
  bytes.set(key, KEY);
  bytes.set(text, TUN_IN_BASE);
  kernels.aeadInit(STATE, KEY);
  return {
    name,
    seal() {
      kernels.seal(UDP_OUT_BASE, TUN_IN_BASE, text.length, STATE, COUNTER);
      return sealedSource;
    },
    open() {
      const held = kernels.open(UDP_OUT_BASE + 0x8000, UDP_OUT_BASE, text.length, STATE, COUNTER);
      assert.equal(held, 1);
      return opened;
    },
  };
}

function native(key: Buffer, text: Buffer): Contender {
  const nonce = Buffer.alloc(12);
  const options = { authTagLength: TAG_BYTES };
  const seal = () => {
    const cipher = createCipheriv("chacha20-poly1305", key, nonce, options);
    const ciphertext = cipher.update(text);
    cipher.final();
    return Buffer.concat([ciphertext, cipher.getAuthTag()]);
  };
  const sealed = seal();
  return {
    name: "node:crypto",
    seal,
    open() {
      const decipher = createDecipheriv("chacha20-poly1305", key, nonce, options);
      decipher.setAuthTag(sealed.subarray(text.length));
      const opened = decipher.update(sealed.subarray(0, text.length));
      decipher.final();
      return opened;
    },
  };
}

function medians(operations: readonly (() => unknown)[]): number[] {
  const counts = operations.map(callsPerWindow);
  const samples = operations.map((): number[] => []);
  for (let window = 0; window < WINDOWS; window++) {
    operations.forEach((operation, i) => {
      samples[i]!.push(nanosecondsPerCall(operation, counts[i]!));
    });
  }
  return samples.map((times) => times.sort((a, b) => a - b)[WINDOWS >> 1]!);
}

/** Runs the operation until the engine has optimised it, and says how many calls fill a window. */
function callsPerWindow(operation: () => unknown): number {
  const until = performance.now() + WARM_UP_MS;
  while (performance.now() < until) nanosecondsPerCall(operation, 500);
  return Math.max(1, Math.round((WINDOW_MS * 1e6) / nanosecondsPerCall(operation, 500)));
}

function nanosecondsPerCall(operation: () => unknown, calls: number): number {
  const from = performance.now();
  for (let i = 0; i < calls; i++) operation();
  return ((performance.now() - from) * 1e6) / calls;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { contender, operation, bytes, nanoseconds } of measureAead()) {
    const figure = `${nanoseconds.toFixed(0).padStart(6)} ns`;
    console.log(`${contender.padEnd(12)} ${operation} ${String(bytes).padStart(5)} bytes ${figure}`);
  }
}
