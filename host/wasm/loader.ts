import { readFileSync } from "node:fs";
import { ABI_VERSION, MEMORY_PAGES } from "../../assembly/abi.ts";
import { engine } from "./engine.ts";
import type { CoreExports } from "./exports.ts";
import { WasmPacketCore } from "./packet-core.ts";

/** An empty function that uses one SIMD instruction: `v128.const 0; drop`. */
const SIMD_PROBE = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 23, 1, 21, 0, 0xfd, 12, 0, 0, 0, 0, 0,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 11,
]);

/**
 * Instantiates the packet core, with a memory of its own.
 *
 * Without `bytes` it reads the build that belongs to this program: with SIMD if this engine has it, else the plain one.
 * Throws if the build is missing, cannot be compiled, or speaks another ABI version.
 */
export function loadPacketCore(bytes?: Uint8Array<ArrayBuffer>): WasmPacketCore {
  const module = new engine.Module(bytes ?? readBuild());
  const memory = new engine.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES });
  const instance = new engine.Instance(module, { env: { memory } });
  const exports = instance.exports as unknown as CoreExports;
  if (exports.ABI_VERSION.value !== ABI_VERSION) {
    throw new Error(`the packet core speaks ABI version ${exports.ABI_VERSION.value}, not ${ABI_VERSION}`);
  }
  // The seed keeps peers from aiming their addresses and ports at one hash bucket.
  const [a = 0, b = 0, c = 0, d = 0] = crypto.getRandomValues(new Uint32Array(4));
  exports.hashSeed(a, b, c, d);
  return new WasmPacketCore(exports, memory);
}

export function hasSimd(): boolean {
  return engine.validate(SIMD_PROBE);
}

function readBuild(): Uint8Array<ArrayBuffer> {
  const name = hasSimd() ? "core.wasm" : "core.plain.wasm";
  // The bundle has the builds beside it; sources have them in the build folder.
  const folder = import.meta.url.endsWith(".ts") ? "../../build" : ".";
  return readFileSync(new URL(`${folder}/${name}`, import.meta.url));
}
