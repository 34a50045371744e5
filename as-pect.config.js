// as-pect: specs in AssemblyScript beside the kernels, `asp --no-logo --summary`.
// A spec may use every address of assembly/abi.ts: what the spec itself needs lies behind the core's memory
// (memoryBase in as-pect.asconfig.json is MEMORY_BYTES).
const PAGES = 2048 + 256;

export default {
  entries: ["assembly/__tests__/**/*.spec.ts"],
  include: ["node_modules/@as-pect/assembly/assembly/index.ts"],
  disclude: [/node_modules/],
  async instantiate(_memory, createImports, instantiate, binary) {
    const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES });
    return instantiate(binary, createImports({ env: { memory } }));
  },
  outputBinary: false,
};
