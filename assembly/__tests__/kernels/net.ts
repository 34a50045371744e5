// Entry of the module that tests and benchmarks of packets, flows, NAT and filters load.

export { hashSeed } from "../../flow/hash";
export { flowAdd, flowFind, flowsRemoveAll, flowsRemovePeer, flowTouch } from "../../flow/table";
export {
  delta16,
  deltaBytes,
  finishL4,
  ipv4HeaderChecksum,
  pseudoHeaderSum,
  sum,
  updated,
  updateField,
} from "../../ip/checksum";
export * from "../../ip/parse";
export { applyRewrite, mergeEcn } from "../../ip/rewrite";
export * from "../../nat/table";
export { filterPermits } from "../../policy/filter";
