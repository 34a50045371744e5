// virtio_net_hdr (10 bytes, little-endian here): u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start,
// u16 csum_offset. Rules: platform §6.2.

import { DROP_BAD_OFFLOAD, DROP_NONE, VIRTIO_BYTES } from "../abi";
import { checksumOffset, sum } from "../ip/checksum";
import { parsedL4, parsedLength, parsedProtocol } from "../ip/parse";

export const VIRTIO_FLAGS: usize = 0;
export const VIRTIO_GSO_TYPE: usize = 1;
export const VIRTIO_HEADER_LENGTH: usize = 2;
export const VIRTIO_GSO_SIZE: usize = 4;
export const VIRTIO_CSUM_START: usize = 6;
export const VIRTIO_CSUM_OFFSET: usize = 8;

export const NEEDS_CSUM = 1;
export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;

/** Header of a frame that asks for nothing. */
export function writePlainHeader(header: usize): void {
  store<u64>(header, 0);
  store<u16>(header, 0, 8);
}

/**
 * Finishes the checksum of the frame at `header`, whose packet was parsed last, if it is flagged as partial; clears
 * the flag, so that doing it twice does no harm. The field holds the folded pseudo-header sum and thereby seeds the
 * sum over itself. DROP_BAD_OFFLOAD: the fields point anywhere but at the checksum of the transport header.
 */
export function finishPartial(header: usize): i32 {
  const flags = load<u8>(header, VIRTIO_FLAGS);
  if ((flags & NEEDS_CSUM) === 0) return DROP_NONE;

  const start = <i32>load<u16>(header, VIRTIO_CSUM_START);
  const offset = <i32>load<u16>(header, VIRTIO_CSUM_OFFSET);
  const expected = <i32>checksumOffset(parsedProtocol);
  if (expected !== 0 && (start !== parsedL4 || offset !== expected)) return DROP_BAD_OFFLOAD;
  if (start < parsedL4 || start + offset + 2 > parsedLength) return DROP_BAD_OFFLOAD;

  const l4 = header + VIRTIO_BYTES + <usize>start;
  const checksum = <u16>~sum(l4, parsedLength - start, 0);
  // 0 means "absent" in UDP, and where 0 would verify, 0xffff does as well.
  store<u16>(l4 + <usize>offset, checksum === 0 ? 0xffff : checksum);
  store<u8>(header, flags & ~NEEDS_CSUM, VIRTIO_FLAGS);
  return DROP_NONE;
}
