// The part of the WebAssembly API that is used here. Its declarations belong to the library "dom", which this
// project does without.

/** Linear memory; the core's never grows, so its buffer is never replaced. */
export interface LinearMemory {
  readonly buffer: ArrayBuffer;
}

interface Engine {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Memory: new (pages: { readonly initial: number; readonly maximum: number }) => LinearMemory;
  readonly Instance: new (
    module: object,
    imports: { readonly env: { readonly memory: LinearMemory } },
  ) => { readonly exports: object };
  validate(bytes: Uint8Array<ArrayBuffer>): boolean;
}

export const engine = (globalThis as unknown as { readonly WebAssembly: Engine }).WebAssembly;
