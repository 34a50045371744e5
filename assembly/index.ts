// The export list: together with `abi.ts` this is the module's whole interface. Described in README.md.

export { ABI_VERSION } from "./abi";
export { hashSeed } from "./flow/hash";
export { flowAdd, flowsRemoveAll, flowsRemovePeer } from "./flow/table";
export { natCount, natEntry, natIncoming, natNote, natOutgoing, natReset, natTick } from "./nat/table";
export { writeTun } from "./offload/frames";
export { decapsulate, deliverPacket } from "./pipeline/decapsulate";
export { encapsulate, encapsulatePacket } from "./pipeline/encapsulate";
export { reinject } from "./pipeline/reinject";
export { sealPacket } from "./pipeline/seal";
export { filterPermits } from "./policy/filter";
export {
  keypairAdd,
  keypairDeselect,
  keypairFind,
  keypairRemove,
  keypairSelect,
  peerAdd,
  peerRemove,
  peerSetPath,
} from "./wg/peers";
