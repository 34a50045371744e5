import { loadVariant, type Variant, type VariantName } from "./variants.ts";

/** What assembly/__tests__/kernels/crypto.ts exports; its doc comments are the contracts. */
export interface CryptoKernels {
  aeadInit(state: number, key: number): void;
  seal(dst: number, src: number, len: number, state: number, counter: number): void;
  open(dst: number, src: number, len: number, state: number, counter: number): number;
  aeadSeal(
    dst: number,
    src: number,
    len: number,
    state: number,
    nonce: number,
    aad: number,
    aadLen: number,
  ): void;
  aeadOpen(
    dst: number,
    src: number,
    len: number,
    state: number,
    nonce: number,
    aad: number,
    aadLen: number,
  ): number;
  poly1305(tag: number, message: number, length: number, key: number): void;
  keyStream(dst: number, state: number, nonce: number, block: number, width: number): number;
  replayCheck(slot: number, counter: number): number;
  replayAccept(slot: number, counter: number): number;
}

export function loadCryptoKernels(name: VariantName): Variant<CryptoKernels> {
  return loadVariant<CryptoKernels>(name, "assembly/__tests__/kernels/crypto.ts");
}
